"""`radar calibrate`, `radar route` and `radar replay`: from a router to decisions, in the shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.progress import near

CALIBRATE = """\
Choose thresholds on labelled posts that no training has seen, so that recall of posts to come reaches the target for
all risks together, and write router and thresholds as one folder, the bundle. Too few violating posts are refused
with the number that it takes: per risk, of three, 39 for recall 0.90 and 80 for 0.95.

examples:
  radar calibrate runs/cache/training/HASH/router my/posts --out my/bundle
  radar calibrate my/router my/posts --recall 0.95 --split audit --inclusion chances.csv --out my/bundle

A table for --inclusion has the columns post_id and inclusion: the chance with which each post was drawn.
"""
ROUTE = """\
One row per post: logits, probabilities, decisions, modules to call, status and cause. A post that cannot be read
whole, in time, and scored is sent to every module. A run that was stopped goes on; docs/decisions.md has the columns.

examples:
  radar route my/bundle my/posts --out decisions.parquet
  radar route my/bundle today.parquet --preview 5              show five decisions, write nothing
  radar route my/bundle today/ --observe-only --out watch.parquet   decide, and send all posts to all modules
  radar route my/bundle today/ --engine ray --actors 8 --out decisions.parquet   on the cluster at RAY_ADDRESS
"""
REPLAY = """\
Decide a log again: with its own thresholds (the decisions must be the same), with another bundle's, or from the posts.

examples:
  radar replay decisions.parquet
  radar replay decisions.parquet --bundle my/other-bundle      what it would change
  radar replay decisions.parquet --bundle my/retrained --posts my/posts
"""


def calibrate(args: argparse.Namespace) -> int:
    """`radar calibrate`."""
    from tqdm.auto import tqdm

    from radar_lib.data.posts import open_posts
    from radar_suite.decisions.bundle import calibrate, load_router

    posts, inclusion = open_posts(args.posts), args.inclusion and _chances(args.inclusion)
    router = load_router(args.router, device=_device(args))

    def bar(scores: Iterator[Any]) -> Iterator[Any]:
        return tqdm(scores, total=posts.splits[args.split], unit="post", desc="scoring", disable=None)

    bundle = calibrate(router, posts, args.out, recall=args.recall, confidence=args.confidence, split=args.split,
                       inclusion=inclusion, seed=args.seed, bar=bar)  # fmt: skip
    record, about = bundle.record, bundle.record["calibration"]
    for category, threshold in record["thresholds"].items():
        risk = about["risks"][category]
        print(f"{category:12s} threshold {threshold['logit']:9.4f}  positives {threshold['positives']:6,}  "
              f"recall {risk['recall']:.3f}  APR {risk['apr']:.3f}  naive APR {risk['naive_apr']:.3f}")  # fmt: skip
    sure = sum(one["recall_upper"] < record["recall"] for one in record["below_target"])
    print(f"released by all {about['auto_pass']:.3f}; slices below target beyond chance: {sure}; "
          f"not scored: {sum(about['not_scored'].values()):,}")  # fmt: skip
    print(f"{near(args.out)}: bundle {bundle.digest}")
    return exits.OK


def route(args: argparse.Namespace) -> int:
    """`radar route`."""
    from tqdm.auto import tqdm

    from radar_suite.decisions import on_ray
    from radar_suite.decisions.bundle import open_bundle
    from radar_suite.decisions.log import preview, route_files, summary
    from radar_suite.decisions.windows import Limits

    if args.engine == "ray" and not find_spec("ray"):
        raise exits.SetupError(on_ray.MISSING)
    limits, bundle = Limits(seconds=args.seconds), open_bundle(args.bundle, device=_device(args))
    if args.preview:
        for one in preview(bundle, args.posts, args.preview, splits=args.split, limits=limits):
            logits = "  ".join(f"{c} {z:8.3f}" for c, z in zip(bundle.categories, one.logits.tolist(), strict=True))
            print(f"{one.post_id or f'(row {one.row})'}  {one.status:8s}  {logits}  -> "
                  f"{', '.join(one.modules) or 'release'}  {one.cause} {one.detail}".rstrip())  # fmt: skip
        return exits.OK
    with tqdm(unit="post", desc="routing", disable=None) as bar:

        def show(done: int, rows: int) -> None:
            bar.total = rows
            bar.update(done - bar.n)

        log = route_files(bundle, args.posts, args.out, splits=args.split, observe_only=args.observe_only,
                          limits=limits, bar=show, actors=args.actors if args.engine == "ray" else 0)  # fmt: skip
    about = summary(log)
    share = max(about["posts"], 1)
    print(f"posts {about['posts']:,}  released {about['released']:,} ({about['released'] / share:.1%})")
    for category, count in about["sent"].items():
        print(f"{category:12s} sent {count:,} ({count / share:.1%})")
    for cause, count in sorted(about["bypassed"].items()):
        print(f"bypassed, {cause}: {count:,}")
    print(f"{near(log)}: bundle {bundle.digest}")
    return exits.OK


def replay(args: argparse.Namespace) -> int:
    """`radar replay`; fails where the log's own bundle decides otherwise than it did."""
    from radar_suite.decisions.bundle import open_bundle
    from radar_suite.decisions.log import read_plan, replay

    bundle = open_bundle(args.bundle, device=_device(args)) if args.bundle else None
    again = replay(args.log, bundle, posts=args.posts, splits=args.split)
    for c in again.dispatched:
        print(f"{c:12s} dispatched and was not {again.dispatched[c]:,}, released and was not {again.released[c]:,}")
    rounding = f"within rounding of a threshold {again.near:,}"
    print(f"posts {again.posts:,}  {rounding}  bypassed otherwise {again.bypassed:,}")
    own = not bundle or bundle.digest == read_plan(args.log)["bundle"]
    return exits.FAILURE if own and not again.same else exits.OK


def _device(args: argparse.Namespace) -> str:
    from radar_suite.report.workspace import resolve_device

    return resolve_device(args.device)


def _chances(path: Path) -> Any:
    import pandas as pd

    try:
        chances = pd.read_csv(path, dtype={"post_id": str}, index_col="post_id")["inclusion"].astype(float)
        if not chances.index.is_unique:
            raise ValueError("a post_id is there twice")
        return chances
    except (OSError, ValueError, KeyError) as error:
        raise RadarError(f"{path} is no CSV with a post_id, once each, and its inclusion ({error!s:.200}).") from error
