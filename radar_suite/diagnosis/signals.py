"""Signals: what a run folder shows, each a formula of scores, labels, metadata, logs and checks.

A signal is one number, or one per category. Regimes say what a signal needs to be there: B scores, labels, soft labels
and metadata; L logs, ablations and serving replay; R a second look at training labels, which is paid for and so read by
a test only. What training and serving say of themselves (C) are exact checks below. A signal of your own is a function
with `@signal`; `RunFolder.columns` and `matrix` raise `Absent` where the run has not what it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import ks_2samp, rankdata

from radar_lib.metrics import DegenerateWarning, average_precision
from radar_suite.diagnosis.runs import Absent, RunFolder

Values = float | Float[np.ndarray, " category"]
LEAST = 0.04  # share of the audit posts below which a slice is not looked at
SECOND_LOOK = "R"


class Signal(NamedTuple):
    """A formula and what it needs."""

    formula: Callable[[RunFolder], Values]
    regime: str


SIGNALS: dict[str, Signal] = {}


def signal(regime: str) -> Callable[[Callable[[RunFolder], Values]], Callable[[RunFolder], Values]]:
    """Enter a function, by its name, as a signal of a regime."""

    def enter(formula: Callable[[RunFolder], Values]) -> Callable[[RunFolder], Values]:
        SIGNALS[formula.__name__] = Signal(formula, regime)
        return formula

    return enter


def compute(run: RunFolder, names: Iterable[str] | None = None) -> tuple[dict[str, Values], list[str]]:
    """Signals that a run has the parts for, and the names of those that it has not, or too few posts for (all NaN).

    Args:
        names: which; None for all that cost no second look.
    """
    wanted = [name for name, one in SIGNALS.items() if one.regime != SECOND_LOOK] if names is None else names
    found, absent = {}, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means and logarithms of nothing, which are NaN
        warnings.simplefilter("ignore", DegenerateWarning)  # of equal scores, whose average precision is NaN
        for name in wanted:
            try:
                value = SIGNALS[name].formula(run)
            except Absent:
                value = float("nan")
            if np.isnan(value).all():
                absent.append(name)
            else:
                found[name] = value
    return found, absent


# --- pieces ---


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """P(score of a violating post > that of a cleared one), ties half; NaN without both kinds."""
    positive = labels == 1
    n, m = positive.sum(), (~positive).sum()
    if not n or not m:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def fit_line(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of logit P(y = 1) on the scores: maximum likelihood, slope with an N(1, 1) prior."""
    scale = float(np.std(scores)) or 1.0  # steps of one size for sharp and for flat scores
    z = scores / scale

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        x = w[0] * z + w[1]
        apart, off = expit(x) - labels, w[0] / scale - 1
        value = np.sum(np.logaddexp(0, x) - labels * x) + (off**2 + 1e-3 * w[1] ** 2) / 2
        return float(value), np.array([z @ apart + off / scale, apart.sum() + 1e-3 * w[1]])

    slope, intercept = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-8}).x
    return float(slope / scale), float(intercept)


def _per(run: RunFolder, split: str, what: str, by: Callable[[np.ndarray, np.ndarray], float]) -> Values:
    """`by(labels, scores)` of each category on its verified posts of a split."""
    labels, scores = run.matrix(split, "label"), run.matrix(split, what).astype(float)
    return np.array([by(y[y >= 0], z[y >= 0]) for y, z in zip(labels.T, scores.T, strict=True)])


def _distance(run: RunFolder, split: str, what: str) -> Values:
    """Kolmogorov-Smirnov distance of a split's scores and the audit's logits."""
    pairs = zip(run.matrix(split, what).T, run.matrix("audit", "logit").T, strict=True)
    return np.array([ks_2samp(a, b).statistic for a, b in pairs])


