"""Does what is stated follow from the scores? Every file of results computed again, and compared cell by cell.

The rows' logits (`row_scores`) are the only thing taken on trust. Tables, intervals, differences and verdicts are
computed from them by the functions that notebooks 06 and 07 call, and each cell of the files is held against its own.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.files import digest_file, read_json
from radar_suite.report import references, tables
from radar_suite.report.record import read_record
from radar_suite.report.row_scores import RowScores, name_of, read_row_scores, row_of
from radar_suite.report.stated import (
    INTERVALS,
    above_chance,
    beside_paper,
    claim_files,
    grid_files,
    interval_text,
    table_files,
    to_text,
)

TABLES, GRID = "test_scores", "lambda_scores"  # the files of scores, and their stamps
MISSING = "(missing)"
WORDS = ("verdict", "exception", "about", "note")  # columns of results in words, which are no part of a row's name
Cells = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Difference:
    """One cell of a file that is not what it should be."""

    file: str
    row: str
    column: str
    stated: str
    found: str
    what: str = "recomputed"

    def __str__(self) -> str:
        return f"{self.file}: {self.row}; {self.column}: stated {self.stated}, {self.what} {self.found}"


def check_folder(folder: Path, name: str, *, record: Path | None = None) -> tuple[list[Difference], int]:
    """Hold a folder's files against its own scores; returns what differs, and how many cells were compared.

    Args:
        folder: `figures/<profile>`, or the `figures` folder of notebook 06 or 07.
        name: which of its files of scores: `TABLES` or `GRID`.
        record: the record of runs, if it is to be held against them too.

    Raises:
        RadarError: the file of scores or a stamp is missing or no such file.
    """
    path = folder / f"{name}.parquet"
    scores, stamp = read_row_scores(path), read_json(folder / f"{name}.json")
    out, compared = [], 0
    if digest_file(path) != stamp["digest"]:
        out.append(Difference(path.name, "the whole file", "digest", stamp["digest"], digest_file(path), "is"))
    for file, text in expected_files(folder, name, scores).items():
        expected = cells_of(text, Path(file).suffix)
        compared += len(expected)
        if (folder / file).is_file():
            out += differences(file, cells_of((folder / file).read_text("utf-8"), Path(file).suffix), expected)
        else:
            out.append(Difference(file, "the whole file", "cells", MISSING, str(len(expected))))
    if record is not None:
        stated, expected = _recorded(read_record(record), "tables" if name == TABLES else "lambda", scores)
        out += differences(record.name, stated, expected)
        compared += len(expected)
    return out, compared


def expected_files(folder: Path, name: str, scores: RowScores) -> dict[str, str]:
    """What a folder's files of numbers should say; seed and captions are its stamps'."""
    seed = read_json(folder / f"{name}.json")["seed"]
    if name == GRID:
        return grid_files(scores, seed=seed)
    captions = {f"table{n}": read_json(folder / f"table{n}.json")["caption"] for n in tables.TABLES}
    return table_files(scores, seed=seed, captions=captions)


def cells_of(text: str, suffix: str) -> Cells:
    """The cells of a CSV or Markdown table by row and column, of other text its lines.

    A row is called by its cells that are no numbers; rows of one name are counted.
    """
    if suffix == ".csv":
        return _cells(list(csv.reader(io.StringIO(text))))
    cells: Cells = {}
    block: list[list[str]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if suffix == ".md" and line.startswith("|"):
            block.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        cells |= _cells(block[:1] + block[2:])
        block = []
        if line.strip():
            cells[f"line {number}", "text"] = line
    return cells


def _cells(rows: list[list[str]]) -> Cells:
    cells: Cells = {}
    seen: dict[str, int] = {}
    for row in rows[1:]:
        named = [cell for cell, column in zip(row, rows[0], strict=False) if column not in WORDS]
        name = ", ".join(cell for cell in named if cell and _number(cell) is None)
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name} ({seen[name]})"
        cells |= {(label, column): cell for column, cell in zip(rows[0], row, strict=False)}
    return cells


def _number(text: str) -> float | None:
    try:
        return float(text.replace("**", "").replace("<u>", "").replace("</u>", "").split(" ")[0])
    except ValueError:
        return None


def differences(file: str, stated: Cells, expected: Cells, *, what: str = "recomputed") -> list[Difference]:
    """Cells that differ, or that only one of the two has; numbers that are written differently are equal."""
    out = []
    for place in dict.fromkeys([*expected, *stated]):
        one, other = stated.get(place, MISSING), expected.get(place, MISSING)
        if one != other and not _equal(one, other):
            out.append(Difference(file, *place, one, other, what))
    return out


def _equal(one: str, other: str) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:
        return False


def _recorded(record: pd.DataFrame, study: str, scores: RowScores) -> tuple[Cells, Cells]:
    """The record's values of these rows and seeds, and what the scores say of them."""
    expected: Cells = {}
    for row, by_seed in scores.scored().items():
        for seed, found in by_seed.items():
            for category, numbers in found.items():
                for metric in tables.METRICS:
                    expected[f"{study}, {name_of(row)}, seed {seed}, {category}", metric] = repr(numbers[metric])
    lines = record[record["study"] == study]
    names = study + ", " + lines["row"] + ", seed " + lines["seed"].astype(str) + ", " + lines["category"]
    stated = dict(zip(zip(names, lines["metric"], strict=True), map(repr, lines["value"].tolist()), strict=True))
    return {place: value for place, value in stated.items() if place in expected}, expected


