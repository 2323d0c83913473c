"""`make bench`: models, corpus and intervals in figures: throughput, MFU, memory, as JSON records of this machine.

    python benchmarks/bench.py                          training and inference, then the corpus, then the intervals
    python benchmarks/bench.py training --models 4B     one of them; at true geometry where there is a GPU
    python benchmarks/bench.py --help

On a GPU the models have the published geometry and random weights; on a CPU they are the committed stand-ins. Repeats
of all lines are interleaved in one process, so that a ratio of two lines says something even on a shared machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from bench_corpus import corpus_record
from bench_metrics import metrics_record
from bench_training import MODELS, training_record

from radar_lib.files import write_json
from radar_suite.report.workspace import device_name, resolve_device, versions

RECORDS = Path(__file__).parent / "records"


def provenance(device: str) -> dict[str, Any]:
    """When, on what and with what a record was measured, and how busy the machine was."""
    load = [round(x, 1) for x in os.getloadavg()]
    return {"date": date.today().isoformat(), "device": device_name(device), "cores": os.cpu_count(),
            "load_average_at_start": load, "versions": versions()}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what",
        nargs="*",
        choices=("training", "corpus", "metrics", "video", []),
        help="default: all but video, which needs its extra",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="default: 2B 4B 8B on a GPU, 2B on a CPU")
    parser.add_argument("--posts", type=int, help="posts per run of the training lines (default: 640, GPU 128)")
    parser.add_argument("--batch", type=int, help="posts per step (default: 32, GPU 8)")
    parser.add_argument("--repeats", type=int, default=3, help="of every line, interleaved")
    parser.add_argument("--threads", type=int, default=1, help="of torch on a CPU; the chain gives each run one core")
    parser.add_argument("--shards", type=int, default=4, help="shards drawn per corpus size")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the records")
    args = parser.parse_args(argv)
    device = resolve_device(args.device)
    gpu = device.startswith("cuda")
    torch.set_num_threads(args.threads)
    where = "gpu" if gpu else "cpu"
    if "training" in args.what or not args.what:
        for model in args.models or (MODELS if gpu else ("2B",)):
            record = training_record(model, device=device, posts=args.posts or (128 if gpu else 640),
                                     batch=args.batch or (8 if gpu else 32), repeats=args.repeats)  # fmt: skip
            save(args.out / f"training-{where}-{model}.json", provenance(device) | record)
    if "corpus" in args.what or not args.what:
        save(args.out / "corpus-cpu.json", provenance("cpu") | corpus_record(shards=args.shards))
    if "metrics" in args.what or not args.what:
        save(args.out / "metrics-cpu.json", provenance("cpu") | metrics_record(repeats=args.repeats))
    if "video" in args.what:
        from bench_video import video_record

        save(args.out / "video-cpu.json", provenance("cpu") | video_record())


def save(path: Path, record: dict[str, Any]) -> None:
    """Write a record and show its lines."""
    write_json(path, record)
    print(path)
    for line in record["lines"]:
        print("  " + "  ".join(f"{name} {value}" for name, value in line.items()))


if __name__ == "__main__":
    main()
