"""`radar studies`: the studies beyond the paper's experiments, on what a finished chain left."""

from __future__ import annotations

import argparse
import shutil
import time
from importlib import import_module
from pathlib import Path

from radar_lib.chain import exits
from radar_lib.chain.config import load_profile, parse_override, resolve
from radar_lib.chain.ledger import FIGURES
from radar_lib.chain.plan import discover
from radar_lib.chain.processes import run_lock, stop_signals
from radar_lib.chain.progress import duration, near
from radar_lib.chain.publish import publish_runs
from radar_lib.chain.reproduce import notebooks_folder, runs_folder
from radar_lib.files import atomic_path

STUDIES = {  # module of radar_lib.report.studies, each with a function `study(stage)`
    "losses": "what to do with unverified cells: six objectives on one backbone",
    "controls": "what carries the gain of distillation: other teachers, and lambda split",
    "phase": "when masking matters: the gain over intake bias and co-violation",
}
SEEDS = 2  # runs of each row of losses and controls, unless --seeds says otherwise

HELP = f"""\
Train what the paper does not: other losses for unverified cells, controls for the teacher, and the map of when a mask
helps. They need a finished `radar reproduce` of the same profile, take most of an hour on two cores, and go on where
they were when the same command is given again.

studies:
{chr(10).join(f"  {name:11s}{about}" for name, about in STUDIES.items())}

examples:
  radar studies                          all of them, on the default profile
  radar studies --only losses --seeds 3  one of them
  radar reproduce                        afterwards: notebooks 07 and 08 show the new record

{exits.EXIT_CODES}"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `radar studies`, beside the places."""
    command.add_argument("--only", nargs="+", choices=list(STUDIES), default=list(STUDIES), metavar="STUDY")
    command.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"runs of each row (default: {SEEDS})")
    command.add_argument("--workers", type=int, default=0, metavar="W", help="runs side by side (default: all cores)")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as the chain was run with")


def studies(args: argparse.Namespace) -> int:
    """`radar studies`."""
    from radar_lib.report.studies.stage import NAME, open_stage

    folder = notebooks_folder(args)
    profile, given = load_profile(args.profile, folder / "profiles")
    given |= dict(parse_override(text) for text in args.set)
    parameters = resolve({notebook.name: notebook.parameters for notebook in discover(folder)}, given)
    runs, begun = runs_folder(args), time.monotonic()
    with stop_signals(), run_lock(runs / profile):
        stage = open_stage(runs, profile, parameters, seeds=args.seeds, workers=args.workers)
        for number, name in enumerate(args.only, start=1):
            print(f"[{number}/{len(args.only)}] {name} · {STUDIES[name]}", flush=True)
            started = time.monotonic()
            import_module(f"radar_lib.report.studies.{name}").study(stage)
            print(f"[{number}/{len(args.only)}] {name} · done · {duration(time.monotonic() - started)}", flush=True)
    own = args.set or runs != folder.parent / "runs"
    if not own:
        publish_studies(runs / profile, folder.parent / "figures" / profile)
    print(f"\ndone in {duration(time.monotonic() - begun)}\n  {'results':9s}{near(runs / profile / NAME)}", flush=True)
    return exits.OK


def publish_studies(run_dir: Path, target: Path) -> None:
    """Copy the studies' figures and the record of all runs to the profile's committed record."""
    from radar_lib.report.studies.stage import NAME

    with atomic_path(target / NAME) as temporary:
        shutil.copytree(run_dir / NAME / FIGURES, temporary)
    publish_runs(run_dir, target)