def check_scores(runs_dir: Path, index: Sequence[Mapping[str, Any]], scores: RowScores) -> list[Difference]:
    """Hold the score files that training left against their digests, and the compact file's logits against theirs."""
    out = []
    runs: dict[tuple[Any, int], list[Mapping[str, Any]]] = {}
    for entry in index:
        runs.setdefault((row_of(entry), entry["seed"]), []).append(entry)
    for (row, seed), entries in runs.items():
        label, gone = f"{name_of(row)}, seed {seed}", False
        for entry in entries:
            path, stated = runs_dir / entry["scores_path"], entry["scores_digest"]
            found = digest_file(path) if path.is_file() else MISSING
            gone |= found == MISSING
            if found != stated:
                out.append(Difference(entry["scores_path"], label, "digest", stated, found, "is"))
        if gone:
            continue
        logits = tables.row_logits(entries, list(scores.post_ids), scores.truth, scores.categories, runs_dir=runs_dir)
        kept = scores.rows.get(row, {}).get(seed, np.full_like(logits, np.nan))
        for k, category in enumerate(scores.categories):
            known = scores.truth[:, k] >= 0
            changed = int((kept[known, k] != logits[known, k]).sum())
            if changed:
                out.append(Difference("the compact scores", label, f"{category} logits", f"{changed} of {known.sum()}",
                                      "others", "in the score file"))  # fmt: skip
    return out


def check_json(file: str, stated: Mapping[str, Any], expected: Mapping[str, str]) -> list[Difference]:
    """Hold a notebook's JSON results against the files that they should agree with.

    Args:
        stated: content of results.json ('rows', and 'learned' and 'beside_paper' that follow from them), claims.json
            ('cells', 'traffic') or lambda.json ('study', 'claims').
        expected: of `expected_files`.
    """
    if "rows" in stated:
        frame = pd.DataFrame(stated["rows"])
        wanted = cells_of(expected[INTERVALS], ".csv")
        wanted = {place: cell for place, cell in wanted.items() if not place[0].startswith(references.REFERENCE)}
        out = differences(file, cells_of(interval_text(frame), ".csv"), wanted)
        for name, follows in {"learned": above_chance(frame), "beside_paper": beside_paper(frame)}.items():
            cells = [cells_of(to_text(pd.DataFrame(part)), ".csv") for part in (stated.get(name, []), follows)]
            out += differences(f"{file}, {name}", *cells)
        return out
    name, parts = "claim_cells.csv", [stated.get("cells", []), stated.get("traffic", [])]
    out = []
    if "study" in stated:
        name, parts, study = "lambda_claim_cells.csv", stated["claims"], to_text(pd.DataFrame(stated["study"]))
        wanted = cells_of(expected["lambda_study.csv"], ".csv")
        out += differences(file, cells_of(study, ".csv"), wanted)
    text = claim_files(name.removesuffix("_cells.csv"), [pd.DataFrame(part) for part in parts]).get(name, "")
    return out + differences(file, cells_of(text, ".csv"), cells_of(expected.get(name, ""), ".csv"))
