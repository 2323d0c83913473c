"""Is this row in order? One pydantic model of the data contract, and one form for all that is wrong.

`RowChecker` judges one row after the other, for the importer and for `check_posts` alike. Each problem names file, row
and column and says what to do; rows count from 1, and in a CSV file row 1 is the header.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model

from radar_lib.data.schema import FRAMES, LABEL_PREFIX, SPLITS, TEXT_COLUMNS
from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text

OnError = Literal["stop", "quarantine"]
Fault = tuple[str, str, str]  # column, what is wrong, what to do
QUARANTINE = "quarantine.jsonl"  # in the corpus folder
Place = tuple[str, int, str]  # file, row, post
LISTED = 20  # faults in a message, each with its rows; the rest are counted
NAMED = 3  # rows of a fault
SCORED = ("train", "test")  # splits without which nothing can be learnt or reported

LONGEST_TEXT = 131_072  # characters; more is no post, but a file in a cell or a quote that nobody closed
_TEXT = Annotated[str, Field(max_length=LONGEST_TEXT)]  # makes pydantic look inside: a lone surrogate is no text
_LABEL = (Annotated[int, Field(ge=-1, le=1)], "label", "Write 1 (violating), 0 (cleared) or -1 (not verified)")
# Type of a cell, what it is called, and how to mend it.
_CELLS: dict[str, tuple[Any, str, str]] = {
    "post_id": (Annotated[str, Field(pattern=r"[^\s\x1c-\x1f]")], "id", "Give every post a unique text"),
    "split": (Literal[SPLITS], "split", f"Use one of {', '.join(SPLITS)}"),
    "pipeline": (Annotated[str, Field(pattern=r"^[^$\x00-\x1f]+$")], "pipeline",
                 "Name the pipeline, on one line and without $"),
    "region": (Annotated[str, Field(pattern="^[A-Z]{2}$")], "region",
               "Use ISO 3166-1 alpha-2, such as BR, or ZZ if unknown"),
    "language": (Annotated[str, Field(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")], "language",
                 "Use BCP 47, such as pt-BR, or und if unknown"),
    "created_at": (datetime | None, "time", "Use ISO 8601, such as 2025-01-31T12:00:00Z"),
    "segment": (Annotated[int, Field(ge=0, lt=2**31)], "segment", "Count the segments of a stream from 0"),
    **{name: (_TEXT, "text", "Write a text, which may be empty")
       for name in (*TEXT_COLUMNS, "caption", "stream_id", "group")},
}  # fmt: skip
_WHOLE = {"stream_id": ("stream", "segments of a stream"), "group": ("group", "posts of a group")}  # kept in one split


class RowChecker:
    """Judges rows one by one and remembers what only the whole shows: ids, streams, counts per split, problems.

    Args:
        columns: of the rows; the `label_<category>` columns among them name the risks. Frames are judged elsewhere.
        on_error: 'stop' collects problems for `finish` to raise; 'quarantine' sets bad rows aside.
        hint: closes the message.
        scored: whether an empty train or test split, or one of one kind of label, is a problem.
    """

    def __init__(
        self, columns: Sequence[str], *, on_error: OnError = "stop", hint: str = "", scored: bool = True
    ) -> None:
        self.on_error, self.hint, self.scored = on_error, hint, scored
        self.labels = [name for name in columns if name.startswith(LABEL_PREFIX)]
        self.counts: Counter[tuple[str, str, int]] = Counter()  # (split, label column, label) -> posts
        self.quarantined: list[str] = []  # JSON lines
        fields: Any = {name: (_cell(name)[0], ...) for name in columns if name != FRAMES}
        self._model = create_model("Row", __config__=ConfigDict(strict=True), **fields)
        self._ids: set[str] = set()
        self._split_of: dict[tuple[str, str], str] = {}  # by column and stream or group
        self._sizes: Counter[str] = Counter()
        self._places: dict[Fault, list[Place]] = {}  # the first few of the first `LISTED` faults
        self._rows_with: Counter[Fault] = Counter()  # of these faults
        self._n_faults = 0

    def faults(self, row: Mapping[str, Any]) -> list[Fault]:
        """What is wrong with one row of plain values; an empty list when all is well."""
        faults: list[Fault] = []
        try:
            self._model.model_validate(row)
        except ValidationError as error:
            faults = [_fault(each) for each in error.errors(include_url=False, include_context=False)]
        wrong = {column for column, *_ in faults}
        post_id, split = row["post_id"], row["split"]
        if "post_id" not in wrong:
            if post_id in self._ids:
                faults.append(("post_id", f"{_short(post_id)} is there already", "Keep one row for each post"))
            self._ids.add(post_id)
        for column, (what, posts) in _WHOLE.items():
            if (key := row.get(column)) and not wrong & {"split", column}:
                if (first := self._split_of.setdefault((column, key), split)) != split:
                    cut = f"{what} {_short(key)} is in {first!r} and in {split!r}"
                    faults.append((column, cut, f"Keep all {posts} in one split"))
                    break  # an imported stream is a group as well
        return faults

    def admit(self, file: str, number: int, row: Mapping[str, Any], faults: Sequence[Fault]) -> bool:
        """Count a sound row, or note what is wrong with it; whether it may go into the corpus."""
        post_id = str(row["post_id"] or "")
        if faults and self.on_error == "quarantine":
            reasons = [dict(zip(("column", "what", "remedy"), fault, strict=True)) for fault in faults]
            self.quarantined.append(json.dumps({"file": file, "row": number, "post_id": post_id, "problems": reasons}))
            return False
        for fault in faults:
            self._n_faults += 1
            if fault in self._places or len(self._places) < LISTED:
                self._rows_with[fault] += 1
                if len(places := self._places.setdefault(fault, [])) < NAMED:
                    places.append((file, number, post_id))
        if row["split"] in SPLITS:  # also of a faulty row: it can be corrected, so it is no gap in its split
            self._sizes[row["split"]] += 1
            self.counts.update((row["split"], name, row[name]) for name in self.labels if row[name] in (-1, 0, 1))
        return not faults

    def finish(self, file: str, quarantine: Path | None = None) -> int:
        """After the last row: raise all problems, or write the rows set aside to `quarantine`; returns their number.

        Raises:
            RadarError: for the problems of rows, and for what only the whole shows: an empty train or test split, or
                a risk with one kind of label there.
        """
        gaps = [f"{file}, column {column}: {what}. {remedy}." for column, what, remedy in self._gaps()]
        if problems := self._n_faults + len(gaps):
            lines = [f"{problems} problem{'s' * (problems > 1)} in the posts:"]
            listed = gaps[: LISTED - len(self._places)]
            lines += [f"  {problem}" for problem in (*map(self._said, self._places), *listed)]
            more = problems - self._rows_with.total() - len(listed)
            lines += [f"  and {more} more."] * (more > 0) + [self.hint] * bool(self.hint and self._n_faults)
            if self.quarantined:
                lines.append(f"{len(self.quarantined)} rows were bad, the first: {self.quarantined[0][:300]}")
            raise RadarError("\n".join(lines))
        if quarantine:
            quarantine.unlink(missing_ok=True)
            if self.quarantined:
                atomic_write_text(quarantine, "\n".join(self.quarantined) + "\n")
        return len(self.quarantined)

    def _said(self, fault: Fault) -> str:
        """One line for all rows with a fault."""
        (column, what, remedy), places, count = fault, self._places[fault], self._rows_with[fault]
        file, number, post_id = places[0]
        if count == 1:
            post = f" (post {_short(post_id)})" if post_id else ""
            return f"{file}, row {number}, column {column}{post}: {what}. {remedy}."
        rows = ", ".join(f"{number}" if other == file else f"{number} of {other}" for other, number, _ in places)
        return f"{file}, column {column}: {count:,} rows, first rows {rows}: {what}. {remedy}."

    def _gaps(self) -> Iterator[Fault]:
        for split in SCORED * self.scored:
            if not self._sizes[split]:
                yield "split", f"no post is in split {split!r}", "Give some posts this split, or leave the column out"
                continue
            for name in self.labels:
                for label, kind in ((1, "violating"), (0, "cleared")):
                    if not self.counts[split, name, label]:
                        remedy = f"Add {kind} posts to {split}, or remove the column"
                        yield name, f"no {kind} post (label {label}) in split {split!r}", remedy


def _cell(column: str) -> tuple[Any, str, str]:
    return _LABEL if column.startswith(LABEL_PREFIX) else _CELLS[column]


def _fault(error: Mapping[str, Any]) -> Fault:
    """A pydantic error in our form."""
    column = error["loc"][0]
    _, noun, remedy = _cell(column)
    value = error["input"]
    if error["type"] == "string_too_long":
        return column, f"{len(value):,} characters", f"Shorten it to {LONGEST_TEXT:,}; a quote may be missing before it"
    if error["type"] == "missing" or value is None:
        return column, "it is null", remedy
    if value == "":
        return column, "it is empty", remedy
    if error["type"] == "string_unicode":
        return column, "it is no valid Unicode", "Save the table as UTF-8"
    return column, f"{_short(value)} is no {noun}", remedy


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
