"""Parquet files of posts to be routed: checked before work starts, read from any row on, whatever their pages hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from radar_lib.data.posts import open_posts
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS, categories_of
from radar_lib.data.shards import count_rows, schema_of
from radar_lib.errors import RadarError
from radar_lib.files import digest_file
from radar_lib.routing import Bypass, Post
from radar_lib.training.scores import UNREADABLE
from radar_suite.decisions.windows import REPEATED, WINDOW

COLUMNS = ("post_id", *TEXT_COLUMNS, FRAMES)
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Parquet files of posts.

    Attributes:
        digests: of each file's bytes, by its path.
    """

    digests: dict[Path, str]

    @cached_property
    def rows(self) -> int:
        return sum(map(count_rows, self.digests))

    def named(self) -> list[list[str]]:
        """Names and digests of the files, wherever they lie."""
        return [[path.name, digest] for path, digest in self.digests.items()]

    @cached_property
    def repeated(self) -> frozenset[int]:
        """Rows whose id another row has too, from 8 bytes a row."""
        hashes = np.concatenate([np.empty(0, np.uint64), *map(_hashes, self.digests)])
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        return frozenset(order[np.union1d(same, same + 1)].tolist())

    def posts(self, first: int = 0) -> Iterator[Post | Bypass]:
        """The rows from `first` on: as plain values, or why one cannot be given. Frames stay encoded."""
        row = 0
        for path in self.digests:
            file = _open(path)
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if row + count > first:
                    for number, post in enumerate(_read_group(path, file, group, first - row), max(first, row)):
                        twice = number in self.repeated and not isinstance(post, Bypass)
                        yield Bypass("post_id", REPEATED, post["post_id"]) if twice else post
                row += count


def open_source(posts: str | Path, categories: Sequence[str], *, splits: Sequence[str] = ()) -> Source:
    """Posts to route: a corpus folder (some of its splits, or all), a Parquet file, or a folder of Parquet files.

    Files need the contract's `post_id`, texts and `frames`; labels are not read.

    Raises:
        RadarError: there is none, a file is no Parquet, lacks a column or has one of another type, or its labels are of
            other risks than `categories`; names it.
    """
    place = Path(posts)
    if (place / "corpus.json").is_file():
        paths = open_posts(place).shards(*splits)
    elif splits:
        raise RadarError(f"{place} is no corpus folder, so it has no split {', '.join(splits)}.")
    else:
        paths = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    if not paths or not all(path.is_file() for path in paths):
        raise RadarError(f"{place} holds no posts. Name a corpus folder, a Parquet file, or a folder of such files.")
    for path in paths:
        _check_schema(path, schema_of(path), categories)
    return Source({path: digest_file(path) for path in paths})


def _check_schema(path: Path, schema: pa.Schema, categories: Sequence[str]) -> None:
    for name in COLUMNS:
        if name not in schema.names:
            raise RadarError(f"{path}: column {name!r} is missing. `radar posts import` makes posts of a table.")
        kind = str(schema.field(name).type).replace("large_", "")
        fits = kind.startswith("list<") and ": struct<" in kind and "bytes: binary" in kind
        if not (fits if name == FRAMES else kind == "string"):
            wanted = "a list of structs with `bytes`" if name == FRAMES else "text"
            raise RadarError(f"{path}: column {name!r} is {kind}; it must be {wanted}.")
    if (found := categories_of(schema.names)) and set(found) != set(categories):
        raise RadarError(f"{path} has labels of {', '.join(found)}; the bundle's risks are {', '.join(categories)}. "
                         "Take a bundle of these risks, or leave the label columns out.")  # fmt: skip


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=READ_BYTES)  # else a row group is in memory as a whole


def _read_group(path: Path, file: pq.ParquetFile, group: int, first: int) -> Iterator[Post | Bypass]:
    """The posts of a row group from row `first` on; where pages cannot be read, why not, with ids if known."""
    count, row, why = file.metadata.row_group(group).num_rows, 0, "it ends early"
    batches = file.iter_batches(WINDOW, row_groups=[group], columns=list(COLUMNS), use_threads=False)
    try:
        for batch in batches:
            for i in range(max(0, first - row), len(batch)):
                yield _row(batch, i)
            row += len(batch)
    except (*UNREADABLE, MemoryError) as error:
        why = str(error)
    names = _ids(file, group) if row < count else None
    for i in range(max(row, first), count):
        yield Bypass("file", f"{path.name} cannot be read here: {why}"[:300], names[i] if names else None)


def _row(batch: pa.RecordBatch, i: int) -> Post | Bypass:
    out = {}
    for name in COLUMNS:  # the id comes first
        try:
            out[name] = batch.column(name)[i].as_py()
        except UnicodeDecodeError as error:
            return Bypass("text", f"{name} is not UTF-8 ({error})", out.get("post_id"))
    return out


def _ids(file: pq.ParquetFile, group: int) -> list[str | None] | None:
    """The ids of a row group; None if they cannot be read."""
    try:
        return file.read_row_group(group, columns=["post_id"], use_threads=False)["post_id"].to_pylist()
    except UNREADABLE:
        return None


def _hashes(path: Path) -> Int[np.ndarray, " row"]:
    """A hash of each id; of one that is missing or unreadable, of its place."""
    file, out, row = _open(path), [np.empty(0, np.uint64)], 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        names = _ids(file, group) or [None] * count
        own = (name if name else f"\0{path}\0{row + i}" for i, name in enumerate(names))
        out.append(pd.util.hash_array(np.fromiter(own, object, count), categorize=False))
        row += count
    return np.concatenate(out)
