"""Cheap models that ask what is in the content: TF-IDF of the text, plain features of the frames, or both.

A probe is no competitor of a router. It shows what can be had without understanding: if a probe can tell who labelled
a post, or solve a risk from its title, a large model will too. All of them are logistic regressions, so that a
difference between two probes is a difference between their inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from cleanlab.rank import get_label_quality_scores
from jaxtyping import Float, Int, Num
from scipy.sparse import csr_matrix, hstack, issparse, spmatrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from radar_lib.data.text import plain_text
from radar_lib.intervals import Interval, bootstrap_interval
from radar_lib.metrics import average_precision

Features = spmatrix | np.ndarray


def text_features(known: Sequence[str], *others: Sequence[str], max_features: int = 40_000) -> list[csr_matrix]:
    """TF-IDF of words and word pairs, fitted on the first texts and applied to all of them.

    Words are runs between spaces of the plain form, so that scripts without spaces still give long tokens, and emoji
    and punctuation count.
    """
    vectors = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=max_features, token_pattern=r"\w+|[^\w\s]",
        preprocessor=lambda text: plain_text(text).casefold(), dtype=np.float32,
    )  # fmt: skip
    if not any(str(text).strip() for text in known):
        return [csr_matrix((len(texts), 0), dtype=np.float32) for texts in (known, *others)]
    return [vectors.fit_transform(known), *(vectors.transform(texts) for texts in others)]


def scaled(known: Float[np.ndarray, "post feature"], *others: Float[np.ndarray, "post feature"]) -> list[np.ndarray]:
    """Each feature centred and divided by its spread among the first posts; a row has length about 1, as TF-IDF has."""
    mean, spread = known.mean(0), known.std(0)
    kept = spread > 1e-6
    scale = spread[kept] * np.sqrt(max(kept.sum(), 1))
    return [((part[:, kept] - mean[kept]) / scale).astype(np.float32) for part in (known, *others)]


def side_by_side(*parts: Features) -> Features:
    """Features of several kinds as one matrix, sparse if one of them is."""
    return hstack(parts, format="csr") if any(map(issparse, parts)) else np.concatenate(parts, axis=1)


def fit_scores(
    known: Features, labels: Num[np.ndarray, " post"], *others: Features, strength: float = 10.0, seed: int = 1
) -> list[Float[np.ndarray, " post"]]:
    """Logits of a logistic regression fitted on `known`, for each of the others.

    `strength` is scikit-learn's C; rows of length about 1 want one well above its default. Classes are weighted
    alike, or a probe of a rare class would learn its rarity.
    """
    model = LogisticRegression(C=strength, max_iter=300, class_weight="balanced", tol=1e-3, random_state=seed)
    model.fit(known, labels)
    return [model.decision_function(part) for part in others]


def out_of_sample_probs(
    features: Features,
    labels: Int[np.ndarray, " post"],
    groups: Int[np.ndarray, " post"],
    *,
    folds: int = 5,
    strength: float = 3.0,
    seed: int = 1,
) -> Float[np.ndarray, "post 2"] | None:
    """Probability of 0 and of 1 for each post by a probe that never saw it, nor any copy of it.

    Args:
        groups: copies share a number (`duplicates.duplicate_groups`) and a fold: a copy in training would vouch for
            its twin's label.

    Returns:
        None where a class has fewer members than there are folds.
    """
    if min(np.bincount(labels, minlength=2)[:2]) < folds:
        return None
    probs = np.full((len(labels), 2), np.nan)
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups):
        if len(np.unique(labels[train])) < 2:
            return None
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3, random_state=seed)
        probs[test] = model.fit(features[train], labels[train]).predict_proba(features[test])
    return probs


def suspects(labels: Int[np.ndarray, " post"], probs: Float[np.ndarray, "post 2"]) -> Int[np.ndarray, " post"]:
    """Posts in the order in which their labels should be looked at again, the most doubtful first.

    Doubt is cleanlab's normalised margin with class-adjusted probabilities: how much less likely the given label is
    than the other, by a probe that never saw it. Adjusting keeps a rare class from being all suspects.
    """
    quality = get_label_quality_scores(labels, probs, method="normalized_margin", adjust_pred_probs=True)
    return np.argsort(quality, kind="stable")


def precision_at(order: Int[np.ndarray, " post"], wrong: Num[np.ndarray, " post"], n: int) -> float:
    """Share of really wrong labels among the first `n`; NaN for n = 0."""
    return float(np.mean(wrong[order[:n]])) if n else float("nan")


def pipeline_probe(
    train: pd.Series, test: pd.Series, features: Mapping[str, tuple[Features, Features]], *, seed: int = 1
) -> pd.DataFrame:
    """How well the pipeline can be guessed from the content, one pipeline against the rest.

    At AUC 1 a router can know who labelled a post, and a risk's score can stand for its source.

    Args:
        train, test: pipeline of each post.
        features: by name, rows for `train` and for `test`.

    Returns:
        Columns probe, pipeline, n_train, n_test, auc (0.5 is chance; NaN for a pipeline without posts, or without
        other posts, on either side). No rows where there is one pipeline.
    """
    rows = []
    pipelines = sorted(set(train))
    for name, (known, unknown) in features.items() if len(pipelines) > 1 and len(test) else ():
        for pipeline in pipelines:
            target, truth = (train == pipeline).to_numpy(), (test == pipeline).to_numpy()
            auc = np.nan
            if 0 < truth.sum() < len(truth):
                auc = roc_auc_score(truth, fit_scores(known, target, unknown, seed=seed)[0])
            rows.append((name, pipeline, int(target.sum()), int(truth.sum()), auc))
    return pd.DataFrame(rows, columns=["probe", "pipeline", "n_train", "n_test", "auc"])


def gain(
    labels: Num[np.ndarray, " post"],
    ours: Float[np.ndarray, " post"],
    theirs: Float[np.ndarray, " post"],
    *,
    replicates: int = 1000,
    seed: int = 1,
) -> Interval:
    """Average precision of `ours` minus that of `theirs` with its 95 % interval, by a bootstrap that draws the same
    posts for both."""

    def difference(labels: np.ndarray, _: np.ndarray, *, weights: np.ndarray | None = None) -> np.ndarray | float:
        return average_precision(labels, ours, weights=weights) - average_precision(labels, theirs, weights=weights)

    return bootstrap_interval(difference, labels, ours, replicates=replicates, seed=seed)
