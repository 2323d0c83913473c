"""Cheap models that ask what is in the content: TF-IDF of the text, plain features of the frames, or both.

A probe is no competitor of a router. It shows what can be had without understanding: if a probe can tell who labelled
a post, or solve a risk from its title, a large model will too. All of them are logistic regressions, so that a
difference between two probes is a difference between their inputs.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from cleanlab.count import num_label_issues
from cleanlab.rank import get_label_quality_scores
from jaxtyping import Bool, Float, Int, Num
from scipy.sparse import csr_matrix, spmatrix
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, StratifiedGroupKFold, cross_val_predict

from radar_lib.intervals import Groups, average_precision_difference
from radar_lib.metrics import average_precision
from radar_suite.intake.texts import plain_text

Features = spmatrix | np.ndarray
Ints = Int[np.ndarray, " post"]
Logits = Float[np.ndarray, " post"]
FOLDS = 5
STRENGTH = {"text": 3.0, "frames": 1.0}  # scikit-learn's C, for rows of length about 1; the same for every risk


def text_features(texts: Sequence[str]) -> csr_matrix:
    """TF-IDF of words and word pairs, in plain form and one case; emoji and punctuation count as words."""
    vectors = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=40_000, token_pattern=r"\w+|[^\w\s]",
        preprocessor=lambda text: plain_text(text).casefold(), dtype=np.float32,
    )  # fmt: skip
    if not any(re.search(r"\S", text) for text in texts):
        return csr_matrix((len(texts), 0), dtype=np.float32)
    return vectors.fit_transform(texts)


def standardise(features: Float[np.ndarray, "post feature"]) -> Float[np.ndarray, "post feature"]:
    """Each feature centred and divided by its spread; rows have length about 1, as those of TF-IDF have. Features
    that never vary are dropped."""
    spread = features.std(0)
    kept = spread > 1e-6
    centred = features[:, kept] - features[:, kept].mean(0)
    return (centred / (spread[kept] * np.sqrt(max(kept.sum(), 1)))).astype(np.float32)


@dataclass(frozen=True)
class RiskProbe:
    """Out-of-fold probes of one risk, on its verified posts.

    Attributes:
        rows: places of these posts in the table that was probed.
        labels: 0 or 1.
        logits: by modality, and 'joint'.
    """

    rows: Ints
    labels: Ints
    logits: dict[str, Logits]


def risk_probe(
    labels: Num[np.ndarray, " post"], groups: Ints, parts: Mapping[str, Features], *, seed: int = 1
) -> RiskProbe | None:
    """Probe one risk on its verified posts (label >= 0); None where a class is too rare, or there is no content."""
    rows = np.flatnonzero(np.asarray(labels) >= 0)
    known = np.asarray(labels)[rows].astype(np.int64)
    fold = fold_of(known, groups[rows], seed=seed) if len(rows) else None
    if fold is None:
        return None
    logits = modality_logits({kind: part[rows] for kind, part in parts.items()}, known, fold, seed=seed)
    return RiskProbe(rows, known, logits) if logits else None


def fold_of(labels: Ints, groups: Ints, *, seed: int = 1) -> Ints | None:
    """A fold for each post, with about the same share of violations; None where a class is too rare for that, or
    nearly all posts are copies of each other.

    Args:
        groups: copies share a number (`duplicates.duplicate_groups`) and so a fold: a copy in training would vouch
            for its twin.
    """
    if min(np.bincount(labels, minlength=2)[:2]) < FOLDS or len(np.unique(groups)) < FOLDS:
        return None
    fold = np.empty(len(labels), np.int64)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for k, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        fold[held_out] = k
    both = all(len(np.unique(labels[fold != k])) == 2 for k in range(FOLDS))
    return fold if both else None


def out_of_fold(features: Features, labels: Ints, fold: Ints, *, kind: str, seed: int = 1) -> Logits:
    """Logit of each post by a probe that never saw its fold. Classes are not re-weighted: `expit` of it is a
    probability.

    Raises:
        ConvergenceWarning: the solver stopped early; such logits understate what is in the content.
    """
    # second order: lbfgs stops at once where a class is rare, as the mean gradient is small there from the start
    model = LogisticRegression(C=STRENGTH.get(kind, 1.0), solver="newton-cg", tol=2e-4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        logits = cross_val_predict(model, features, labels, cv=PredefinedSplit(fold), method="decision_function")
    return logits.astype(float)


def modality_logits(parts: Mapping[str, Features], labels: Ints, fold: Ints, *, seed: int = 1) -> dict[str, Logits]:
    """Out-of-fold logits of one probe per modality and of their joint probe, for the posts of one risk.

    The joint probe is a logistic regression of the single probes' logits (stacking). Joining the features instead
    would let the modality with more of them drown the other.

    Args:
        parts: by modality ('text', 'frames'), features of the posts; modalities without any feature are left out.

    Returns:
        By modality, and 'joint' (the only modality's own logits where there is just one).
    """
    logits = {kind: out_of_fold(part, labels, fold, kind=kind, seed=seed)
              for kind, part in parts.items() if part.shape[1]}  # fmt: skip
    if not logits:
        return {}
    together = np.stack([values / (values.std() + 1e-9) for values in logits.values()], axis=1)
    joint = out_of_fold(together, labels, fold, kind="joint", seed=seed) if len(logits) > 1 else together[:, 0]
    return logits | {"joint": joint}


def suspects(labels: Ints, logits: Logits) -> tuple[Ints, int]:
    """Posts in the order in which their labels should be looked at again, and how many seem wrong.

    Both are cleanlab's. The order is by the normalised margin with class-adjusted probabilities: how much less likely
    the given label is than the other, by a probe that never saw the post; adjusting keeps a rare class from being all
    suspects. The number is the off-diagonal of the confident joint (Northcutt et al., 2021), an estimate.

    Args:
        logits: from `out_of_fold`.
    """
    probs = expit(np.stack([-logits, logits], axis=1))
    quality = get_label_quality_scores(labels, probs, method="normalized_margin", adjust_pred_probs=True)
    return np.argsort(quality, kind="stable"), num_label_issues(labels, probs)


def pipeline_probe(pipelines: pd.Series, groups: Ints, parts: Mapping[str, Features], *, seed: int = 1) -> pd.DataFrame:
    """How well the pipeline can be guessed from the content of posts not seen, one pipeline against the rest.

    At AUC 1 a router can know who labelled a post, and a risk's score can stand for its source.

    Args:
        groups: copies, as for `fold_of`.
        parts: features by modality, as for `modality_logits`.

    Returns:
        Columns probe, pipeline, posts, auc (0.5 is chance). No rows where there is one pipeline; pipelines with a
        handful of posts are left out.
    """
    rows = []
    for pipeline in sorted(set(pipelines)):
        mine = (pipelines == pipeline).to_numpy(np.int64)
        fold = fold_of(mine, groups, seed=seed)
        for name, logits in modality_logits(parts, mine, fold, seed=seed).items() if fold is not None else ():
            rows.append((name, pipeline, int(mine.sum()), roc_auc_score(mine, logits)))
    return pd.DataFrame(rows, columns=["probe", "pipeline", "posts", "auc"])


def modality_tables(
    probes: Mapping[str, RiskProbe], judged: Bool[np.ndarray, " post"], *, groups: Groups = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How good each probe is, and what the joint one gains over the single ones.

    Args:
        probes: by risk.
        judged: which posts of the probed table count (posts as they are served, not as they were hunted for).
        groups: of the probed table's posts, where they are not independent.

    Returns:
        Columns category, probe, ap, prevalence, posts, positives; and category, over, gain, low, high (fractions, 95 %
        interval). Risks with fewer than five positives, or no negative, among the judged posts are left out.
    """
    scores, gains = [], []
    for category, probe in probes.items():
        kept = judged[probe.rows]
        labels, own = probe.labels[kept], None if groups is None else groups[probe.rows][kept]
        logits = {kind: values[kept] for kind, values in probe.logits.items()}
        if labels.sum() < 5 or labels.all():
            continue
        for kind, values in logits.items():
            ap = average_precision(labels, values)
            scores.append((category, kind, ap, labels.mean(), len(labels), int(labels.sum())))
        for kind in [kind for kind in logits if kind != "joint" and len(logits) > 2]:
            gain = average_precision_difference(labels, logits["joint"], logits[kind], groups=own)
            gains.append((category, kind, *gain[:3]))
    return (pd.DataFrame(scores, columns=["category", "probe", "ap", "prevalence", "posts", "positives"]),
            pd.DataFrame(gains, columns=["category", "over", "gain", "low", "high"]))  # fmt: skip