def _precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision; NaN without both kinds, or where all scores are equal."""
    return average_precision(labels, scores) if len(np.unique(labels)) == 2 else float("nan")


@lru_cache(maxsize=1)
def _expected(run: RunFolder) -> Float[np.ndarray, "post category"]:
    """P(label = 1) of training posts: the teacher's (or the student's where there is none), calibrated on the same
    verified posts, so that a shift of one slice shows."""
    what = "teacher" if f"teacher_{run.categories[0]}" in run.posts else "logit"
    labels, scores = run.matrix("train", "label"), run.matrix("train", what).astype(float)
    lines = [fit_line(z[y >= 0], y[y >= 0]) for y, z in zip(labels.T, scores.T, strict=True)]
    return expit(scores * [slope for slope, _ in lines] + [intercept for _, intercept in lines])


def _residual(run: RunFolder, column: str) -> Float[np.ndarray, "category slice"]:
    """Sum of y - p (see `_expected`) over its standard deviation, by category and value of a column."""
    labels, expected, out = run.matrix("train", "label"), _expected(run), []
    values = run.column("train", column).to_numpy()
    for y, p in zip(labels.T, expected.T, strict=True):
        known = y >= 0
        sums = pd.DataFrame({"r": y - p, "v": p * (1 - p)})[known].groupby(values[known]).sum()
        out.append((sums["r"] / np.sqrt(sums["v"] + 1)).to_dict())
    return pd.DataFrame(out).sort_index(axis=1).fillna(0.0).to_numpy()


def _worst_language(run: RunFolder, of: Callable[[Bool[np.ndarray, " post"]], float]) -> float:
    """Smallest `of(rows)` over languages with a share of the audit posts; NaN where no language has."""
    names = run.column("audit", "language")
    shares = names.value_counts(normalize=True)
    return float(np.nanmin([of((names == name).to_numpy()) for name in shares.index[shares >= LEAST]] or [np.nan]))


# --- B: scores, labels, soft labels, metadata ---


@signal("B")
def audit_ap(run: RunFolder) -> Values:
    """Average precision on audit posts."""
    return _per(run, "audit", "logit", _precision)


@signal("B")
def audit_auc(run: RunFolder) -> Values:
    """Area under the ROC curve on audit posts."""
    return _per(run, "audit", "logit", auc)


@signal("B")
def train_auc(run: RunFolder) -> Values:
    """As `audit_auc`, on verified training posts."""
    return _per(run, "train", "logit", auc)


@signal("B")
def train_gap(run: RunFolder) -> Values:
    """AUC in training minus in validation."""
    return _per(run, "train", "logit", auc) - _per(run, "validation", "logit", auc)


@signal("B")
def validation_gap(run: RunFolder) -> Values:
    """AUC in validation minus in audit."""
    return _per(run, "validation", "logit", auc) - _per(run, "audit", "logit", auc)


@signal("B")
def train_loss(run: RunFolder) -> Values:
    """Log loss on verified training posts, nats."""
    return _per(run, "train", "logit", lambda y, z: float(np.logaddexp(0, np.where(y == 1, -z, z)).mean()))


@signal("B")
def train_prevalence(run: RunFolder) -> Values:
    """Log odds of a positive label in training."""
    return _per(run, "train", "logit", lambda y, z: float(np.log((y.sum() + 1) / ((1 - y).sum() + 1))))


@signal("B")
def score_ratio(run: RunFolder) -> Values:
    """Log of mean probability over prevalence on audit posts."""
    return _per(run, "audit", "logit", lambda y, z: float(np.log(expit(z).mean() / y.mean())))


@signal("B")
def score_spread(run: RunFolder) -> Values:
    """Log standard deviation of the logits on audit posts."""
    return np.log(run.matrix("audit", "logit").astype(float).std(axis=0) + 1e-6)


@signal("B")
def ceiling(run: RunFolder) -> Values:
    """99.5th percentile of the logits on audit posts: near logit(coverage) where unverified cells were negatives."""
    return np.quantile(run.matrix("audit", "logit").astype(float), 0.995, axis=0)


@signal("B")
def slope(run: RunFolder) -> Values:
    """Calibration slope on audit posts: below 1 for an over-confident student."""
    return _per(run, "audit", "logit", lambda y, z: fit_line(z, y)[0])


@signal("B")
def teacher_auc(run: RunFolder) -> Values:
    """AUC of the soft labels on audit posts."""
    return _per(run, "audit", "teacher", auc)


@signal("B")
def teacher_lead(run: RunFolder) -> Values:
    """Teacher's minus student's AUC on audit posts."""
    return teacher_auc(run) - audit_auc(run)


@signal("B")
def teacher_train_auc(run: RunFolder) -> Values:
    """AUC of the joined soft labels on verified training posts."""
    return _per(run, "train", "teacher", auc)


@signal("B")
def teacher_slope(run: RunFolder) -> Values:
    """Calibration slope of the teacher on audit posts: 1 / T."""
    return _per(run, "audit", "teacher", lambda y, z: fit_line(z, y)[0])


@signal("B")
def teacher_spread(run: RunFolder) -> Values:
    """Log standard deviation of the soft labels' logits on audit posts."""
    return np.log(run.matrix("audit", "teacher").astype(float).std(axis=0) + 1e-6)


