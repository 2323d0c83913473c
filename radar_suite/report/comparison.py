"""Does what a record states follow from its own scores, and does a run agree with the record?

Of a record, the rows' logits (`row_scores`) and the values of studies' runs (`record`) are taken on trust. Tables,
intervals, differences and verdicts are computed from them by the functions that notebooks 06 and 07 call. All is held
against all as canonical CSV, cell by cell (`compare`): files of numbers, LaTeX, generated parts of documents, a run.

Training is not equal to the last bit on another processor or with another number of threads, so a run disagrees with a
record where a cell leaves its 95 % interval. Only where all that decides a result is equal must the results be equal.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import digest_file, read_json
from radar_suite.report import tables
from radar_suite.report.manifest import MANIFEST, read_entry, read_manifest
from radar_suite.report.record import FILE, read_record
from radar_suite.report.results import BLOCK, NUMBER, documents
from radar_suite.report.row_scores import RowScores, name_of, read_row_scores
from radar_suite.report.stated import INTERVALS, VERDICTS, grid_files, own_stream_files, table_files

SCORES = {
    "test_scores": (table_files, "tables"),
    "own_test_scores": (own_stream_files, None),
    "lambda_scores": (grid_files, "lambda"),
}  # by name of the file, and the study in the record of runs
NOTEBOOKS = {"test_scores": "06_tables_1_and_2", "lambda_scores": "07_lambda_study"}
TRAINING = ("03_expert_training/experts.json", "05_router_training/routers.json", "05_router_training/references.json",
            "06_tables_1_and_2/references.json", "07_lambda_study/lambda.json")  # fmt: skip
# Studies' files of numbers: their name in the record of runs, and to what precision they are written.
STUDIES = {"losses": ("losses", 1e-12), "controls": ("controls", 0.0051), "phase": ("phase", 1e-6),
           "phase_lora": ("phase LoRA", 1e-6), "phase_interventions": ("phase interventions", 1e-6),
           "scale": ("scale", 1e-6)}  # fmt: skip
RECORDED = "cpu"  # profile whose record README and docs show
MISSING, WHOLE = "(missing)", ("all rows", "all cells")
# Columns whose cells are a row's name; of a number the column's name goes in front.
KEYS = ("claim", "contrast", "finding", "loss", "method", "row", "against", "lambda", "beta", "focus", "overlap",
        "co_violation", "training_posts", "population", "setting", "seed", "category", "metric", "risk", "entry",
        "change", "notebook", "recipe", "split")  # fmt: skip
CAUSES = ("device", "versions", "code", "seed", "parameters")  # fields of an entry that decide a result, beside inputs
COLUMNS = ["file", "row", "column", "stated", "found"]  # of a comparison, with `differs`: a line per cell


def compare(
    file: str, stated: str, found: str, *, within: str = "", columns: Collection[str] | None = None,
    tolerance: float = 1e-12, relative: float = 1e-9,
) -> pd.DataFrame:  # fmt: skip
    """Compare two CSV texts cell by cell: a line per cell that either has, by `COLUMNS`, and whether it `differs`.

    Args:
        file: its name; an empty text is a file that is missing as a whole, which is one line.
        within: part of the file, named in front of the row.
        columns: the only ones to compare, beside the rows' names; all if None.
        tolerance, relative: numbers that differ by less, or by a smaller fraction, are equal.
    """
    one, other = cells_of(stated), cells_of(found)
    if bool(one) != bool(other):
        one, other = ({WHOLE: str(len(cells))} if cells else {} for cells in (one, other))
    lines = [(file, ", ".join(filter(None, (within, row))) or "line 1", column,
              *(cells.get((row, column), MISSING) for cells in (one, other)))
             for row, column in dict.fromkeys([*other, *one])
             if columns is None or column in (*columns, WHOLE[1])]  # fmt: skip
    frame = pd.DataFrame(lines, columns=COLUMNS, dtype=object)
    mine, theirs = (pd.to_numeric(frame[name], errors="coerce").to_numpy(float) for name in ("stated", "found"))
    equal = np.isclose(mine, theirs, rtol=relative, atol=tolerance) & np.isfinite(theirs)
    return frame.assign(differs=(frame["stated"] != frame["found"]) & ~equal)


def cells_of(text: str) -> dict[tuple[str, str], str]:
    """Cells of a CSV text by row and column; rows of no name, or of one, are numbered."""
    head, *rows = csv.reader(io.StringIO(text or "\n"))
    keys, cells, seen = [k for k, column in enumerate(head) if column.lower() in KEYS], {}, Counter[str]()
    for number, row in enumerate(rows, 1):
        texts = [f"{head[k]} {row[k]}" if re.fullmatch(r"[\d.]+", row[k]) else row[k] for k in keys if k < len(row)]
        name = ", ".join(filter(None, texts)) or f"line {number}" * (len(rows) > 1)
        seen[name] += 1
        label = name if seen[name] == 1 else f"{name} ({seen[name]})"
        cells |= {(label, head[k]): cell for k, cell in enumerate(row[: len(head)]) if k not in keys}
    return cells


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Rows of texts, the head first, as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def check_record(record: Path, project: Path | None = None) -> pd.DataFrame:
    """Hold `figures/<profile>` against its own scores and its manifest, and the project's documents against it.

    Raises:
        RadarError: there is no manifest, or a file of scores is no such file.
    """
    parts = [check_folder(record, runs=record / FILE)]
    if project is not None and record.name == RECORDED:
        try:
            texts = documents(project, record)
        except RadarError as error:  # what is wrong with the record is named beside it
            parts.append(compare("documents", to_csv([["error"], [""]]), to_csv([["error"], [str(error)]])))
            texts = {}
        for name, text in texts.items():
            pairs = zip_longest(document_parts(_read(project / name)), document_parts(text), fillvalue=("", ""))
            parts += [compare(name, one, other, within=place) for (place, one), (_, other) in pairs]
    return pd.concat(parts, ignore_index=True)


def check_folder(folder: Path, *, runs: Path) -> pd.DataFrame:
    """Hold a folder with a manifest against its scores and runs, LaTeX against CSV, all files against their digests.

    Args:
        folder: `figures/<profile>`, or the `figures` folder of a notebook.
        runs: the record of runs; values of tables and grid follow from the scores, and the studies' files from it.
    """
    entries, parts = read_manifest(folder)["entries"], []
    if not entries:
        raise RadarError(f"{folder}: its {MANIFEST} enters nothing. Run the chain again.")
    lines = read_record(runs).set_index("study") if runs.is_file() else pd.DataFrame()
    for name, (files_of, study) in SCORES.items():
        if name in entries and (folder / f"{name}.parquet").is_file():
            scores = read_row_scores(folder / f"{name}.parquet")
            texts = files_of(scores, seed=entries[name]["seed"])
            parts += [compare(file, _read(folder / file), text) for file, text in texts.items()]
            if study in lines.index:
                parts.append(compare(FILE, *run_values(lines.loc[[study]], scores), within=study))
    for name in ("table1", "table2"):
        if (tex := _read(folder / f"{name}.tex")) and (table := _read(folder / f"{name}.csv")):
            parts.append(compare(f"{name}.tex", latex_csv(tex, table), table))
    for name, (study, tolerance) in STUDIES.items():
        if (folder / f"studies/{name}.csv").is_file() and study in lines.index:
            means = lines.loc[[study]].groupby(["row", "category", "metric"])["value"].mean()
            try:
                frame = pd.read_csv(folder / f"studies/{name}.csv")
                values = pd.DataFrame([study_values(study, line, means) for line in frame.to_dict("records")])
            except (ValueError, KeyError, TypeError):  # no such table: its digest will differ
                continue
            texts = (one.to_csv(index=False) for one in (frame, frame.assign(**values)))
            parts.append(compare(f"studies/{name}.csv", *texts, columns=list(values), tolerance=tolerance))
    changed = {file for part in parts for file in part.loc[part["differs"], "file"]}
    parts += [check_digest(file, name, digest, folder / file) for name, entry in entries.items()
              for file, digest in entry["files"].items() if file not in changed]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def check_digest(file: str, entry: str, digest: str, path: Path) -> pd.DataFrame:
    """Hold a file against the digest that an entry of a manifest or an index states."""
    actual = digest_file(path) if path.is_file() else MISSING
    return compare(file, *(to_csv([("entry", "digest"), (entry, one)]) for one in (digest, actual)))


def latex_csv(tex: str, table: str) -> str:
    """The numbers of a LaTeX table as CSV, under the rows' and columns' names in its CSV file."""
    head, *rows = csv.reader(io.StringIO(table))
    numbers = []
    for line in tex.splitlines():
        cells = [re.search(r"-?\d+\.\d+|-", cell) for cell in line.split("&")[2 - len(head) :]]
        if line.endswith("\\\\") and len(cells) == len(head) - 2 and all(cells):
            numbers.append([cell[0].removesuffix("-") for cell in cells if cell])  # a dash is an empty cell
    return to_csv([head, *([*row[:2], *line] for row, line in zip(rows, numbers, strict=False))])


def run_values(lines: pd.DataFrame, scores: RowScores) -> tuple[str, str]:
    """Values of runs as a study's lines of the record have them, and as they follow from the scores, as CSV."""
    keys = ["row", "seed", "category", "metric"]
    values = [(name_of(row), seed, category, metric, numbers[metric])
              for row, by_seed in scores.scored().items() for seed, scored in by_seed.items()
              for category, numbers in scored.items() for metric in tables.METRICS]  # fmt: skip
    found = pd.DataFrame(values, columns=[*keys, "value"])
    return lines[[*keys, "value"]].merge(found[keys]).to_csv(index=False), found.to_csv(index=False)


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
    if study == "phase interventions":
        value, plain = (mean(f"{row}, {line['population']}") for row in (line["row"], "unmasked, 0 ordinary posts"))
        return {"value": value, "gain": value - plain}
    if study == "scale":
        value, other = (mean(f"{row}, {line['setting']}") for row in (line["row"], line["against"]))
        return {"value": value, "other": other, "gain": value - other}
    place = ", ".join(f"{name} {line[name]:g}" for name in ("beta", "focus", "overlap"))
    place += f", {line['training_posts']} posts, {line['population']}"
    masked, unmasked = (mean(f"{objective}, {place}") for objective in ("masked", "unmasked"))
    return {"masked": masked, "unmasked": unmasked, "gain": masked - unmasked}


