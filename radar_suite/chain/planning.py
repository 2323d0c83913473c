"""`radar plan`: the estimate of a profile as a table, beside what was recorded where the profile has been run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from radar_lib.files import read_json
from radar_suite.chain import exits
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover
from radar_suite.chain.profiles import Value, absolute_paths, load_profile, parse_override, resolve
from radar_suite.chain.progress import duration
from radar_suite.chain.publish import read_manifest
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


def plan(args: argparse.Namespace) -> int:
    """`radar plan`."""
    from radar_lib.data.posts import open_posts
    from radar_suite.chain.estimate import estimate, merged
    from radar_suite.chain.machine import machine
    from radar_suite.chain.planned_posts import posts_of

    folder = notebooks_folder(args)
    if args.named and args.profile and args.named != args.profile:
        raise exits.UsageError(f"two profiles: {args.named} and --profile {args.profile}. Give one.")
    name, given = load_profile(args.named or args.profile or "cpu", folder / "profiles")
    given |= dict(parse_override(text) for text in args.set)
    if args.posts:
        given["posts"] = Value(args.posts, "--posts")
    given = absolute_paths(given | {"profile": Value(name, "PROFILE")}, project=folder.parent)
    parameters = resolve({notebook.name: notebook.parameters for notebook in discover(folder)}, given)
    values = merged(parameters)
    if args.train_posts is not None and args.train_posts < 1:
        raise exits.UsageError(f"--train-posts {args.train_posts}: it must be 1 or more.")
    stored = None
    if values["posts"]:
        if not (Path(values["posts"]) / "corpus.json").is_file():
            raise exits.UsageError(f"posts: {values['posts']} is not a complete corpus folder (it has no corpus.json).")
        stored = open_posts(values["posts"])
    posts = posts_of(values, paper=name == "paper", train=args.train_posts, stored=stored)
    here = machine(args.device, results=runs_folder(args))
    rows = estimate(parameters, posts, here)
    unchanged = not (args.set or args.posts or args.train_posts)
    recorded = records(folder.parent / "figures" / name, runs_folder(args) / name) if unchanged else {}
    assumed = assumptions(posts, here, values)
    if args.json:
        print(json.dumps({
            "profile": name, "machine": asdict(here), "posts": asdict(posts), "assumptions": assumed,
            "notebooks": [asdict(row) | {"recorded_seconds": recorded.get(row.notebook)} for row in rows],
            "seconds": sum(row.seconds for row in rows),
        }, indent=1))  # fmt: skip
        return exits.OK
    sizes = ", ".join(f"{n:,} {split}" for split, n in posts.splits.items() if n)
    print(f"profile {name} on {here.name}\nposts: {sizes}; {posts.categories} risks\n")
    print(table(rows, recorded))
    print("\nassumed:\n" + "\n".join(f"  - {line}" for line in assumed))
    for warning in warnings(rows, here):
        print(f"  ! {warning}")
    return exits.OK


def records(figures: Path, run: Path) -> dict[str, float]:
    """Seconds of each notebook: from nothing where that was recorded, else as last run, committed or here."""
    from_nothing = figures.parents[1] / "benchmarks" / "records" / f"chain-{figures.name}.json"
    if from_nothing.is_file():
        return {entry["name"]: entry["seconds"] for entry in read_json(from_nothing)["notebooks"]}
    recorded = read_manifest(figures)["notebooks"]
    if recorded:
        return {name: 60 * entry["minutes"] for name, entry in recorded.items()}
    return {name: entry["seconds"] for name, entry in Ledger(run).entries.items() if "seconds" in entry}


def assumptions(posts: Any, here: Any, values: Mapping[str, Any]) -> list[str]:
    """What the numbers rest on, as sentences."""
    from radar_suite.chain.estimate import build_cost

    where = "the GPU's peak" if here.gpu else f"each core's peak, {here.lanes} runs side by side"
    kind = {"standins": "stand-ins", "hub": "published checkpoints"}.get(values["checkpoints"], "named folder")
    lines = [
        f"{here.share:.0%} of {where}: {quantity(here.peak, 'FLOP')}/s for a matrix product",
        f"geometry of the {kind}; per post {posts.frames:g} frames of {posts.px} px and "
        f"{posts.words:g} tokens besides the visual ones; LoRA rank {values['lora_rank']}, batches of "
        f"{values['batch_size']}",
        f"operations that are required: no padding, no recomputation; {here.cores} cores decode posts",
        f"the frozen tower runs once per post and checkpoint where its output takes less than half of the free disk "
        f"({size(here.disk)}), else in every pass",
    ]
    if posts.built:
        built = build_cost(sum(posts.splits.values()), posts.px, here.cores)
        lines.append(f"building the corpus is part of notebook 01: {took(built.seconds)} with {here.cores} processes, "
                     f"{size(built.disk)} on disk, {size(built.memory)} of memory")  # fmt: skip
    elif values["profile"] == "paper" and not values["posts"]:
        lines.append("the paper's 1.7M training and 75,000 test posts; validation is not stated, 1 % of training taken")
    return [*lines, "times of one machine are good to a factor of two; memory on a GPU to a third"]


def warnings(rows: Sequence[Any], here: Any) -> list[str]:
    """What will not fit."""
    out = []
    most = max(rows, key=lambda row: row.memory)
    if most.memory > here.memory:
        remedy = "more accumulate, or gradient_checkpointing" if here.gpu else "workers=1, or fewer posts"
        out.append(f"{most.notebook} needs {size(most.memory)} and there are {size(here.memory)}: {remedy}")
    disk = sum(row.disk for row in rows)
    if disk > here.disk:
        out.append(f"{size(disk)} will be written and {size(here.disk)} are free: name another folder with --runs")
    return out


def table(rows: Sequence[Any], recorded: Mapping[str, float]) -> str:
    """The rows and their total in columns, with the recorded times if there are any."""
    head = ["notebook", "post passes", "tokens", "operations", "memory", "disk", "time"]
    lines = [[row.notebook, quantity(row.posts), quantity(row.tokens), quantity(row.flops, "FLOP"), size(row.memory),
              size(row.disk), took(row.seconds)] for row in rows]  # fmt: skip
    sums = [sum(getattr(row, name) for row in rows) for name in ("posts", "tokens", "flops", "disk", "seconds")]
    lines.append(["total", quantity(sums[0]), quantity(sums[1]), quantity(sums[2], "FLOP"),
                  size(max(row.memory for row in rows)), size(sums[3]), took(sums[4])])  # fmt: skip
    if recorded:
        head.append("recorded")
        known = [recorded.get(row.notebook) for row in rows]
        for line, seconds in zip(lines, [*known, None if None in known else sum(known)], strict=True):
            line.append("-" if seconds is None else took(seconds))
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    text = [line[0].ljust(widths[0]) + "".join(cell.rjust(w + 2) for cell, w in zip(line[1:], widths[1:], strict=True))
            for line in (head, *lines)]  # fmt: skip
    return "\n".join([text[0], *text[1:-1], "-" * len(text[0]), text[-1]])


def took(seconds: float) -> str:
    """Time at a glance: '1m42s', '33h06m', '363 h', '12 years'."""
    if seconds < 48 * 3600:
        return duration(seconds)
    return f"{seconds / 3600:,.0f} h" if seconds < 8760 * 3600 else f"{seconds / 8760 / 3600:,.0f} years"


def quantity(value: float, unit: str = "") -> str:
    """A count in three figures: '1.7M', '42 TFLOP'; '-' for nothing."""
    if not value:
        return "-"
    for step, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= step:
            return f"{value / step:.3g}{' ' if unit else ''}{prefix}{unit}"
    return f"{value:.3g}{' ' + unit if unit else ''}"


def size(value: float) -> str:
    """Bytes in three figures: '4.3 GB'; '-' for nothing."""
    return quantity(value, "B")
