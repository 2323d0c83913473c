"""`radar plan`: posts, operations, memory, disk and time of each notebook, before anything is started.

    operations  posts that a notebook reads times those of one post (`flops`); a frozen tower runs once per post where
                its output takes less than `DISK_SHARE` of the free disk
    memory      4 bytes a weight on a CPU and 2 on a GPU, 16 a trained one (float32 weight, gradient, two moments), and
                34 bytes per token, unit of width and layer of a micro-batch (Korthikanti et al. 2022, "Reducing
                Activation Recomputation in Large Transformer Models", without scores), or 2 and one full layer with
                checkpointing; for each run trained side by side; on a CPU, the recorded peak besides
    disk        posts at the recorded bytes (linear in pixels), soft labels, and for a kept tower's output 4 bytes per
                number and 32 per token
    time        s0 + (s - s0) W / W': s seconds recorded for profile cpu, s0 of its first notebook (kernel, imports), W
                and W' work here and there (operations, else bytes drawn, else posts); where a GPU runs models,
                s0 + operations / (peak x utilisation)
"""

import argparse
import json
import math
import os
import shutil
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radar_lib.files import read_json
from radar_suite.chain import exits
from radar_suite.chain.notebooks import discover
from radar_suite.chain.profiles import Value, absolute_paths, load_profile, nearest, parse_override, resolve
from radar_suite.chain.progress import duration
from radar_suite.chain.reproduce import notebooks_folder, runs_folder

HELP = """\
What a profile will take on this machine, or on another: posts, operations, peak memory, disk and time of each
notebook. Nothing is run or downloaded.

examples:
  radar plan                                       the default profile on this machine
  radar plan paper --device h100                   the paper's 1.7M posts and checkpoints on one H100
  radar plan gpu --device h200 --set seeds=3       with a parameter changed
  radar plan cpu --train-posts 1700000             the built-in corpus at the paper's size: hours, disk, memory
  radar plan --posts my/posts                      your posts: their number, risks and frames
  radar plan paper --train-posts 500000 --json     for programs
"""
PAPER = {"train": 1_700_000, "validation": 17_000, "test": 75_000}  # validation: not stated, 1 % is assumed
# Peak of dense bfloat16 matrix products per second (data sheets) and bytes of memory.
GPUS = {"a100": (312e12, 80e9), "h100": (989e12, 80e9), "h200": (989e12, 141e9), "l40s": (362e12, 48e9),
        "rtx4090": (165e12, 24e9)}  # fmt: skip
UTILISATION = 0.4  # NeMo AutoModel's performance summary gives 41 to 43 % for LoRA on one H100; ours is not recorded
SPLITS = ("train", "validation", "audit", "unlabelled", "calibration", "test")  # of the built-in corpus
BYTES_PER_TOKEN = 4.0  # of text in UTF-8; assumed, as no tokenizer is asked
NAMED_DISK = 2e12  # assumed to stand beside a GPU that is asked about by name


@dataclass(frozen=True)
class Machine:
    """Operations per second of a GPU (0: a CPU), cores, bytes of memory and disk."""

    name: str
    speed: float
    cores: int
    memory: float
    disk: float


@dataclass(frozen=True)
class Posts:
    """Posts by split, risks, violating test posts per risk; of a post frames, their side, and tokens besides theirs."""

    splits: Mapping[str, int]
    risks: int
    violations: float
    frames: float
    px: int
    words: float
    built: bool = False

    def count(self, *splits: str) -> int:
        return sum(self.splits.get(split, 0) for split in splits or self.splits)


@dataclass
class Row:
    """One notebook: posts that it reads, operations of its models, bytes of peak memory and of disk, seconds."""

    notebook: str
    posts: float = 0.0
    flops: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        from matplotlib.ticker import EngFormatter

        cells = ((self.posts, ""), (self.flops, "FLOP"), (self.memory, "B"), (self.disk, "B"))
        texts = [EngFormatter(unit, places=1)(value) if value else "-" for value, unit in cells]
        return f"{self.notebook:26}" + "".join(f"{text:>12}" for text in (*texts, duration(self.seconds)))


