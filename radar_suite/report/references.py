"""Reference rows beside Tables 1 and 2: what the thirteen rows of the paper are to be read against.

They are no rows of the paper, take no part in its claims and get no marks. Their settings were fixed beforehand: no
validation or test post chooses anything; the strength of a logistic regression's penalty is chosen by cross-validation
on its own training posts.

- no information: a random order of the posts, from the prevalence alone;
- words: character n-grams of title, OCR and ASR text (Unicode-aware, so for any language), TF-IDF, logistic regression;
- linear probe: the same regression on a frozen backbone's pooled vectors;
- oracle: the posterior of each risk given all facts behind a post, which only the built-in corpus knows.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from scipy.sparse import spmatrix
from scipy.special import logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from radar_lib.data.posts import Posts, labels
from radar_lib.evidence import AREA, Evidence
from radar_lib.files import digest_file, digest_json
from radar_lib.intervals import count_groups, logit_interval, standard_error, sum_within
from radar_lib.metrics import uninformed_metrics
from radar_lib.sources import digest_sources
from radar_lib.training.encoder import pooled_features
from radar_lib.training.lab import Lab
from radar_lib.training.scores import write_scores
from radar_suite.intake.texts import all_text, plain_text
from radar_suite.report import tables
from radar_suite.report.audit_truth import truth_of
from radar_suite.report.claims import in_points
from radar_suite.report.experiments import LAMBDA_STUDY_BACKBONE
from radar_suite.report.row_scores import RowScores, name_of
from radar_suite.report.workspace import Workspace

REFERENCE = "Reference"  # stands where the table rows have their loss
CHANCE, WORDS, ORACLE = "No information", "TF-IDF + logistic regression", "Oracle (true posterior)"
PROBE = f"Linear probe, frozen {LAMBDA_STUDY_BACKBONE}"
ORDER = [(REFERENCE, method) for method in (CHANCE, WORDS, PROBE, ORACLE)]
NOTE = (  # beside the rows, wherever they are shown
    "Reference rows, not of the paper and outside all marks and claims. No information: a random order. TF-IDF: "
    "character n-grams of the text, logistic regression per risk. Linear probe: the same on a frozen backbone's "
    "vectors. Oracle: the posterior given all facts behind a post, equal ones in a random order; known of the built-in "
    "corpus only."
)
VOCABULARY = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True, "max_features": 50_000}
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # scikit-learn's C, weak to strong fit
FOLDS = 5
Features = spmatrix | np.ndarray


def is_reference(row: Any) -> bool:
    """Whether a row's name is that of a reference row."""
    return isinstance(row, tuple) and row[0] == REFERENCE


def fit_regressions(
    train: Features, known: Int8[np.ndarray, "post category"], test: Features, *, seed: int
) -> tuple[Float[np.ndarray, "test_post category"], list[float | None]]:
    """Logits of one logistic regression per risk, each fitted to the posts verified for it.

    C is that of `STRENGTHS` with the best average precision on held-out folds of those posts. With fewer than two
    posts of a class there is nothing to hold out, and C is 1; with none, the logits are 0 (their metrics are undefined)
    and C is None.

    Args:
        known: labels of the training posts: 1, 0, and -1 where not verified.
        seed: of the folds.
    """
    logits, chosen = np.zeros((test.shape[0], known.shape[1]), dtype=np.float32), []
    for k, column in enumerate(known.T):
        rows = np.flatnonzero(column >= 0)
        smallest = min(np.bincount(column[rows].astype(np.int64), minlength=2))
        if not smallest or not train.shape[1]:
            chosen.append(None)
            continue
        model: Any = LogisticRegression(C=1.0, max_iter=1000)
        if smallest > 1:
            folds = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=seed)
            model = GridSearchCV(model, {"C": STRENGTHS}, scoring="average_precision", cv=folds)
        model.fit(train[rows], column[rows])
        logits[:, k] = model.decision_function(test)
        chosen.append(float(model.best_params_["C"]) if smallest > 1 else 1.0)
    return logits, chosen


