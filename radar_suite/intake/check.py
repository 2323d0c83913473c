"""Is this post in order? Is this corpus? Every problem names its file, row and column, and says what to do.

`Checker` judges one record after the other and is shared by the importers and by `check_posts`; rows count from 1,
and in a CSV file row 1 is the header.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from radar_lib.data.frames import frame_fault
from radar_lib.data.posts import Posts, open_posts, write_corpus
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, SPLITS, TEXT_COLUMNS
from radar_lib.data.shards import BATCH_ROWS, digest_rows, schema_of
from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text

OnError = Literal["stop", "quarantine"]
LISTED = 20  # problems in a message; the rest are counted
SCORED = ("train", "test")  # splits without which nothing can be learnt or reported
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_REGION = re.compile(r"[A-Z]{2}")

Fault = tuple[str, str, str]  # column, what is wrong, what to do


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and the remedy. `row` is None when it concerns the whole file."""

    file: str
    row: int | None
    column: str
    what: str
    remedy: str
    post_id: str = ""

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        post = f" (post {_short(self.post_id)})" if self.post_id else ""
        return f"{self.file}{row}, column {self.column}{post}: {self.what}. {self.remedy}."


@dataclass
class Problems:
    """The first `LISTED` problems, the number of all, and the rows that were set aside. `hint` closes the message."""

    hint: str = ""
    listed: list[Problem] = field(default_factory=list)
    count: int = 0
    quarantined: list[str] = field(default_factory=list)  # JSON lines

    def add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.listed) < LISTED:
            self.listed.append(problem)

    def add_row(self, file: str, row: int, post_id: Any, faults: Sequence[Fault], *, on_error: OnError) -> None:
        """Note the faults of one row, either as problems or as a line of the quarantine."""
        if on_error == "quarantine":
            reasons = [dict(zip(("column", "what", "remedy"), fault, strict=True)) for fault in faults]
            entry = {"file": file, "row": row, "post_id": str(post_id), "problems": reasons}
            self.quarantined.append(json.dumps(entry))
            return
        for column, what, remedy in faults:
            self.add(Problem(file, row, column, what, remedy, str(post_id)))

    def finish(self, checker: Checker, file: str) -> None:
        """After the last row: add what only the whole shows, and raise if there is any problem."""
        for column, what, remedy in checker.gaps():
            self.add(Problem(file, None, column, what, remedy))
        self.raise_if_any()

    def save_quarantine(self, folder: Path) -> int:
        """Write the rows set aside, one JSON line each, to `folder/quarantine.jsonl`; returns their number."""
        (folder / "quarantine.jsonl").unlink(missing_ok=True)
        if self.quarantined:
            atomic_write_text(folder / "quarantine.jsonl", "\n".join(self.quarantined) + "\n")
        return len(self.quarantined)

    def raise_if_any(self) -> None:
        """Raise one RadarError for all problems, if there are any."""
        if not self.count:
            return
        lines = [f"{self.count} problem{'s' if self.count > 1 else ''} in the posts:"]
        lines += [f"  {problem}" for problem in self.listed]
        lines += [f"  and {self.count - len(self.listed)} more."] if self.count > len(self.listed) else []
        if self.hint and any(problem.row for problem in self.listed):
            lines.append(self.hint)
        if self.quarantined:
            lines.append(f"{len(self.quarantined)} rows were bad, the first: {self.quarantined[0][:300]}")
        raise RadarError("\n".join(lines))


@dataclass(frozen=True)
class Report:
    """A corpus that passed: its size, its label counts, and how many rows were set aside."""

    posts: Posts
    counts: dict[tuple[str, str, int], int]  # (split, category, label) -> number of posts
    quarantined: int = 0

    def __str__(self) -> str:
        lines = [f"{self.posts.folder}: {len(self.posts):,} posts, in order."]
        for split, n in self.posts.splits.items():
            parts = []
            for category in self.posts.categories:
                positive, negative = (self.counts.get((split, category, label), 0) for label in (1, 0))
                parts.append(f"{category} {positive:,} of {positive + negative:,}")
            lines.append(f"  {split}: {n:,} posts; violating of verified: {', '.join(parts)}")
        if self.quarantined:
            lines.append(f"  {self.quarantined:,} rows were set aside; reasons are in quarantine.jsonl.")
        return "\n".join(lines)