def _agreement(run: RunFolder, split: str) -> Values:
    pairs = zip(run.matrix(split, "logit").T, run.matrix(split, "teacher").T, strict=True)
    return np.arctanh(np.clip([np.corrcoef(rankdata(a), rankdata(b))[0, 1] for a, b in pairs], -0.999, 0.999))


@signal("B")
def teacher_agreement_train(run: RunFolder) -> Values:
    """Rank correlation of student and soft labels on training posts (Fisher's z)."""
    return _agreement(run, "train")


@signal("B")
def teacher_agreement_audit(run: RunFolder) -> Values:
    """The same on audit posts."""
    return _agreement(run, "audit")


@signal("B")
def siding(run: RunFolder) -> Values:
    """Where label and teacher disagree on a training post, mean student logit towards the teacher's side."""
    labels, z, t = (run.matrix("train", what).astype(float) for what in ("label", "logit", "teacher"))
    out = []
    for k in range(labels.shape[1]):
        apart = (labels[:, k] >= 0) & ((t[:, k] > 0) != (labels[:, k] == 1))
        out.append((np.sign(t[apart, k]) * z[apart, k]).mean() if apart.any() else 0.0)
    return np.array(out)


@signal("B")
def pipeline_gap(run: RunFolder) -> Values:
    """On the tenth of the training posts that the teacher finds worst: student minus teacher logit, mean of other
    pipelines' posts minus mean of those verified for the category. Negative where unverified cells were negatives."""
    labels, z, t = (run.matrix("train", what).astype(float) for what in ("label", "logit", "teacher"))
    out = []
    for k in range(labels.shape[1]):
        top, own = t[:, k] >= np.quantile(t[:, k], 0.9), labels[:, k] >= 0
        d = z[:, k] - t[:, k]
        out.append(d[top & ~own].mean() - d[top & own].mean() if (top & own).any() and (top & ~own).any() else np.nan)
    return np.array(out)


def _suspects(run: RunFolder, label: int) -> Values:
    """Share of a label's validation posts that the student finds more like the other's mean (confident learning)."""

    def share(y: np.ndarray, z: np.ndarray) -> float:
        p = expit(z)
        if not (y == label).any() or not (y == 1 - label).any():
            return float("nan")
        side = p[y == label] > p[y == 1].mean() if label == 0 else p[y == label] < p[y == 0].mean()
        return float(side.mean())

    return _per(run, "validation", "logit", share)


@signal("B")
def suspect_positives(run: RunFolder) -> Values:
    """Share of validation posts labelled 1 that score below the mean of those labelled 0."""
    return _suspects(run, 1)


@signal("B")
def suspect_negatives(run: RunFolder) -> Values:
    """Share of validation posts labelled 0 that score above the mean of those labelled 1."""
    return _suspects(run, 0)


@signal("B")
def tied_scores(run: RunFolder) -> float:
    """Share of audit posts with the very logits of another post of other content."""
    audit, z = run.splits["audit"], run.matrix("audit", "logit")
    _, which = np.unique(z, axis=0, return_inverse=True)
    contents = pd.Series(audit.get("content", audit["post_id"]).to_numpy()).groupby(which).transform("nunique")
    return float((contents > 1).mean())