def document_parts(text: str) -> list[tuple[str, str]]:
    """Generated parts of a document, place and CSV: numbers in sentences, then blocks paragraph by paragraph.

    A text without any is one part.
    """
    numbers = [(f"line {text.count(chr(10), 0, match.start()) + 1}", to_csv([[match["name"]], [match["text"]]]))
               for match in NUMBER.finditer(text)]  # fmt: skip
    blocks = [(match["name"], markdown_csv(part)) for match in BLOCK.finditer(text)
              for part in match["text"].split("\n\n")]  # fmt: skip
    return numbers + blocks or [("", markdown_csv(text))]


def markdown_csv(paragraph: str) -> str:
    """A table of Markdown as CSV; of other text a line per line."""
    lines = paragraph.strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return to_csv([cells[0], *cells[2:]] if paragraph.startswith("|") else [["text"], *([line] for line in lines)])


@dataclass(frozen=True)
class Agreement:
    """A run beside a record.

    Attributes:
        other: what of all that decides the tables differs between the two; if nothing, results must be equal.
        cells: a line per cell; it `differs` if it is outside the record's 95 % interval, or only one has it, or, where
            nothing that decides differs, at any change; `points` is the size of a change inside of the interval.
        verdicts: a line per verdict.
        same_seeds: whether rows are means over equal numbers of seeds; if not, a changed verdict is no disagreement.
    """

    other: list[str]
    cells: pd.DataFrame
    verdicts: pd.DataFrame
    same_seeds: bool

    @property
    def disagreements(self) -> int:
        return int(self.cells["differs"].sum() + (self.verdicts["differs"].sum() if self.same_seeds else 0))