def plan(args: argparse.Namespace) -> int:
    """`radar plan`."""
    folder = notebooks_folder(args)
    if args.named and args.profile and args.named != args.profile:
        raise exits.UsageError(f"two profiles: {args.named} and --profile {args.profile}. Give one.")
    overrides = dict(map(parse_override, args.set)) | ({"posts": Value(args.posts, "--posts")} if args.posts else {})
    names, values = parameters_of(args.named or args.profile or "cpu", folder, overrides)
    posts, machine = posts_of(values, args.train_posts), machine_of(args.device, runs_folder(args))
    rows, profile = estimate(names, values, posts, machine, folder), values["profile"]
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("posts", "flops", "disk", "seconds")}
    total = Row("total", **sums, memory=max(row.memory for row in rows))
    if args.json:
        print(json.dumps({"profile": profile, "machine": asdict(machine), "posts": asdict(posts),
                          "notebooks": [asdict(row) for row in rows], "seconds": total.seconds}, indent=1))  # fmt: skip
        return exits.OK
    sizes = ", ".join(f"{count:,} {split}" for split, count in posts.splits.items() if count)
    print(f"profile {profile} on {machine.name}\nposts: {sizes}; {posts.risks} risks\neach {posts.frames:.3g} frames "
          f"of {posts.px} px and {posts.words:g} other tokens\n")  # fmt: skip
    print(f"{'notebook':26}{'posts read':>12}{'operations':>12}{'memory':>12}{'disk':>12}{'time':>12}", *rows, total,
          "\nAssumptions and formulas: radar_suite/chain/planning.py.", sep="\n")  # fmt: skip
    if total.memory > machine.memory:
        print("More memory than there is: try more accumulate, gradient_checkpointing, or workers=1.")
    if total.disk > machine.disk:
        print("More disk than is free: try another folder with --runs.")
    return exits.OK


def parameters_of(profile: str, folder: Path, overrides: Mapping[str, Value]) -> tuple[list[str], dict[str, Any]]:
    """Names of a folder's notebooks, and the parameters of all of them (equal names have equal values) under a profile
    and what was given besides."""
    name, given = load_profile(profile, folder / "profiles")
    given = absolute_paths(given | dict(overrides) | {"profile": Value(name, "PROFILE")}, project=folder.parent)
    every = resolve({notebook.name: notebook.parameters for notebook in discover(folder)}, given)
    return list(every), dict(ChainMap(*every.values()))


def machine_of(device: str, results: Path) -> Machine:
    """The machine that this runs on ('auto', 'cpu', 'cuda'), or one of `GPUS`.

    Raises:
        UsageError: no such device, or a GPU that is not in the table.
    """
    import psutil
    import torch

    from radar_suite.report.workspace import resolve_device

    cores, name = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, device
    disk = shutil.disk_usage(next(path for path in (results, *results.parents) if path.exists())).free
    if device in ("auto", "cpu", "cuda"):
        if resolve_device(device) == "cpu":
            return Machine(f"CPU, {cores} cores", 0.0, cores, psutil.virtual_memory().total, disk)
        name = torch.cuda.get_device_name().lower().replace(" ", "")
    gpu = next((gpu for gpu in GPUS if gpu in name), None)
    if gpu is None:
        known = f"{nearest(name, GPUS)} Known: auto, cpu, cuda, {', '.join(GPUS)}."
        raise exits.UsageError(f"--device {device}: nothing is known of {name}.{known}")
    return Machine(gpu, GPUS[gpu][0] * UTILISATION, cores, GPUS[gpu][1], NAMED_DISK if name == device else disk)


