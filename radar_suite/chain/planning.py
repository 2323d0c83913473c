"""`radar plan`: what each notebook demands (`demand`) as a table with hours, before anything is started.

    time    s0 + (s - s0) W / W' C' / C where such a device has a record (benchmarks/records/chain-*.json): s seconds
            recorded, s0 those of the first notebook (kernel and imports), W work here, W' work recorded (operations,
            else bytes drawn, else posts), C cores
            s0 + W / (peak x utilisation) for the models of a GPU that has none
    memory  on a CPU, the recorded peak besides
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from radar_lib.files import read_json
from radar_suite.chain import exits
from radar_suite.chain.demand import Machine, Posts, Row, demand, merge, posts_of
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover
from radar_suite.chain.profiles import Value, absolute_paths, load_profile, nearest, parse_override, resolve
from radar_suite.chain.progress import duration
from radar_suite.chain.reproduce import notebooks_folder, runs_folder

HELP = """\
What a profile will take on this machine, or on another: post passes, tokens, operations, peak memory, disk and time
of each notebook. Nothing is run or downloaded. Where the profile has been run, the recorded time stands beside it.

examples:
  radar plan                                       the default profile on this machine
  radar plan paper --device h100                   the paper's 1.7M posts and checkpoints on one H100
  radar plan gpu --device h200 --set seeds=3       with a parameter changed
  radar plan cpu --set train_posts=1700000         the built-in corpus at the paper's size: hours, disk, memory
  radar plan --posts my/posts                      your posts: their number, risks and frames
  radar plan paper --train-posts 500000 --json     for programs
"""
# Peak of dense matrix products (operations per second; bfloat16, data sheets), utilisation, bytes of memory.
# GPU utilisation: NeMo AutoModel's performance summary gives 41 to 43 % for LoRA on one H100; ours is not recorded.
# CPU: float32 peak of a core and what reading reaches of it, from benchmarks/records/training-cpu-2B.json.
CPU = (103e9, 0.22)
GPUS = {
    "a100": (312e12, 0.4, 80e9), "h100": (989e12, 0.4, 80e9), "h200": (989e12, 0.4, 141e9),
    "l40s": (362e12, 0.4, 48e9), "rtx4090": (165e12, 0.4, 24e9),
}  # fmt: skip
NAMED_CORES, NAMED_DISK = 16, 2e12  # assumed to stand beside a GPU that is asked about by name


def plan(args: argparse.Namespace) -> int:
    """`radar plan`."""
    folder = notebooks_folder(args)
    if args.named and args.profile and args.named != args.profile:
        raise exits.UsageError(f"two profiles: {args.named} and --profile {args.profile}. Give one.")
    if args.train_posts is not None and args.train_posts < 1:
        raise exits.UsageError(f"--train-posts {args.train_posts}: it must be 1 or more.")
    name, overrides = args.named or args.profile or "cpu", dict(parse_override(text) for text in args.set)
    if args.posts:
        overrides["posts"] = Value(args.posts, "--posts")
    parameters = parameters_of(name, folder, overrides)
    values, stored = merge(parameters), None
    if values["posts"]:
        from radar_lib.data.posts import open_posts

        if not (Path(values["posts"]) / "corpus.json").is_file():
            raise exits.UsageError(f"posts: {values['posts']} is not a complete corpus folder (it has no corpus.json).")
        stored = open_posts(values["posts"])
    posts = posts_of(values, paper=values["profile"] == "paper", train=args.train_posts, stored=stored)
    machine = machine_of(args.device, runs_folder(args))
    rows = estimate(parameters, posts, machine, folder)
    run = values["profile"]
    changed = args.set or args.posts or args.train_posts
    recorded = {} if changed else recorded_seconds(folder.parent / "figures" / run, runs_folder(args) / run)
    if args.json:
        notebooks = [asdict(row) | {"recorded_seconds": recorded.get(row.notebook)} for row in rows]
        print(json.dumps({"profile": run, "machine": asdict(machine), "posts": asdict(posts), "notebooks": notebooks,
                          "seconds": sum(row.seconds for row in rows)}, indent=1))  # fmt: skip
        return exits.OK
    sizes = ", ".join(f"{n:,} {split}" for split, n in posts.splits.items() if n)
    print(f"profile {run} on {machine.name}\nposts: {sizes}; {posts.categories} risks\n\n{table(rows, recorded)}\n")
    print(f"assumed: {quantity(machine.speed, 'FLOP')}/s where no run is recorded; posts of {posts.frames:g} frames of "
          f"{posts.px} px and {posts.words:g} other\ntokens; LoRA rank {values['lora_rank']}, batches of "
          f"{values['batch_size']}; nothing for padding, decoding and a GPU's launches of small kernels.\n"
          "The formulas stand in radar_suite/chain/demand.py and planning.py.")  # fmt: skip
    for needed, there, remedy in (
        (max(row.memory for row in rows), machine.memory, "more accumulate, gradient_checkpointing, or workers=1"),
        (sum(row.disk for row in rows), machine.disk, "another folder with --runs"),
    ):
        if needed > there:
            print(f"  ! it needs {quantity(needed, 'B')} and there are {quantity(there, 'B')}: try {remedy}")
    return exits.OK


def parameters_of(profile: str, folder: Path, overrides: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Complete parameters of every notebook of a folder under a profile and what was given besides."""
    name, given = load_profile(profile, folder / "profiles")
    given = given | dict(overrides) | {"profile": Value(name, "PROFILE")}
    declared = {notebook.name: notebook.parameters for notebook in discover(folder)}
    return resolve(declared, absolute_paths(given, project=folder.parent))