class Checker:
    """Judges records one by one and remembers what only the whole shows: ids, streams, and counts per split."""

    def __init__(self, categories: Sequence[str]) -> None:
        self.categories = tuple(categories)
        self.seen: set[str] = set()
        self.streams: dict[str, str] = {}
        self.sizes: Counter[str] = Counter()
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def faults(self, record: Mapping[str, Any]) -> list[Fault]:
        """What is wrong with one record of plain values; an empty list when all is well. Frames are `frame_fault`'s."""
        return [*self._id_faults(record), *_value_faults(record), *_label_faults(record, self.categories)]

    def count(self, record: Mapping[str, Any]) -> None:
        """Count a record's split and labels, as far as they are in order."""
        split = record["split"]
        if split in SPLITS:
            self.sizes[split] += 1
            labelled = ((category, record[LABEL_PREFIX + category]) for category in self.categories)
            self.counts.update((split, category, label) for category, label in labelled if _is_int(label))

    def gaps(self) -> Iterator[Fault]:
        """What no single row shows: an empty train or test split, or a risk with one kind of label only there."""
        for split in SCORED:
            if not self.sizes[split]:
                yield "split", f"no post is in split {split!r}", "Give some posts this split, or leave the column out"
                continue
            for category in self.categories:
                for label, name in ((1, "violating"), (0, "cleared")):
                    if not self.counts[split, category, label]:
                        remedy = f"Add {name} posts to {split}, or remove the column"
                        yield LABEL_PREFIX + category, f"no {name} post (label {label}) in split {split!r}", remedy

    def _id_faults(self, record: Mapping[str, Any]) -> Iterator[Fault]:
        post_id, split, stream = record["post_id"], record["split"], record.get("stream_id")
        if not isinstance(post_id, str) or not post_id.strip():
            yield "post_id", f"{_short(post_id)} is no id", "Give every post a unique text"
        elif post_id in self.seen:
            yield "post_id", f"{_short(post_id)} is there already", "Keep one row for each post"
        else:
            self.seen.add(post_id)
        if split not in SPLITS:
            yield "split", f"{_short(split)} is no split", f"Use one of {', '.join(SPLITS)}"
        elif stream and isinstance(stream, str) and self.streams.setdefault(stream, split) != split:
            what = f"stream {_short(stream)} is in {self.streams[stream]!r} and in {split!r}"
            yield "stream_id", what, "Keep all segments of a stream in one split"


def _value_faults(record: Mapping[str, Any]) -> Iterator[Fault]:
    for name in (*TEXT_COLUMNS, "pipeline", *(n for n in ("caption", "stream_id") if n in record)):
        fault = _text_fault(record[name])
        if fault or (name == "pipeline" and not record[name]):
            yield name, fault or "it is empty", "Write a text, which may be empty" if fault else "Name the pipeline"
    if not isinstance(record["region"], str) or not _REGION.fullmatch(record["region"]):
        what = f"{_short(record['region'])} is no region"
        yield "region", what, "Use ISO 3166-1 alpha-2, such as BR, or ZZ if unknown"
    if not isinstance(record["language"], str) or not _LANGUAGE.fullmatch(record["language"]):
        yield "language", f"{_short(record['language'])} is no language", "Use BCP 47, such as pt-BR, or und if unknown"
    if record["created_at"] is not None and not isinstance(record["created_at"], datetime):
        yield "created_at", f"{_short(record['created_at'])} is no time", "Use ISO 8601, such as 2025-01-31T12:00:00Z"
    if "segment" in record and not (_is_int(record["segment"]) and 0 <= record["segment"] < 2**31):
        yield "segment", f"{_short(record['segment'])} is no segment", "Count the segments of a stream from 0"


def _text_fault(value: Any) -> str:
    if value is None:
        return "it is null"
    if not isinstance(value, str):
        return f"{_short(value)} is no text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"{_short(value)} is no valid Unicode"
    return ""


