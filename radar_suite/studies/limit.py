"""The map without learning: what either loss converges to, given all facts, and how well that ranks.

Written out in notebook 08. With n_jy posts of pipeline j and label y, the chance c_j(x) of entering its queue
(`Intake`), and eta_j = P(label_j = 1 given the facts), the posts of pipeline j have, relative to traffic, the density

    d_j(x) = c_j(x) [n_j1 eta_j / E_j1 + n_j0 (1 - eta_j) / E_j0],

where E_jy = E[P(label_j = y | x) c_j(x)] over traffic. With s_k = d_k / sum_j d_j, the
share of pipeline k among the training posts that look like x,

    masked      P(label_k = 1 | x, pipeline k)          = r_k(x),    r_k monotone in eta_k: the oracle's ranking
    unmasked    P(label_k = 1 and pipeline k | x)       = s_k(x) r_k(x).

So a mask never loses in the limit, and what it gains there is what s_k does to the ranking. Where it loses in a
learned map, the reason is the finite sample or what the features do not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from radar_lib.evidence import AREA, AVERAGE
from radar_lib.metrics import table_metrics
from radar_suite.studies.pool import OWN, POPULATIONS, Cell, intake_normaliser, sample_traffic
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.pipelines import FALSE_ALARM, MISSED, Intake, Signals, quotas
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.targets import weighted_to

SHARES = sizes_of(170_000)  # only their ratio counts
PerCell = Float[np.ndarray, "post category"]


def label_chance(
    positive: PerCell, missed: Sequence[float] = MISSED, false_alarm: Sequence[float] = FALSE_ALARM
) -> PerCell:
    """P(label = 1) from P(y = 1): annotators miss some violations and flag some cleared posts; monotone."""
    return positive * (1 - np.asarray(missed)) + (1 - positive) * np.asarray(false_alarm)


def limit_scores(
    posts: Signals, *, intake: Intake, sizes: Sequence[int] = SHARES,
    prevalences: Sequence[float] = CorpusConfig.train_prevalence,
    errors: tuple[Sequence[float], Sequence[float]] = (MISSED, FALSE_ALARM),
) -> tuple[PerCell, PerCell]:  # fmt: skip
    """Probabilities that masked and unmasked training converge to (`r_k` and `s_k r_k`), for posts of traffic.

    Args:
        posts: a sample of traffic, which also gives the expectations.
        sizes, prevalences: posts per pipeline (their ratio counts) and the share of label 1.
        errors: of the annotators: shares of violations missed and of cleared posts flagged, by pipeline.
    """
    eta, chance = label_chance(posts.posteriors, *errors), intake.chance(posts)
    filled = quotas(sizes, prevalences) / intake_normaliser(eta, chance)
    positive, both = filled[:, 1] * eta, filled[:, 1] * eta + filled[:, 0] * (1 - eta)
    masked, density = positive / both, chance * both
    return masked, masked * density / density.sum(axis=1, keepdims=True)


def limit_map(cells: Sequence[Cell], *, seed: int, blocks: int = 24) -> pd.DataFrame:
    """Metrics of both limits and their gain, by cell, test population, risk (and Average) and metric; fractions.

    Test posts are blind traffic, or each pipeline's own stream at test prevalence: the same posts, weighted for risk k
    by their chance to enter queue k and by label. The true label is one draw of the posterior. Posts that are alike to
    a limit come in one random order, the same for both: many posts share a posterior, and a block of ties as large as
    traffic would decide APR alone. `gain_se` is the simulation's standard error, by batch means: the standard deviation
    of the gain over blocks, each taken as a world of its own, over the root of their number. It is given for PR-AUC
    only: a block holds too few violations for a threshold at a recall, whose gain jumps.

    Args:
        blocks: of 4,096 posts per level of co-violation; two or more.
    """
    lines = []
    for level in dict.fromkeys(cell.co_violation for cell in cells):
        traffic = sample_traffic(seed, level, blocks=blocks)
        generator = np.random.default_rng([seed, 8])
        truth = generator.random(traffic.posteriors.shape) < traffic.posteriors
        whole = (traffic, truth, generator.random(len(truth)))
        parts = [tuple(one.take(rows) if isinstance(one, Signals) else one[rows] for one in whole)
                 for rows in np.array_split(np.arange(len(truth)), blocks)]  # fmt: skip
        for cell in cells:
            if cell.co_violation != level:
                continue
            found, *each = (_metrics(*world, intake=cell.intake) for world in (whole, *parts))
            for (population, category, metric), (masked, unmasked) in found.items():
                gains = [np.subtract(*one[population, category, metric]) for one in each]
                error = np.std(gains, ddof=1) / np.sqrt(blocks) if metric == AREA else np.nan
                lines.append({**cell.dials, "population": population, "category": category, "metric": metric,
                              "masked": masked, "unmasked": unmasked, "gain": masked - unmasked,
                              "gain_se": error})  # fmt: skip
    return pd.DataFrame(lines)


def _metrics(
    posts: Signals, truth: Bool[np.ndarray, "post category"], tie_breaks: Float[np.ndarray, " post"], *, intake: Intake
) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Masked and unmasked, by test population, risk (and Average) and metric."""
    scores, chance = [_ranks(one, tie_breaks) for one in limit_scores(posts, intake=intake)], intake.chance(posts)
    pairs = {}
    for population in POPULATIONS:
        for k, prevalence in enumerate(CorpusConfig.test_prevalence):
            y = truth[:, k]
            weights = chance[:, k] * weighted_to(y, prevalence, chance[:, k]) if population == OWN else np.ones(len(y))
            both = [table_metrics(y, one[:, k], weights=weights) for one in scores]
            pairs |= {(population, CATEGORIES[k], metric): tuple(float(one[metric]) for one in both)
                      for metric in both[0]}  # fmt: skip
        for metric in both[0]:
            each = [pairs[population, risk, metric] for risk in CATEGORIES]
            pairs[population, AVERAGE, metric] = tuple(np.mean(each, axis=0).tolist())
    return pairs


def _ranks(scores: PerCell, tie_breaks: Float[np.ndarray, " post"]) -> PerCell:
    """Ranks from 0, by score (in single precision, so that rounding makes no order) and then by `tie_breaks`."""
    ranks = np.empty(scores.shape)
    for k in range(scores.shape[1]):
        ranks[np.lexsort((tie_breaks, scores[:, k].astype(np.float32))), k] = np.arange(len(scores))
    return ranks