def machine_of(device: str, results: Path) -> Machine:
    """The machine that this runs on ('auto', 'cpu', 'cuda'), or one of `GPUS`.

    Raises:
        UsageError: no such device, or a GPU that is not in the table.
    """
    import psutil
    import torch

    from radar_lib.training.parallel import MOST_WORKERS
    from radar_suite.report.workspace import resolve_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    disk = shutil.disk_usage(next(folder for folder in (results, *results.parents) if folder.exists())).free
    known = ", ".join(("auto", "cpu", "cuda", *GPUS))
    if device in GPUS:
        peak, utilisation, memory = GPUS[device]
        return Machine(device, True, NAMED_CORES, 1, peak * utilisation, memory, NAMED_DISK)
    if device not in ("auto", "cpu", "cuda"):
        raise exits.UsageError(f"--device {device}: no such device.{nearest(device, GPUS)} Known: {known}.")
    if resolve_device(device) == "cpu":
        lanes, (peak, utilisation) = min(cores, MOST_WORKERS), CPU
        memory = psutil.virtual_memory().total
        return Machine(f"CPU, {cores} cores", False, cores, lanes, lanes * peak * utilisation, memory, disk)
    full = torch.cuda.get_device_name()
    name = next((key for key in GPUS if key in full.lower().replace(" ", "")), None)
    if name is None:
        raise exits.UsageError(f"{full}: its peak is not known here. Name the nearest with --device: {known}.")
    return replace(machine_of(name, results), cores=cores, disk=disk)


def recorded_chain(machine: Machine, profile: str, records: Path) -> dict[str, Any] | None:
    """The record of a chain from nothing on this kind of device, of this profile if there is one."""
    device = machine.name if machine.gpu else "CPU"
    chains = [read_json(path) for path in sorted(records.glob("chain-*.json"))]
    chains = [chain for chain in chains if device.lower() in chain["device"].lower()]
    return min(chains, key=lambda chain: chain["profile"] != profile, default=None)