def posts_of(values: Mapping[str, Any], train: int | None = None) -> Posts:
    """The posts of a run, with `train` training posts if given: a corpus folder's, the paper's own (which nobody else
    has), those of the public sources, or the built-in corpus."""
    from radar_lib.data.posts import FRAMES, LABEL_PREFIX, TEXT_COLUMNS, open_posts
    from radar_suite.intake.texts import text_limit
    from radar_suite.world.dials import CorpusConfig

    given, rates = {"train": train} if train else {}, CorpusConfig.test_prevalence
    limit = values["text_tokens"] or np.inf
    px, words = (96, min(45.0, limit)) if values["checkpoints"] == "standins" else (384, min(128.0, limit))
    if values["posts"]:
        from radar_lib.data.shards import read_batches

        stored = open_posts(values["posts"])
        labels = [LABEL_PREFIX + category for category in stored.categories]
        violations = (stored.table("test", columns=labels) == 1).sum().mean() if "test" in stored.splits else 0.0
        some = stored.shards(next(iter(stored.splits)))[0]
        sample = next(read_batches(some, columns=[FRAMES, *TEXT_COLUMNS])).to_pandas()
        frames, texts = sample[FRAMES].str.len().mean(), sample[[*TEXT_COLUMNS]].agg("".join, axis=1)
        tokens = texts.str.encode("utf-8").str.len() / BYTES_PER_TOKEN
        words = float(tokens.clip(upper=text_limit(stored, values["text_tokens"]).tokens or np.inf).mean())
        return Posts(stored.splits | given, len(labels), float(violations), float(frames), px, words)
    if values["profile"] == "paper":  # each risk's pipeline owns a third of the posts
        return Posts(PAPER | given, 3, PAPER["test"] * sum(rates) / 9, 4.0, px, words)
    if values["public_sources"] or values["profile"] == "public":  # at most about half are violating
        sizes = {"train": 3 * values["max_train"], "test": 3 * values["max_test"]}
        return Posts(sizes | given, 3, values["max_test"] / 2, 0.0, px, words)
    dials = values | {f"{split}_posts": count for split, count in given.items()}
    config = CorpusConfig(**{name: dials[name] for name in CorpusConfig.__dataclass_fields__ if name in dials})
    sizes = {split: getattr(config, f"{split}_posts") for split in SPLITS} | {"test_own": config.own_test_posts}
    return Posts(sizes, 3, config.test_posts * sum(rates) / 3, 3.07, config.frame_px,
                 min(43.0 if px == 96 else 60.0, limit), True)  # fmt: skip


def passes(notebook: str, values: Mapping[str, Any], posts: Posts) -> list[tuple[str, float, float, float]]:
    """(backbone, posts trained on, posts scored, posts through its tower where nothing is kept) of the models of a
    notebook, as its cells do it."""
    from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, ROUTER_ROWS
    from radar_suite.report.reliance import MODALITIES

    train, validation, test = (posts.count(split) for split in ("train", "validation", "test"))
    routers = [row.backbone for row in ROUTER_ROWS]

    def run(backbone: str, epochs: int, *splits: str) -> tuple[str, float, float, float]:
        scored = epochs * validation + posts.count("test", *splits)
        fit, score = (values["seeds"] * n for n in (epochs * train, scored))
        return backbone, fit, score, fit + score

    match notebook[:2]:
        case "02":
            count = values["cost_posts"]
            return [(name, 0, count, count) for name in {EXPERT_BACKBONE, *routers, LAMBDA_STUDY_BACKBONE}]
        case "03":  # each expert its own pipeline's posts: all experts together, all posts
            return [run(EXPERT_BACKBONE, values["expert_epochs"], "test_own")]
        case "04":  # every expert every post, from one run of the tower; ablated test posts of its own risk
            changes = 2 * len(MODALITIES) + 1 if posts.frames else 2 * len(MODALITIES) - 2
            most = values["ablated_posts"]
            ablated = changes * posts.risks * (min(posts.violations, most) + min(most, test / posts.risks))
            known = train + validation
            return [(EXPERT_BACKBONE, 0, posts.risks * known + ablated, known + ablated)]
        case "05":  # the rows, and the probe's frozen states
            rows = [run(name, values["epochs"], "test_own") for name in routers]
            return [*rows, (LAMBDA_STUDY_BACKBONE, 0, train + test, train + test)]
        case "07":  # points of the grid that are rows of the tables are there already
            rows = [row for row in ROUTER_ROWS if row.backbone == LAMBDA_STUDY_BACKBONE and row.objective == "masked"]
            there = {values["lambda_tables"] if row.distilled else 0.0 for row in rows}
            return [run(LAMBDA_STUDY_BACKBONE, values["epochs"])] * len(set(values["lambda_grid"]) - there)
        case "08":  # two cells of the built-in world, whatever the chain's posts are, with ordinary posts; at most
            drawn = values["phase_seeds"] * 5 * values["phase_posts"] // 2 + 6 * values["phase_own_posts"]
            count = min(drawn, values["phase_pool"]) + values["phase_test_posts"]
            return [(values["phase_backbone"], 0, count, count)]
        case "09":  # calibration posts, and test posts as they are and changed in four ways
            count = posts.count("calibration") + 5 * min(values["evasion_posts"], test)
            return [(values["route_backbone"], 0, count, count)]
    return []