def _label_faults(record: Mapping[str, Any], categories: Sequence[str]) -> Iterator[Fault]:
    for name in (LABEL_PREFIX + category for category in categories):
        value = record[name]
        if value is None or value == "":
            yield name, "the label is missing", "Write 1 (violating), 0 (cleared) or -1 (not verified)"
        elif not _is_int(value) or value not in (-1, 0, 1):
            yield name, f"{_short(value)} is no label", "Write 1 (violating), 0 (cleared) or -1 (not verified)"


def frame_faults(frames: Sequence[Mapping[str, Any]] | None) -> list[Fault]:
    """Faults of a post's encoded frames."""
    if frames is None:
        return [(FRAMES, "it is null", "Use an empty list for a post without frames")]
    found = ((frame, frame_fault((frame or {}).get("bytes"))) for frame in frames)
    remedy = "Replace the image or take it out"
    return [(FRAMES, f"{what}{_named(frame)}", remedy) for frame, what in found if what]


def _named(frame: Mapping[str, Any] | None) -> str:
    return f": {_short(frame['path'])}" if frame and frame.get("path") else ""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_posts(
    folder: str | Path,
    *,
    on_error: OnError = "stop",
    out: str | Path | None = None,
    workers: int = 2,
    progress: bool = True,
) -> Report:
    """Read every row and decode every frame of a corpus folder.

    Args:
        on_error: 'stop' raises at the end with all problems; 'quarantine' writes the sound rows to a new corpus at
            `out`, with the others listed in `out/quarantine.jsonl`.
        workers: threads that decode frames.

    Raises:
        RadarError: with the first `LISTED` problems; also when what is left has an empty train or test split or a
            risk with one kind of label, or when the rows are not those that corpus.json was written for.
    """
    if on_error == "quarantine" and out is None:
        raise RadarError("Nothing is removed in place: name a new folder for the sound posts (--out DIR).")
    posts = open_posts(folder)
    checker = Checker(posts.categories)
    problems = Problems(
        "Correct them where they come from and import again, or keep the sound posts only (quarantine)."
    )
    rows = _sound_rows(posts, checker, problems, on_error=on_error, workers=workers, progress=progress)
    if on_error == "stop":
        for _ in rows:
            pass
        problems.finish(checker, posts.folder.name)
        if digest_rows(posts.shards()) != posts.digest:
            raise RadarError(f"{posts.folder / 'corpus.json'}: the rows were changed after it. Import the posts again.")
        return Report(posts, dict(checker.counts))

    extra = {key: value for key, value in posts.info.items() if key != "digest"}

    def kept() -> Iterator[dict[str, Any]]:
        yield from rows
        problems.finish(checker, posts.folder.name)
        extra["quarantined"] = problems.save_quarantine(Path(out))  # write_corpus reads `extra` after the last row

    names = schema_of(posts.shards()[0]).names
    sound = write_corpus(
        out, kept(), name=posts.name, kind=posts.kind, categories=posts.categories,
        captions="caption" in names, streams="stream_id" in names, extra=extra,
    )  # fmt: skip
    return Report(sound, dict(checker.counts), len(problems.quarantined))


def _sound_rows(
    posts: Posts, checker: Checker, problems: Problems, *, on_error: OnError, workers: int, progress: bool
) -> Iterator[dict[str, Any]]:
    bar = tqdm(total=len(posts), unit="post", desc="checking", disable=None if progress else True)
    with bar, ThreadPoolExecutor(workers) as pool:
        for split in posts.splits:
            for shard in posts.shards(split):
                row = 0
                for batch in pq.ParquetFile(shard).iter_batches(BATCH_ROWS):
                    records = batch.to_pylist()
                    images = pool.map(frame_faults, [record[FRAMES] for record in records])
                    for record, bad_frames in zip(records, images, strict=True):
                        row += 1
                        faults = [*checker.faults(record), *bad_frames, *_wrong_shard(record, split)]
                        if faults:
                            problems.add_row(shard.name, row, record["post_id"], faults, on_error=on_error)
                        if not faults or on_error == "stop":  # a correctable row is no gap in its split
                            checker.count(record)
                        if not faults:
                            yield record
                        bar.update()


def _wrong_shard(record: Mapping[str, Any], split: str) -> list[Fault]:
    if record["split"] in SPLITS and record["split"] != split:
        return [("split", f"{record['split']!r} lies in a shard of {split!r}", "Import the posts again")]
    return []