def has_scores(run: Path) -> bool:
    """Whether `runs/<profile>` holds scores to compare."""
    return (run / NOTEBOOKS["test_scores"] / "figures" / "test_scores.parquet").is_file()


def check_run(run: Path) -> pd.DataFrame:
    """Hold a finished run's results against its own scores, and its score files against their digests."""
    folders = [run / notebook / "figures" for notebook in NOTEBOOKS.values()]
    if not any((one / MANIFEST).is_file() for one in folders):
        raise RadarError(f"{run}: no notebook has left results. `radar reproduce` makes them.")
    parts = [check_folder(one, runs=run / FILE) for one in folders if (one / MANIFEST).is_file()]
    for index in (run / name for name in TRAINING if (run / name).is_file()):
        content = read_json(index)
        parts += [check_digest(entry["scores_path"], entry["run"], entry["scores_digest"],
                               run.parent / entry["scores_path"])
                  for entry in (content["runs"] if isinstance(content, dict) else content)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def agree(run: Path, record: Path) -> Agreement:
    """A finished run's numbers and verdicts against a record's, whose intervals say how far a cell may move.

    Raises:
        RadarError: either has no scores, intervals or manifest.
    """
    folders = [run / notebook / "figures" for notebook in NOTEBOOKS.values()]
    other = causes_apart(*(read_entry(one, "test_scores") for one in (folders[0], record)))
    stated, found = _read(record / INTERVALS), _read(folders[0] / INTERVALS)
    if not stated or not found:
        raise RadarError(f"{record} or {folders[0]} has no {INTERVALS}: `radar reproduce` writes it.")
    cells, own = compare(INTERVALS, stated, found, columns=["value"], relative=2e-6), cells_of(stated)
    ends = ([own.get((row, end)) for row in cells["row"]] for end in ("low", "high"))
    was, now, low, high = (pd.to_numeric(pd.Series(one), errors="coerce")
                           for one in (cells["stated"], cells["found"], *ends))  # fmt: skip
    inside = cells["differs"] & now.between(low, high) & bool(other)  # without an end, never
    cells = cells.assign(differs=cells["differs"] & ~inside, points=100 * (now - was).abs().where(inside))
    verdicts = [compare(file, _read(record / file), _read(folder / file), columns=["verdict"])
                for folder, file in zip(folders, VERDICTS, strict=True)
                if (folder / file).is_file() and (record / file).is_file()]  # fmt: skip
    ours, theirs = (read_row_scores(one / "test_scores.parquet").rows for one in (folders[0], record))
    same = all(len(ours[row]) == len(theirs[row]) for row in ours.keys() & theirs.keys())
    return Agreement(other, cells, pd.concat(verdicts or [cells[:0]], ignore_index=True), same)


def causes_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which causes differ between two entries of a manifest: posts, training (hashes of runs), or `CAUSES`."""
    mine, theirs = one["inputs"], other["inputs"]
    inputs = {"posts": mine.get("posts") != theirs.get("posts"), "training": set(mine) != set(theirs)}
    return [name for name, differ in inputs.items() if differ] + [x for x in CAUSES if one.get(x) != other.get(x)]


def _read(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""
