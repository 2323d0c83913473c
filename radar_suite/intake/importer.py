"""Your own posts: a CSV or JSONL table and a folder of images become a corpus.

Columns are those of the data contract. `post_id`, at least one `label_<category>` and something to see or read are
needed; `frames` holds relative paths separated by `|`. What is left out:

- split: drawn from (seed, group or else post_id): train .6, validation .1, calibration .1, test .2; posts with no
  verified label and no group go to `unlabelled`.
- group: of posts that are not independent, `stream_id` (`stream:` before it if the table has groups, too); none.
- pipeline: the risks that are verified, joined by `+`; `traffic` when there are none.
- region, language, created_at: `ZZ`, `und`, unknown. title, ocr_text, asr_text: empty. frames: none.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from radar_lib.data.posts import Posts, write_corpus
from radar_lib.data.schema import DEFAULTS, FRAMES, LABEL_PREFIX, TEXT_COLUMNS, categories_of
from radar_lib.data.shards import BATCH_ROWS
from radar_lib.errors import RadarError
from radar_suite.intake.columns import KNOWN, OPTIONAL, check_header, require_no_content, text_of
from radar_suite.intake.images import frames_of, read_image
from radar_suite.intake.rows import QUARANTINE, Fault, OnError, RowChecker
from radar_suite.intake.texts import plain_text

SAMPLE = 1000  # rows that show what the columns hold, and cells of those that say nothing there
STREAM = "stream:"  # begins the group that a stream is, beside groups of the table's own
MOST_CHARACTERS = 64 << 20  # of a cell, so that a quote that nobody closed cannot fill the memory
FRACTIONS = {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}

Row = tuple[int, dict[str, Any], list[Fault]]  # number, cells, what is wrong with the line itself


def import_table(
    table: str | Path, images: str | Path | None, out: str | Path, *, on_error: OnError = "stop", seed: int = 1,
    name: str | None = None, ignore: Sequence[str] = (), allow_empty: bool = False, max_px: int = 512, workers: int = 2,
    scored: bool = True, about: Mapping[str, Any] | None = None,
) -> Posts:  # fmt: skip
    """Turn a table of posts into a corpus folder; memory does not grow with the frames.

    Args:
        table: `.csv`, `.tsv` or `.txt` (UTF-8; comma, semicolon or tab, as the header shows) or `.jsonl`, `.ndjson`.
        images: folder that frame paths are relative to and may not leave; the table's own folder if None.
        out: new corpus folder.
        on_error: 'stop' reads everything, then raises with all problems and leaves no corpus; 'quarantine' sets bad
            rows aside in `out/quarantine.jsonl`.
        seed: draws the splits if the table has none.
        ignore: columns to leave out, of the data contract or not.
        allow_empty: take posts without text and frames, too.
        max_px: frames whose longest side is larger are scaled down to this. Others are copied byte for byte, but
            those that not every reader would see as a person does (see `images.frames_of`): they are written anew.
        workers: threads that read and decode frames.
        scored: whether posts are learnt from and scored, so that train and test need posts of both labels.
        about: further keys of corpus.json.

    Raises:
        RadarError: with file, row, column and remedy for each problem; also for a column that would be left out and
            looks like content.
    """
    table, out = Path(table), Path(out)
    base = Path(images) if images is not None else table.parent
    if not base.is_dir():
        raise RadarError(f"{base} is no folder. Name the one that the frames' paths start from (--images DIR).")
    header, rows = _leave_out(table.name, *read_rows(table), ignore)
    categories, ignored = check_header(table.name, header)
    grouped = not {"group", "stream_id"}.isdisjoint(header)
    prefix = STREAM if {"group", "stream_id"} <= set(header) else ""
    given = {*header, "group"} if grouped else header
    first = list(itertools.islice(rows, SAMPLE))
    require_no_content(table.name, {name: [cells.get(name) for _, cells, _ in first] for name in ignored})
    rows = _watch(table.name, ignored, itertools.chain(first, rows))
    columns = [column for column in KNOWN if column in given or column not in (*OPTIONAL, FRAMES)]
    columns += [LABEL_PREFIX + category for category in categories]
    hint = "Correct these rows, or have them set aside with --on-error quarantine."
    checker = RowChecker(columns, on_error=on_error, hint=hint, scored=scored)
    extra: dict[str, Any] = {"source": table.name, "seed": seed, "max_px": max_px,
                             "read_columns": [column for column in columns if column in header],
                             "ignored_columns": [*ignore, *ignored]}  # fmt: skip
    extra |= ({} if scored else {"scored": False}) | dict(about or {})
    seen: Counter[str] = Counter()  # by `images.NOTES`

    def records() -> Iterator[dict[str, Any]]:
        bar = tqdm(desc=f"importing {table.name}", unit="post", disable=None)
        with bar, ThreadPoolExecutor(workers) as pool:
            while batch := list(itertools.islice(rows, BATCH_ROWS)):
                loaded = pool.map(lambda item: _read_frames(item[1].get(FRAMES, ""), base, max_px), batch)
                for (number, cells, faults), (frames, frame_faults, notes) in zip(batch, loaded, strict=True):
                    row = _convert(cells, columns, seed=None if "split" in header else seed, prefix=prefix)
                    faults = faults or [*checker.faults(row), *_borrowed(cells, prefix), *frame_faults]
                    faults = faults or _emptiness(row, frames) * (not allow_empty)
                    if checker.admit(table.name, number, row, faults):
                        seen.update(notes)
                        yield {**row, FRAMES: frames}
                    bar.update()
        # write_corpus reads `extra` after the last row
        extra["frames"] = dict(+seen)
        extra["quarantined"] = checker.finish(table.name, out / QUARANTINE)

    return write_corpus(
        out, records(), name=name or table.stem, kind="imported", categories=categories,
        captions="caption" in header, streams="stream_id" in header, groups=grouped, extra=extra,
    )  # fmt: skip


def read_rows(table: Path) -> tuple[list[str], Iterator[Row]]:
    """Column names and rows of a CSV or JSONL table; nothing but the current row is in memory."""
    readers = dict.fromkeys((".csv", ".tsv", ".txt"), _read_csv) | dict.fromkeys((".jsonl", ".ndjson"), _read_jsonl)
    if not (read := readers.get(table.suffix.lower())):
        raise RadarError(f"{table}: unknown kind of table. Use one of {', '.join(readers)}.")
    if not table.is_file():
        raise RadarError(f"{table} does not exist. Name a CSV or JSONL file (--table).")
    return read(table)


def _leave_out(
    file: str, header: Sequence[str], rows: Iterator[Row], ignore: Sequence[str]
) -> tuple[list[str], Iterator[Row]]:
    """The table without these columns."""
    for name in ignore:
        if name not in header:
            raise RadarError(f"{file}, header: no column {name!r} to ignore among {', '.join(header)[:200]}.")
    if not ignore:
        return header, rows
    kept = [name for name in header if name not in ignore]
    return kept, ((number, {name: cells[name] for name in kept if name in cells}, faults)
                  for number, cells, faults in rows)  # fmt: skip


def _watch(file: str, ignored: Sequence[str], rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; after the last one, refuses ignored columns that say something only far below the header."""
    held: dict[str, list[str]] = {name: [] for name in ignored}
    for row in rows:
        for name, texts in held.items():
            if len(texts) < SAMPLE and (text := text_of(row[1].get(name))):
                texts.append(text)
        yield row
    require_no_content(file, held)