def words_logits(posts: Posts, *, seed: int) -> tuple[Float[np.ndarray, "test_post category"], list[float | None]]:
    """Logits of the test posts by what is written in them, and C of each risk."""
    train, test = posts.table("train"), posts.table("test")
    known = labels(train, posts.categories)
    texts = [[plain_text(text).casefold() for text in all_text(table)] for table in (train, test)]
    if not any(text.strip() for text in texts[0]):
        return fit_regressions(np.zeros((len(train), 0)), known, np.zeros((len(test), 0)), seed=seed)
    vectors = TfidfVectorizer(dtype=np.float32, lowercase=False, **VOCABULARY)
    return fit_regressions(vectors.fit_transform(texts[0]), known, vectors.transform(texts[1]), seed=seed)


def probe_logits(lab: Lab, *, seed: int) -> tuple[Float[np.ndarray, "test_post category"], list[float | None]]:
    """Logits of the test posts by `PROBE`'s pooled vectors, each feature standardised; and C of each risk."""
    scale = StandardScaler().fit(train := pooled_features(lab, LAMBDA_STUDY_BACKBONE, "train"))
    known = lab.labels("train", lab.posts.categories)
    test = scale.transform(pooled_features(lab, LAMBDA_STUDY_BACKBONE, "test"))
    return fit_regressions(scale.transform(train), known, test, seed=seed)


def oracle_logits(posts: Posts, *, seed: int) -> Float[np.ndarray, "test_post category"] | None:
    """Logits of the hidden posterior of the test posts; None where a corpus has no truth file.

    Most posts share a few posteriors, and a block of equal scores can only be released whole. Posts with equal
    posteriors are put in a random order instead (by less than 1e-4 in the logit), which no ranking can better.
    """
    truth = truth_of(posts, posts.table("test", columns=["post_id"])["post_id"])
    if truth is None:
        return None
    chance = truth[[f"posterior_{category}" for category in posts.categories]].to_numpy(np.float64)
    shaken = np.random.default_rng(seed).uniform(-1e-4, 1e-4, chance.shape)
    return (logit(chance.clip(1e-7, 1 - 1e-7)) + shaken).astype(np.float32)


def words_entry(workspace: Workspace, posts: Posts, *, seed: int) -> dict[str, Any]:
    """Fit the words' regressions and keep their scores; returns the index entry."""
    started = time.monotonic()
    logits, chosen = words_logits(posts, seed=seed)
    config = {"vocabulary": json.loads(json.dumps(VOCABULARY)), "C": dict(zip(posts.categories, chosen, strict=True))}
    return _keep(workspace, posts, WORDS, logits, config, seed=seed, started=started)


def probe_entry(workspace: Workspace, lab: Lab, *, seed: int) -> dict[str, Any]:
    """Fit the linear probe and keep its scores; returns the index entry."""
    started = time.monotonic()
    logits, chosen = probe_logits(lab, seed=seed)
    config = {"backbone": LAMBDA_STUDY_BACKBONE, "C": dict(zip(lab.posts.categories, chosen, strict=True))}
    return _keep(workspace, lab.posts, PROBE, logits, config, seed=seed, started=started)


def oracle_entry(workspace: Workspace, posts: Posts, *, seed: int) -> dict[str, Any] | None:
    """Keep the oracle's scores; returns the index entry, None where a corpus has no truth file."""
    started = time.monotonic()
    logits = oracle_logits(posts, seed=seed)
    return None if logits is None else _keep(workspace, posts, ORACLE, logits, {}, seed=seed, started=started)


