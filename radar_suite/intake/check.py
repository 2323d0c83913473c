"""Is this corpus in order? Every row is read again, and every frame decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm.auto import tqdm

from radar_lib.data.frames import frame_fault
from radar_lib.data.posts import Posts, open_posts, write_corpus
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, SPLITS
from radar_lib.data.shards import BATCH_ROWS, digest_rows, schema_of
from radar_lib.errors import RadarError
from radar_suite.intake.rows import Fault, OnError, RowChecker


@dataclass(frozen=True)
class Report:
    """A corpus that passed: its size, its label counts, and how many rows were set aside."""

    posts: Posts
    counts: dict[tuple[str, str, int], int]  # (split, label column, label) -> number of posts
    quarantined: int = 0

    def __str__(self) -> str:
        lines = [f"{self.posts.folder}: {len(self.posts):,} posts, in order."]
        for split, n in self.posts.splits.items():
            parts = []
            for category in self.posts.categories:
                positive, negative = (self.counts.get((split, LABEL_PREFIX + category, label), 0) for label in (1, 0))
                parts.append(f"{category} {positive:,} of {positive + negative:,}")
            lines.append(f"  {split}: {n:,} posts; violating of verified: {', '.join(parts)}")
        if self.quarantined:
            lines.append(f"  {self.quarantined:,} rows were set aside; reasons are in quarantine.jsonl.")
        return "\n".join(lines)


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
        RadarError: with the first problems and their number; also when what is left has an empty train or test split
            or a risk with one kind of label, or when the rows are not those that corpus.json was written for.
    """
    if on_error == "quarantine" and out is None:
        raise RadarError("Nothing is removed in place: name a new folder for the sound posts (--out DIR).")
    posts = open_posts(folder)
    names = schema_of(posts.shards()[0]).names
    hint = "Correct them where they come from and import again, or keep the sound posts only (quarantine)."
    checker = RowChecker(names, on_error=on_error, hint=hint)
    rows = _sound_rows(posts, checker, workers=workers, progress=progress)
    if on_error == "stop":
        for _ in rows:
            pass
        checker.finish(posts.folder.name)
        if digest_rows(posts.shards()) != posts.digest:
            raise RadarError(f"{posts.folder / 'corpus.json'}: the rows were changed after it. Import the posts again.")
        return Report(posts, dict(checker.counts))

    extra = {key: value for key, value in posts.info.items() if key != "digest"}

    def kept() -> Iterator[dict[str, Any]]:
        yield from rows
        # write_corpus reads `extra` after the last row
        extra["quarantined"] = checker.finish(posts.folder.name, Path(out) / "quarantine.jsonl")

    sound = write_corpus(
        out, kept(), name=posts.name, kind=posts.kind, categories=posts.categories,
        captions="caption" in names, streams="stream_id" in names, extra=extra,
    )  # fmt: skip
    return Report(sound, dict(checker.counts), len(checker.quarantined))


def _sound_rows(posts: Posts, checker: RowChecker, *, workers: int, progress: bool) -> Iterator[dict[str, Any]]:
    bar = tqdm(total=len(posts), unit="post", desc="checking", disable=None if progress else True)
    with bar, ThreadPoolExecutor(workers) as pool:
        for split, shard in ((split, shard) for split in posts.splits for shard in posts.shards(split)):
            number = 0
            for batch in pq.ParquetFile(shard).iter_batches(BATCH_ROWS):
                rows = batch.to_pylist()
                for row, bad_frames in zip(rows, pool.map(_frame_faults, [r[FRAMES] for r in rows]), strict=True):
                    number += 1
                    faults = [*checker.faults(row), *bad_frames]
                    if row["split"] in SPLITS and row["split"] != split:
                        what = f"{row['split']!r} lies in a shard of {split!r}"
                        faults.append(("split", what, "Import the posts again"))
                    if checker.admit(shard.name, number, row, faults):
                        yield row
                    bar.update()


def _frame_faults(frames: Sequence[Mapping[str, Any] | None] | None) -> list[Fault]:
    if frames is None:
        return [(FRAMES, "it is null", "Use an empty list for a post without frames")]
    faults = []
    for frame in frames:
        frame = frame or {}
        if what := frame_fault(frame.get("bytes")):
            name = f": {frame['path']!r:.80}" if frame.get("path") else ""
            faults.append((FRAMES, what + name, "Replace the image or take it out"))
    return faults
