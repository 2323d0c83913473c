"""Routing from Parquet to a decision log: one row per post, in order, resumable; and the log replayed.

    <out>              the log: Parquet, its metadata (key `radar`) says which bundle, thresholds, posts and limits
    <out>.parts/       while it is made: parts of `PART_ROWS` decisions, each whole or absent, and plan.json

A run that was killed goes on with the first part that is missing. Parts are whole windows (`routing.WINDOW`), so that
the log is the same however often it was stopped. What differs from the plan, another bundle or other posts, is refused.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from radar_lib.data.posts import open_posts
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS, categories_of
from radar_lib.data.shards import count_rows, schema_of
from radar_lib.decisions.bundle import Bundle
from radar_lib.decisions.routing import REPEATED, WINDOW, Bypass, Decision, Limits, Post, route
from radar_lib.errors import RadarError
from radar_lib.files import (
    atomic_path,
    cannot_write,
    digest_file,
    locked,
    read_json,
    remove_folder,
    remove_leftovers,
    write_json,
)
from radar_lib.thresholds import dispatched

COLUMNS = ("post_id", *TEXT_COLUMNS, FRAMES)
PART_ROWS = 8 * WINDOW
KEY, PLAN = b"radar", "plan.json"
NEAR = 1e-4  # of a threshold: logits of other batches, or machines, may fall on either side
SCANNED = 10_000  # ids or decisions that are in memory at once
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Parquet files of posts.

    Attributes:
        digests: of each file's bytes, by its path.
    """

    digests: dict[Path, str]

    @property
    def rows(self) -> int:
        return sum(map(count_rows, self.digests))

    def named(self) -> list[list[str]]:
        """Names and digests of the files, wherever they lie."""
        return [[path.name, digest] for path, digest in self.digests.items()]

    def repeated(self) -> set[int]:
        """Rows whose id another row has too, from 8 bytes a row."""
        hashes = np.concatenate([np.empty(0, np.uint64), *map(_hashes, self.digests)])
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        return {int(row) for row in order[np.union1d(same, same + 1)]}

    def posts(self, first: int = 0) -> Iterator[Post | Bypass]:
        """The rows from `first` on: as plain values, or why one cannot be given. Frames stay encoded."""
        again, row = self.repeated(), 0
        for path in self.digests:
            file = _open(path)
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if row + count > first:
                    for number, post in enumerate(_read_group(path, file, group, row), start=row):
                        if number >= first:
                            twice = number in again and not isinstance(post, Bypass)
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


