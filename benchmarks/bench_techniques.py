"""What each technique of training and scoring brings, and what all bring beside an earlier checkout of this code.

    python benchmarks/bench_techniques.py --models 2B 4B --against CHECKOUT       writes records/techniques-cpu.json

One core, the tower's features given. Runs with and without a technique alternate in one process, those of two checkouts
in one process each; a ratio is of two neighbours, in seconds of the process's own, because other programs take their
share of the wall's. `times_faster` 1.1 is a tenth more posts a second with the technique.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from radar_lib.models.base import Encoded

ADAMW, BATCH = torch.optim.AdamW, 32
NOT_KEPT = {  # and why
    "RMSNorm by torch.nn.functional": "fused without gradients only; in training 1.05 of the operation, 1 % of a step",
    "attention written out": "two products and a softmax take 1.1 to 1.9 times SDPA's time at 60 to 120 tokens",
    "bfloat16": "0.9 in training; scoring meets its bar in float32",
}


@contextmanager
def plain_adamw() -> Iterator[None]:
    with mock.patch.object(torch.optim, "AdamW", lambda *args, fused, **options: ADAMW(*args, **options)):
        yield


def techniques(backbone: Any) -> dict[str, tuple[Callable[[], AbstractContextManager], tuple[str, ...]]]:
    """What switches each technique off, and where it acts."""
    from radar_lib.models import router

    patch, both = mock.patch.object, ("training", "scoring")
    return {
        "last layer for one token a post": (lambda: patch(backbone, "_narrow", False), both),
        "no mask where padding is on the right": (lambda: patch(backbone, "causal", False), both),
        "narrow adapters folded": (lambda: patch(router, "fold_narrow_adapters", lambda model: None), both),
        "fused AdamW": (plain_adamw, ("training",)),
    }


def work(model: str, posts: list, labels: Any) -> tuple[Any, dict[str, Callable[[], Any]]]:
    """A backbone, and training for an epoch and scoring with it. Runs with an earlier checkout's library too."""
    from radar_lib.models.backbones import load_backbone
    from radar_lib.models.router import RadarRouter, RouterConfig
    from radar_lib.training.encoded import EncodedPosts
    from radar_lib.training.inference import predict
    from radar_lib.training.loop import Recipe, TrainingSet, no_bar, train
    from radar_suite.world.standins import FOLDER

    backbone = load_backbone(FOLDER / f"qwen3-vl-{model.lower()}")
    inputs, names = EncodedPosts.in_memory(backbone, posts), [str(i) for i in range(len(posts))]

    def run(training: bool) -> float:
        """Seconds of the process."""
        router = RadarRouter(backbone, RouterConfig(("A", "B", "C"), lora_rank=8, lora_alpha=16))
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            if training:
                recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=2e-3)
                train(router, TrainingSet(inputs, labels, names), recipe, folder=Path(folder), bar=no_bar)
            else:
                predict(router, inputs, batch_size=inputs.at_once)
            seconds = time.process_time() - began
        router.detach()
        return seconds

    return backbone, {"training": lambda: run(True), "scoring": lambda: run(False)}


def line(model: str, name: str, what: str, with_it: list[float], without: list[float], posts: int) -> dict[str, Any]:
    ratios = sorted(b / a for a, b in zip(with_it, without, strict=True))
    return {"model": model, "technique": name, "what": what, "times_faster": round(median(ratios), 3),
            "range": [round(ratios[0], 3), round(ratios[-1], 3)],
            "posts_per_cpu_second": round(posts / median(with_it), 1)}  # fmt: skip


def ablation(model: str, posts: list, labels: Any, *, repeats: int) -> list[dict[str, Any]]:
    """One line per technique and kind of work: with all of them, and without this one."""
    backbone, runs = work(model, posts, labels)
    lines = []
    for name, (off, acts) in techniques(backbone).items():
        for what in acts:
            times = ([], [])
            runs[what]()
            for _ in range(repeats):
                for seconds, way in zip(times, (nullcontext, off), strict=True):
                    with way():
                        seconds.append(runs[what]())
            lines.append(line(model, name, what, *times, len(posts)))
    return lines


