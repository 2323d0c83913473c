"""Does a run agree with a committed record? Cells against the record's intervals, verdicts against its verdicts.

Training is not equal to the last bit on another processor or with another number of threads, so a smaller change than a
cell's interval is no disagreement. Only where all that decides a result is equal must the results be equal too.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.report.record import read_record
from radar_suite.report.row_scores import read_row_scores
from radar_suite.report.stated import INTERVALS
from radar_suite.report.verify import MISSING, TABLES, Difference, differences

# What stamps say of all that decides a result, beside the posts and the seeds of training, and what it is called.
DECIDING = {"device": "device", "versions": "versions", "library_digest": "library code", "seed": "bootstrap seed"}


@dataclass(frozen=True)
class Agreement:
    """A run beside a record.

    Attributes:
        cells: how many cells of the tables either has.
        outside: those outside the record's 95 % interval, or that only one has; of a cell without an interval (a
            perfect order, runs that agree) any change counts.
        inside: those that changed within their interval.
        largest: the largest such change, in points.
        verdicts: those that changed.
    """

    cells: int
    outside: list[Difference]
    inside: list[Difference]
    largest: float
    verdicts: list[Difference]


def compare(run: Mapping[str, Path], committed: Path) -> Agreement:
    """A run's numbers and verdicts against a committed record's.

    Args:
        run: by file name (`INTERVALS`, `VERDICTS`) where the run has it; files that either lacks are passed over.

    Raises:
        RadarError: either has no `INTERVALS`.
    """
    both = {file: (path, committed / file) for file, path in run.items() if path.is_file()}
    both = {file: paths for file, paths in both.items() if paths[1].is_file()}
    if INTERVALS not in both:
        raise RadarError(f"{committed} has no {INTERVALS}: it is no record of `radar reproduce`.")
    own, theirs = ({(line["loss"], line["method"], line["category"], line["metric"]): line
                    for line in pd.read_csv(path).to_dict("records")} for path in both.pop(INTERVALS))  # fmt: skip
    outside, inside, largest = [], [], 0.0
    places = dict.fromkeys([*theirs, *own])
    for place in places:
        mine, stated = own.get(place), theirs.get(place)
        name = (INTERVALS, f"{place[0]}, {place[1]}", f"{place[2]} {place[3]}")
        if mine is None or stated is None:
            texts = [MISSING if line is None else f"{line['value']:.4f}" for line in (stated, mine)]
            outside.append(Difference(*name, *texts, "this run"))
        elif not equal(mine["value"], stated["value"]):
            about = f"{stated['value']:.4f} [{stated['low']:.4f}, {stated['high']:.4f}]"
            one = Difference(*name, about, f"{mine['value']:.4f}", "this run")
            if within(mine["value"], stated):
                inside.append(one)
                largest = max(largest, 100 * abs(mine["value"] - stated["value"]))
            else:
                outside.append(one)
    verdicts = []
    for file, paths in both.items():
        mine, stated = (pd.read_csv(path).set_index("claim")["verdict"].to_dict() for path in paths)
        cells_of_both = ({(claim, "verdict"): verdict for claim, verdict in one.items()} for one in (stated, mine))
        verdicts += differences(file, *cells_of_both, what="this run")
    return Agreement(len(places), outside, inside, largest, verdicts)


def equal(value: float, stated: float) -> bool:
    """Whether two numbers are equal as they are written, to six digits, or both undefined."""
    return (math.isnan(value) and math.isnan(stated)) or math.isclose(value, stated, rel_tol=2e-6, abs_tol=1e-9)


def within(value: float, stated: Mapping[str, Any]) -> bool:
    """Whether a number lies in a stated one's interval, or is equal to it."""
    ends = (stated["low"], stated["high"])
    return equal(value, stated["value"]) or (all(map(math.isfinite, ends)) and ends[0] <= value <= ends[1])


def apart(run: Path, committed: Path, *, records: tuple[Path, Path]) -> list[str]:
    """What of all that decides the tables differs between two folders with scores and their stamps, in words.

    Args:
        records: of runs, for the parameters of their training; passed over where either is missing.
    """
    mine, theirs = (read_json(folder / f"{TABLES}.json") for folder in (run, committed))
    found = ["posts"] if mine["data_digests"].get("posts") != theirs["data_digests"].get("posts") else []
    found += [word for name, word in DECIDING.items() if mine.get(name) != theirs.get(name)]
    if mine.get("parameters") != theirs.get("parameters") or not _same_settings(*records):
        found.append("parameters")
    return found + (["seeds"] if seeds_of(run) != seeds_of(committed) else [])


def _same_settings(one: Path, other: Path) -> bool:
    """Whether the rows of both records were trained with the same configuration."""
    if not (one.is_file() and other.is_file()):
        return True
    mine, theirs = (read_record(path).query("study == 'tables'") for path in (one, other))
    return set(zip(mine["row"], mine["config"], strict=True)) == set(zip(theirs["row"], theirs["config"], strict=True))


def seeds_of(folder: Path) -> dict[Hashable, list[int]]:
    """The seeds of each row of a folder's file of scores."""
    return {row: sorted(runs) for row, runs in read_row_scores(folder / f"{TABLES}.parquet").rows.items()}


def numbers_of_seeds_differ(run: Path, committed: Path) -> bool:
    """Whether a row that both have was trained at other numbers of seeds, so that means over seeds are compared."""
    mine, theirs = seeds_of(run), seeds_of(committed)
    return any(len(mine[row]) != len(theirs[row]) for row in mine.keys() & theirs.keys())
