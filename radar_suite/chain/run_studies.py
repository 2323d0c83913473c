"""`radar studies`: the studies beyond the paper's experiments, on what a finished chain left."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from radar_suite.chain import exits
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover
from radar_suite.chain.processes import allow_files, run_lock, stop_signals
from radar_suite.chain.profiles import (
    GIVEN_BY_THE_CHAIN,
    Value,
    absolute_paths,
    load_profile,
    parse_override,
    resolve,
    run_name,
)
from radar_suite.chain.progress import duration, near
from radar_suite.chain.publish import publish_studies
from radar_suite.chain.reproduce import check_folders, notebooks_folder, runs_folder
from radar_suite.report.parameter_ranges import RANGES, whole_number

STUDIES = {  # by name, a module of radar_suite.studies with a function `study(stage)`, and what it asks
    "losses": ("other_losses", "what to do with unverified cells: six objectives on one backbone"),
    "controls": ("controls", "what carries the gain of distillation: other teachers, and lambda split"),
    "phase": ("phase", "when masking matters: the gain over the world's dials and training posts, and what mends it"),
    "scale": ("scale", "how the gaps of mask, size and distillation move with training posts; only if asked for"),
}
ON_REQUEST = ("scale",)  # takes longer than all others together
COMPARED = ("01_data_audit", "03_expert_training", "05_router_training")  # notebooks whose parameters a study takes
READ = {*COMPARED, "04_teacher_inference"}  # whose work it reads
# ... but for those that it has options of its own for, that change no result, or that only say where posts come from
NOT_COMPARED = {*GIVEN_BY_THE_CHAIN, "seeds", "workers", "checkpoint_seconds", "public_sources"}
SEEDS = 2  # runs of each row of losses and controls, unless --seeds says otherwise

HELP = f"""\
Train what the paper does not: other losses for unverified cells, controls for the teacher, and the map of when a mask
helps. They need a finished `radar reproduce` of the same profile, take about an hour on two cores, and go on where they
were when the same command is given again.

studies:
{chr(10).join(f"  {name:11s}{question}" for name, (_, question) in STUDIES.items())}

examples:
  radar studies                          all but `scale`, on the default profile
  radar studies --only scale             up to 16 times the training posts: an hour or more
  radar studies --only losses --seeds 3  one of them
  radar studies --posts my/posts         on what `radar reproduce --posts my/posts` left
  radar reproduce                        afterwards: notebooks 07 and 08 show the new record

{exits.EXIT_CODES}"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `radar studies`, beside the places."""
    command.add_argument("--only", nargs="+", choices=list(STUDIES), metavar="STUDY",
                         default=[name for name in STUDIES if name not in ON_REQUEST],
                         help=f"some of them (default: all but {', '.join(ON_REQUEST)})")  # fmt: skip
    command.add_argument("--seeds", type=whole_number(RANGES["seeds"]), default=SEEDS, metavar="N",
                         help=f"runs of each row of losses and controls and of each fine-tuned cell (default: {SEEDS}; "
                              "from 3 on a verdict is about the method); the map's heads have their own")  # fmt: skip
    command.add_argument("--workers", type=whole_number(RANGES["workers"]), default=0, metavar="W",
                         help="runs side by side (default: all cores)")  # fmt: skip
    command.add_argument("--posts", metavar="DIR", help="as the chain was run with; results go to its run")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as the chain was run with")


def studies(args: argparse.Namespace) -> int:
    """`radar studies`."""
    from radar_suite.studies.stage import NAME, open_stage

    folder = notebooks_folder(args)
    profile, given = load_profile(args.profile, folder / "profiles")
    given |= dict(parse_override(text) for text in args.set)
    given |= {"posts": Value(args.posts, "--posts")} if args.posts else {}
    given = absolute_paths(given, project=folder.parent)
    check_folders(given)
    name, chain = run_name(profile, given), f"radar reproduce --profile {profile}"
    chain += f" --posts {shlex.quote(near(Path(given['posts'].value)))}" if name != profile else ""
    notebooks = {notebook.name: notebook for notebook in discover(folder)}
    parameters = resolve({name: notebook.parameters for name, notebook in notebooks.items()}, given)
    runs, begun = runs_folder(args), time.monotonic()
    allow_files()
    with stop_signals(), run_lock(runs / name):
        ledger = Ledger(runs / name)
        check_parameters(ledger, parameters, chain)
        for notebook in sorted(READ & notebooks.keys()):
            if wrong := ledger.damage(notebooks[notebook], parameters[notebook]):
                raise exits.UsageError(f"{notebook}: {wrong[0]}. `{chain}` makes it again.")
        stage = open_stage(runs, name, parameters, seeds=args.seeds, workers=args.workers)
        for number, study in enumerate(args.only, start=1):
            module, question = STUDIES[study]
            print(f"[{number}/{len(args.only)}] {study} · {question}", flush=True)
            started = time.monotonic()
            import_module(f"radar_suite.studies.{module}").study(stage)
            print(f"[{number}/{len(args.only)}] {study} · done · {duration(time.monotonic() - started)}", flush=True)
    own = args.set or args.profile.endswith((".yaml", ".yml")) or runs != folder.parent / "runs"
    if not own:
        publish_studies(runs / name, folder.parent / "figures" / name, stage.workspace.written)
    print(f"\ndone in {duration(time.monotonic() - begun)}\n  {'results':9s}{near(runs / name / NAME)}", flush=True)
    return exits.OK


def check_parameters(ledger: Ledger, parameters: Mapping[str, Mapping[str, Any]], chain: str) -> None:
    """Compare a study's parameters with those of the finished chain.

    Args:
        chain: the command that makes it.

    Raises:
        UsageError: one differs, or one of `COMPARED` has not finished; the message has the `--set` to give.
    """
    apart: dict[str, list[str]] = {}
    for name in COMPARED:
        if ledger.entries.get(name, {}).get("state") != "done":
            raise exits.UsageError(f"{name} has not finished in {near(ledger.run_dir)}: run `{chain}` first.")
        for parameter, then, now in ledger.other_parameters(name, parameters[name]):
            if parameter not in NOT_COMPARED:
                value = then if isinstance(then, str) else json.dumps(then)
                option = f"--set {shlex.quote(f'{parameter}={value}')}"
                apart.setdefault(f"{parameter} = {now!r}, the chain with {then!r}: give {option}", []).append(name)
    if apart:
        lines = [f"  {difference} ({', '.join(names)})" for difference, names in apart.items()]
        raise exits.UsageError("\n".join([
            "a study takes the parameters that the chain was run with, and these would differ:", *lines,
            "Or run `radar reproduce` again with the values that you mean."]))  # fmt: skip
