"""Routing beside its bare parts, and its memory over many posts.

    python benchmarks/bench_route.py                   throughput of the 0.5B stand-in, then 100,000 posts for memory
    python benchmarks/bench_route.py --posts 600 --memory-posts 0

Bare is what routing cannot do without: rows from Parquet, frames decoded, posts encoded, and the forward pass, in the
same batches; no checks, limits, decisions or log. Both run in turns in one process, and the ratio is of their medians.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil
import pyarrow.parquet as pq
import torch
from bench import RECORDS, provenance

from radar_lib.data.frames import picture
from radar_lib.data.posts import Posts
from radar_lib.files import write_json
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.routing import BATCH
from radar_lib.training.inference import to_device
from radar_suite.decisions.bundle import Bundle
from radar_suite.decisions.log import route_files
from radar_suite.decisions.source import COLUMNS
from radar_suite.decisions.windows import WINDOW
from radar_suite.world.build import CorpusConfig, build_corpus
from radar_suite.world.standins import named_checkpoint
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

CATEGORIES = ("LQC", "RCS", "FE")


def corpus(folder: Path, posts: int) -> Posts:
    """Posts of the built-in world, about so many in all splits together."""
    few = {"validation_posts": 100, "test_posts": 100, "calibration_posts": 100, "audit_posts": 100}
    return build_corpus(CorpusConfig(train_posts=300, unlabelled_posts=posts, **few), folder)


def untrained(checkpoint: str | Path) -> Bundle:
    """A router as costly as a trained one, with thresholds that release about half."""
    router = RadarRouter(load_backbone(checkpoint), RouterConfig(CATEGORIES, lora_rank=8))
    thresholds = {category: {"logit": 0.0} for category in CATEGORIES}
    about = {"recall": 0.9, "confidence": 0.95, "files": {}, "encoder": {}}
    return Bundle(Path(), router.eval(), {"categories": list(CATEGORIES), "thresholds": thresholds, **about})


@torch.inference_mode()
def run_bare(router: RadarRouter, paths: list[Path]) -> int:
    """Decode, encode and forward; returns the number of posts."""
    rows = (row for path in paths for batch in pq.ParquetFile(path).iter_batches(WINDOW, columns=list(COLUMNS))
            for row in batch.to_pylist())  # fmt: skip
    done = 0
    while window := list(islice(rows, WINDOW)):
        posts = [row | {"frames": [picture(frame["bytes"]) for frame in row["frames"]]} for row in window]
        encoded = sorted(router.backbone.encode(posts), key=lambda post: post.n_tokens)
        for start in range(0, len(encoded), BATCH):
            batch = router.backbone.collate(encoded[start : start + BATCH])
            router(to_device(batch, router.backbone.device)).cpu().numpy()
        done += len(posts)
    return done


def throughput(bundle: Bundle, posts: Posts, place: Path, repeats: int) -> dict[str, Any]:
    """Posts per second of both, in turns."""
    paths, seconds = posts.shards("unlabelled"), {"bare": [], "route": []}
    n = posts.splits["unlabelled"]
    run_bare(bundle.router, paths)  # caches of files, allocators and threads
    for i in range(repeats):
        began = perf_counter()
        run_bare(bundle.router, paths)
        seconds["bare"].append(perf_counter() - began)
        began = perf_counter()
        route_files(bundle, posts.folder, place / f"log{i}.parquet", splits=["unlabelled"])
        seconds["route"].append(perf_counter() - began)
    rates = {name: n / median(values) for name, values in seconds.items()}
    return {"posts": n, "posts_per_second": rates, "share_of_bare": rates["route"] / rates["bare"], "seconds": seconds}


def memory(bundle: Bundle, posts: Posts, place: Path, wanted: int) -> dict[str, Any]:
    """Resident memory while the same posts are routed as many files, their ids made unique."""
    (path,), n = posts.shards("unlabelled")[:1], 0
    folder = place / "many"
    folder.mkdir()
    table = pq.read_table(path, columns=list(COLUMNS))
    for i in range(-(-wanted // len(table))):
        names = [f"{i}-{name}" for name in table["post_id"].to_pylist()]
        pq.write_table(table.set_column(0, "post_id", [names]), folder / f"{i:05d}.parquet", row_group_size=100)
        n += len(table)
    used: list[float] = []
    began = perf_counter()
    process = psutil.Process()
    log = route_files(bundle, folder, place / "many.parquet",
                      bar=lambda done, rows: used.append(process.memory_info().rss / 2**20))  # fmt: skip
    ids = pq.read_table(log, columns=["post_id"])["post_id"]
    tenth = max(1, len(used) // 10)
    return {"posts": n, "decisions": len(ids), "distinct": len(ids.unique()), "seconds": perf_counter() - began,
            "mib_after_a_tenth": used[tenth], "mib_at_the_end": used[-1], "mib_peak": max(used)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("bench_route", description=__doc__)
    parser.add_argument("--model", default="llava-ov-0.5b", help="a stand-in")
    parser.add_argument("--posts", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-posts", type=int, default=100_000, help="0: not measured")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--out", type=Path, default=RECORDS / "route-cpu.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as place:
        record = provenance("cpu") | {"model": args.model, "threads": args.threads}
        posts = corpus(Path(place) / "posts", args.posts)
        bundle = untrained(named_checkpoint(f"standin:{args.model}"))
        record["throughput"] = throughput(bundle, posts, Path(place), args.repeats)
        print(record["throughput"])
        if args.memory_posts:
            small = Path(place) / args.model  # the least model of the family: what is measured is all around it
            texts = posts.table("unlabelled", columns=["title"])["title"].tolist()
            write_random_standin(small, args.model, texts, geometry=tiny(GEOMETRIES[args.model]), vocabulary=800)
            record["memory"] = memory(untrained(small), posts, Path(place), args.memory_posts)
            print(record["memory"])
        write_json(args.out, record)


if __name__ == "__main__":
    main()