def route_files(
    bundle: Bundle, posts: str | Path, out: str | Path, *, splits: Sequence[str] = (), observe_only: bool = False,
    limits: Limits | None = None, bar: Callable[[int, int], Any] = lambda done, rows: None,
) -> Path:  # fmt: skip
    """Decide every post and write the log; goes on where a run of the same bundle and posts was stopped.

    Args:
        observe_only: decide and log, and send every post to every module.
        bar: called with the posts that are done, and all of them.

    Raises:
        RadarError: bad posts (`open_source`), an output that is of other ones or another bundle or cannot be written.
    """
    out, limits = Path(out), limits or Limits()
    source = open_source(posts, bundle.categories, splits=splits)
    plan = {
        "bundle": bundle.digest, "categories": list(bundle.categories), "thresholds": list(bundle.thresholds),
        "recall": bundle.record["recall"], "confidence": bundle.record["confidence"], "router": _router(bundle),
        "posts": source.named(), "rows": source.rows,
        "observe_only": observe_only, "limits": asdict(limits), "part_rows": PART_ROWS,
    }  # fmt: skip
    parts = out.with_name(f"{out.name}.parts")
    if out.is_dir():
        raise RadarError(f"{out} is a folder. Name a file for the log.")
    with locked(out.with_name(f".{out.name}.lock")):
        if out.is_file():
            if read_plan(out) != plan:
                raise RadarError(f"{out} is a log of another bundle, of other posts, or with other options. Delete it "
                                 "or choose another name.")  # fmt: skip
            return out
        remove_leftovers(parts)
        if (parts / PLAN).is_file() and read_json(parts / PLAN) != plan:
            raise RadarError(f"{parts} was begun with another bundle, other posts or other options. Delete it or "
                             "choose another name.")  # fmt: skip
        write_json(parts / PLAN, plan)
        count = -(-plan["rows"] // PART_ROWS)
        first = next((i for i in range(count) if not _part(parts, i).is_file()), count)
        schema = log_schema(plan)
        made = _route_from(bundle, source, first * PART_ROWS, observe_only=observe_only, limits=limits)
        for i in range(first, count):
            bar(i * PART_ROWS, plan["rows"])
            table = to_table(islice(made, PART_ROWS), schema)
            with atomic_path(_part(parts, i)) as temporary:
                pq.write_table(table, temporary, compression="zstd")
        bar(plan["rows"], plan["rows"])
        _join(parts, count, schema, out, plan["rows"])
        remove_folder(parts)
    return out


def _route_from(bundle: Bundle, source: Source, first: int, **about: Any) -> Iterator[Decision]:
    return route(bundle.router, bundle.thresholds, source.posts(first), first_row=first, **about)


def preview(
    bundle: Bundle, posts: str | Path, number: int, *, splits: Sequence[str] = (), limits: Limits | None = None
) -> list[Decision]:
    """Decisions of the first posts; nothing is written."""
    source = open_source(posts, bundle.categories, splits=splits)
    return list(islice(_route_from(bundle, source, 0, limits=limits), number))


def log_schema(plan: dict[str, Any]) -> pa.Schema:
    """Columns of a log; `plan` goes into its metadata."""
    fields = [pa.field("post_id", pa.string()), pa.field("row", pa.int64(), nullable=False)]
    for category in plan["categories"]:
        fields += [pa.field(f"logit_{category}", pa.float32()), pa.field(f"probability_{category}", pa.float64()),
                   pa.field(f"dispatch_{category}", pa.bool_(), nullable=False)]  # fmt: skip
    fields += [pa.field("modules", pa.list_(pa.string()), nullable=False)]
    fields += [pa.field(name, pa.string(), nullable=False) for name in ("status", "cause", "detail", "bundle")]
    fields += [pa.field("decided_at", pa.timestamp("us", "UTC"), nullable=False)]
    return pa.schema(fields, {KEY: json.dumps(plan).encode()})


def to_table(decisions: Iterable[Decision], schema: pa.Schema) -> pa.Table:
    """Decisions as rows of a log; logit and probability are null where a post was not scored."""
    plan = json.loads(schema.metadata[KEY])
    rows = []
    for one in decisions:
        row = {"post_id": one.post_id, "row": one.row, "modules": one.modules, "status": one.status,
               "cause": one.cause, "detail": one.detail.encode(errors="replace").decode(), "bundle": plan["bundle"],
               "decided_at": datetime.now(UTC)}  # fmt: skip
        for category, logit, dispatch in zip(plan["categories"], one.logits.tolist(), one.dispatch, strict=True):
            scored = one.status != "bypassed"
            row[f"logit_{category}"] = logit if scored else None
            row[f"probability_{category}"] = float(expit(logit)) if scored else None
            row[f"dispatch_{category}"] = bool(dispatch)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


def read_plan(log: str | Path) -> dict[str, Any]:
    """Which bundle, thresholds, posts and limits a log is of.

    Raises:
        RadarError: it is no decision log.
    """
    if not Path(log).is_file():
        raise RadarError(f"{log} does not exist. `radar route BUNDLE POSTS --out {log}` makes it.")
    metadata = schema_of(Path(log)).metadata or {}
    if KEY not in metadata:
        raise RadarError(f"{log} is no decision log. `radar route` makes one.")
    return json.loads(metadata[KEY])


def summary(log: str | Path) -> dict[str, Any]:
    """Posts of a log, how many no module sees, how many each module is sent, and bypasses by cause."""
    plan, sent, causes, statuses, released = read_plan(log), Counter(), Counter(), Counter(), 0
    for batch in pq.ParquetFile(log).iter_batches(SCANNED, columns=["modules", "status", "cause"]):
        lengths = pc.list_value_length(batch["modules"])
        released += pc.sum(pc.equal(lengths, 0)).as_py() or 0
        sent.update(batch["modules"].flatten().to_pylist())
        statuses.update(batch["status"].to_pylist())
        causes.update(cause for cause in batch["cause"].to_pylist() if cause)
    return {"posts": plan["rows"], "released": released, "sent": {c: sent[c] for c in plan["categories"]},
            "status": dict(statuses), "bypassed": dict(causes)}  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """A log decided again.

    Attributes:
        posts: of the log.
        dispatched, released: by risk, posts that are now dispatched, or released, and were not.
        near: of those changes, how many lie within `NEAR` of the threshold, where rounding decides.
        bypassed: posts that now bypass the router and did not, or the other way about.
    """

    posts: int
    dispatched: dict[str, int]
    released: dict[str, int]
    near: int
    bypassed: int

    @property
    def same(self) -> bool:
        """Whether nothing changed that is more than rounding."""
        return sum(self.dispatched.values()) + sum(self.released.values()) + self.bypassed == self.near


def replay(
    log: str | Path, bundle: Bundle | None = None, *, posts: str | Path | None = None, splits: Sequence[str] = ()
) -> Replay:
    """Decide a log again: from its logits, or from its posts.

    Args:
        bundle: whose thresholds decide; None for the log's own. Without `posts` it must have the log's router.

    Raises:
        RadarError: the log is of other risks or of another router, or the posts are not its.
    """
    plan = read_plan(log)
    categories = tuple(plan["categories"])
    if bundle is not None and bundle.categories != categories:
        raise RadarError(f"{log} is of the risks {', '.join(categories)}; the bundle's are "
                         f"{', '.join(bundle.categories)}.")  # fmt: skip
    again: Iterator[Decision] | None = None
    if posts is not None:
        if bundle is None:
            raise RadarError("posts are scored again by a bundle. Name it as well.")
        source = open_source(posts, categories, splits=splits)
        if plan["posts"] != source.named():
            raise RadarError(f"{posts} are not the posts of {log}: their files differ. Give those that were routed.")
        again = _route_from(bundle, source, 0, limits=Limits(**plan["limits"]))
    elif bundle is not None and plan["router"] != _router(bundle):
        raise RadarError(f"{log} was made with another router, whose logits this bundle's thresholds do not fit. Give "
                         "the posts as well, so that they are scored again.")  # fmt: skip
    taus = np.asarray(bundle.thresholds if bundle else plan["thresholds"])
    more, less = np.zeros((2, len(categories)), int)
    near = bypassed = total = 0
    for batch in pq.ParquetFile(log).iter_batches(SCANNED):
        was, scored, logits = _logged(batch, categories)
        now, still = dispatched(logits, taus), scored
        if again is not None:
            fresh = list(islice(again, len(batch)))
            now, still = np.stack([one.dispatch for one in fresh]), np.array([one.status == "scored" for one in fresh])
            logits = np.stack([one.logits for one in fresh])
        near += int(((now != was) & (np.abs(logits - taus) <= NEAR)).sum())
        more, less = more + (now & ~was).sum(axis=0), less + (was & ~now).sum(axis=0)
        bypassed += int((still != scored).sum())
        total += len(batch)
    return Replay(total, dict(zip(categories, more.tolist(), strict=True)),
                  dict(zip(categories, less.tolist(), strict=True)), near, bypassed)  # fmt: skip


def _logged(
    batch: pa.RecordBatch, categories: Sequence[str]
) -> tuple[Bool[np.ndarray, "post risk"], Bool[np.ndarray, " post"], Float[np.ndarray, "post risk"]]:
    """Decisions, which posts were scored, and logits (NaN where not)."""

    def columns(prefix: str) -> np.ndarray:
        return np.stack([batch[f"{prefix}_{c}"].to_numpy(zero_copy_only=False) for c in categories], axis=1)

    return columns("dispatch"), np.asarray(batch["status"].to_pylist()) != "bypassed", columns("logit")


def _router(bundle: Bundle) -> dict[str, Any]:
    """What decides a bundle's logits."""
    return {"files": bundle.record["files"], "encoder": bundle.record["encoder"]}


def _part(parts: Path, i: int) -> Path:
    return parts / f"{i:08d}.parquet"


def _join(parts: Path, count: int, schema: pa.Schema, out: Path, rows: int) -> None:
    """The parts as one file, a few at a time."""
    with atomic_path(parts / out.name) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for start in range(0, count, 16):
                some = [pq.read_table(_part(parts, i)) for i in range(start, min(start + 16, count))]
                writer.write_table(pa.concat_tables(some))
        if (found := count_rows(temporary)) != rows:
            raise RadarError(f"{parts} holds {found:,} of {rows:,} decisions. Delete it and route again.")
    try:
        os.replace(parts / out.name, out)
    except OSError as error:
        raise cannot_write(out, error) from error


def _check_schema(path: Path, schema: pa.Schema, categories: Sequence[str]) -> None:
    for name in COLUMNS:
        if name not in schema.names:
            raise RadarError(f"{path}: column {name!r} is missing. `radar posts import` makes posts of a table.")
        kind = schema.field(name).type
        if not (_holds_frames(kind) if name == FRAMES else pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            wanted = "a list of structs with `bytes`" if name == FRAMES else "text"
            raise RadarError(f"{path}: column {name!r} is {kind}; it must be {wanted}.")
    if (found := categories_of(schema.names)) and set(found) != set(categories):
        raise RadarError(f"{path} has labels of {', '.join(found)}; the bundle's risks are {', '.join(categories)}. "
                         "Take a bundle of these risks, or leave the label columns out.")  # fmt: skip


def _holds_frames(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    at = kind.value_type.get_field_index("bytes")
    held = kind.value_type.field(at).type if at >= 0 else pa.null()
    return pa.types.is_binary(held) or pa.types.is_large_binary(held)


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=READ_BYTES)  # else a row group is in memory as a whole


def _read_group(path: Path, file: pq.ParquetFile, group: int, first: int) -> Iterator[Post | Bypass]:
    """The posts of a row group; where its pages cannot be read, why not, with their ids if those can."""
    count, given = file.metadata.row_group(group).num_rows, 0
    batches = file.iter_batches(WINDOW, row_groups=[group], columns=list(COLUMNS), use_threads=False)
    try:
        for batch in batches:
            for i in range(len(batch)):
                yield _row(batch, i)
                given += 1
        return
    except (pa.ArrowException, OSError, MemoryError) as error:
        why = f"{path.name} cannot be read from row {first + given} on: {error}"
    names = _ids(file, group)
    for i in range(given, count):
        yield Bypass("file", why, names[i] if names else None)


def _row(batch: pa.RecordBatch, i: int) -> Post | Bypass:
    try:
        return {name: batch.column(name)[i].as_py() for name in COLUMNS}
    except UnicodeDecodeError as error:
        try:
            name = batch.column("post_id")[i].as_py()
        except UnicodeDecodeError:
            name = None
        return Bypass("text", f"its text is not UTF-8 ({error})", name)


def _ids(file: pq.ParquetFile, group: int) -> list[str | None] | None:
    """The ids of a row group; None if they cannot be read."""
    try:
        return file.read_row_group(group, columns=["post_id"], use_threads=False)["post_id"].to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return None


def _hashes(path: Path) -> Int[np.ndarray, " row"]:
    """A hash of each id; of one that is missing or unreadable, of its place."""
    file, out, row = _open(path), [], 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        names = _ids(file, group) or [None] * count
        own = (name if name else f"\0{path}\0{row + i}" for i, name in enumerate(names))
        out.append(pd.util.hash_array(np.fromiter(own, object, count), categorize=False))
        row += count
    return np.concatenate([np.empty(0, np.uint64), *out])