def _lines(table: Path) -> Iterator[str]:
    try:  # what is no UTF-8 becomes lone surrogates, which are the fault of a cell
        with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from file
    except OSError as error:
        raise RadarError(f"{table} cannot be read: {error.strerror}.") from error


def _read_csv(table: Path) -> tuple[list[str], Iterator[Row]]:
    first = next(_lines(table), "")
    if not first.strip():
        raise RadarError(f"{table.name}, row 1: no header. The first line names the columns.")
    delimiter = max(",;\t", key=first.count)

    def broken(number: int, line: int, error: csv.Error) -> RadarError:
        return RadarError(f"{table.name}, row {number} (line {line}): {error}. Put quotes around cells and double the "
                          "quotes in them, or use JSONL.")  # fmt: skip

    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))]
    except csv.Error as error:
        raise broken(1, 1, error) from error
    remedy = "Put quotes around cells that hold the delimiter"

    def rows() -> Iterator[Row]:
        reader = csv.reader(_lines(table), delimiter=delimiter, strict=True)
        number, usual = 0, csv.field_size_limit(MOST_CHARACTERS)  # whether a text is too long is for the checker to say
        try:
            for number, cells in enumerate(reader, start=1):
                if number == 1 or not cells:
                    continue
                faults = []
                if len(cells) != len(header):
                    last = header[min(len(cells), len(header)) - 1]
                    faults = [(last, f"{len(cells)} cells under {len(header)} columns", remedy)]
                yield number, dict(zip(header, cells, strict=False)), faults
        except csv.Error as error:
            raise broken(number + 1, reader.line_num, error) from error
        finally:
            csv.field_size_limit(usual)

    return header, rows()


def _read_jsonl(table: Path) -> tuple[list[str], Iterator[Row]]:
    names: list[str] = []  # of the object that ended last; the outermost one ends last of all

    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in pairs]
        return dict(pairs)

    def rows() -> Iterator[Row]:
        for number, line in enumerate(_lines(table), start=1):
            if line.strip():
                try:
                    value, what = json.loads(line, object_pairs_hook=read), "no object"
                except (ValueError, RecursionError) as error:
                    value, what = None, f"no valid JSON ({error!s:.60})"
                if isinstance(value, dict):
                    twice = [name for name in value if names.count(name) > 1] if len(names) > len(value) else []
                    yield number, value, [(name, "the key is there twice", "Keep one") for name in twice]
                else:
                    yield number, {}, [("all", what, "Write one JSON object a line")]

    # A first pass for the names: writers may leave a key out where it has no value.
    header = list(dict.fromkeys(itertools.chain.from_iterable(cells for _, cells, _ in rows())))
    return header, rows()


