"""The record of every run, in one Parquet file that the notebooks read: `runs/<profile>/runs.parquet`.

A line is one metric of one risk (or their average) of one run: what was run, with which configuration, on what, how
long it took, and what it reached. Notebooks 06 and 07 enter their studies whole, `radar studies` row by row. New lines
replace those of the same study and row, at any seed, and those of the same study on other posts: a study has lines on
one set of posts only. Lines that differ from those of before in their seconds alone change nothing. The committed copy
lies in `figures/<profile>/runs.parquet`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path
from radar_lib.training.scores import UNREADABLE
from radar_suite.report.row_scores import RowScores, name_of, row_of
from radar_suite.report.workspace import Workspace

FILE = "runs.parquet"
KEYS = ["study", "row", "seed", "category", "metric"]
LASTING = [*KEYS, "value", "posts", "positives", "run", "config", "posts_digest"]
WHERE = ["device", "versions", "seconds"]  # where and how fast: stays as recorded while all else is equal
COLUMNS = [*LASTING, *WHERE]
WHOLE = ("tables", "lambda")  # studies that are entered whole, by `enter`


def run_lines(
    study: str, row: str, seed: int, scored: Mapping[str, Mapping[str, float]], *, run: str, config: Mapping[str, Any],
    seconds: float, workspace: Workspace,
) -> pd.DataFrame:  # fmt: skip
    """Lines of one run.

    Args:
        study: 'tables', 'lambda', 'losses', 'controls', 'phase', ...
        row: name of the row within its study.
        scored: of `score_table`: by category (and Average) its metrics, with posts and positives.
        run: run hash, which covers code and data; of a row that joins several runs (the experts) their hashes, with
            spaces between.
        config: JSON values that decide the run, beyond what the hash covers for the reader.
        seconds: of training.
        workspace: of whoever records; gives posts, device and versions.
    """
    stamp = workspace.stamp()
    about = {
        "study": study, "row": row, "seed": seed, "run": run, "config": json.dumps(dict(config), sort_keys=True),
        "seconds": float(seconds), "posts_digest": stamp["inputs"].get("posts", ""), "device": stamp["device"],
        "versions": json.dumps(stamp["versions"]),
    }  # fmt: skip
    counts = ("posts", "positives")
    lines = [
        about | {"category": category, "metric": metric, "value": float(value)}
        | {name: numbers.get(name) for name in counts}
        for category, numbers in scored.items()
        for metric, value in numbers.items()
        if metric not in (*counts, "prevalence")
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS).astype({name: "Int64" for name in counts})


def enter(workspace: Workspace, study: str, scores: RowScores, index: Sequence[Mapping[str, Any]]) -> Path:
    """Enter a whole study, every row and seed, in the record of the workspace's profile; returns the record's path.

    The study's other lines, of rows and seeds that are not entered now, go.

    Args:
        index: entries of `keep_run` or `keep_logits`; what joins several (the experts) takes the time of all.
    """
    parts = []
    for row, by_seed in scores.scored().items():
        for seed, scored in by_seed.items():
            own = [entry for entry in index if row_of(entry) == row and entry["seed"] == seed]
            about = {"run": " ".join(entry["run"] for entry in own), "config": own[0]["config"]}
            seconds = sum(entry["seconds"] for entry in own)
            parts.append(run_lines(study, name_of(row), seed, scored, **about, seconds=seconds, workspace=workspace))
    path = workspace.runs_dir / workspace.profile / FILE
    record(path, pd.concat(parts, ignore_index=True), whole=(study,))
    return path


def record(path: Path, lines: pd.DataFrame, *, whole: Collection[str] = ()) -> None:
    """Add lines to the record at `path`, as `merge`."""
    lines = merge(read_record(path) if path.exists() else lines.iloc[:0], lines, whole=whole)
    with atomic_path(path) as temporary:
        lines.to_parquet(temporary, index=False)


def merge(before: pd.DataFrame, lines: pd.DataFrame, *, whole: Collection[str] = ()) -> pd.DataFrame:
    """One record of two: `lines`, and of `before` what they do not replace, in the order of `KEYS`.

    Of a study in `lines` they replace the rows that they have and what is on other posts, and everything if the study
    is in `whole`. Studies that `lines` does not have stay, and so does where and how fast equal lines were computed.
    """
    posts = lines.groupby("study")["posts_digest"].agg(set).to_dict()
    rows = set(zip(lines["study"], lines["row"], strict=True))
    places = zip(before["study"], before["row"], before["posts_digest"], strict=True)
    stays = [study not in posts or (study not in whole and digest in posts[study] and (study, row) not in rows)
             for study, row, digest in places]  # fmt: skip
    lines = lines.reset_index(drop=True)
    known = lines[LASTING].merge(before[COLUMNS], how="left", on=LASTING)[WHERE]
    lines = lines.assign(**{name: known[name].fillna(lines[name]).to_numpy() for name in WHERE})
    both = pd.concat([before[np.array(stays, dtype=bool)], lines], ignore_index=True) if any(stays) else lines
    return both[COLUMNS].sort_values(KEYS, kind="stable", ignore_index=True)


def read_record(path: Path) -> pd.DataFrame:
    """The record.

    Raises:
        RadarError: there is none, or it lacks a column.
    """
    if not path.exists():
        raise RadarError(f"{path} does not exist: notebooks 06 and 07 and `radar studies` write it.")
    try:
        found = pd.read_parquet(path)
    except UNREADABLE as error:
        raise RadarError(f"{path}: no readable record ({error}): delete it and run `radar reproduce` again.") from error
    missing = [column for column in COLUMNS if column not in found.columns]
    if missing:
        raise RadarError(f"{path} has no column {', '.join(missing)}: delete it and run `radar reproduce` again.")
    return found[COLUMNS]
