"""`radar reproduce`: from arguments to a checked chain, and from a finished chain to figures and a report."""

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from radar_suite.chain import exits
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover, select
from radar_suite.chain.profiles import (
    CHECKPOINT_WORDS,
    Value,
    absolute_paths,
    load_profile,
    parse_override,
    resolve,
    run_name,
)
from radar_suite.chain.progress import duration, near
from radar_suite.chain.publish import publish
from radar_suite.chain.runner import Chain, run_chain


def notebooks_folder(args: argparse.Namespace) -> Path:
    """The notebooks: as named, else of the current folder, else of the checkout that this library lies in."""
    if args.notebooks:
        return Path(os.path.realpath(args.notebooks))
    here = Path.cwd() / "notebooks"
    return here if any(here.glob("[0-9][0-9]_*.ipynb")) else Path(__file__).parents[2] / "notebooks"


def runs_folder(args: argparse.Namespace) -> Path:
    """Where runs go: as named, else beside the notebooks."""
    return Path(os.path.realpath(args.runs)) if args.runs else notebooks_folder(args).parent / "runs"


def build_chain(args: argparse.Namespace) -> Chain:
    """Resolve `radar reproduce`'s arguments; every check that needs no kernel happens here.

    Raises:
        UsageError: unknown notebook, profile or parameter, ill-typed value, or posts that are no corpus.
        RadarError: as `check_corpora`.
    """
    folder = notebooks_folder(args)
    notebooks = discover(folder)
    profile, given = load_profile(args.profile, folder / "profiles")
    given |= dict(parse_override(text) for text in args.set)
    for option in ("posts", "public_sources"):
        value = getattr(args, option)
        if value:
            given[option] = Value(value, "--" + option.replace("_", "-"))
    given = absolute_paths(given, project=folder.parent)
    check_folders(given)
    name = run_name(profile, given)
    own = {"profile": Value(name, "--profile"), "runs_dir": Value(str(runs_folder(args)), "--runs")}
    declared = {notebook.name: notebook.parameters for notebook in notebooks}
    given |= {option: value for option, value in own.items() if any(option in names for names in declared.values())}
    parameters = resolve(declared, given)
    check_corpora(parameters)
    return Chain(
        notebooks=notebooks,
        selected=select(notebooks, start=args.start, only=args.only),
        parameters=parameters,
        run_dir=runs_folder(args) / name,
        profile=profile, force=args.force, no_limit=args.no_limit, resume=resume_command(args),
    )  # fmt: skip


def check_folders(given: Mapping[str, Value]) -> None:
    """Raise UsageError where a folder of the user's is not there, or not what it should be."""
    both = [given[name] for name in ("posts", "public_sources") if name in given and given[name].value]
    if len(both) > 1:
        raise exits.UsageError(f"{both[0].source} and {both[1].source}: a run has posts of one kind. Leave one out.")
    for name, marker, remedy in (
        ("posts", "corpus.json", "is not a complete corpus folder (it has no corpus.json). "
         "`radar posts import --table posts.csv --images DIR --out DIR` makes one."),
        ("public_sources", "", "is not a folder."),
        ("checkpoints", "", "does not exist. checkpoints is standins, hub, or a folder with one checkpoint folder per "
         "backbone."),
    ):  # fmt: skip
        value = given.get(name)
        if value and value.value and value.value not in CHECKPOINT_WORDS:
            folder = Path(str(value.value))
            if not (folder.is_dir() and (folder / marker).exists()):
                raise exits.UsageError(f"{value.source}: {value.value} {remedy}")


def check_corpora(parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise RadarError where the built-in posts that a notebook would build cannot be had in such numbers."""
    for values in parameters.values():
        if "train_posts" in values and not (values["posts"] or values["public_sources"]):
            from radar_suite.world.dials import CorpusConfig  # seconds, which other projects' notebooks do without

            CorpusConfig(**{name: values[name] for name in CorpusConfig.__dataclass_fields__ if name in values})
        if "phase_pool" in values:
            from radar_suite.studies.pool import check_sizes

            check_sizes(values["phase_posts"], values["phase_pool"])


def resume_command(args: argparse.Namespace) -> str:
    """The command that goes on where this one stopped: the same, without --force; what is done stays done."""
    started = Path(sys.argv[0])
    command = [near(sys.executable), "-m", "radar_suite"]
    if started.name == "radar":
        command = ["radar"] if shutil.which("radar") == str(started) else [near(started)]
    command += ["reproduce", "--profile", args.profile]
    for option in ("posts", "public-sources", "runs", "notebooks", "figures", "from"):
        value = getattr(args, {"from": "start"}.get(option, option.replace("-", "_")))
        command += [f"--{option}", str(value)] if value else []
    command += ["--only", *args.only] if args.only else []
    command += ["--no-limit"] if args.no_limit else []
    command += [word for text in args.set for word in ("--set", text)]
    return shlex.join(command)


def reproduce(args: argparse.Namespace) -> int:
    """`radar reproduce`."""
    chain = build_chain(args)
    if args.list or args.dry_run:
        print(describe_plan(chain, everything=args.list))
        return exits.OK
    begun = time.monotonic()
    try:
        code = run_chain(chain)
    except (KeyboardInterrupt, exits.Interrupted) as stopped:
        print(f"\nstopped; finished notebooks are kept.\n  {'resume':9s}{chain.resume}", flush=True)
        return exits.code_of(stopped)
    if code == exits.OK:
        finish(chain, args, seconds=time.monotonic() - begun)
    return code


def describe_plan(chain: Chain, *, everything: bool) -> str:
    """Text of `--list` (`everything`: all notebooks) and `--dry-run` (the selected ones): what would run, and why."""
    lines = []
    ledger = Ledger(chain.run_dir)
    shown = replace(chain, selected=chain.notebooks, force=False) if everything else chain
    for notebook, reasons in shown.preview():
        status = "runs: " + "; ".join(reasons) if reasons else "up to date"
        seconds = ledger.entries.get(notebook.name, {}).get("seconds")
        took = f", took {duration(seconds)}" if seconds is not None else ""
        lines.append(f"{chain.head(notebook)} · {notebook.title}")
        lines.append(f"      {status} (limit {duration(notebook.limit_s(chain.profile))}{took})")
        if everything:
            lines.append(f"      reads {', '.join(notebook.reads) or 'nothing'}; writes {', '.join(notebook.writes)}")
    return "\n".join([*lines, f"results: {near(chain.run_dir)}"])


def finish(chain: Chain, args: argparse.Namespace, *, seconds: float) -> None:
    """Copy figures, write the report, and say where everything is.

    `figures/<profile>/` is the profile's record, so a run with other parameters or elsewhere does not replace it.
    """
    from radar_suite.chain.htmlreport import write_report  # heavy

    ledger = Ledger(chain.run_dir)
    names = [notebook.name for notebook in chain.notebooks if ledger.done(notebook)]
    project = notebooks_folder(args).parent
    target = (Path(os.path.realpath(args.figures)) if args.figures else project / "figures") / chain.run_dir.name
    own = args.set or args.profile.endswith((".yaml", ".yml")) or runs_folder(args) != project / "runs"
    if args.figures or not own:
        files = publish(chain.run_dir, names, target, ledger.entries)
        figures = f"{near(target)} ({len(files)} files)"
    else:
        figures = f"{near(chain.run_dir)}/*/figures (--figures DIR copies them)"
    report = near(write_report(chain.run_dir, chain.notebooks))
    print(f"\ndone in {duration(seconds)}\n  {'figures':9s}{figures}\n  {'report':9s}{report}", flush=True)
