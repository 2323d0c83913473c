"""The `radar` command: a table of what there is. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from radar_lib import __version__
from radar_lib.errors import RadarError
from radar_lib.ranges import Range
from radar_suite.chain import decide, diagnosis, exits, planning, run_studies, verify
from radar_suite.report.parameter_ranges import RANGES, whole_number

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
DOCTOR = f"""\
examples:
  radar doctor                               packages, device, memory, disk, and a kernel that is really started
  radar doctor --checkpoint my/checkpoint    is it fit to be a backbone? Without training

{exits.EXIT_CODES}"""
CORPUS_BUILD = """\
N training posts, and the other splits at their sizes: validation 1,000, test and calibration about 7,500 each (100
violating posts per risk), unlabelled 4,000, audit 2,000; --set changes any of them. Every post depends on the seed
and its number alone: any number of workers writes the same bytes, and a build that was stopped goes on where it was.

examples:
  radar corpus build --posts 2000 --seed 1 --workers 2 --size 96 --out my/world
  radar corpus build --posts 2000 --size 384 --languages en ar --set test_posts=1000 --out my/small
  radar corpus build --posts 2000 --set stream_focus=0 --set duplicate_rate=0.05 --out my/duplicates
"""
POSTS_IMPORT = """\
examples:
  radar posts import --table posts.csv --images frames/ --out my/posts
  radar posts import --table posts.csv --images frames/ --out my/posts --on-error quarantine --ignore notes url
"""
POSTS_FROM_VIDEO = """\
needs the extra `video`: pip install 'radar-notebooks[video]'

What is known of clip.mp4 stands in clip.json (an object) or clip.csv (one row) beside it, or in one table with a column
`file` (posts.csv or posts.jsonl of the folder, or --table): post_id, title, label_<category>, region, language,
created_at, and whatever else the data contract has. Without labels, posts are unlabelled traffic: --categories names
the risks. Near-duplicate videos share a group. What cannot be read is set aside in DIR/set_aside.jsonl with its cause.
A run that was stopped goes on where it was.

examples:
  radar posts from-video videos/ --out my/posts
  radar posts from-video videos/ --out my/posts --frames 8 --size 384 --no-ocr --workers 8
  radar posts from-video videos/ --out my/posts --speech whisper:checkpoints/whisper-small --table labels.csv
  radar posts from-video today/ --out my/traffic --categories spam scam
"""
POSTS_ROUNDTRIP = """\
needs the extra `video`. Posts of the built-in world become mp4 files of 512 px, their text on the screen and, where
espeak-ng is installed, their words in the sound; `posts from-video` reads them back. DIR/record.json has the
character errors of OCR and the word errors of speech by language.

example: radar posts roundtrip --posts 40 --speech pocketsphinx --out my/roundtrip
"""
GROUPS = {"posts": "import or check your own posts", "corpus": "build the built-in corpus by itself"}

FEW_FILES = ". `ulimit -n 1024` in this shell lets it open more files"

Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*flags: str, **keywords: Any) -> Option:
    """Arguments of one `add_argument`; a DIR or FILE is a path."""
    path = {"type": Path} if keywords.get("metavar") in ("DIR", "FILE") else {}
    return flags, path | keywords


def setting(text: str = "a parameter, as a YAML literal") -> Option:
    """`--set`, which may be given several times."""
    return option("--set", action="append", default=[], metavar="NAME=VALUE", help=text)


PROFILE = option("--profile", default="cpu", help="profile name or YAML file (default: cpu)")
RUNS = option("--runs", metavar="DIR", help="where results go (default: runs/ of the project)")
NOTEBOOKS = option("--notebooks", metavar="DIR", help="the notebooks (default: the project's)")
DEVICE = option("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
SPLIT = option("--split", nargs="+", default=[], metavar="NAME", help="of a corpus folder, only these")
SPEECH = option(
    "--speech",
    default="none",
    metavar="ENGINE",
    help="what hears, once voice activity is found: none "
    "(default), pocketsphinx (English), whisper, or whisper:FOLDER_OR_ID",
)
WORKERS = option(
    "--workers",
    type=whole_number(Range(1, 1024)),
    default=2,
    metavar="W",
    help="processes (default: 2; any number gives the same bytes)",
)
TEXT_TOKENS = option(
    "--text-tokens",
    type=whole_number(RANGES["text_tokens"]),
    default=0,
    metavar="N",
    help="with --checkpoint: the profile's text_tokens (default: 0, as of cpu)",
)
OWN_POSTS = "corpus folder of your own (`radar posts import` makes one)"


@dataclass(frozen=True)
class OneOf:
    """Options of which at most one is given; exactly one if `required`."""

    options: tuple[Option, ...]
    required: bool = False


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: 'doctor', or a group and an action: 'posts check'.
        act: the function 'module:name' of a room below `radar_suite.chain`, imported when the command is given.
        more: adds options that a room declares itself.
    """

    name: str
    act: str
    summary: str
    help: str
    options: tuple[Option | OneOf, ...] = ()
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None


