"""Does what a record states follow from its own scores, and does a run agree with the record?

Of a record, the rows' logits (`row_scores`) and the values of studies' runs (`record`) are taken on trust. Tables,
intervals, differences and verdicts are computed from them by the functions that notebooks 06 and 07 call, and each cell
of the canonical CSV files is held against its own; what people read (LaTeX, README, docs) is held against those.

Training is not equal to the last bit on another processor or with another number of threads, so a run disagrees with a
record where a cell leaves its 95 % interval. Only where all that decides a result is equal must the results be equal.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import digest_file, read_json
from radar_suite.report import tables
from radar_suite.report.record import FILE, read_record
from radar_suite.report.row_scores import RowScores, name_of, read_row_scores
from radar_suite.report.stated import INTERVALS, VERDICTS, grid_files, table_files
from radar_suite.report.workspace import MANIFEST

SCORES = {"test_scores": (table_files, "tables"), "lambda_scores": (grid_files, "lambda")}  # by name of the file
NOTEBOOKS = {"test_scores": "06_tables_1_and_2", "lambda_scores": "07_lambda_study"}
TRAINING = ("03_expert_training/experts.json", "05_router_training/routers.json", "05_router_training/references.json",
            "06_tables_1_and_2/references.json", "07_lambda_study/lambda.json")  # fmt: skip
# Studies' files of numbers: their name in the record of runs, and to what precision they are written.
STUDIES = {"losses": ("losses", 1e-12), "controls": ("controls", 0.0051), "phase": ("phase", 1e-6),
           "phase_lora": ("phase LoRA", 1e-6)}  # fmt: skip
RECORDED = "cpu"  # profile whose record README and docs show
MISSING = "(missing)"
WORDS = ("verdict", "exception", "about", "note")  # columns of results in words, which are no part of a row's name
CAUSES = ("device", "versions", "code", "seed", "parameters")  # fields of an entry that decide a result, beside inputs
Cells = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Difference:
    """One cell of a file that is not what it should be."""

    file: str
    row: str
    column: str
    stated: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: {self.row}; {self.column}: stated {self.stated}, found {self.found}"


@dataclass
class Comparison:
    """How many cells were compared, and those that differ."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, file: str, stated: Cells, found: Cells, *, tolerance: float = 1e-12) -> None:
        """Compare cells that either has; numbers that differ by less than the tolerance are equal."""
        places = dict.fromkeys([*found, *stated])
        self.compared += len(places)
        for place in places:
            one, other = stated.get(place, MISSING), found.get(place, MISSING)
            if one != other and not math.isclose(_number(one), _number(other), rel_tol=1e-9, abs_tol=tolerance):
                self.differences.append(Difference(file, *place, one, other))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def cells_of(text: str) -> Cells:
    """The cells of a CSV file by row and column. A row is called by its cells that are no numbers, or counted."""
    head, *rows = csv.reader(io.StringIO(text))
    cells: Cells = {}
    seen: dict[str, int] = {}
    for row in rows:
        named = [cell for cell, column in zip(row, head, strict=False) if column not in WORDS]
        name = ", ".join(cell for cell in named if cell and math.isnan(_number(cell)))
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name} ({seen[name]})"
        cells |= {(label, column): cell for column, cell in zip(head, row, strict=False)}
    return cells


def check_record(record: Path, project: Path | None = None) -> Comparison:
    """Hold `figures/<profile>` against its own scores and its manifest, and the project's documents against it.

    Raises:
        RadarError: there is no manifest, or a file of scores is no such file.
    """
    found = check_folder(record, runs=record / FILE)
    if project is not None and record.name == RECORDED:
        from radar_suite.report.results import documents

        for name, text in documents(project, record).items():
            stated = (project / name).read_text("utf-8") if (project / name).is_file() else ""
            found.compared += len(text.splitlines())
            found.differences += line_differences(name, stated, text)
    return found