def beside(model: str, data: Path, checkout: Path, posts: int, *, repeats: int) -> list[dict[str, Any]]:
    """This checkout beside an earlier one: each a process, which runs when it is asked to."""
    here = Path(__file__).parents[1]
    command = [sys.executable, __file__, "--serve", model, str(data)]
    serving = [
        subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(root)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        for root in (here, checkout)
    ]

    def ask(process: subprocess.Popen, what: str) -> float:
        print(what, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    lines = []
    for what in ("training", "scoring"):
        times = ([], [])
        for repeat in range(repeats + 1):
            for seconds, process in zip(times, serving, strict=True):
                taken = ask(process, what)
                if repeat:  # the first is a warm-up
                    seconds.append(taken)
        lines.append(line(model, "all, beside an earlier checkout", what, *times, posts))
    for process in serving:
        process.stdin.close()
        process.wait()
    return lines


def write_posts(path: Path, posts: Sequence[Encoded], labels: np.ndarray) -> None:
    """Encoded posts whose features are given, and their labels, for another checkout to read."""
    tensors = {"labels": torch.from_numpy(labels)}
    for i, post in enumerate(posts):
        parts = {"input_ids": post.input_ids, "frame_tokens": torch.tensor(post.frame_tokens, dtype=torch.int64)}
        parts |= {} if post.position_ids is None else {"position_ids": post.position_ids}
        parts |= {f"features.{level}": values for level, values in enumerate(post.features)}
        tensors |= {f"{i}.{name}": values.contiguous().clone() for name, values in parts.items()}
    save_file(tensors, path)


def read_posts(path: Path) -> tuple[list[Encoded], np.ndarray]:
    """What `write_posts` wrote, as this checkout's own encoded posts."""
    from radar_lib.models.base import Encoded

    tensors, posts = load_file(path), []
    labels = tensors.pop("labels").numpy()
    for i in range(len(labels)):
        levels = sorted(name for name in tensors if name.startswith(f"{i}.features."))
        posts.append(Encoded(tensors[f"{i}.input_ids"], (), tuple(tensors[f"{i}.frame_tokens"].tolist()),
                             tensors.get(f"{i}.position_ids"), tuple(tensors[name] for name in levels)))  # fmt: skip
    return posts, labels


def serve(model: str, data: str) -> None:
    torch.set_num_threads(1)
    runs = work(model, *read_posts(Path(data)))[1]
    for what in sys.stdin:
        print(runs[what.strip()](), flush=True)


def main() -> None:
    """Command line; see the module's docstring."""
    from bench import RECORDS, provenance, save
    from bench_training import MODELS, make_case

    parser = argparse.ArgumentParser(description="Each technique of training and scoring.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["2B", "4B"])
    parser.add_argument("--posts", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, help="an earlier checkout of this repository")
    parser.add_argument("--out", type=Path, default=RECORDS / "techniques-cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record, lines = provenance("cpu"), []
    for model in options.models:
        case, _ = make_case(model, device="cpu", posts=options.posts, batch=BATCH)
        posts = case.backbone.cache_features(case.posts)
        if options.against:
            with tempfile.TemporaryDirectory() as folder:
                data = Path(folder) / "posts.safetensors"
                write_posts(data, posts, case.labels)
                lines += beside(model, data, options.against, len(posts), repeats=options.repeats)
        lines += ablation(model, posts, case.labels, repeats=options.repeats)
    about = {"posts": options.posts, "batch": BATCH, "repeats": options.repeats}
    save(options.out, record | about | {"lines": lines, "not_kept": NOT_KEPT})


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:2] == ["--serve"] else main()
