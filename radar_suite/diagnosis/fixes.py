"""Interventions on a run's heads, each a function of its set-up and its records.

A fix changes what an engineer of the run could change, and reads what the run recorded (`RunFolder`); it may buy
`BUDGET` labels. It never sees what was planted: true labels answer a bought review, and nothing else. A docstring ends
with what the fix costs; one of your own is a function here, named by `runs` in the taxonomy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit

from radar_suite.diagnosis.runs import VERSION, About, RunFolder
from radar_suite.diagnosis.setups import K, Setup, contract_of, deployed, learn, posts_of, relabels_of, score
from radar_suite.diagnosis.signals import auc, fit_line, serve_prevalence
from radar_suite.world.policies import CATEGORIES

BUDGET = 300  # labels that a fix may buy
PANEL = 3  # reviewers of a post
BELOW = 1.0  # standard deviations below expectation, of a region's labels
QUARTERS = 4  # of the learning rate, at most
Fix = Callable[[Setup, RunFolder], Setup]


def record(setup: Setup, *, seed: int) -> RunFolder:
    """Train a set-up, and what the run records."""
    (weights,), curve = learn(setup, [seed])
    scores = score(setup, weights)
    about = About(version=VERSION, categories=list(CATEGORIES), thresholds=deployed(setup, scores),
                  contract=contract_of(setup))  # fmt: skip
    return RunFolder(about, posts_of(setup, scores), curve, relabels_of(setup, np.random.default_rng(seed)))


# --- pieces ---


def _verified_auc(labels: np.ndarray, scores: np.ndarray) -> Float[np.ndarray, " category"]:
    return np.array([auc(y[y >= 0], z[y >= 0]) for y, z in zip(labels.T, scores.T, strict=True)])


def _expected(run: RunFolder) -> Float[np.ndarray, "post category"]:
    """P(label = 1) of training posts: teacher and student, each calibrated on validation labels, on average."""
    held, out = run.matrix("validation", "label"), []
    for what in ("teacher", "logit"):
        scale = run.matrix("validation", what).std(axis=0) + 1e-6
        z, other = run.matrix("train", what) / scale, run.matrix("validation", what) / scale
        lines = [fit_line(other[y >= 0, k], y[y >= 0]) for k, y in enumerate(held.T)]
        out.append(expit(np.stack([a * z[:, k] + b for k, (a, b) in enumerate(lines)], axis=1)))
    return np.mean(out, axis=0)


def _residuals(run: RunFolder, column: str) -> pd.Series:
    """Sum of label minus expectation over verified cells by a column's values, in standard deviations."""
    labels, p = run.matrix("train", "label"), _expected(run)
    known = labels >= 0
    both = pd.DataFrame({"r": np.where(known, labels - p, 0).sum(1), "v": np.where(known, p * (1 - p), 0).sum(1)})
    sums = both.groupby(run.splits["train"][column].to_numpy()).sum()
    return sums["r"] / np.sqrt(sums["v"] + 1)


def _off_policy(run: RunFolder) -> Bool[np.ndarray, " post"]:
    """Training posts of the regions whose labels lie far below what is expected there."""
    z = _residuals(run, "region")
    return run.splits["train"]["region"].isin(z.index[z < -BELOW]).to_numpy()


def _before(run: RunFolder) -> Bool[np.ndarray, " post"]:
    """Training posts before the month at which the residuals change most."""
    z = _residuals(run, "month").sort_index()
    if len(z) < 4:
        return np.zeros(len(run.splits["train"]), bool)
    apart = [abs(z[:m].sum() / m**0.5 - z[m:].sum() / (len(z) - m) ** 0.5) for m in range(2, len(z) - 1)]
    return (run.splits["train"]["month"] < z.index[2 + int(np.argmax(apart))]).to_numpy()


def _suspects(run: RunFolder, among: Bool[np.ndarray, ...] | bool = True) -> Int[np.ndarray, " post"]:
    """Training posts whose verified labels are least expected, as many as the budget allows."""
    labels = run.matrix("train", "label")
    doubt = np.where((labels >= 0) & among, np.abs(labels - _expected(run)), 0).max(axis=1)
    return np.argsort(-doubt, kind="stable")[: min(BUDGET, int((doubt > 0).sum()))]


def _review(s: Setup, rows: Int[np.ndarray, " post"]) -> Setup:
    """Replace the verified labels of these training posts by those of a careful review."""
    labels = s.labels("train")
    labels[rows] = s.truth["train"][rows]
    s.relabel("train", labels)
    s.said["reviewed"] = len(rows)
    return s


def _noisy(run: RunFolder) -> Bool[np.ndarray, " category"]:
    """The category whose labels are least expected."""
    labels = run.matrix("train", "label")
    doubt = np.where(labels >= 0, np.abs(labels - _expected(run)), np.nan)
    return np.arange(labels.shape[1]) == np.argmax(np.nanmean(doubt, axis=0))


def _missing(run: RunFolder) -> pd.Series:
    """By language, training posts that are missing for its share of the audit."""
    train, audit = (run.splits[split]["language"] for split in ("train", "audit"))
    wanted = audit.value_counts(normalize=True) * len(train)
    return (wanted - train.value_counts().reindex(wanted.index, fill_value=0)).clip(lower=0).round().astype(int)


