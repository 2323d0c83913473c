"""Shards: Parquet files of posts, written a batch at a time, counted, and hashed by row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from radar_lib.data.schema import FRAMES, SPLITS, to_record
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_json

BATCH_ROWS = 100  # posts with frames that are in memory at once
SHARD_ROWS = 2_000
SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5}})-of-(\d{{5}})\.parquet")


def shard_path(folder: str | Path, split: str, index: int, count: int) -> Path:
    """Where shard `index` of `count` of a split lives."""
    return Path(folder) / "data" / f"{split}-{index:05d}-of-{count:05d}.parquet"


def shards_of(folder: str | Path, split: str) -> list[Path]:
    """The shards of one split, in order."""
    return sorted(p for p in (Path(folder) / "data").glob(f"{split}-*.parquet") if SHARD_NAME.fullmatch(p.name))


def count_rows(shard: Path) -> int:
    """Number of posts in a shard."""
    return _metadata(shard).num_rows


def schema_of(shard: Path) -> pa.Schema:
    """Columns of a shard."""
    return _metadata(shard).schema.to_arrow_schema()


def _metadata(shard: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(shard)
    except (pa.ArrowInvalid, OSError) as error:
        raise RadarError(f"{shard}: not a readable Parquet file ({error}). Import the posts again.") from error


def write_shard(path: str | Path, rows: Iterable[Mapping[str, Any]], types: Features) -> None:
    """Write one shard atomically; for builders that make their shards in parallel and then call `finish_corpus`."""
    schema, records = types.arrow_schema, (to_record(row, types) for row in rows)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **_parquet_options(schema)) as writer:
        while batch := list(islice(records, BATCH_ROWS)):
            writer.write_table(_arrow(batch, schema))


def read_batches(shard: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a shard, `BATCH_ROWS` at a time; all columns if None.

    Raises:
        RadarError: the file is damaged or cut off.
    """
    try:
        yield from pq.ParquetFile(shard).iter_batches(BATCH_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise RadarError(f"{shard}: its rows cannot be read ({error!s:.200}). Import the posts again.") from error


def require_bytes(batch: pa.RecordBatch, shard: Path) -> pa.RecordBatch:
    """The batch, if each frame's bytes are in it: no path or URL that a file names is ever opened.

    Raises:
        RadarError: a frame has none; names the first such post.
    """
    frames = batch.column(FRAMES)
    images = frames.flatten()
    if frames.null_count or images.null_count or images.field("bytes").null_count:
        bad = next(post for post in batch.select(["post_id", FRAMES]).to_pylist()
                   if post[FRAMES] is None or not all(one and one["bytes"] is not None for one in post[FRAMES]))
        raise RadarError(f"{shard}: a frame of post {bad['post_id']!r} holds no bytes. Frames are kept in the shards, "
                         "never fetched: import the posts again from files.")  # fmt: skip
    return batch


class RowDigest:
    """Hash of rows, given batch by batch: one SHA-256 per column, fed with lengths and values."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            self._feed_array(name, array)

    def hexdigest(self) -> str:
        return digest_json({name: value.hexdigest() for name, value in self._hashes.items()})

    def _feed(self, name: str, data: Any) -> None:
        self._hashes.setdefault(name, hashlib.sha256()).update(data)

    def _feed_array(self, name: str, array: pa.Array) -> None:
        if pa.types.is_list(array.type):
            self._feed_numbers(name + "#", pc.fill_null(pc.list_value_length(array), -1))
            self._feed_array(name + ".item", array.flatten())
        elif pa.types.is_struct(array.type):
            for field, child in zip(array.type, array.flatten(), strict=True):
                self._feed_array(f"{name}.{field.name}", child)
        elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
            self._feed_numbers(name + "#", pc.fill_null(pc.binary_length(array), -1))
            self._feed(name, _joined(array.drop_null()))
        else:
            lowest = -(2**63) if pa.types.is_timestamp(array.type) else -128
            self._feed_numbers(name, pc.fill_null(array.cast(pa.int64()), lowest))

    def _feed_numbers(self, name: str, array: pa.Array) -> None:
        self._feed(name, array.to_numpy(zero_copy_only=False).tobytes())


def _joined(array: pa.Array) -> Any:
    """The values of a string or binary array without nulls, end to end; nothing is copied."""
    _, offsets, values = array.buffers()
    ends = np.frombuffer(offsets, np.int32)[array.offset :][: len(array) + 1] if len(array) else (0, 0)
    return values[int(ends[0]) : int(ends[-1])] if values else b""


def digest_rows(batches: Iterable[pa.RecordBatch]) -> str:
    """Hash of all rows of these batches, in order; how they are cut into batches does not matter."""
    digest = RowDigest()
    for batch in batches:
        digest.update(batch)
    return digest.hexdigest()


class SplitWriter:
    """Rows of one split into shards of `shard_rows`, a row group at a time."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, shard_rows: int) -> None:
        self.folder, self.split, self.schema, self.shard_rows = folder, split, schema, shard_rows
        self.batch: list[dict[str, Any]] = []
        self.writer: pq.ParquetWriter | None = None
        self.written = 0
        self.parts: list[Path] = []

    def add(self, record: dict[str, Any]) -> None:
        self.batch.append(record)
        if len(self.batch) == BATCH_ROWS or self.written + len(self.batch) == self.shard_rows:
            self._flush()

    def _flush(self) -> None:
        if not self.batch:
            return
        if self.writer is None:
            self.parts.append(self.folder / f"{self.split}-{len(self.parts):05d}.part")
            self.writer = pq.ParquetWriter(self.parts[-1], self.schema, **_parquet_options(self.schema))
        self.writer.write_table(_arrow(self.batch, self.schema))
        self.written += len(self.batch)
        self.batch = []
        if self.written == self.shard_rows:
            self.abandon()

    def abandon(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer, self.written = None, 0

    def close(self) -> None:
        self._flush()
        self.abandon()
        for index, part in enumerate(self.parts):
            part.rename(self.folder / shard_path("", self.split, index, len(self.parts)).name)


def _arrow(records: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(records, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        first, last = records[0]["post_id"], records[-1]["post_id"]
        raise RadarError(f"posts {first!r} to {last!r}: a value does not fit its column ({error}).") from error


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    # Encoded images neither repeat nor compress: dictionaries are for the other columns.
    return {"compression": "zstd", "use_dictionary": [name for name in schema.names if name != FRAMES]}