def _convert(cells: Mapping[str, Any], columns: Sequence[str], *, seed: int | None, prefix: str) -> dict[str, Any]:
    """Cells in the types of the data contract; what cannot be converted stays as it is, for the checker to refuse.

    Args:
        seed: draws the split; None if the table has splits.
        prefix: of groups that are streams.
    """
    row = {name: cells.get(name, DEFAULTS.get(name)) for name in columns}
    for name, conversion in _CONVERSIONS.items():
        if name in row and not isinstance(row[name], bool):
            row[name] = conversion(row[name])
    verified = []
    for category in categories_of(columns):
        label = row[LABEL_PREFIX + category] = _label(row[LABEL_PREFIX + category])
        if label in (0, 1):
            verified.append(category)
    if cells.get("pipeline", "") == "":
        row["pipeline"] = "+".join(verified) or DEFAULTS["pipeline"]
    if row.get("group") == "":
        stream = row.get("stream_id", "")
        row["group"] = prefix + stream if isinstance(stream, str) and stream else stream
    if seed is not None:
        group = row.get("group")
        row["split"] = draw_split(group or row["post_id"], seed=seed) if group or verified else "unlabelled"
    return row


def _borrowed(cells: Mapping[str, Any], prefix: str) -> list[Fault]:
    """The fault of a group of the table's own that is called as the group of another stream is."""
    group, stream = _id(cells.get("group")), _id(cells.get("stream_id"))
    if not prefix or not str(group).startswith(prefix) or group == f"{prefix}{stream}":
        return []
    return [("group", f"{group!r:.60} is how the group of a stream is called", f"Begin it with other than {prefix}")]


def _emptiness(row: Mapping[str, Any], frames: Sequence[Any]) -> list[Fault]:
    """The fault of a sound row with nothing to read or to see."""
    if frames or any(plain_text(row[name]).strip() for name in TEXT_COLUMNS):
        return []
    return [("all", "neither text nor frames", "Give it some, or take such posts as they are with --allow-empty")]


def draw_split(key: str, *, seed: int) -> str:
    """Split of a post or group by hash: the same key and seed give the same split, whatever else is in the table."""
    number = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode(errors="replace")).digest()[:8], "big") / 2**64
    for split, edge in zip(FRACTIONS, itertools.accumulate(FRACTIONS.values()), strict=True):
        if number < edge:
            return split
    return "test"  # the fractions' floating-point sum may end just below 1


def _id(value: Any) -> Any:
    """A text without blanks around it for a text or a whole number; anything else unchanged."""
    return str(value).strip() if isinstance(value, int | str) else value


def _label(value: Any) -> Any:
    """As `_whole`, but a text may not be a number with zeros before it."""
    return value if isinstance(value, str) and re.match(r"\s*[-+]?0[0-9]", value) else _whole(value)


def _whole(value: Any) -> Any:
    """An int for what is a whole number, such as '1', ' -1', 0.0 and '1.0'; anything else, such as '1e0', unchanged."""
    if isinstance(value, bool) or (isinstance(value, str) and not re.fullmatch(r"\s*[-+]?[0-9]+(\.0*)?\s*", value)):
        return value  # JSON's true is no 1
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return int(number) if number.is_integer() else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) and value.isascii() else value  # a German sharp s would become SS


def _naive_utc(value: Any) -> Any:
    if value in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError):
        return value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "post_id": lambda value: str(value) if isinstance(value, int) else value,
    **dict.fromkeys(("group", "stream_id"), _id),
    "region": lambda value: DEFAULTS["region"] if value == "" else _upper(value),
    "language": lambda value: DEFAULTS["language"] if value == "" else value,
    "created_at": _naive_utc,
    "segment": lambda value: DEFAULTS["segment"] if value == "" else _whole(value),
}


def _read_frames(cell: Any, base: Path, max_px: int) -> tuple[list[dict[str, Any]], list[Fault], Counter[str]]:
    """Encoded frames of one cell, what is wrong with them, and counts of what was done to them."""
    paths = [part for part in cell.split("|") if part.strip()] if isinstance(cell, str) else cell
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        return [], [(FRAMES, f"{cell!r:.60} is no list of paths", "Separate relative paths by |")], Counter()
    frames, faults, notes = [], [], Counter()
    for path in paths:
        try:
            data = read_image(path, base)
        except ValueError as error:
            faults.append((FRAMES, f"{path!r:.80} {error}", "Use an existing file below the images folder"))
            continue
        try:
            made, what = frames_of(data, max_px)
        except RadarError as error:
            faults.append((FRAMES, f"{error}: {path!r:.80}", "Replace the image or take it out"))
            continue
        frames += [{"bytes": frame, "path": path.strip()} for frame in made]
        notes.update(what)
    return frames, faults, notes
