"""Routing from Parquet to a decision log: one row per post, in order, resumable; and the log replayed.

    <out>              the log: Parquet, its metadata (key `radar`) says which bundle, thresholds, posts and limits
    <out>.parts/       while it is made: parts of `PART_ROWS` decisions, each whole or absent, and plan.json

A run that was killed goes on with the parts that are missing. Parts are whole windows (`windows.WINDOW`), so that the
log is the same however often it was stopped. What differs from the plan, another bundle or other posts, is refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float
from scipy.special import expit

from radar_lib.data.shards import count_rows, schema_of
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, cannot_write, locked, read_json, remove_folder, remove_leftovers, write_json
from radar_lib.routing import Decision
from radar_lib.thresholds import dispatched
from radar_lib.training.scores import LOGIT_PREFIX
from radar_suite.decisions.bundle import Bundle, route
from radar_suite.decisions.source import Source, open_source
from radar_suite.decisions.windows import WINDOW, Limits

PART_ROWS = 8 * WINDOW
KEY, PLAN = b"radar", "plan.json"
NEAR = 1e-4  # of a threshold: logits of other batches, or machines, may fall on either side
SCANNED = 10_000  # decisions that are in memory at once


def route_files(
    bundle: Bundle, posts: str | Path, out: str | Path, *, splits: Sequence[str] = (), observe_only: bool = False,
    limits: Limits | None = None, bar: Callable[[int, int], Any] = lambda done, rows: None, actors: int = 0,
) -> Path:  # fmt: skip
    """Decide every post and write the log; goes on where a run of the same bundle and posts was stopped.

    Args:
        observe_only: decide and log, and send every post to every module.
        bar: called with the posts that are done, and all of them.
        actors: Ray actors to route with (`on_ray`), 0: in this process.

    Raises:
        RadarError: bad posts (`open_source`), an output that is of other ones or another bundle or cannot be written.
    """
    out, source = Path(out), open_source(posts, bundle.categories, splits=splits)
    plan = {
        "bundle": bundle.digest, "categories": list(bundle.categories), "thresholds": list(bundle.thresholds),
        "recall": bundle.record["recall"], "confidence": bundle.record["confidence"], "router": _router(bundle),
        "posts": source.named(), "rows": source.rows, "observe_only": observe_only,
        "limits": asdict(limits or Limits()), "part_rows": PART_ROWS,
    }  # fmt: skip
    parts = out.with_name(f"{out.name}.parts")
    if out.is_dir():
        raise RadarError(f"{out} is a folder. Name a file for the log.")
    with locked(out.with_name(f".{out.name}.lock")):
        begun = read_plan(out) if out.is_file() else read_json(parts / PLAN) if (parts / PLAN).is_file() else plan
        if begun != plan:
            raise RadarError(f"{out} was made, or begun, with another bundle, other posts or other options. Delete it "
                             f"and {parts.name}, or choose another name.")  # fmt: skip
        if not out.is_file():
            remove_leftovers(parts)
            write_json(parts / PLAN, plan)
            count = -(-plan["rows"] // PART_ROWS)
            missing = [i for i in range(count) if not part_path(parts, i).is_file()]
            make = write_parts
            if actors:
                from radar_suite.decisions.on_ray import write_parts as make
            options = {} if not actors else {"actors": actors}
            for done, _ in enumerate(make(bundle, source, parts, missing, **options), start=count - len(missing) + 1):
                bar(min(done * PART_ROWS, plan["rows"]), plan["rows"])
            _join(parts, count, out, plan)
        remove_folder(parts)
    return out


def part_path(parts: Path, i: int) -> Path:
    """Where a part of an unfinished log lies."""
    return parts / f"{i:08d}.parquet"


def write_parts(bundle: Bundle, source: Source, parts: Path, wanted: Sequence[int]) -> Iterator[int]:
    """Route some parts of the posts, as the plan says, and write each whole; yields its number."""
    plan = read_json(parts / PLAN)
    rows, options = plan["part_rows"], {"observe_only": plan["observe_only"], "limits": Limits(**plan["limits"])}
    made, coming = iter(()), None
    for i in wanted:
        if i != coming:  # after a gap, which is of parts that are there
            made = route(bundle.router, bundle.thresholds, source.posts(i * rows), first_row=i * rows, **options)
        table = to_table(islice(made, rows), log_schema(plan))
        with atomic_path(part_path(parts, i)) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        coming = i + 1
        yield i


def preview(
    bundle: Bundle, posts: str | Path, number: int, *, splits: Sequence[str] = (), limits: Limits | None = None
) -> list[Decision]:
    """Decisions of the first posts; nothing is written."""
    source = open_source(posts, bundle.categories, splits=splits)
    return list(route(bundle.router, bundle.thresholds, islice(source.posts(), number), limits=limits))


def log_schema(plan: dict[str, Any]) -> pa.Schema:
    """Columns of a log; `plan` goes into its metadata."""
    fields = [("post_id", pa.string()), ("row", pa.int64())]
    for c in plan["categories"]:
        kinds = {LOGIT_PREFIX: pa.float32(), "probability_": pa.float64(), "dispatch_": pa.bool_()}
        fields += [(prefix + c, kind) for prefix, kind in kinds.items()]
    fields += [("modules", pa.list_(pa.string())), *((n, pa.string()) for n in ("status", "cause", "detail", "bundle"))]
    return pa.schema([*fields, ("decided_at", pa.timestamp("us", "UTC"))], {KEY: json.dumps(plan).encode()})


def to_table(decisions: Iterable[Decision], schema: pa.Schema) -> pa.Table:
    """Decisions as rows of a log; logit and probability are null where a post was not scored."""
    plan, rows = json.loads(schema.metadata[KEY]), []
    for one in decisions:
        row = {name: getattr(one, name) for name in ("post_id", "row", "modules", "status", "cause")}
        row |= {"detail": one.detail.encode(errors="replace").decode(), "bundle": plan["bundle"]}
        for category, logit, dispatch in zip(plan["categories"], one.logits.tolist(), one.dispatch, strict=True):
            row |= {f"dispatch_{category}": bool(dispatch)}
            if not one.cause:
                row |= {LOGIT_PREFIX + category: logit, f"probability_{category}": float(expit(logit))}
        rows.append(row | {"decided_at": datetime.now(UTC)})
    return pa.Table.from_pylist(rows, schema=schema)


def _join(parts: Path, count: int, out: Path, plan: dict[str, Any]) -> None:
    """The parts as one file, a few at a time."""
    with atomic_path(parts / out.name) as temporary:
        with pq.ParquetWriter(temporary, log_schema(plan), compression="zstd") as writer:
            for start in range(0, count, 16):
                some = [pq.read_table(part_path(parts, i)) for i in range(start, min(start + 16, count))]
                writer.write_table(pa.concat_tables(some))
        if (found := count_rows(temporary)) != plan["rows"]:
            raise RadarError(f"{parts} holds {found:,} of {plan['rows']:,} decisions. Delete it and route again.")
    try:
        os.replace(parts / out.name, out)
    except OSError as error:
        raise cannot_write(out, error) from error


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
        released += pc.sum(pc.equal(pc.list_value_length(batch["modules"]), 0)).as_py() or 0
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
    if posts is None and bundle is not None and plan["router"] != _router(bundle):
        raise RadarError(f"{log} was made with another router, whose logits this bundle's thresholds do not fit. Give "
                         "the posts as well, so that they are scored again.")  # fmt: skip
    taus = np.asarray(bundle.thresholds if bundle else plan["thresholds"])
    was, logits = _logged(log, categories)
    now, scored = dispatched(logits, taus), np.isfinite(logits).all(axis=1)
    if posts is not None:
        if bundle is None:
            raise RadarError("posts are scored again by a bundle. Name it as well.")
        if plan["posts"] != open_source(posts, categories, splits=splits).named():
            raise RadarError(f"{posts} are not the posts of {log}: their files differ. Give those that were routed.")
        with tempfile.TemporaryDirectory() as place:
            limits = Limits(**plan["limits"])
            again = route_files(bundle, posts, Path(place) / "log.parquet", splits=splits, limits=limits)
            now, logits = _logged(again, categories)
    near = int(((now != was) & (np.abs(logits - taus) <= NEAR)).sum())
    more, less = ((one & ~other).sum(axis=0).tolist() for one, other in ((now, was), (was, now)))
    otherwise = int((np.isfinite(logits).all(axis=1) != scored).sum())
    return Replay(len(was), *(dict(zip(categories, n, strict=True)) for n in (more, less)), near, otherwise)


def _logged(
    log: str | Path, categories: Sequence[str]
) -> tuple[Bool[np.ndarray, "post risk"], Float[np.ndarray, "post risk"]]:
    """Decisions and logits (NaN where a post was not scored)."""
    names = [prefix + c for prefix in ("dispatch_", LOGIT_PREFIX) for c in categories]
    columns = pq.read_table(log, columns=names)
    both = np.stack([columns[name].to_numpy() for name in names], axis=1) if len(columns) else np.empty((0, len(names)))
    k = len(categories)
    return both[:, :k].astype(bool), both[:, k:].astype(np.float32)


def _router(bundle: Bundle) -> dict[str, Any]:
    """What decides a bundle's logits."""
    return {"files": bundle.record["files"], "encoder": bundle.record["encoder"]}