def _drop(s: Setup, posts: Bool[np.ndarray, ...]) -> Setup:
    s.read = np.where(posts, -1, s.read)
    return s


# --- annotation and training labels ---


def mask_on(s: Setup, run: RunFolder) -> Setup:
    """Read verified cells only. One retraining."""
    return _drop(s, s.labels("train") < 0)


def relabel_suspects(s: Setup, run: RunFolder) -> Setup:
    """Review the least expected labels of the noisiest pipeline. The budget of labels, one retraining."""
    return _review(s, _suspects(run, _noisy(run)))


def drop_suspects(s: Setup, run: RunFolder) -> Setup:
    """Do not read them. One retraining."""
    posts = np.isin(np.arange(len(s.read)), _suspects(run, _noisy(run)))
    return _drop(s, posts[:, None] & _noisy(run))


def relabel_regions(s: Setup, run: RunFolder) -> Setup:
    """Review posts of the regions that label below expectation. The budget of labels, one retraining."""
    return _review(s, _suspects(run, _off_policy(run)[:, None]))


def drop_regions(s: Setup, run: RunFolder) -> Setup:
    """Do not read the labels of these regions. One retraining."""
    return _drop(s, _off_policy(run)[:, None])


def relabel_before(s: Setup, run: RunFolder) -> Setup:
    """Review posts before the month at which labels changed. The budget of labels, one retraining."""
    return _review(s, _suspects(run, _before(run)[:, None]))


def drop_before(s: Setup, run: RunFolder) -> Setup:
    """Do not read labels before that month. One retraining."""
    return _drop(s, _before(run)[:, None])


def ask_panel(s: Setup, run: RunFolder) -> Setup:
    """Read the mean of three careful reviews, where a label is least certain. Thrice the budget of labels."""
    known, p = run.matrix("train", "label") >= 0, s.posterior["train"]
    doubt = np.where(known, np.abs(_expected(run) - 0.5), 1).min(axis=1)
    chosen = np.isin(np.arange(len(doubt)), np.argsort(doubt, kind="stable")[:BUDGET])[:, None] & known
    votes = s.truth["train"] + np.random.default_rng(len(p)).binomial(PANEL - 1, p)
    s.read = np.where(chosen, votes / PANEL, s.read)
    s.said["reviewed"] = PANEL * int(chosen.any(axis=1).sum())
    return s


# --- splits and intake ---


def deduplicate(s: Setup, run: RunFolder) -> Setup:
    """Leave out of training what validation or an earlier training post holds as well. One retraining."""
    train = s.posts["train"]["content"]
    s.keep("train", np.flatnonzero(~train.isin(s.posts["validation"]["content"]) & ~train.duplicated()))
    return s


def split_by_group(s: Setup, run: RunFolder) -> Setup:
    """Leave out of training what shares a group with validation. One retraining."""
    s.keep("train", np.flatnonzero(~s.posts["train"]["group"].isin(s.posts["validation"]["group"])))
    return s


def sample_language(s: Setup, run: RunFolder) -> Setup:
    """Add posts of the languages that training lacks, from those that the intake left. The budget of labels."""
    source = Setup.of(s.bench)
    pool, random = source.posts["train"], np.random.default_rng(len(s.read))
    free = ~pool["post_id"].isin(s.posts["train"]["post_id"])
    rows = [random.permutation(np.flatnonzero(free & (pool["language"] == name)))[:n]
            for name, n in _missing(run).items()]  # fmt: skip
    rows = random.permutation(np.concatenate(rows))[:BUDGET].astype(int)
    s.add(pool.iloc[rows], source, "train", rows)
    s.said["reviewed"] = len(rows)
    return s


def repair_extraction(s: Setup, run: RunFolder) -> Setup:
    """Extract frames and text of all posts again. One pass over the posts, one retraining."""
    s.looks = {look: posts for look, posts in s.looks.items() if look not in ("no_frames", "no_text")}
    return s


def repair_recognition(s: Setup, run: RunFolder) -> Setup:
    """Recognise speech and text on screen again, with a better model. One pass over the posts, one retraining."""
    s.looks = {look: posts for look, posts in s.looks.items() if look != "garbled"}
    return s


# --- training ---


def lower_rate(s: Setup, run: RunFolder) -> Setup:
    """Quarter the learning rate, and again while the validation loss falls. A retraining per quarter."""
    best, columns = np.inf, [f"validation_{c}" for c in CATEGORIES]
    for n in range(1, QUARTERS + 1):
        trial = s.copy()
        trial.learning_rate = s.learning_rate / 4**n
        loss = float(learn(trial, [0])[1][columns].iloc[-1].mean())
        if loss >= best:
            break
        best, found = loss, trial
    return found


def more_steps(s: Setup, run: RunFolder) -> Setup:
    """End the schedule, or double it if it was ended. One retraining, twice as long at most."""
    s.stop, s.epochs = 1.0, s.epochs * (1 if s.stop < 1 else 2)
    return s