@signal("B")
def other_head(run: RunFolder) -> Values:
    """Largest AUC of another category's logits for a category's audit labels, minus that of its own."""
    labels, z = run.matrix("audit", "label"), run.matrix("audit", "logit")
    found = np.array([[auc(y, one) for one in z.T] for y in labels.T])
    if len(found) == 1:
        return float("nan")
    return np.where(np.eye(len(found), dtype=bool), -np.inf, found).max(axis=1) - np.diag(found)


@signal("B")
def heads_correlation(run: RunFolder) -> float:
    """Mean rank correlation of the logits of two categories on audit posts (Fisher's z)."""
    ranks = rankdata(run.matrix("audit", "logit"), axis=0)
    pairs = np.corrcoef(ranks.T)[np.triu_indices(ranks.shape[1], 1)]
    return float(np.arctanh(np.clip(pairs, -0.999, 0.999)).mean()) if len(pairs) else float("nan")


@signal("B")
def train_shift(run: RunFolder) -> Values:
    """Kolmogorov-Smirnov distance of the logits of training and audit posts."""
    return _distance(run, "train", "logit")


@signal("B")
def tail_skew(run: RunFolder) -> Values:
    """Log ratio of how far the 99.5th and the 0.5th percentile of the audit logits lie from the median."""
    low, median, high = np.quantile(run.matrix("audit", "logit").astype(float), [0.005, 0.5, 0.995], axis=0)
    return np.log((high - median + 1e-3) / (median - low + 1e-3))


@signal("B")
def tail_weight(run: RunFolder) -> Values:
    """Log ratio of the ranges between the outer hundredths and the outer quarters of the audit logits."""
    a, b, c, d = np.quantile(run.matrix("audit", "logit").astype(float), [0.01, 0.25, 0.75, 0.99], axis=0)
    return np.log((d - a + 1e-3) / (c - b + 1e-3))


@signal("B")
def crossed_teacher(run: RunFolder) -> Values:
    """Largest rank correlation of a category's soft labels with another category's logits on training posts, minus that
    with its own."""
    z, t = (rankdata(run.matrix("train", what), axis=0) for what in ("logit", "teacher"))
    n = z.shape[1]
    if n == 1:
        return float("nan")
    both = np.corrcoef(t.T, z.T)[:n, n:]
    return np.where(np.eye(n, dtype=bool), -np.inf, both).max(axis=1) - np.diag(both)


@signal("B")
def content_overlap(run: RunFolder) -> Values:
    """Share of validation posts whose content is in training."""
    return float(run.column("validation", "content").isin(run.column("train", "content")).mean())


@signal("B")
def group_overlap(run: RunFolder) -> Values:
    """Share of validation posts whose group, but not whose content, is in training."""
    train, held = (run.columns(split, ["group", "content"]) for split in ("train", "validation"))
    return float((held["group"].isin(train["group"]) & ~held["content"].isin(train["content"])).mean())


@signal("B")
def train_copies(run: RunFolder) -> Values:
    """Share of training posts whose content came before."""
    return float(run.column("train", "content").duplicated().mean())


@signal("B")
def region_residual(run: RunFolder) -> Values:
    """Log variance over regions of the standardised sum of label minus teacher (see `_residual`), over categories."""
    return float(np.log((_residual(run, "region") ** 2).mean() + 0.05))


@signal("B")
def language_residual(run: RunFolder) -> Values:
    """As `region_residual`, by language."""
    return float(np.log((_residual(run, "language") ** 2).mean() + 0.05))


@signal("B")
def month_residual(run: RunFolder) -> Values:
    """Largest contrast of the residuals before and after a month, summed over categories."""
    z = _residual(run, "month")
    if z.shape[1] < 4:
        return float("nan")
    total = z.sum(axis=0) / len(z) ** 0.5
    steps = [total[:m].sum() / m**0.5 - total[m:].sum() / (len(total) - m) ** 0.5 for m in range(2, len(total) - 1)]
    return float(np.max(np.abs(steps)) / 2**0.5)


