"""The declared targets of the built-in world, measured again: what was tuned, on facts alone, before any training.

``radar corpus targets`` prints the table. Every number follows from the facts, the policies and the pipelines; no
model, no frame and no test split is involved, and no difference between training methods is a target.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from radar_lib.evidence import AREA, AVERAGE
from radar_lib.metrics import table_metrics
from radar_suite.world.dials import PIPELINE_SHARES, CorpusConfig, plan_corpus
from radar_suite.world.facts import sample_block
from radar_suite.world.policies import CATEGORIES, posteriors

SEED = 20_250  # of the posts on which targets are measured; no corpus of the suite has it


@dataclass(frozen=True)
class Target:
    """One measured property; ``paper`` is what the paper states, ``low`` to ``high`` what was declared beforehand."""

    name: str
    measured: float
    low: float
    high: float
    paper: float | None = None

    @property
    def met(self) -> bool:
        return self.low <= self.measured <= self.high


def weighted_to(
    truth: Bool[np.ndarray, "post"], prevalence: float, weights: Float[np.ndarray, "post"] | None = None
) -> Float[np.ndarray, "post"]:
    """Factors that give a sample, weighted or not, the wanted share of positives."""
    share = np.average(truth, weights=weights)
    return np.where(truth, prevalence / share, (1 - prevalence) / (1 - share))


def targets(
    best: Mapping[Any, float], config: CorpusConfig | None = None, *, blocks: int = 25
) -> Iterator[Target]:
    """Measure the targets on ``blocks`` x 4,096 posts of traffic and on 1/100 of the paper's training posts.

    Args:
        best: the paper's best number by (risk or average, metric), which the oracle has to reach.
    """
    config = replace(
        config or CorpusConfig(),
        seed=SEED,
        train_posts=17_000,
        validation_posts=0,
        unlabelled_posts=0,
        audit_posts=0,
        pretrain_posts=0,
        calibration_posts=0,
        own_test_posts=17_000,
        test_posts=0,
        duplicate_rate=0.0,
    )
    facts = [sample_block(SEED, "targets", b, co_violation=config.co_violation) for b in range(blocks)]
    p = np.concatenate([posteriors(f) for f in facts])
    truth = np.random.Generator(np.random.Philox(SEED)).random(p.shape) < p
    for k, c in enumerate(CATEGORIES):
        yield _share(f"{c}: prevalence in traffic", truth[:, k], config.test_prevalence[k])
    ceilings = {c: table_metrics(truth[:, k], p[:, k]) for k, c in enumerate(CATEGORIES)}
    ceilings[AVERAGE] = {metric: np.mean([ceilings[c][metric] for c in CATEGORIES]) for _, metric in best.keys()}
    for (c, metric), value in best.items():
        most = 0.85 if (c, metric) == (AVERAGE, AREA) else 1.0
        yield Target(f"{c}: oracle's {metric}", float(ceilings[c][metric]), value, most, value)
    disagree = (np.abs(p - 0.5) < 0.2).any(axis=1).mean()
    yield Target("posts on which honest reviewers disagree", float(disagree), 0.005, 0.03)
    train, own = plan_corpus(config)
    for s, prevalences in ((train, config.train_prevalence), (own, config.test_prevalence)):
        for k, c in enumerate(CATEGORIES):
            mine = s.pipeline == k
            yield _share(f"{c}: prevalence in {s.split}", s.labels[mine, k] == 1, prevalences[k])
    for k, c in enumerate(CATEGORIES):
        share, measured = PIPELINE_SHARES[k] / sum(PIPELINE_SHARES), (train.pipeline == k).mean()
        yield Target(f"{c}: share of the training posts", measured, share - 1e-3, share + 1e-3, share)


def _share(name: str, positive: Bool[np.ndarray, "post"], paper: float) -> Target:
    """A share that lies within three binomial standard errors of the paper's."""
    margin = 3 * np.sqrt(paper * (1 - paper) / len(positive))
    return Target(name, float(positive.mean()), paper - margin, paper + margin, paper)


def table(targets: Iterable[Target]) -> str:
    """The targets as aligned lines: measured, declared, the paper's, met or not."""
    lines = [f"{'':52}{'measured':>9}  {'declared':>15}  {'paper':>6}"]
    for t in targets:
        paper = "" if t.paper is None else f"{t.paper:.3f}"
        lines.append(
            f"{t.name:52}{t.measured:9.3f}  {t.low:6.3f} to {t.high:5.3f}  {paper:>6}  {'met' if t.met else 'NOT MET'}"
        )
    return "\n".join(lines)