COMMANDS = (
    Command("reproduce", "reproduce:reproduce", "run the notebooks", REPRODUCE, (
        PROFILE, RUNS, NOTEBOOKS,
        option("--posts", metavar="DIR", type=str, help=OWN_POSTS),
        option("--public-sources", metavar="DIR", type=str, help="folder with the three public sources"),
        option("--figures", metavar="DIR", help="copy figures and tables to DIR/<run>/"),
        OneOf((option("--from", dest="start", metavar="NB", help="leave the notebooks before NB alone"),
               option("--only", nargs="+", metavar="NB", default=[], help="only these (number or name)"))),
        option("--force", action="store_true", help="run the chosen notebooks even when they are up to date"),
        option("--no-limit", action="store_true", help="do without the notebooks' time limits"),
        setting(),
        option("--list", action="store_true", help="show all notebooks and whether they are up to date"),
        option("--dry-run", action="store_true", help="check everything, say what would run and why, run nothing"),
    )),
    Command("plan", "planning:plan", "what a profile will take: time, memory, disk, operations", planning.HELP, (
        option("named", nargs="?", metavar="PROFILE", help="profile name or YAML file (default: cpu)"),
        option("--profile", help="the same, as `radar reproduce` has it"),
        option("--posts", metavar="DIR", type=str, help=OWN_POSTS),
        option("--train-posts", type=whole_number(RANGES["train_posts"]), metavar="N",
               help="training posts, instead of the given number"),
        setting(),
        option("--device", default="auto", help="auto, cpu, cuda, or a GPU by name: a100, h100, h200, ..."),
        option("--json", action="store_true", help="for programs: bytes, seconds, plain numbers"),
        RUNS, NOTEBOOKS,
    )),
    Command("studies", "run_studies:studies", "train what the paper does not: losses, controls, the map of masking",
            run_studies.HELP, (PROFILE, RUNS, NOTEBOOKS), run_studies.add_arguments),
    Command("verify", "verify:verify", "recompute the committed results from their scores, and compare a run",
            verify.HELP, (PROFILE, RUNS, NOTEBOOKS), verify.add_arguments),
    Command("calibrate", "decide:calibrate", "choose thresholds that keep a recall target: a router becomes a bundle",
            decide.CALIBRATE, (
        option("router", metavar="DIR", help="folder of a saved router"),
        option("posts", metavar="DIR", help="corpus folder with labelled posts that no training has seen"),
        option("--recall", type=float, default=0.9, metavar="R", help="target for each risk (default: 0.9)"),
        option("--confidence", type=float, default=0.95, metavar="C",
               help="that all risks reach it together (default: 0.95)"),
        option("--split", choices=("calibration", "audit"), default="calibration", help="default: calibration"),
        option("--inclusion", metavar="FILE", help="CSV: the chance with which each post was drawn into the split"),
        option("--seed", type=whole_number(RANGES["seed"]), default=1, help="of thinning (default: 1)"),
        option("--out", metavar="DIR", required=True, help="the bundle"), DEVICE,
    )),
    Command("route", "decide:route", "decide posts with a bundle, one row each, failing closed", decide.ROUTE, (
        option("bundle", metavar="DIR"),
        option("posts", metavar="DIR_OR_FILE", type=Path, help="corpus folder, Parquet file, or folder of such files"),
        OneOf((option("--out", metavar="FILE", help="the decision log"),
               option("--preview", type=whole_number(Range(1)), metavar="N", help="show N decisions, write nothing")),
              required=True),
        SPLIT,
        option("--observe-only", action="store_true", help="log decisions, and send every post to every module"),
        option("--seconds", type=float, default=30.0, metavar="S", help="for a post's frames (default: 30)"),
        option("--engine", choices=("local", "ray"), default="local", help="ray: Ray Data actors (extra `ray`)"),
        option("--actors", type=whole_number(Range(1)), default=2, metavar="N", help="with --engine ray (default: 2)"),
        DEVICE,
    )),
    Command("replay", "decide:replay", "decide a log again, with its bundle or another", decide.REPLAY, (
        option("log", metavar="FILE", help="what `radar route` wrote"),
        option("--bundle", metavar="DIR", help="default: the log's own thresholds"),
        option("--posts", metavar="DIR_OR_FILE", type=Path, help="score these again, and take no logits of the log"),
        SPLIT, DEVICE,
    )),
    Command("doctor", "commands:doctor", "say what is wrong with this environment", DOCTOR, (
        RUNS, NOTEBOOKS,
        option("--checkpoint", metavar="ID_OR_FOLDER", help="check one checkpoint instead: a folder, a Hub id "
               "(ID@REVISION), standin:NAME, or a name as in Table 1"),
        TEXT_TOKENS,
    )),
    Command("report", "commands:report", "write the HTML report of a run again",
            "example: radar report --profile smoke (or the name of any folder of runs/)", (PROFILE, RUNS, NOTEBOOKS)),
    Command("results", "commands:results", "write docs/results.md from a recorded run", "example: radar results", (
        option("--record", metavar="DIR", help="default: figures/cpu of the project"), NOTEBOOKS,
    )),
    Command("diagnose", "diagnosis:diagnose", "say what is wrong with a finished run, on what evidence, and what to do",
            diagnosis.HELP, (
        option("run", nargs="?", metavar="DIR", help="run of the chain, or run folder (default: runs/cpu)"),
        option("--row", metavar="ROUTER", default="", help="of a run of the chain: LOSS/BACKBONE or a run hash"),
        option("--band", metavar="DIR_OR_N", help="folder of healthy reruns, or how many heads to train anew"),
        option("--apply", metavar="KEY", type=Path, help="of a planted run, its planter's key folder: train "
               "with the fix and with a placebo, five seeds each"),
        option("--json", action="store_true", help="for programs: everything that was found"),
        RUNS, NOTEBOOKS,
    )),
    Command("taxonomy", "diagnosis:taxonomy", "write docs/diagnosis.md from the taxonomy of failures",
            "example: radar taxonomy", (NOTEBOOKS,)),
    Command("posts import", "commands:posts_import", "turn a CSV or JSONL and a folder of images into a corpus folder",
            POSTS_IMPORT, (
        OneOf((option("--table", metavar="FILE", help="CSV or JSONL with the columns of the data contract"),
               option("--public-sources", metavar="DIR", help="the three public sources instead")), required=True),
        option("--images", metavar="DIR", help="folder that the table's frame paths start from"),
        option("--out", metavar="DIR", required=True, help="corpus folder to write"),
        option("--on-error", choices=("stop", "quarantine"), default="stop", help="what to do with bad rows"),
        option("--seed", type=whole_number(RANGES["seed"]), default=1,
               help="draws the splits where the table has none (default: 1)"),
        option("--ignore", nargs="+", default=[], metavar="COLUMN", help="columns to leave out, whatever they hold"),
        option("--allow-empty", action="store_true", help="take posts with neither text nor frames, too"),
        option("--name", help="name of the corpus (default: the table's)"),
    )),
    Command("posts from-video", "commands:posts_from_video", "turn a folder of videos into a corpus folder",
            POSTS_FROM_VIDEO, (
        option("folder", metavar="DIR", help="folder with mp4, mov, webm and mkv files, at any depth"),
        option("--out", metavar="DIR", required=True, help="corpus folder to write"),
        option("--table", metavar="FILE", help="CSV or JSONL whose column `file` names the videos"),
        option("--frames", type=whole_number(Range(1, 64)), default=4, metavar="N",
               help="frames per video, at the middles of equal parts (default: 4)"),
        option("--size", type=whole_number(Range(32, 4096)), default=512, metavar="PX",
               help="longest side of a frame (default: 512)"),
        option("--ocr", action=argparse.BooleanOptionalAction, default=True, help="read text in the frames"),
        SPEECH,
        option("--max-seconds", type=whole_number(Range(1, 86_400)), default=600, metavar="S",
               help="longer videos are set aside (default: 600)"),
        option("--categories", nargs="+", default=[], metavar="NAME", help="the risks, where no sidecar has labels"),
        option("--ignore", nargs="+", default=[], metavar="COLUMN", help="columns to leave out, whatever they hold"),
        option("--seed", type=whole_number(RANGES["seed"]), default=1,
               help="draws the splits where sidecars have none (default: 1)"),
        option("--name", help="name of the corpus (default: the folder's)"),
        WORKERS,
    )),
    Command("posts roundtrip", "commands:posts_roundtrip", "posts of the world as videos, read back: what is lost?",
            POSTS_ROUNDTRIP, (
        option("--posts", type=whole_number(Range(1, 10_000)), default=40, metavar="N", help="videos (default: 40)"),
        option("--out", metavar="DIR", required=True, help="new folder: videos/, posts/, record.json"),
        option("--ocr", action=argparse.BooleanOptionalAction, default=True, help="read text in the frames"),
        SPEECH,
        option("--seed", type=whole_number(RANGES["seed"]), default=1, help="another world of posts (default: 1)"),
        WORKERS,
    )),
    Command("posts check", "commands:posts_check", "check every row and frame of a corpus folder",
            "example: radar posts check my/posts --checkpoint Qwen3-VL-8B", (
        option("folder", metavar="DIR"),
        option("--checkpoint", metavar="ID_OR_FOLDER", help="run its tokenizer and image processor over every post: "
               "a folder, a Hub id (ID@REVISION), standin:NAME, or a name as in Table 1"),
        TEXT_TOKENS,
    )),
    Command("corpus build", "commands:corpus_build", "build it, or continue a build that was stopped", CORPUS_BUILD, (
        option("--profile", help="take the corpus settings of this profile"), NOTEBOOKS,
        option("--posts", "--train-posts", dest="train_posts", type=whole_number(RANGES["train_posts"]), metavar="N",
               help="training posts (default: 8500)"),
        option("--seed", type=whole_number(RANGES["seed"]), metavar="S", help="another world of posts (default: 1)"),
        option("--size", "--px", dest="px", type=whole_number(RANGES["frame_px"]), metavar="PX",
               help="side of a frame (default: 96)"),
        option("--languages", nargs="+", metavar="CODE", help="only these (default: all)"),
        setting("any other corpus setting"),
        option("--workers", type=whole_number(Range(1, 1024)), default=1, metavar="W",
               help="processes (any number gives the same bytes)"),
        option("--out", metavar="DIR", required=True, help="corpus folder to write"),
    )),
    Command("corpus targets", "commands:corpus_targets", "measure what the built-in world was set to meet",
            "example: radar corpus targets"),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line, from `COMMANDS`."""
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    text = "RADAR, as a reproducible notebook suite."
    top = argparse.ArgumentParser("radar", description=text, epilog=f"{PROFILES}\n{exits.EXIT_CODES}", **layout)
    top.add_argument("--version", action="version", version=__version__)
    places = {"": top.add_subparsers(dest="command", required=True, metavar="COMMAND")}
    for command in COMMANDS:
        group, _, action = command.name.rpartition(" ")
        if group not in places:
            about = f"radar {command.name} --help says how"
            parent = places[""].add_parser(group, help=GROUPS[group], description=GROUPS[group], epilog=about, **layout)
            places[group] = parent.add_subparsers(dest="action", required=True, metavar="ACTION")
        texts = {"help": command.summary, "description": command.summary, "epilog": command.help}
        own = places[group].add_parser(action, **texts, **layout)
        for each in command.options:
            choice = isinstance(each, OneOf)
            place = own.add_mutually_exclusive_group(required=each.required) if choice else own
            for flags, keywords in each.options if choice else (each,):
                place.add_argument(*flags, **keywords)
        command.more(own)
        own.set_defaults(act=command.act)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `radar`; returns the exit code."""
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without '·' shows '?', and nothing fails
    try:
        return resolve_name(f"radar_suite.chain.{args.act}")(args)
    except RadarError as error:
        print(f"radar: {error}", file=sys.stderr)
        return exits.code_of(error)
    except KeyboardInterrupt as error:
        return exits.code_of(error)
    except BrokenPipeError:  # `radar reproduce --list | head`: or the interpreter complains at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILURE
    except OSError as error:  # of a file that nobody expected to fail
        print(f"radar: {error}{FEW_FILES * (error.errno == errno.EMFILE)}", file=sys.stderr)
        return exits.ENVIRONMENT