@signal("B")
def language_share(run: RunFolder) -> Values:
    """Smallest log ratio of a language's share in training to its share in the audit."""
    train = run.column("train", "language")
    shares = run.column("audit", "language").value_counts(normalize=True)
    return float(min((np.log(((train == name).sum() + 1) / len(train) / share)
                      for name, share in shares.items() if share >= LEAST), default=np.nan))  # fmt: skip


def _language_auc(run: RunFolder, what: str) -> Values:
    labels, z = run.matrix("audit", "label"), run.matrix("audit", what)

    def lead(rows: np.ndarray) -> float:
        found = [auc(labels[rows, k], z[rows, k]) - auc(labels[~rows, k], z[~rows, k]) for k in range(z.shape[1])
                 if (labels[rows, k] == 1).sum() >= 2]  # fmt: skip
        return float(np.mean(found)) if found else float("nan")

    return _worst_language(run, lead)


@signal("B")
def language_auc(run: RunFolder) -> Values:
    """AUC of the worst language minus that of the others, mean of the categories."""
    return _language_auc(run, "logit")


@signal("B")
def teacher_language_auc(run: RunFolder) -> Values:
    """The teacher's `language_auc`."""
    return _language_auc(run, "teacher")


@signal("B")
def language_spread(run: RunFolder) -> Values:
    """Smallest log ratio of the logits' spread in a language to that in all: flat where the backbone reads nothing."""
    z = run.matrix("audit", "logit").astype(float)
    return _worst_language(run, lambda rows: float(np.log((z[rows].std(0) + 1e-6) / (z.std(0) + 1e-6)).mean()))


@signal("B")
def serve_shift(run: RunFolder) -> Values:
    """Kolmogorov-Smirnov distance of the logits of traffic and audit posts, scored offline."""
    return _distance(run, "serve", "logit")


@signal("B")
def serve_prevalence(run: RunFolder) -> Values:
    """Log ratio of estimated prevalence in traffic to that in the audit, from the share above the threshold that a
    tenth of the audit exceeds, corrected by the audit's hit and false-alarm rates (black-box shift estimation)."""
    labels, audit, serve = (run.matrix(*of) for of in (("audit", "label"), ("audit", "logit"), ("serve", "logit")))
    out = []
    for y, a, b in zip(labels.T, audit.T, serve.T, strict=True):
        tau = np.quantile(a, 0.9)
        hit, wrong = (a[y == 1] > tau).mean(), (a[y == 0] > tau).mean()
        estimate = ((b > tau).mean() - wrong) / max(hit - wrong, 0.05)
        out.append(np.log(np.clip(estimate, 1e-3, 1) / y.mean()))
    return np.array(out)


@signal("B")
def serve_tail(run: RunFolder) -> Values:
    """Log share of traffic above the logit that 3 % of the audit exceed, over 3 %."""
    tau = np.quantile(run.matrix("audit", "logit"), 0.97, axis=0)
    return np.log((run.matrix("serve", "logit") > tau).mean(axis=0) / 0.03 + 0.1)


@signal("B")
def served_marginal(run: RunFolder) -> Values:
    """Kolmogorov-Smirnov distance of served logits and audit logits: no pairing is used."""
    return _distance(run, "serve", "served")


@signal("B")
def threshold_gap(run: RunFolder) -> Values:
    """Deployed threshold minus a lower quantile of the violating audit posts' logits, in SD of the logits.

    The quantile may lie a post beside the rule that deploys thresholds: healthy runs then differ by that much, and a
    band has a width, as it has where thresholds come from other posts than these.
    """
    if run.about.thresholds is None:
        raise Absent("thresholds")
    labels, z = run.matrix("audit", "label"), run.matrix("audit", "logit").astype(float)
    again = [np.quantile(z[y == 1, k], 1 - run.about.recall, method="lower") for k, y in enumerate(labels.T)]
    return (np.array(run.about.thresholds) - again) / (z.std(axis=0) + 1e-6)


# --- L: logs, ablations, replay ---