def check_folder(folder: Path, *, runs: Path) -> Comparison:
    """Hold a folder with a manifest against its scores and runs, LaTeX against CSV, all files against their digests.

    Args:
        folder: `figures/<profile>`, or the `figures` folder of a notebook.
        runs: the record of runs; values of tables and grid follow from the scores, and the studies' files from it.
    """
    entries, found = read_json(folder / MANIFEST)["entries"], Comparison()
    for name, (files_of, study) in SCORES.items():
        if name not in entries or not (folder / f"{name}.parquet").is_file():
            continue
        scores = read_row_scores(folder / f"{name}.parquet")
        for file, text in files_of(scores, seed=entries[name]["seed"]).items():
            if (folder / file).is_file():
                found.add(file, cells_of((folder / file).read_text("utf-8")), cells_of(text))
            else:
                found.differences.append(Difference(file, "the whole file", "cells", MISSING, str(len(cells_of(text)))))
        if runs.is_file():
            _check_runs(read_record(runs), study, scores, found)
    for name in ("table1", "table2"):
        if (folder / f"{name}.tex").is_file() and (folder / f"{name}.csv").is_file():
            found.add(f"{name}.tex", *latex_cells(folder / f"{name}.tex", folder / f"{name}.csv"))
    if runs.is_file():
        _check_studies(folder, read_record(runs), found)
    named = {one.file for one in found.differences}
    for name, entry in entries.items():
        for file, digest in entry["files"].items():
            actual = digest_file(folder / file) if (folder / file).is_file() else MISSING
            found.compared += 1
            if actual != digest and file not in named:
                found.differences.append(Difference(file, name, "digest", digest, actual))
    return found


def latex_cells(tex: Path, table: Path) -> tuple[Cells, Cells]:
    """The numbers of a LaTeX table, and those of its CSV file, by row and column of the latter."""
    head, *rows = csv.reader(io.StringIO(table.read_text("utf-8")))
    columns, numbers = head[2:], []
    for line in tex.read_text("utf-8").splitlines():
        cells = [re.search(r"-?\d+\.\d+|-", cell) for cell in line.split("&")[-len(columns) :]]
        if line.endswith("\\\\") and len(cells) == len(columns) and all(cells):
            numbers.append([cell[0] for cell in cells if cell])
    stated, expected = ({(", ".join(row[:2]), column): one for row, line in zip(rows, lines, strict=False)
                         for column, one in zip(columns, line, strict=True)}
                        for lines in (numbers, [[cell or "-" for cell in row[2:]] for row in rows]))  # fmt: skip
    return stated, expected


def _check_runs(runs: pd.DataFrame, study: str, scores: RowScores, found: Comparison) -> None:
    """Hold the record's values of these rows and seeds against what the scores say of them."""
    expected = {(f"{study}, {name_of(row)}, seed {seed}, {category}", metric): repr(numbers[metric])
                for row, by_seed in scores.scored().items() for seed, scored in by_seed.items()
                for category, numbers in scored.items() for metric in tables.METRICS}  # fmt: skip
    lines = runs[runs["study"] == study]
    names = study + ", " + lines["row"] + ", seed " + lines["seed"].astype(str) + ", " + lines["category"]
    stated = dict(zip(zip(names, lines["metric"], strict=True), map(repr, lines["value"].tolist()), strict=True))
    found.add(FILE, {place: value for place, value in stated.items() if place in expected}, expected)


def _check_studies(folder: Path, runs: pd.DataFrame, found: Comparison) -> None:
    """Hold the studies' values against the means over seeds of their single runs, where the record holds those."""
    means = runs.groupby(["study", "row", "category", "metric"])["value"].mean()
    for name, (study, tolerance) in STUDIES.items():
        path = folder / "studies" / f"{name}.csv"
        if path.is_file() and study in means.index.get_level_values("study"):
            stated = cells_of(path.read_text("utf-8"))
            labels = dict.fromkeys(label for label, _ in stated)
            expected = {(label, column): repr(float(value))
                        for label, line in zip(labels, pd.read_csv(path).to_dict("records"), strict=True)
                        for column, value in study_values(study, line, means[study]).items()}  # fmt: skip
            found.add(f"studies/{name}.csv", {place: stated.get(place, MISSING) for place in expected}, expected,
                      tolerance=tolerance)  # fmt: skip


