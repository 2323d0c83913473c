"""Is this corpus in order? Every row is read again, and every frame decoded, for a given checkpoint if one is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from radar_lib.data.frames import is_flat, picture
from radar_lib.data.posts import Posts, open_posts
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, SPLITS
from radar_lib.data.shards import digest_rows, read_batches, schema_of, shards_of
from radar_lib.errors import RadarError
from radar_suite.intake.rows import LISTED, Fault, RowChecker


@dataclass(frozen=True)
class Report:
    """A corpus that passed: its posts, and how many of each label every split holds."""

    posts: Posts
    counts: dict[tuple[str, str, int], int]  # (split, label column, label) -> number of posts
    flat: dict[str, int]  # posts with frames of one colour, and how many

    def __str__(self) -> str:
        lines = [f"{self.posts.folder}: {len(self.posts):,} posts, in order."]
        for split, n in self.posts.splits.items():
            parts = []
            for category in self.posts.categories:
                positive, negative = (self.counts.get((split, LABEL_PREFIX + category, label), 0) for label in (1, 0))
                parts.append(f"{category} {positive:,} of {positive + negative:,}")
            lines.append(f"  {split}: {n:,} posts; violating of verified: {', '.join(parts)}")
        if self.flat:
            names = ", ".join(list(self.flat)[:LISTED]) + ", ..." * (len(self.flat) > LISTED)
            lines.append(f"  warning: nothing is to be seen in {sum(self.flat.values()):,} frames, which are of one "
                         f"colour; posts: {names}")  # fmt: skip
        return "\n".join(lines)


def check_posts(folder: str | Path, *, workers: int = 2, checkpoint: str | None = None, text_tokens: int = 0) -> Report:
    """Read every row and decode every frame of a corpus folder, in `workers` threads.

    Args:
        checkpoint: folder or Hub id whose tokenizer and image processor every post goes through; weights are not read.
        text_tokens: the profile's, which decides how much text the checkpoint is given.

    Raises:
        RadarError: with the first problems and their number; also when the train or test split is empty or holds one
            kind of label only for some risk, or when the rows are not those that corpus.json was written for.
    """
    posts = open_posts(folder)
    hint = "Correct them where they come from and import again."
    shards = [(split, shard) for split in posts.splits for shard in shards_of(folder, split)]  # whatever their bytes
    checker = RowChecker(schema_of(shards[0][1]).names, hint=hint, scored=posts.info.get("scored", True))
    encode = None
    if checkpoint:
        from radar_lib.models.backbones import load_backbone  # seconds, which a check without it does not spend
        from radar_suite.intake.texts import text_limit

        encode = load_backbone(checkpoint, device="meta", text=text_limit(posts, text_tokens)).encode
    flat: dict[str, int] = {}
    bar = tqdm(total=len(posts), unit="post", desc="checking", disable=None)
    with bar, ThreadPoolExecutor(workers) as pool:
        for split, shard in shards:
            number = 0
            for batch in read_batches(shard):
                rows = batch.to_pylist()
                looked = pool.map(_look, [row[FRAMES] for row in rows])
                for row, (bad_frames, n_flat) in zip(rows, looked, strict=True):
                    number += 1
                    faults = [*checker.faults(row), *bad_frames]
                    if n_flat:
                        flat[row["post_id"]] = n_flat
                    if encode and not faults:
                        faults = _encoding_faults(encode, row)
                    if row["split"] in SPLITS and row["split"] != split:
                        what = f"{row['split']!r} lies in a shard of {split!r}"
                        faults.append(("split", what, "Import the posts again"))
                    checker.admit(shard.name, number, row, faults)
                    bar.update()
    checker.finish(posts.folder.name)
    if digest_rows(batch for _, shard in shards for batch in read_batches(shard)) != posts.digest:
        raise RadarError(f"{posts.folder / 'corpus.json'}: the rows were changed after it. Import the posts again.")
    posts.shards()
    return Report(posts, dict(checker.counts), flat)


def _look(frames: Sequence[Mapping[str, Any] | None] | None) -> tuple[list[Fault], int]:
    """What is wrong with a post's frames, and how many are of one colour."""
    if frames is None:
        return [(FRAMES, "it is null", "Use an empty list for a post without frames")], 0
    faults, flat = [], 0
    for frame in frames:
        frame = frame or {}
        try:
            flat += is_flat(picture(frame.get("bytes")))
        except RadarError as error:
            name = f": {frame['path']!r:.80}" if frame.get("path") else ""
            faults.append((FRAMES, f"{error}{name}", "Replace the image or take it out"))
    return faults, flat


def _encoding_faults(encode: Callable[[list[dict[str, Any]]], Any], row: Mapping[str, Any]) -> list[Fault]:
    try:
        encode([{**row, FRAMES: [picture(frame["bytes"]) for frame in row[FRAMES]]}])
    except Exception as error:  # of any kind: tokenizer and image processor are the checkpoint's
        what = f"the checkpoint does not take it ({error!s:.300})"
        return [("all", what, "Take the post out, or another checkpoint")]
    return []