def _effect(run: RunFolder, muted: str) -> Values:
    whole, other = run.matrix("audit", "logit").astype(float), run.matrix("audit", muted).astype(float)
    return np.log((whole - other).std(axis=0) / (whole.std(axis=0) + 1e-6) + 1e-3)


@signal("L")
def frames_effect(run: RunFolder) -> Values:
    """Log SD of what muting frames does to a logit, over the logits' SD."""
    return _effect(run, "no_frames")


@signal("L")
def text_effect(run: RunFolder) -> Values:
    """The same of muting text."""
    return _effect(run, "no_text")


@signal("L")
def frames_drop(run: RunFolder) -> Values:
    """AUC lost on audit posts when frames are muted."""
    return audit_auc(run) - _per(run, "audit", "no_frames", auc)


@signal("L")
def text_drop(run: RunFolder) -> Values:
    """AUC lost when text is muted."""
    return audit_auc(run) - _per(run, "audit", "no_text", auc)


def _served(run: RunFolder) -> Float[np.ndarray, "post category"]:
    z = run.matrix("serve", "logit").astype(float)
    return (run.matrix("serve", "served") - z) / (z.std(axis=0) + 1e-6)


@signal("L")
def served_bias(run: RunFolder) -> Values:
    """Mean of served minus offline logit, in SD."""
    return _served(run).mean(axis=0)


@signal("L")
def served_noise(run: RunFolder) -> Values:
    """Log RMS of served minus offline logit, in SD."""
    return np.log(np.sqrt((_served(run) ** 2).mean(axis=0)) + 1e-4)


@signal("L")
def served_share(run: RunFolder) -> Values:
    """Share of posts that are served another score (by 1 % of an SD)."""
    return float((np.abs(_served(run)) > 0.01).any(axis=1).mean())


@signal("L")
def served_tail(run: RunFolder) -> Values:
    """Log kurtosis of served minus offline: rounding has thin tails, content that is lost heavy ones."""
    d = _served(run)
    return np.log(((d**4).mean(axis=0) + 1e-12) / ((d**2).mean(axis=0) ** 2 + 1e-12))


def _curve(run: RunFolder, what: str) -> Float[np.ndarray, "step category"]:
    return run.columns("curve", [f"{what}_{c}" for c in run.categories]).to_numpy(float)