def study_values(study: str, line: Mapping[str, Any], means: pd.Series) -> dict[str, float]:
    """What a line of a study's CSV says that follows from its runs: means over seeds, and their differences.

    Args:
        means: values by row, category and metric.
    """

    def mean(row: str) -> float:
        return means.get((row, line["category"], line["metric"]), math.nan)

    if study == "losses":
        return {"value": mean(line["row"]), "difference": mean(line["row"]) - mean("Mask")}
    if study == "controls":
        return {"value": 100 * mean(line["row"]), "gain": 100 * (mean(line["row"]) - mean("no teacher"))}
    kind = "LoRA, " if study == "phase LoRA" else ""
    place = f"beta {line['beta']:g}, co-violation {line['co_violation']:g}"
    masked, unmasked = (mean(f"{kind}{objective}, {place}") for objective in ("masked", "unmasked"))
    return {"masked": masked, "unmasked": unmasked, "gain": masked - unmasked}


def line_differences(file: str, stated: str, found: str) -> Iterator[Difference]:
    """Lines of a document that differ, of tables their cells."""
    one, other = stated.splitlines(), found.splitlines()
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        for number, (mine, theirs) in enumerate(zip_longest(one[a:b], other[c:d]), start=a + 1):
            cells = [[cell.strip() for cell in (line or "").strip("|").split("|")] for line in (mine, theirs)]
            if mine and theirs and mine.startswith("|") and len(cells[0]) == len(cells[1]):
                head = _head(one[: number - 1], len(cells[0]))
                name = f"line {number}, " + ", ".join(cells[1][:2])
                for column, left, right in zip(head, *cells, strict=True):
                    if left != right:
                        yield Difference(file, name, column, left, right)
            else:
                yield Difference(file, f"line {number}", "text", *(MISSING if x is None else x for x in (mine, theirs)))


def _head(before: list[str], count: int) -> list[str]:
    """Columns of the table that a line stands in: those above the last rule of dashes, else numbers."""
    rules = [k for k, line in enumerate(before) if k and line.startswith("|") and not set(line) - set("| -:")]
    head = [cell.strip() for cell in before[rules[-1] - 1].strip("|").split("|")] if rules else []
    return head if len(head) == count else [f"column {k}" for k in range(1, count + 1)]


@dataclass(frozen=True)
class Agreement:
    """A run beside a record.

    Attributes:
        other: what of all that decides the tables differs between the two; if nothing, results must be equal.
        cells: how many cells either has.
        outside: those that disagree: outside the record's 95 % interval, or that only one has, or, where nothing that
            decides differs, any change.
        inside: how many changed within their interval.
        largest: the largest such change, in points.
        verdicts: those that changed.
        same_seeds: whether rows are means over equal numbers of seeds; if not, a changed verdict is no disagreement.
    """

    other: list[str]
    cells: int
    outside: list[Difference]
    inside: int
    largest: float
    verdicts: list[Difference]
    same_seeds: bool

    @property
    def disagreements(self) -> int:
        return len(self.outside) + (len(self.verdicts) if self.same_seeds else 0)


def finished(run: Path) -> bool:
    """Whether `runs/<profile>` holds scores to compare."""
    return (run / NOTEBOOKS["test_scores"] / "figures" / "test_scores.parquet").is_file()