def estimate(parameters: Mapping[str, Mapping[str, Any]], posts: Posts, machine: Machine, folder: Path) -> list[Row]:
    """`demand` with seconds, and whole processes' memory, from the records beside the notebooks' `folder`."""
    records, profile = folder.parent / "benchmarks" / "records", merge(parameters).get("profile", "cpu")
    rows = demand(parameters, posts, machine, records)
    own = recorded_chain(machine, profile, records)
    chain = own or recorded_chain(replace(machine, gpu=False), profile, records)  # what runs no model, as on a CPU
    if chain is None:
        return [replace(row, seconds=row.flops / machine.speed) for row in rows]
    theirs = parameters_of(chain["profile"], folder, {})
    reference = posts_of(merge(theirs), paper=chain["profile"] == "paper")
    before = {row.notebook: row for row in demand(theirs, reference, machine, records, models=own is not None)}
    entries, out = {entry["name"]: entry for entry in chain["notebooks"]}, []
    start = chain["notebooks"][0]["seconds"]
    for row in rows:
        entry, then, seconds = entries.get(row.notebook), before.get(row.notebook, row), start
        if row.flops and not own:
            seconds += row.flops / machine.speed
        elif entry:
            work = next((name for name in ("flops", "disk", "posts") if getattr(row, name) and getattr(then, name)), "")
            scale = getattr(row, work) / getattr(then, work) if work else 1.0
            scale *= chain["cores"] / machine.cores if work in ("flops", "disk") and not machine.gpu else 1.0
            seconds += max(0.0, entry["seconds"] - start) * scale
        process = 1e6 * entry["peak_memory_mb"] if entry and not machine.gpu else 0.0
        out.append(replace(row, seconds=seconds, memory=row.memory + process))
    return out


def recorded_seconds(figures: Path, run: Path) -> dict[str, float]:
    """Of each notebook: from nothing where that was recorded, else as last run, committed or here."""
    from_nothing = figures.parents[1] / "benchmarks" / "records" / f"chain-{figures.name}.json"
    if from_nothing.is_file():
        return {entry["name"]: entry["seconds"] for entry in read_json(from_nothing)["notebooks"]}
    manifest = figures / "manifest.json"
    published = read_json(manifest).get("notebooks", {}) if manifest.is_file() else {}
    if published:
        return {name: 60 * entry["minutes"] for name, entry in published.items() if "minutes" in entry}
    return {name: entry["seconds"] for name, entry in Ledger(run).entries.items() if "seconds" in entry}


def table(rows: Sequence[Row], recorded: Mapping[str, float]) -> str:
    """The rows and their total in columns, with the recorded times if there are any."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("posts", "tokens", "flops", "disk", "seconds")}
    total = Row("total", **sums, memory=max(row.memory for row in rows))
    known = [recorded.get(row.notebook) for row in rows]
    lines = [["notebook", "post passes", "tokens", "operations", "memory", "disk", "time", "recorded"]]
    for row, seconds in zip([*rows, total], [*known, None if None in known else sum(known)], strict=True):
        lines.append([row.notebook, quantity(row.posts), quantity(row.tokens), quantity(row.flops, "FLOP"),
                      quantity(row.memory, "B"), quantity(row.disk, "B"), span(row.seconds),
                      "-" if seconds is None else span(seconds)])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][: 8 if recorded else 7]
    text = [line[0].ljust(widths[0]) + "".join(c.rjust(w + 2) for c, w in zip(line[1:], widths[1:], strict=False))
            for line in lines]  # fmt: skip
    return "\n".join([*text[:-1], "-" * len(text[0]), text[-1]])


def span(seconds: float) -> str:
    """Time at a glance: '1m42s', '33h06m', '363 h', '12 years'."""
    if seconds < 48 * 3600:
        return duration(seconds)
    return f"{seconds / 3600:,.0f} h" if seconds < 8760 * 3600 else f"{seconds / 8760 / 3600:,.0f} years"


def quantity(value: float, unit: str = "") -> str:
    """A count in three figures: '1.7M', '42 TFLOP', '4.3 GB'; '-' for nothing."""
    if not value:
        return "-"
    for step, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= step:
            return f"{value / step:.3g}{' ' if unit else ''}{prefix}{unit}"
    return f"{value:.3g}{' ' + unit if unit else ''}"