def demand(names: list[str], values: Mapping[str, Any], posts: Posts, machine: Machine, records: Path) -> list[Row]:
    """Each notebook's row, in order, but for seconds and for what a process takes besides its models."""
    from radar_lib.training.streamed import DISK_SHARE
    from radar_lib.training.workers import MOST_WORKERS
    from radar_suite.chain.flops import cost_of
    from radar_suite.report.experiments import ROUTER_ROWS
    from radar_suite.report.references import ORDER

    kept, rows = set(), [Row(name) for name in names]
    lanes, bytes_per_weight = (1, 2) if machine.speed else (min(machine.cores, MOST_WORKERS), 4)
    total, read = posts.count(), posts.count("train", "validation", "test", "test_own")
    shape = {"words": posts.words, "frames": posts.frames, "px": posts.px, "categories": posts.risks}
    for row in rows:
        number = row.notebook[:2]
        if number == "01":
            row.posts = total if posts.built else min(total, values["audited_posts"])
            lines = read_json(records / "corpus-cpu.json")["lines"]
            line = np.polyfit([old["frame_px"] ** 2 for old in lines], [old["bytes_per_post"] for old in lines], 1)
            row.disk = total * float(np.polyval(line, posts.px**2)) if posts.built else 0.0
        elif number == "04":  # an id of 16 bytes and float32 logits
            row.disk = posts.count("train", "validation") * (16.0 + 4 * posts.risks)
        elif number == "06":  # resampled: experts and routers at each seed, reference rows
            row.posts = (values["seeds"] * (1 + len(ROUTER_ROWS)) + len(ORDER)) * posts.count("test")
        for name, train, score, towers in passes(number, values, posts):
            cost = cost_of(name, values["checkpoints"], rank=values["lora_rank"], **shape)
            size = read * (32 * cost.tokens + 4 * cost.visual)
            keep = cost.frozen and number not in ("02", "08", "09")  # they time, draw posts of their own, or route
            if keep and size < DISK_SHARE * machine.disk:
                towers, row.disk = (0, row.disk) if name in kept else (read, row.disk + size)
                kept.add(name)
            row.posts += train + score
            row.flops += train * cost.text[1] + score * cost.text[0]
            row.flops += towers * cost.tower[0] if cost.frozen else train * cost.tower[1] + score * cost.tower[0]
            unit = cost.tokens * cost.width * math.ceil(values["batch_size"] / values["accumulate"])
            layers = 34 + 2 * cost.layers if values["gradient_checkpointing"] else 34 * cost.layers
            memory, more = bytes_per_weight * cost.parameters, 16 * cost.trained + layers * unit
            row.memory = max(row.memory, lanes * (memory + more) if train else memory + 34 * unit)
    return rows


def estimate(names: list[str], values: Mapping[str, Any], posts: Posts, machine: Machine, folder: Path) -> list[Row]:
    """`demand` with seconds, and whole processes' memory, from the records beside the notebooks' `folder`.

    Raises:
        UsageError: there are none.
    """
    records, (_, known) = folder.parent / "benchmarks" / "records", parameters_of("cpu", folder, {})
    if not records.is_dir():
        raise exits.UsageError(f"{records}: no such folder. A plan starts from it: take the notebooks of the project.")
    rows, then = (demand(names, *of, machine, records) for of in ((values, posts), (known, posts_of(known))))
    chain = read_json(records / "chain-cpu.json")
    entries, first = {entry["name"]: entry for entry in chain["notebooks"]}, chain["notebooks"][0]
    for row, before in zip(rows, then, strict=True):
        entry, row.seconds = entries.get(row.notebook, first), first["seconds"]
        if row.flops and machine.speed:
            row.seconds += row.flops / machine.speed
            continue
        work = next((name for name in ("flops", "disk", "posts") if getattr(row, name) and getattr(before, name)), "")
        scale = getattr(row, work) / getattr(before, work) if work else 1.0
        scale *= chain["cores"] / machine.cores if work in ("flops", "disk") and not machine.speed else 1.0
        row.seconds += max(0.0, entry["seconds"] - first["seconds"]) * scale
        row.memory += 0.0 if machine.speed else 1e6 * entry["peak_memory_mb"]
    return rows
