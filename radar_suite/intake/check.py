"""Is this corpus in order? Every row is read again, and every frame decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from radar_lib.data.posts import Posts, open_posts
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, SPLITS
from radar_lib.data.shards import digest_rows, read_batches, schema_of, shards_of
from radar_lib.errors import RadarError
from radar_suite.intake.images import frame_fault
from radar_suite.intake.rows import Fault, RowChecker


@dataclass(frozen=True)
class Report:
    """A corpus that passed: its posts, and how many of each label every split holds."""

    posts: Posts
    counts: dict[tuple[str, str, int], int]  # (split, label column, label) -> number of posts

    def __str__(self) -> str:
        lines = [f"{self.posts.folder}: {len(self.posts):,} posts, in order."]
        for split, n in self.posts.splits.items():
            parts = []
            for category in self.posts.categories:
                positive, negative = (self.counts.get((split, LABEL_PREFIX + category, label), 0) for label in (1, 0))
                parts.append(f"{category} {positive:,} of {positive + negative:,}")
            lines.append(f"  {split}: {n:,} posts; violating of verified: {', '.join(parts)}")
        return "\n".join(lines)


def check_posts(folder: str | Path, *, workers: int = 2) -> Report:
    """Read every row and decode every frame of a corpus folder, in `workers` threads.

    Raises:
        RadarError: with the first problems and their number; also when the train or test split is empty or holds one
            kind of label only for some risk, or when the rows are not those that corpus.json was written for.
    """
    posts = open_posts(folder)
    hint = "Correct them where they come from and import again."
    shards = [(split, shard) for split in posts.splits for shard in shards_of(folder, split)]  # whatever their bytes
    checker = RowChecker(schema_of(shards[0][1]).names, hint=hint)
    bar = tqdm(total=len(posts), unit="post", desc="checking", disable=None)
    with bar, ThreadPoolExecutor(workers) as pool:
        for split, shard in shards:
            number = 0
            for batch in read_batches(shard):
                rows = batch.to_pylist()
                for row, bad_frames in zip(rows, pool.map(_frame_faults, [r[FRAMES] for r in rows]), strict=True):
                    number += 1
                    faults = [*checker.faults(row), *bad_frames]
                    if row["split"] in SPLITS and row["split"] != split:
                        what = f"{row['split']!r} lies in a shard of {split!r}"
                        faults.append(("split", what, "Import the posts again"))
                    checker.admit(shard.name, number, row, faults)
                    bar.update()
    checker.finish(posts.folder.name)
    if digest_rows(batch for _, shard in shards for batch in read_batches(shard)) != posts.digest:
        raise RadarError(f"{posts.folder / 'corpus.json'}: the rows were changed after it. Import the posts again.")
    posts.shards()
    return Report(posts, dict(checker.counts))


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
