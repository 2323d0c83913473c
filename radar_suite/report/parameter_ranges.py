"""The range of every parameter of the notebooks, and of the command's numbers: a new parameter is a line here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from radar_lib.ranges import SEED, SHARE, Range

RERUNS = Range(5, 1000)  # of a healthy band


@dataclass(frozen=True)
class Words:
    """Texts that match a pattern; `text` says which they are."""

    pattern: str
    text: str

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Several:
    """Lists of one or more values of a range, none of them twice."""

    each: Range

    def __contains__(self, value: Any) -> bool:
        listed = isinstance(value, list | tuple) and all(one in self.each for one in value)
        return listed and 0 < len(value) == len(set(value))

    def __str__(self) -> str:
        return f"one or more, each {self.each}, none twice"


POSTS, SOME_POSTS, RUNS, EPOCHS = Range(1, 10**9), Range(0, 10**9), Range(1, 1000), Range(1, 10_000)
PATH = Words(r"[^\0\n]*", "a path, or empty")
SWITCH = (True, False)
BACKBONES = ("Qwen3-VL-8B", "SigLIP2", "LLaVA-OV-0.5B", "Qwen3-VL-2B", "Gemma3-4B", "LLaVA-OV-1.5-4B", "Qwen3-VL-4B")

RANGES: Mapping[str, Range | Several | Words | tuple] = {
    "profile": Words(r"[^\0\n/\\]+", "a name without slashes"),
    "runs_dir": Words(r"[^\0\n]+", "a path"),
    "device": Words(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
    "seed": SEED,
    "seeds": RUNS,
    "posts": PATH,
    "public_sources": PATH,
    "checkpoints": Words(r"[^\0\n]+", "standins, hub or a folder"),
    "workers": Range(0, 1024),
    "text_tokens": Range(0, 2**20),
    # 01
    "train_posts": POSTS,
    "validation_posts": SOME_POSTS,
    "test_posts": POSTS,
    "own_test_posts": SOME_POSTS,
    "calibration_posts": SOME_POSTS,
    "unlabelled_posts": SOME_POSTS,
    "audit_posts": SOME_POSTS,
    "frame_px": Range(32, 1024),
    "intake_beta": Range(0, 6),
    "stream_focus": SHARE,
    "queue_overlap": Range(0, 3),
    "co_violation": SHARE,
    "max_train": POSTS,
    "max_test": POSTS,
    "audited_posts": POSTS,
    # 02 and 04
    "cost_posts": POSTS,
    "ablated_posts": POSTS,
    # 03, 05 and 07
    "expert_epochs": EPOCHS,
    "epochs": EPOCHS,
    "batch_size": Range(1, 2**20),
    "learning_rate": Range(0, 1, above=True),
    "lora_rank": Range(1, 2**16),
    "lora_alpha": Range(0, 2**20, above=True),
    "checkpoint_seconds": Range(0, 10**7),
    "accumulate": Range(1, 2**20),
    "gradient_checkpointing": SWITCH,
    "packing": SWITCH,
    "lambda_tables": Range(0, 1, above=True),
    "lambda_grid": Several(SHARE),
    # 08
    "phase_backbone": Words("|".join(map(re.escape, BACKBONES)), f"one of {', '.join(BACKBONES)}"),
    "phase_posts": POSTS,
    "phase_pool": POSTS,
    "phase_test_posts": POSTS,
    "phase_own_posts": POSTS,
    "phase_betas": Several(Range(0, 6)),
    "phase_focus": Several(SHARE),
    "phase_overlap": Several(Range(0, 3)),
    "phase_seeds": RUNS,
    # 09
    "route_backbone": Words("|".join(map(re.escape, BACKBONES[1:])), f"one of {', '.join(BACKBONES[1:])}"),
    "recall_target": Range(0.5, 0.999),
    "confidence": Range(0.5, 0.999),
    "evasion_posts": POSTS,
    # 10
    "diagnosis_posts": POSTS,
    "diagnosis_reruns": RERUNS,
    "diagnosis_severity": SHARE,
    "diagnosed_router": Words(r"[^\0\n]*", "a run hash, or loss and backbone as 'Masked BCE/SigLIP2'"),
}


def whole_number(allowed: Range) -> Callable[[str], int]:
    """A `type` of argparse: a whole number of a range."""

    def convert(text: str) -> int:
        if re.fullmatch(r"[-+]?\d{1,30}", text.strip()) and int(text) in allowed:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {allowed}")

    return convert
