"""The `radar` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radar_lib import __version__
from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.doctor import diagnose
from radar_suite.chain.htmlreport import write_report
from radar_suite.chain.notebooks import discover
from radar_suite.chain.planning import HELP as PLAN
from radar_suite.chain.planning import plan
from radar_suite.chain.profiles import load_profile, nearest, parse_override, resolve
from radar_suite.chain.progress import near
from radar_suite.chain.reproduce import notebooks_folder, reproduce, runs_folder
from radar_suite.chain.studies import HELP as STUDIES
from radar_suite.chain.studies import add_arguments, studies
from radar_suite.chain.verify import HELP as VERIFY
from radar_suite.chain.verify import add_arguments as add_record
from radar_suite.chain.verify import verify

PROFILES = """\
profiles (notebooks/profiles/*.yaml; a path to a YAML file of your own works too):
  smoke        hundreds of posts, the whole chain in a few minutes: does it run?
  cpu          the default: 2 cores, 6 GiB, no network; README says how long it took
  gpu          one GPU: eight times the posts, larger test sets
  public       real posts: three public sources, one per pipeline (--public-sources DIR)
  pretrained   the published checkpoints on the built-in corpus; a GPU and access to the Hub
  paper        the paper's own settings on your posts; GPUs and access to the Hub
"""
REPRODUCE = f"""\
Run the notebooks in order, each in a process of its own, and write figures, tables and a report. What is up to
date is skipped and what was interrupted goes on, so the same command starts, resumes and checks.

examples:
  radar reproduce                            the default profile, cpu
  radar reproduce --profile smoke            everything, small
  radar reproduce --list                     what is up to date, and why the rest is not
  radar reproduce --dry-run --set seed=2     what would run; checks every parameter; starts nothing
  radar reproduce --only 06 07               two notebooks, on what the others left
  radar reproduce --from 05 --force          05 and all after it, again
  radar reproduce --posts my/posts           your posts; results in runs/cpu-posts/, the built-in run stays

{PROFILES}
results:
  runs/<run>/<notebook>/    artefacts, executed.ipynb, log.txt; <run> is the profile, with --posts <profile>-<folder>
  runs/<run>/report/        the report: index.html, no network needed
  figures/<run>/            figures and tables with their provenance; not with --set or --runs, unless --figures says so

{exits.EXIT_CODES}"""

CORPUS_BUILD = """\
N training posts, and the other splits at their sizes: validation 1,000, test and calibration about 7,500 each (100
violating posts per risk), unlabelled 4,000, audit 2,000; --set changes any of them. Every post depends on the seed
and its number alone: any number of workers writes the same bytes, and a build that was stopped goes on where it was.

examples:
  radar corpus build --posts 2000 --seed 1 --workers 2 --size 96 --out my/world
  radar corpus build --posts 2000 --size 384 --languages en ar --set test_positives=20 --out my/small
  radar corpus build --posts 2000 --set intake_beta=0 --set duplicate_rate=0.05 --out my/duplicates
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _command(
        None, "radar", "RADAR, as a reproducible notebook suite.", f"{PROFILES}\n{exits.EXIT_CODES}"
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(commands, "reproduce", "run the notebooks", REPRODUCE)
    _add_places(run)
    run.add_argument(
        "--posts", metavar="DIR", help="corpus folder of your own (`radar posts import` makes one)"
    )
    run.add_argument("--public-sources", metavar="DIR", help="folder with the three public sources")
    run.add_argument("--figures", type=Path, metavar="DIR", help="copy figures and tables to DIR/<run>/")
    which = run.add_mutually_exclusive_group()
    which.add_argument("--from", dest="start", metavar="NB", help="leave the notebooks before NB alone")
    which.add_argument("--only", nargs="+", metavar="NB", default=[], help="only these (number or name)")
    run.add_argument(
        "--force", action="store_true", help="run the chosen notebooks even when they are up to date"
    )
    run.add_argument("--no-limit", action="store_true", help="do without the notebooks' time limits")
    run.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, as a YAML literal"
    )
    run.add_argument("--list", action="store_true", help="show all notebooks and whether they are up to date")
    run.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would run and why, run nothing"
    )
    run.set_defaults(act=reproduce)

    forecast = _command(commands, "plan", "what a profile will take: time, memory, disk, operations", PLAN)
    forecast.add_argument("named", nargs="?", metavar="PROFILE", help="profile name or YAML file (default: cpu)")
    forecast.add_argument("--profile", help="the same, as `radar reproduce` has it")
    forecast.add_argument("--posts", metavar="DIR", help="corpus folder of your own")
    forecast.add_argument("--train-posts", type=int, metavar="N", help="training posts, instead of the given number")
    forecast.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    forecast.add_argument("--device", default="auto", help="auto, cpu, cuda, or a GPU by name: a100, h100, h200, ...")
    forecast.add_argument("--json", action="store_true", help="for programs: bytes, seconds, plain numbers")
    _add_places(forecast, profile=False)
    forecast.set_defaults(act=plan)

    more = _command(commands, "studies", "train what the paper does not: losses, controls, the map of masking", STUDIES)
    _add_places(more)
    add_arguments(more)
    more.set_defaults(act=studies)

    proof = _command(commands, "verify", "recompute the committed results from their scores, and compare a run", VERIFY)
    _add_places(proof)
    add_record(proof)
    proof.set_defaults(act=verify)

    doctor = _command(commands, "doctor", "say what is wrong with this environment", exits.EXIT_CODES)
    _add_places(doctor, profile=False)
    doctor.add_argument(
        "--checkpoint", metavar="ID_OR_FOLDER",
        help="check one checkpoint instead: a folder, a Hub id (ID@REVISION), standin:NAME, or a name as in Table 1",
    )  # fmt: skip
    doctor.set_defaults(act=see_doctor)

    report = _command(
        commands,
        "report",
        "write the HTML report of a run again",
        "example: radar report --profile smoke (or the name of any folder of runs/)",
    )
    _add_places(report)
    report.set_defaults(act=report_again)

    renew = _command(
        commands, "readme", "renew README's and the data card's numbers from a recorded run", "example: radar readme"
    )
    renew.add_argument("--record", type=Path, metavar="DIR", help="default: figures/cpu of the project")
    renew.add_argument("--notebooks", type=Path, metavar="DIR", help="default: notebooks of the project")
    renew.set_defaults(act=renew_readme)

    _add_posts(commands)
    _add_corpus(commands)
    return top


def _command(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    options = {
        "description": summary,
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    if commands is None:
        return argparse.ArgumentParser(name, **options)
    return commands.add_parser(name, help=summary, **options)


def _add_places(command: argparse.ArgumentParser, *, profile: bool = True) -> None:
    if profile:
        command.add_argument("--profile", default="cpu", help="profile name or YAML file (default: cpu)")
    command.add_argument(
        "--runs", type=Path, metavar="DIR", help="where results go (default: runs/ of the project)"
    )
    command.add_argument(
        "--notebooks", type=Path, metavar="DIR", help="the notebooks (default: the project's)"
    )


def _add_posts(commands: Any) -> None:
    posts = _command(
        commands, "posts", "import or check your own posts", "radar posts import --help says how"
    )
    actions = posts.add_subparsers(dest="action", required=True, metavar="ACTION")
    example = "example: radar posts import --table posts.csv --images frames/ --out my/posts"
    load = _command(
        actions, "import", "turn a CSV or JSONL and a folder of images into a corpus folder", example
    )
    source = load.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--table", type=Path, metavar="FILE", help="CSV or JSONL with the columns of the data contract"
    )
    source.add_argument("--public-sources", type=Path, metavar="DIR", help="the three public sources instead")
    load.add_argument(
        "--images", type=Path, metavar="DIR", help="folder that the table's frame paths start from"
    )
    load.add_argument("--out", type=Path, metavar="DIR", required=True, help="corpus folder to write")
    load.add_argument(
        "--on-error", choices=("stop", "quarantine"), default="stop", help="what to do with bad rows"
    )
    load.add_argument(
        "--seed", type=int, default=1, help="draws the splits where the table has none (default: 1)"
    )
    load.add_argument("--name", help="name of the corpus (default: the table's)")
    load.set_defaults(act=posts_import)
    check = _command(
        actions,
        "check",
        "check every row and frame of a corpus folder",
        "example: radar posts check my/posts",
    )
    check.add_argument("folder", type=Path, metavar="DIR")
    check.set_defaults(act=posts_check)


def _add_corpus(commands: Any) -> None:
    corpus = _command(
        commands, "corpus", "build the built-in corpus by itself", "radar corpus build --help says how"
    )
    actions = corpus.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = _command(actions, "build", "build it, or continue a build that was stopped", CORPUS_BUILD)
    build.add_argument("--profile", help="take the corpus settings of this profile")
    build.add_argument("--notebooks", type=Path, metavar="DIR", help="the notebooks (default: the project's)")
    build.add_argument(
        "--posts", "--train-posts", dest="train_posts", type=int, metavar="N", help="training posts (default: 8500)"
    )
    build.add_argument("--seed", type=int, metavar="S", help="another world of posts (default: 1)")
    build.add_argument("--size", "--px", dest="px", type=int, metavar="PX", help="side of a frame (default: 96)")
    build.add_argument("--languages", nargs="+", metavar="CODE", help="only these (default: all)")
    build.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other corpus setting")
    build.add_argument(
        "--workers", type=int, default=1, metavar="W", help="processes (any number gives the same bytes)"
    )
    build.add_argument("--out", type=Path, metavar="DIR", required=True, help="corpus folder to write")
    build.set_defaults(act=corpus_build)
    targets = _command(
        actions, "targets", "measure what the built-in world was set to meet", "example: radar corpus targets"
    )
    targets.set_defaults(act=corpus_targets)


def see_doctor(args: argparse.Namespace) -> int:
    """`radar doctor`."""
    if args.checkpoint:
        from radar_suite.chain.checkpoint_doctor import examine

        return examine(args.checkpoint)
    return diagnose(project=notebooks_folder(args).parent, runs=runs_folder(args))


def report_again(args: argparse.Namespace) -> int:
    """`radar report`."""
    print(
        near(
            write_report(
                runs_folder(args) / args.profile.removesuffix(".yaml"), discover(notebooks_folder(args))
            )
        )
    )
    return exits.OK


def renew_readme(args: argparse.Namespace) -> int:
    """`radar readme`."""
    from radar_suite.report.results import update_project

    project = notebooks_folder(args).parent
    for name, changed in update_project(project, args.record or project / "figures" / "cpu").items():
        print(f"{near(project / name)}: {'renewed' if changed else 'up to date'}")
    return exits.OK


def posts_import(args: argparse.Namespace) -> int:
    """`radar posts import`."""
    if args.public_sources:
        from radar_suite.intake.public import import_public

        posts = import_public(args.public_sources, args.out, seed=args.seed)
    else:
        from radar_suite.intake.importer import import_table

        posts = import_table(
            args.table, args.images, args.out, on_error=args.on_error, seed=args.seed, name=args.name
        )
    counts = ", ".join(f"{split} {count:,}" for split, count in posts.splits.items())
    print(f"{posts.folder}: {len(posts):,} posts ({counts}); categories {', '.join(posts.categories)}")
    print(f"next: radar reproduce --posts {shlex.quote(near(posts.folder))}")
    return exits.OK


def posts_check(args: argparse.Namespace) -> int:
    """`radar posts check`."""
    from radar_suite.intake.check import check_posts

    print(check_posts(args.folder))
    return exits.OK


def corpus_build(args: argparse.Namespace) -> int:
    """`radar corpus build`."""
    from radar_suite.world.build import CorpusConfig, build_corpus

    known = {field.name for field in dataclasses.fields(CorpusConfig)}
    settings: dict[str, Any] = {}
    if args.profile:
        folder = notebooks_folder(args)
        declared = {notebook.name: notebook.parameters for notebook in discover(folder)}
        for values in resolve(declared, load_profile(args.profile, folder / "profiles")[1]).values():
            settings |= {name: value for name, value in values.items() if name in known}
    for name, given in map(parse_override, args.set):
        if name not in known:
            raise exits.UsageError(f"--set {name}: no such setting of the corpus.{nearest(name, known)}")
        settings[name] = given.value
    own = {"train_posts": args.train_posts, "seed": args.seed, "frame_px": args.px, "languages": args.languages}
    settings |= {name: value for name, value in own.items() if value is not None}
    for name, number in (("--posts", args.train_posts), ("--workers", args.workers)):
        if number is not None and number < 1:
            raise exits.UsageError(f"corpus build: {name} is {number}; it must be 1 or more")
    posts = build_corpus(CorpusConfig(**settings), args.out, workers=args.workers, progress=True)
    print(f"{posts.folder}: {len(posts):,} posts, digest {posts.digest}")
    return exits.OK


def corpus_targets(args: argparse.Namespace) -> int:
    """`radar corpus targets`."""
    from radar_suite.world.targets import table, targets

    found = list(targets())
    print(table(found))
    return exits.OK if all(target.met for target in found) else exits.FAILURE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `radar`; returns the exit code."""
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without '·' shows '?', and nothing fails
    try:
        return args.act(args)
    except RadarError as error:
        print(f"radar: {error}", file=sys.stderr)
        return exits.code_of(error)
    except KeyboardInterrupt as error:
        return exits.code_of(error)
    except BrokenPipeError:  # `radar reproduce --list | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter complains at its end
        return exits.FAILURE