def check_run(run: Path) -> Comparison:
    """Hold a finished run's results against its own scores, and its score files against their digests."""
    found = Comparison()
    for notebook in NOTEBOOKS.values():
        if (run / notebook / "figures" / MANIFEST).is_file():
            part = check_folder(run / notebook / "figures", runs=run / FILE)
            found.compared += part.compared
            found.differences += part.differences
    for index in (run / name for name in TRAINING):
        content = read_json(index) if index.is_file() else []
        for entry in content["runs"] if isinstance(content, dict) else content:
            path = run.parent / entry["scores_path"]
            actual = digest_file(path) if path.is_file() else MISSING
            found.add(entry["scores_path"], {(entry["run"], "digest"): entry["scores_digest"]},
                      {(entry["run"], "digest"): actual})  # fmt: skip
    return found


def agree(run: Path, record: Path) -> Agreement:
    """A finished run's numbers and verdicts against a record's, whose intervals say how far a cell may move.

    Raises:
        RadarError: either has no scores, intervals or manifest.
    """
    folders = [run / NOTEBOOKS[name] / "figures" for name in SCORES]
    scores = [read_row_scores(folder / "test_scores.parquet") for folder in (folders[0], record)]
    other = causes_apart(*(read_json(folder / MANIFEST)["entries"]["test_scores"] for folder in (folders[0], record)))
    files = {file: (folder / file, record / file) for folder in folders for file in (INTERVALS, *VERDICTS)
             if (folder / file).is_file() and (record / file).is_file()}  # fmt: skip
    if INTERVALS not in files:
        raise RadarError(f"{record} has no {INTERVALS}: `radar reproduce` writes it.")
    mine, theirs = (_by_place(path) for path in files[INTERVALS])
    outside, inside, largest = [], 0, 0.0
    places = dict.fromkeys([*theirs, *mine])
    for place in places:
        ours, stated = mine.get(place), theirs.get(place)
        if ours is not None and stated is not None and equal(ours["value"], stated["value"]):
            continue
        if other and ours is not None and stated is not None and within(ours["value"], stated):
            inside, largest = inside + 1, max(largest, 100 * abs(ours["value"] - stated["value"]))
            continue
        texts = [MISSING if line is None else f"{line['value']:.4f} [{line['low']:.4f}, {line['high']:.4f}]"
                 for line in (stated, ours)]  # fmt: skip
        outside.append(Difference(INTERVALS, ", ".join(place[:3]), place[3], *texts))
    verdicts = Comparison()
    for file in VERDICTS:
        if file in files:
            own, stated = (pd.read_csv(path).set_index("claim")["verdict"].to_dict() for path in files[file])
            verdicts.add(file, *({(claim, "verdict"): text for claim, text in one.items()} for one in (stated, own)))
    seeds = [{row: sorted(by_seed) for row, by_seed in one.rows.items()} for one in scores]
    same = all(len(seeds[0][row]) == len(seeds[1][row]) for row in seeds[0].keys() & seeds[1].keys())
    return Agreement(other, len(places), outside, inside, largest, verdicts.differences, same)


def _by_place(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    lines = pd.read_csv(path).to_dict("records")
    return {(line["loss"], line["method"], line["category"], line["metric"]): line for line in lines}


def causes_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which causes differ between two entries of a manifest: posts, training (hashes of runs), or `CAUSES`."""
    mine, theirs = one["inputs"], other["inputs"]
    inputs = {"posts": mine.get("posts") != theirs.get("posts"), "training": set(mine) != set(theirs)}
    return [name for name, differ in inputs.items() if differ] + [x for x in CAUSES if one.get(x) != other.get(x)]


def equal(value: float, stated: float) -> bool:
    """Whether two numbers are equal as they are written, to six digits, or both undefined."""
    return (math.isnan(value) and math.isnan(stated)) or math.isclose(value, stated, rel_tol=2e-6, abs_tol=1e-9)


def within(value: float, stated: Mapping[str, Any]) -> bool:
    """Whether a number lies in a stated one's interval, or is equal to it."""
    return equal(value, stated["value"]) or stated["low"] <= value <= stated["high"]  # no end: never
