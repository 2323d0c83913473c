"""The posts: one complete corpus folder, read and written.

    <folder>/data/<split>-00000-of-00003.parquet    shards, frames inside; `datasets.load_dataset(folder)` opens them
    <folder>/corpus.json                            written last: a folder without it is half-built
    <folder>/.cache/                                Arrow copies of the splits that were opened with frames

Nothing is believed because of its name, size or time: corpus.json holds the digests of every shard's bytes and of every
split's rows, and shards and copies are compared with them when a process first reads them. What is wrong with a shard
is an error, a wrong copy is made again. Frames' bytes are in the shards; paths beside them are names and never opened.

Built-in, imported and public corpora are the same thing. A built-in one has `hidden/truth.parquet` besides, which
nothing here opens.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, Features, List, concatenate_datasets

from radar_lib.data.schema import (
    FRAMES,
    LABEL_PREFIX,
    SPLITS,
    TEXT_COLUMNS,
    Frame,
    categories_of,
    features,
    labels,
    to_record,
    valid_mask,
)
from radar_lib.data.shards import (
    SHARD_NAME,
    SHARD_ROWS,
    RowDigest,
    SplitWriter,
    count_rows,
    digest_rows,
    read_batches,
    require_bytes,
    schema_of,
    shards_of,
)
from radar_lib.errors import RadarError
from radar_lib.files import SEAL, atomic_path, digest_file, locked, read_json, seal_fits, write_sealed

__all__ = [
    "FRAMES", "LABEL_PREFIX", "SPLITS", "TEXT_COLUMNS", "Posts", "categories_of", "features", "finish_corpus", "labels",
    "open_posts", "valid_mask", "write_corpus",
]  # fmt: skip

PARTIAL = "data.partial"
FIELDS = ("name", "kind", "categories", "splits", "digest", "rows", "shards", SEAL)  # of corpus.json


@dataclass(frozen=True)
class Posts:
    """Read-only view of one complete corpus folder; make it with `open_posts` or `write_corpus`."""

    folder: Path
    info: dict[str, Any]  # corpus.json
    _sound: set[str] = field(default_factory=set, repr=False, compare=False)  # files compared with their digests

    @property
    def name(self) -> str:
        return self.info["name"]

    @property
    def kind(self) -> str:
        """'built-in', 'imported' or 'public'."""
        return self.info["kind"]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.info["categories"])

    @property
    def digest(self) -> str:
        """Hash of all rows, frames included; independent of shard sizes and of Parquet versions."""
        return self.info["digest"]

    @property
    def splits(self) -> dict[str, int]:
        """Number of posts per split, in the order of `SPLITS`."""
        return dict(self.info["splits"])

    def __len__(self) -> int:
        return sum(self.splits.values())

    def shards(self, *splits: str) -> list[Path]:
        """Shards of these splits (of all, if none is named), in order; each is as corpus.json says, to the last byte.

        Raises:
            RadarError: a shard was changed; names it.
        """
        paths = [path for split in self._known(splits) for path in shards_of(self.folder, split)]
        for path in paths:
            if path.name not in self._sound and digest_file(path) != self.info["shards"].get(path.name):
                raise RadarError(f"{path} is not as it was imported: its bytes have changed. Import the posts again; "
                                 f"built-in ones are built anew once {self.folder} is deleted.")  # fmt: skip
            self._sound.add(path.name)
        return paths

    def table(self, *splits: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Everything but the frames of these splits (of all, if none is named); rows in the order of `split`."""
        shards = self.shards(*splits)
        schema = schema_of(shards[0])
        names = [name for name in schema.names if name != FRAMES] if columns is None else list(columns)
        for name in names:
            if name not in schema.names or name == FRAMES:
                raise RadarError(f"{self.folder}: no column {name!r} in the table. Columns: {', '.join(schema.names)}.")
        parts = [pq.read_table(path, columns=names, partitioning=None) for path in shards]
        return pa.concat_tables(parts).replace_schema_metadata(None).to_pandas()

    def split(self, *splits: str) -> Dataset:
        """These splits (all, if none is named) as one memory-mapped dataset; frames decode to PIL on access."""
        parts = [_from_arrow(self._arrow_copy(split)) for split in self._known(splits)]
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts)

    def _known(self, splits: Sequence[str]) -> tuple[str, ...]:
        for split in splits:
            if split not in self.splits:
                raise RadarError(f"{self.folder}: no posts in split {split!r}. Splits: {', '.join(self.splits)}.")
        return tuple(splits or self.splits)

    def _arrow_copy(self, split: str) -> Path:
        # Parquet has no random access; one uncompressed Arrow file per split does, and costs no memory.
        path = self.folder / ".cache" / f"{split}.arrow"
        if path.parent.is_symlink():
            raise RadarError(f"{path.parent} is a link, and copies of posts stay in their folder. Remove it.")
        if path.name not in self._sound:
            schema = _contract(self.categories, schema_of(shards_of(self.folder, split)[0]).names)
            if _copied_rows(path, schema) != self.info["rows"][split]:
                with atomic_path(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
                    with pa.ipc.new_stream(sink, schema) as writer:
                        for shard in self.shards(split):
                            for batch in read_batches(shard):
                                require_bytes(batch, shard)
                                writer.write_batch(pa.record_batch(batch.columns, schema=schema))
            self._sound.add(path.name)
        return path


def _copied_rows(path: Path, schema: pa.Schema) -> str:
    """Digest of the rows of an Arrow copy; empty if there is none that can be read, with bytes in every frame."""

    def sound(batch: pa.RecordBatch) -> pa.RecordBatch:
        batch.validate(full=True)  # whoever wrote it: an offset may point anywhere
        return require_bytes(batch, path)

    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            same = reader.schema.equals(schema, check_metadata=True)  # it says how frames are decoded
            return digest_rows(map(sound, reader)) if same else ""
    except (RadarError, pa.ArrowException, OSError):
        return ""


def _from_arrow(path: Path) -> Dataset:
    types = Features({**Dataset.from_file(str(path)).features, FRAMES: List(Frame())})
    return Dataset.from_file(str(path), info=DatasetInfo(features=types))


def open_posts(folder: str | Path) -> Posts:
    """Open a complete corpus folder; checks names, columns and counts, not the rows (see `Posts.shards`).

    Raises:
        RadarError: no corpus.json (the folder is half-built or no corpus), one that was changed or is of an older
            version, or shards that do not agree with it.
    """
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        state = "is half-built (it has no corpus.json)" if (folder / "data").exists() else "holds no corpus"
        raise RadarError(f"{folder} {state}. `radar posts import --table posts.csv --images DIR --out DIR` makes one.")
    info = read_json(folder / "corpus.json")
    if fault := _info_fault(info):
        raise RadarError(f"{folder / 'corpus.json'}: {fault}. Import the posts again.")
    posts = Posts(folder, info)
    expected = None
    for split, count in posts.splits.items():
        shards = shards_of(folder, split)
        for shard in shards:
            schema = schema_of(shard)
            expected = expected or _contract(posts.categories, schema.names)
            _check_columns(shard, schema, expected)
        if (total := sum(map(count_rows, shards))) != count:
            raise RadarError(
                f"{folder}: split {split!r} has {total} posts in {len(shards)} shards, corpus.json says {count}. "
                "A shard is missing or was changed: import the posts again."
            )
    return posts


def write_corpus(
    folder: str | Path, rows: Iterable[Mapping[str, Any]], *, name: str, kind: str, categories: Sequence[str],
    captions: bool = False, streams: bool = False, groups: bool = False, shard_rows: int = SHARD_ROWS,
    extra: Mapping[str, Any] | None = None,
) -> Posts:  # fmt: skip
    """Write posts, in any order of splits, as a complete corpus folder.

    Streams: at most `BATCH_ROWS` posts per split are in memory. Until corpus.json is written, last, the folder does
    not open, and a killed run leaves only what the next run clears away. One process writes a folder at a time; the
    next one waits, and finds the corpus there.

    Args:
        rows: one mapping per post; missing optional keys get `DEFAULTS`, labels -1.
        extra: further keys of corpus.json (licences, options, counts).

    Raises:
        RadarError: the folder already holds a corpus or foreign data; a row does not fit the columns; no row at all.
    """
    folder = Path(folder)
    types = features(categories, captions=captions, streams=streams, groups=groups)
    if folder.exists() and not folder.is_dir():
        raise RadarError(f"{folder} is a file. Choose a folder.")
    with locked(folder / ".lock"):
        _make_room(folder)
        _write_shards(folder, rows, types, shard_rows)
        return finish_corpus(folder, name=name, kind=kind, extra=extra)


def _write_shards(folder: Path, rows: Iterable[Mapping[str, Any]], types: Features, shard_rows: int) -> None:
    """Write the posts as the shards of a folder's `data`, all of them or none."""
    partial = folder / PARTIAL
    writers: dict[str, SplitWriter] = {}
    try:
        partial.mkdir(parents=True)
        for row in _readable(rows):
            record = to_record(row, types)
            if (split := record["split"]) not in SPLITS:
                raise RadarError(f"post {record['post_id']!r}: split is {split!r}. Use one of {', '.join(SPLITS)}.")
            if split not in writers:
                writers[split] = SplitWriter(partial, split, types.arrow_schema, shard_rows)
            writers[split].add(record)
        for writer in writers.values():
            writer.close()
        if not writers:
            raise RadarError(f"{folder}: there is no post to write.")
        partial.rename(folder / "data")
    except OSError as error:
        what = error.strerror or error
        raise RadarError(f"cannot write {folder}: {what}. Free some space or choose another folder.") from error
    finally:
        for writer in writers.values():
            with contextlib.suppress(OSError):  # of a full disk, which was reported
                writer.abandon()
        shutil.rmtree(partial, ignore_errors=True)


def finish_corpus(folder: str | Path, *, name: str, kind: str, extra: Mapping[str, Any] | None = None) -> Posts:
    """Count and hash the finished shards of `folder` and write corpus.json, which makes the corpus complete."""
    folder = Path(folder)
    shards = {split: paths for split in SPLITS if (paths := shards_of(folder, split))}
    if not shards:
        raise RadarError(f"{folder / 'data'}: no shards. Nothing was written.")
    whole, rows = RowDigest(), {split: RowDigest() for split in shards}
    for split, paths in shards.items():
        for batch in (batch for path in paths for batch in read_batches(path)):
            whole.update(batch)
            rows[split].update(batch)
    info = {
        **(extra or {}),
        "name": name,
        "kind": kind,
        "categories": list(categories_of(schema_of(next(iter(shards.values()))[0]).names)),
        "splits": {split: sum(map(count_rows, paths)) for split, paths in shards.items()},
        "digest": whole.hexdigest(),
        "rows": {split: digest.hexdigest() for split, digest in rows.items()},
        "shards": {path.name: digest_file(path) for paths in shards.values() for path in paths},
    }
    write_sealed(folder / "corpus.json", info)
    return open_posts(folder)


def _info_fault(info: Any) -> str:
    """What is wrong with the content of a corpus.json; empty when it is as `finish_corpus` wrote it."""
    if not isinstance(info, dict):
        return "it is no JSON object"
    for name in FIELDS:
        if name not in info:
            return f"{name!r} is missing"
    if not seal_fits(info):
        return "it was changed by hand"
    for name, kind in {"categories": list, "splits": dict, "rows": dict, "shards": dict}.items():
        if not isinstance(info[name], kind):
            return f"{name} are {info[name]!r:.60}"
    if not set(info["splits"]) <= set(SPLITS):
        return f"splits are {info['splits']!r:.60}"
    return "" if re.fullmatch("[0-9a-f]{16}", str(info["digest"])) else f"{info['digest']!r:.60} is no digest"


def _readable(rows: Iterable[Any]) -> Iterable[Any]:
    # An OSError while posts are read is not a failure to write them.
    try:
        yield from rows
    except OSError as error:
        raise RadarError(f"cannot read a post: {error}.") from error


def _contract(categories: Sequence[str], names: Sequence[str]) -> pa.Schema:
    optional = {"captions": "caption" in names, "streams": "stream_id" in names, "groups": "group" in names}
    return features(categories, **optional).arrow_schema


def _check_columns(shard: Path, schema: pa.Schema, expected: pa.Schema) -> None:
    for column in expected:
        if column.name not in schema.names:
            raise RadarError(f"{shard}: column {column.name!r} is missing. Import the posts again.")
        if (kind := schema.field(column.name).type) != column.type:
            raise RadarError(f"{shard}: column {column.name!r} is {kind}, not {column.type}. Import the posts again.")
    for name in schema.names:
        if name not in expected.names:
            raise RadarError(f"{shard}: {name!r} is not a column of the data contract. Import the posts again.")


def _make_room(folder: Path) -> None:
    """Clear what a killed run of `write_corpus` left; refuse to touch anything else."""
    if (folder / "corpus.json").exists():
        raise RadarError(f"{folder} already holds a corpus. Delete it or choose another folder.")
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    data = folder / "data"
    if data.exists():
        shards = [path for path in data.iterdir() if SHARD_NAME.fullmatch(path.name)]
        known = all({"post_id", "pipeline"} <= set(schema_of(path).names) for path in shards)
        if not known or len(shards) < len(list(data.iterdir())):
            raise RadarError(f"{data} holds other files. Choose another folder.")
        shutil.rmtree(data)