def _keep(
    workspace: Workspace, posts: Posts, method: str, logits: Float[np.ndarray, "test_post category"],
    config: Mapping[str, Any], *, seed: int, started: float,
) -> dict[str, Any]:  # fmt: skip
    """Write scores of the test posts as `scores/<hash>.parquet`; returns an index entry like that of `keep_run`."""
    inputs = {"method": method, "posts": posts.digest, "seed": seed, "config": config}
    digest = digest_json(inputs | {"code": digest_sources(__name__)})
    ids = posts.table("test", columns=["post_id"])["post_id"].tolist()
    path = workspace.path(f"scores/{digest}.parquet")
    write_scores(path, post_ids=ids, splits=["test"] * len(ids), logits=logits, categories=posts.categories)
    return {
        "loss": REFERENCE, "method": method, "run": digest, "seed": seed, "config": config,
        "scores_path": path.relative_to(workspace.runs_dir).as_posix(), "scores_digest": digest_file(path),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def reference_scores(index: Sequence[Mapping[str, Any]], posts: Posts, *, runs_dir: Path) -> RowScores:
    """The logits of the reference rows that have index entries, in the order of `ORDER`."""
    there = {(entry["loss"], entry["method"]) for entry in index}
    return tables.row_scores(index, posts, runs_dir=runs_dir, order=[row for row in ORDER if row in there])


def reference_results(scores: RowScores, evidence: Evidence) -> pd.DataFrame:
    """The row without information and the reference rows among `scores`, as results with 95 % intervals."""
    own = scores.only(is_reference)
    floor = uninformed_results(own)
    if not own.rows:
        return floor
    found = tables.with_intervals(tables.results(own), evidence)
    return pd.concat([floor, found], ignore_index=True)[list(found)]


def gains(evidence: Evidence) -> pd.DataFrame:
    """What routers of `LAMBDA_STUDY_BACKBONE` gain over the linear probe of the same frozen backbone, and over words.

    Returns:
        A line per pair of rows that there are: row, against, and in points of average PR-AUC ours, low, high.
    """
    lines = []
    for loss in ("Masked BCE", "Masked BCE + Distill"):
        for other in (PROBE, WORDS):
            pair = ((loss, LAMBDA_STUDY_BACKBONE), (REFERENCE, other))
            if set(pair) <= set(evidence.rows):
                found = evidence.difference(*pair, tables.AVERAGE, AREA)
                lines.append({"row": name_of(pair[0]), "against": other, **in_points(*found[:3])})
    return pd.DataFrame(lines)


def uninformed_results(scores: RowScores) -> pd.DataFrame:
    """What a random order of the test posts reaches, as results with 95 % intervals.

    The interval of its PR-AUC is that of the prevalence. The rest is known without the posts: both ends are the number.
    """
    metrics, influence, number = {}, {}, {}
    for k, category in enumerate(scores.categories):
        known = scores.truth[:, k] >= 0
        y = scores.truth[known, k]
        parts = np.zeros(len(known))
        parts[known] = (y - y.mean()) / len(y)
        counts = {"posts": len(y), "positives": int(y.sum()), "prevalence": float(y.mean())}
        influence[category] = sum_within(parts, scores.groups)
        number[category] = count_groups(scores.groups, among=known)
        metrics[category] = uninformed_metrics(counts["prevalence"]) | counts
    mean = {name: float(np.mean([one[name] for one in metrics.values()])) for name in tables.METRICS}
    metrics[tables.AVERAGE] = mean
    influence[tables.AVERAGE] = np.mean([influence[category] for category in scores.categories], axis=0)
    number[tables.AVERAGE] = count_groups(scores.groups, among=(scores.truth >= 0).any(axis=1))
    errors = {category: standard_error(influence[category], number[category]) for category in influence}
    frame = pd.DataFrame(tables.over_seeds([metrics])).assign(loss=REFERENCE, method=CHANCE)
    ends = [
        logit_interval(value, errors[category])[1:] if metric == "PR-AUC" else (value, value)
        for category, metric, value in zip(frame["category"], frame["metric"], frame["value"], strict=True)
    ]
    return frame.assign(low=[low for low, _ in ends], high=[high for _, high in ends])


def reference_csv(frame: pd.DataFrame) -> str:
    """Both tables' columns of the reference rows, in percent, named as in the paper's CSV files."""
    parts = [tables.wide(frame, number, order=ORDER) for number in tables.TABLES]
    return tables.to_csv(pd.concat(parts, axis=1))
