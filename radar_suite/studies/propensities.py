"""How likely each training post was to be verified for each risk: known for the built-in corpus, else estimated.

The pool is the training posts that were verified for something. Inverse-propensity weighting divides by e_k(x) =
P(verified for k | post x, in the pool), so intake into the pool as a whole cancels. Where each post belongs to one
pipeline, the e_k of a post add up to 1. Both kinds are kept in the cache as files of logits (`SideFiles`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int8
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from radar_lib.data.posts import valid_mask
from radar_lib.sources import digest_sources
from radar_lib.training.encoder import pooled_features
from radar_lib.training.lab import Lab
from radar_lib.training.scores import write_scores
from radar_lib.training.specs import SoftLabels
from radar_suite.studies.limit import label_chance
from radar_suite.world.pipelines import FALSE_ALARM, MISSED

FILE = "propensity.parquet"
FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CERTAIN = 1e-7  # of probabilities that are kept as logits
ROUNDS, TOLERANCE = 2000, 1e-9

PerCell = Float[np.ndarray, "post category"]
Labels = Int8[np.ndarray, "post category"]


def known_propensities(
    intake: PerCell, posterior: PerCell, labels: Labels, *,
    missed: Sequence[float] = MISSED, false_alarm: Sequence[float] = FALSE_ALARM,
) -> PerCell:  # fmt: skip
    """e_k(x) of a pool that was filled as `radar_suite.world.pipelines` fills it.

    A candidate x is offered to pipeline k with probability s_k, enters with c_k(x) = exp(beta (cue_k(x) - 1)), and is
    labelled y with r_k1(x) = (1 - missed_k) p_k(x) + false_alarm_k (1 - p_k(x)) and r_k0 = 1 - r_k1, p_k its posterior.
    The queue for (k, y) then takes it or is full: over the whole scan of T candidates it takes a share a_ky, such that
    n_ky = T s_k a_ky E[c_k r_ky] for its quota n_ky. Hence, with f_ky = n_ky / E[c_k r_ky],

        P(x in the pool by k with label y)  =  s_k c_k r_ky a_ky  =  f_ky c_k(x) r_ky(x) / T,
        e_k(x)  =  sum_y f_ky c_k r_ky  /  sum_jy f_jy c_j r_jy.

    The shares s_k cancel, and only the f_ky are unknown. They follow from the pool alone: summed over it, the shares
    of (k, y) must give n_ky. That is the maximum-likelihood estimate from samples with known selection (Vardi, Annals
    of Statistics 1985), found by its fixed point, f_ky <- f_ky n_ky / sum.

    The label is marginalised by its posterior. Since the quotas favour violations, verified cells hold more of them
    than unverified ones do at the same x: the odds are multiplied by f_k1 / f_k0, one number per risk. Weights of x
    alone leave that shift, which moves a risk's probabilities and not its ranking. Planted copies (1 % of the posts)
    have their original's x, and are in their own pipeline.

    Args:
        intake, posterior: c_k(x), the truth file's `propensity_<category>`, and p_k(x).
        labels: of the pool, one verified cell per post.
        missed, false_alarm: the annotators' errors, by category.

    Returns:
        e_k(x); each row adds up to 1.

    Raises:
        ValueError: a post is verified for no risk or for several, or the fixed point is not reached.
    """
    if not (valid_mask(labels).sum(axis=1) == 1).all():
        raise ValueError("known propensities are those of a pool whose posts belong to one pipeline each")
    flagged = label_chance(posterior, missed, false_alarm)
    chance = np.stack([intake * (1 - flagged), intake * flagged]).astype(float)  # (label, post, category)
    quota = np.stack([(labels == 0).sum(axis=0), (labels == 1).sum(axis=0)]).astype(float)
    rate = quota.copy()
    for _ in range(ROUNDS):
        share = rate[:, None, :] * chance
        share /= share.sum(axis=(0, 2))[None, :, None]
        change = np.divide(quota, share.sum(axis=1), out=np.ones_like(quota), where=quota > 0)
        rate *= change
        if np.abs(change - 1).max() < TOLERANCE:
            return share.sum(axis=0)
    raise ValueError(f"no fixed point after {ROUNDS} rounds: some pipeline's posts could not come from its intake")


def estimated_propensities(features: Float[np.ndarray, "post feature"], labels: Labels, *, seed: int) -> PerCell:
    """e_k(x) by ridge-penalised logistic regression, each post predicted by a model of others.

    Multinomial on the pipeline where each post is verified for one risk, so that a post's e_k add up to 1; else one
    regression per risk. Predictions are cross-fitted over `FOLDS` parts: weights that have seen the post would lean
    towards 1. Of the penalties in `STRENGTHS` (scikit-learn's C) the one whose cross-fitted predictions have the
    smallest cross-entropy is taken.

    Args:
        features: of posts, such as `radar_lib.training.encoder.pooled_features`; standardised here.
        labels: of the pool.
        seed: of the deal into parts.

    Returns:
        e_k(x); 0 or 1 only where all other folds' posts agree.

    Raises:
        ValueError: fewer posts than folds.
    """
    valid = valid_mask(labels)
    tried = [_cross_fit(features, valid, KFold(FOLDS, shuffle=True, random_state=seed), one) for one in STRENGTHS]
    wrong = [-np.log(np.where(valid, chance, 1 - chance).clip(CERTAIN)).mean() for chance in tried]
    return tried[int(np.argmin(wrong))]


def _cross_fit(
    features: Float[np.ndarray, "post feature"], valid: Bool[np.ndarray, "post category"], deal: KFold, strength: float
) -> PerCell:
    exclusive, chance = bool((valid.sum(axis=1) == 1).all()), np.empty(valid.shape)
    for rest, mine in deal.split(features):
        given = features[rest], features[mine], strength
        if exclusive:
            chance[mine] = _class_chances(*given, valid[rest].argmax(axis=1), classes=valid.shape[1])
        else:
            risks = valid[rest].T.astype(int)
            chance[mine] = np.column_stack([_class_chances(*given, one, classes=2)[:, 1] for one in risks])
    return chance


def _class_chances(
    features: Float[np.ndarray, "some feature"], others: Float[np.ndarray, "others feature"], strength: float,
    which: Int[np.ndarray, " some"], *, classes: int,
) -> Float[np.ndarray, "others class"]:  # fmt: skip
    """P(class | features) of `others`, learned from posts of class `which`; 0 for a class that none of them has."""
    chances, there = np.zeros((len(others), classes)), np.unique(which)
    if len(there) == 1:
        chances[:, there[0]] = 1
        return chances
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    chances[:, there] = model.fit(features, which).predict_proba(others)
    return chances


def unverified_shares(values: PerCell, labels: Labels, categories: Sequence[str]) -> dict[str, float]:
    """Mean of `values` over each category's unverified cells: true labels give the prior, probabilities estimate it.

    A category without unverified cells has 0.

    Raises:
        ValueError: an unverified cell's value is outside [0, 1].
    """
    unseen = ~valid_mask(labels)
    if not ((values[unseen] >= 0) & (values[unseen] <= 1)).all():
        raise ValueError("a prior is a mean of labels or probabilities; some values are outside [0, 1]")
    return {c: float(values[unseen[:, k], k].mean()) if unseen[:, k].any() else 0.0 for k, c in enumerate(categories)}


def kept_known(lab: Lab, intake: PerCell, posterior: PerCell, *, truth_digest: str) -> SoftLabels:
    """File of `known_propensities`; `intake` and `posterior` in the order of the training posts."""
    about = {"truth": truth_digest}
    return _kept(lab, about, lambda pool, labels: known_propensities(intake[pool], posterior[pool], labels))


def kept_estimated(lab: Lab, backbone: str, *, seed: int) -> SoftLabels:
    """File of `estimated_propensities` from a frozen backbone's features."""
    about = {"features": lab.features_entry(backbone, "train").digest, "seed": seed}
    return _kept(lab, about, lambda pool, labels: estimated_propensities(
        pooled_features(lab, backbone, "train")[pool], labels, seed=seed))  # fmt: skip


def _kept(
    lab: Lab, about: dict[str, Any], find: Callable[[Bool[np.ndarray, " post"], Labels], PerCell]
) -> SoftLabels:
    """The cached file of what `find` says of the pool, given which training posts it holds and their labels."""

    def work(folder: Path) -> dict[str, int]:
        categories, matrix = lab.posts.categories, lab.labels("train", lab.posts.categories)
        pool = valid_mask(matrix).any(axis=1)
        kept = logit(np.clip(find(pool, matrix[pool]), CERTAIN, 1 - CERTAIN))
        ids = lab.table("train")["post_id"].to_numpy()[pool].tolist()
        write_scores(folder / FILE, post_ids=ids, splits=["train"] * len(ids), logits=kept, categories=categories)
        return {"posts": len(ids)}

    entry = lab.cache.entry("propensities", {"posts": lab.posts.digest, "code": digest_sources(__name__), **about})
    return SoftLabels(entry.path(FILE), entry.make(work)["files"][FILE])