@signal("L")
def loss_end(run: RunFolder) -> Values:
    """Log of the mean training loss over the last fifth of the curve."""
    loss = _curve(run, "loss")
    return np.log(np.nanmean(loss[-max(1, len(loss) // 5) :], axis=0) + 1e-4)


@signal("L")
def loss_fall(run: RunFolder) -> Values:
    """Log ratio of the training loss in the first and the last fifth."""
    loss = _curve(run, "loss")
    part = max(1, len(loss) // 5)
    return np.log((np.nanmean(loss[:part], axis=0) + 1e-4) / (np.nanmean(loss[-part:], axis=0) + 1e-4))


@signal("L")
def loss_spike(run: RunFolder) -> Values:
    """Log of the largest training loss over the first."""
    loss = _curve(run, "loss")
    return np.log(np.nanmax(loss, axis=0) / (loss[0] + 1e-4) + 1e-3)


@signal("L")
def validation_rise(run: RunFolder) -> Values:
    """Log of the last validation loss over the least."""
    loss = _curve(run, "validation")
    return np.log(loss[-1] / loss.min(axis=0))


@signal("L")
def gradient_level(run: RunFolder) -> Values:
    """Log mean gradient norm of each head."""
    return np.log(_curve(run, "gradient").mean(axis=0) + 1e-8)


@signal("L")
def gradient_tail(run: RunFolder) -> Values:
    """Log of the largest gradient norm of a head over its median."""
    norms = _curve(run, "gradient")
    return np.log((norms.max(axis=0) + 1e-8) / (np.median(norms, axis=0) + 1e-8))


@signal("L")
def update(run: RunFolder) -> Values:
    """Log of how far the shared weights moved, relative to their start."""
    return float(np.log(run.column("curve", "update").iloc[-1] + 1e-6))


@signal("L")
def steps_logged(run: RunFolder) -> Values:
    """Log of the last step."""
    return float(np.log(run.column("curve", "step").iloc[-1] + 1))


# --- R: a second look at training labels ---


def _relabelled(run: RunFolder, *others: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Labels, gold labels and other columns of the training posts that were looked at."""
    label, gold = ([f"{p}_{c}" for c in run.categories] for p in ("label", "gold"))
    train = run.columns("train", ["post_id", *label, *others])
    both = train.merge(run.columns("relabels", ["post_id", *gold]), on="post_id")
    return both[label].to_numpy(), both[gold].to_numpy(), both[list(others)]


@signal("R")
def relabel_missed(run: RunFolder) -> Values:
    """Share of verified posts that the second look finds violating and the label does not (with one pseudo-count)."""
    label, gold, _ = _relabelled(run)
    return ((label == 0) & (gold == 1)).sum(0) / ((label >= 0).sum(0) + 1)


@signal("R")
def relabel_false(run: RunFolder) -> Values:
    """The other way round."""
    label, gold, _ = _relabelled(run)
    return ((label == 1) & (gold == 0)).sum(0) / ((label >= 0).sum(0) + 1)


def _wrong_by(run: RunFolder, column: str) -> float:
    label, gold, other = _relabelled(run, column)
    known = (label >= 0).any(axis=1)
    wrong = ((label >= 0) & (label != gold)).any(axis=1)[known].astype(float)
    by = pd.DataFrame({"wrong": wrong - wrong.mean()}).groupby(other[column].to_numpy()[known])["wrong"]
    spread = (by.sum() ** 2 / by.size()).sum() / (wrong.var() + 0.01) / by.ngroups
    return float(np.log(spread + 0.1))


@signal("R")
def relabel_region(run: RunFolder) -> Values:
    """Log ratio of the variance of the error rate between regions to what chance gives."""
    return _wrong_by(run, "region")


@signal("R")
def relabel_month(run: RunFolder) -> Values:
    """As `relabel_region`, by month."""
    return _wrong_by(run, "month")


@signal("R")
def relabel_ambiguous(run: RunFolder) -> Values:
    """Mean teacher logit of wrongly labelled minus rightly labelled posts of the same gold label, in SD."""
    label, gold, teacher = _relabelled(run, *(f"teacher_{c}" for c in run.categories))
    t = teacher.to_numpy(float)
    t = (t - t.mean(0)) / (t.std(0) + 1e-6)
    clear = (label == 0) & (gold == 0)
    wrong = (label == 1) & (gold == 0)
    return float(t[wrong].mean() - t[clear].mean()) if wrong.any() and clear.any() else 0.0


# --- C: what training and serving say of themselves; 0 in a sound run ---


def _said(run: RunFolder, name: str) -> float:
    if name not in run.about.contract:
        raise Absent(name)
    return run.about.contract[name]


def _most_said(run: RunFolder, *names: str) -> float:
    said = [run.about.contract[name] for name in names if name in run.about.contract]
    return max(said) if said else _said(run, names[0])


CONTRACT: dict[str, Callable[[RunFolder], float]] = {
    "unread_cells": lambda run: _said(run, "loss_cells") / max(_said(run, "verified_cells"), 1) - 1,
    "teacher_mismatch": lambda run: _said(run, "teacher_mismatch"),
    "train_empty": lambda run: _most_said(run, "train_no_frames", "train_no_text"),
    "serve_empty": lambda run: _most_said(run, "serve_no_frames", "serve_no_text"),
    "unserved_text": lambda run: 1 - _said(run, "served_text_share"),
    "served_rounding": lambda run: _said(run, "served_rounding"),
    "copies": content_overlap,
    "groups": group_overlap,
}
LIMIT = 0.1  # above it a contract is broken; below are the copies and streams that a world has anyway


def broken_contracts(run: RunFolder) -> dict[str, float]:
    """Contracts that a run breaks, and by how much; those it says nothing of are left out."""
    found = {}
    for name, check in CONTRACT.items():
        try:
            found[name] = float(check(run))
        except Absent:
            continue
    return {name: value for name, value in found.items() if value > LIMIT}