def stop_early(s: Setup, run: RunFolder) -> Setup:
    """Stop where the validation loss was least. No more than the training up to there."""
    loss = run.curve[[f"validation_{c}" for c in run.categories]].mean(axis=1)
    s.stop *= (run.curve["step"][loss.idxmin()] + 1) / (run.curve["step"].iloc[-1] + 1)
    return s


def regularise(s: Setup, run: RunFolder) -> Setup:
    """Half the epochs, a quarter of the rate, weight decay. Half a retraining."""
    s.epochs, s.learning_rate, s.decay = max(1, s.epochs // 2), s.learning_rate / 4, max(s.decay, 0.05)
    return s


def raise_rank(s: Setup, run: RunFolder) -> Setup:
    """Train all directions of the backbone. One retraining."""
    s.basis = None
    return s


def change_backbone(s: Setup, run: RunFolder) -> Setup:
    """Take a backbone that reads all languages. All retrainings."""
    s.unseen = [], 0.0
    return s


def initialise_head(s: Setup, run: RunFolder) -> Setup:
    """Initialise all heads, with equal weight in the loss. One retraining of the heads."""
    s.head_weights = np.ones(K)
    return s


# --- distillation ---


def _temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Divisor of the logits with the least log loss."""
    signed = np.where(labels == 1, -logits, logits).astype(float)
    return float(np.exp(minimize_scalar(lambda t: np.logaddexp(0, signed / np.exp(t)).mean(), bounds=(-3, 4)).x))


def calibrate_teacher(s: Setup, run: RunFolder) -> Setup:
    """Divide the teacher's logits by a temperature per category, fitted on validation labels. One retraining."""
    labels, z = run.matrix("validation", "label"), run.matrix("validation", "teacher")
    divisors = np.array([_temperature(y[y >= 0], z[y >= 0, k]) for k, y in enumerate(labels.T)])
    for of in (s.teacher, s.file):
        of.update({split: values / divisors for split, values in of.items()})
    return s


def rejoin_teacher(s: Setup, run: RunFolder) -> Setup:
    """Join soft labels and posts by content. One retraining."""
    s.teacher = dict(s.file)
    return s


def drop_distillation(s: Setup, run: RunFolder) -> Setup:
    """Lambda 0 for the category in which a student without distillation beats the teacher most on validation. Two
    retrainings."""
    alone = s.copy()
    alone.lam = 0.0
    labels = run.matrix("validation", "label")
    student = record(alone, seed=0).matrix("validation", "logit")
    lead = _verified_auc(labels, student) - _verified_auc(labels, run.matrix("validation", "teacher"))
    s.lam = np.where(np.arange(K) == np.argmax(lead), 0.0, s.lam)
    return s


def lower_lambda(s: Setup, run: RunFolder) -> Setup:
    """A quarter of lambda. One retraining."""
    s.lam = s.lam / 4
    return s


# --- serving and thresholds ---


def repair_serving(s: Setup, run: RunFolder) -> Setup:
    """Extract frames and text in serving as in training. No retraining."""
    s.blank = {look: share for look, share in s.blank.items() if look == "cut"}
    return s


def serve_uncut(s: Setup, run: RunFolder) -> Setup:
    """Serve text at the length that training read. Latency."""
    s.blank = {look: share for look, share in s.blank.items() if look != "cut"}
    return s


def serve_exactly(s: Setup, run: RunFolder) -> Setup:
    """Serve in float32. Latency."""
    s.noise = 0.0
    return s


def correct_prior(s: Setup, run: RunFolder) -> Setup:
    """Shift served logits until their mean probability says the estimated prevalence (black-box shift estimation).
    No retraining."""
    served, audit = run.matrix("serve", "served").astype(float), run.matrix("audit", "logit").astype(float)
    wanted = np.clip(expit(audit).mean(axis=0) * np.exp(serve_prevalence(run)), 1e-4, 0.9)
    s.prior = np.array([brentq(lambda c, k=k: expit(served[:, k] + c).mean() - wanted[k], -20, 20) for k in range(K)])
    return s


def derive_thresholds(s: Setup, run: RunFolder) -> Setup:
    """Derive thresholds from the audit again. No retraining."""
    s.shift = np.zeros(K)
    return s


FIXES: dict[str, Fix] = {fix.__name__: fix for fix in (
    mask_on, relabel_suspects, drop_suspects, relabel_regions, drop_regions, relabel_before, drop_before, ask_panel,
    deduplicate, split_by_group, sample_language, repair_extraction, repair_recognition, lower_rate, more_steps,
    stop_early, regularise, raise_rank, change_backbone, initialise_head, calibrate_teacher, rejoin_teacher,
    drop_distillation, lower_lambda, repair_serving, serve_uncut, serve_exactly, correct_prior, derive_thresholds,
)}  # fmt: skip
# change which posts are trained on, so come after those that read the run's rows; they add before they leave out
RESIZING = ("sample_language", "deduplicate", "split_by_group")
UNTRAINED = {"repair_serving", "serve_uncut", "serve_exactly", "correct_prior", "derive_thresholds"}
