"""The short commands: each hands its arguments to the room that does the work, and says what came of it."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from datetime import date
from typing import Any

from radar_suite.chain import exits
from radar_suite.chain.notebooks import discover
from radar_suite.chain.profiles import load_profile, nearest, parse_override, profile_name, resolve
from radar_suite.chain.progress import near
from radar_suite.chain.reproduce import notebooks_folder, runs_folder
from radar_suite.places import check_run_name


def doctor(args: argparse.Namespace) -> int:
    """`radar doctor`."""
    from radar_suite.chain.doctor import diagnose, examine

    if args.checkpoint:
        return examine(args.checkpoint, text_tokens=args.text_tokens)
    return diagnose(project=notebooks_folder(args).parent, runs=runs_folder(args))


def report(args: argparse.Namespace) -> int:
    """`radar report`."""
    from radar_suite.chain.htmlreport import write_report

    run = runs_folder(args) / check_run_name(profile_name(args.profile))
    print(near(write_report(run, discover(notebooks_folder(args)))))
    return exits.OK


def results(args: argparse.Namespace) -> int:
    """`radar results`: docs/results.md, and what else is generated from a record."""
    from radar_suite.report.results import update_project

    project = notebooks_folder(args).parent
    for name, renewed in update_project(project, args.record or project / "figures" / "cpu").items():
        print(f"{near(project / name)}: {'renewed' if renewed else 'up to date'}")
    return exits.OK


def posts_import(args: argparse.Namespace) -> int:
    """`radar posts import`."""
    if args.public_sources:
        from radar_suite.intake.public import import_public

        table_only = {"--images": args.images, "--on-error quarantine": args.on_error != "stop",
                      "--ignore": args.ignore, "--allow-empty": args.allow_empty, "--name": args.name}  # fmt: skip
        if given := [flag for flag, value in table_only.items() if value]:
            raise exits.UsageError(f"{', '.join(given)}: only a --table is imported so. Leave it out.")
        posts = import_public(args.public_sources, args.out, seed=args.seed)
    else:
        from radar_suite.intake.images import NOTES
        from radar_suite.intake.importer import import_table
        from radar_suite.intake.rows import QUARANTINE

        options = {"on_error": args.on_error, "seed": args.seed, "name": args.name}
        options |= {"ignore": args.ignore, "allow_empty": args.allow_empty}
        posts = import_table(args.table, args.images, args.out, **options)
        for what, key in (("read", "read_columns"), ("left out", "ignored_columns")):
            print(f"columns {what}: {', '.join(posts.info.get(key, ())) or 'none'}")
        if number := posts.info.get("quarantined"):
            print(f"rows set aside: {number:,}, in {near(posts.folder / QUARANTINE)}")
        for what, count in posts.info.get("frames", {}).items():
            print(f"{count:,} {NOTES[what]}")
    counts = ", ".join(f"{split} {count:,}" for split, count in posts.splits.items())
    print(f"{posts.folder}: {len(posts):,} posts ({counts}); categories {', '.join(posts.categories)}")
    print(f"next: radar reproduce --posts {shlex.quote(near(posts.folder))}")
    return exits.OK


def posts_from_video(args: argparse.Namespace) -> int:
    """`radar posts from-video`."""
    reading = _reading(args, frames=args.frames, size=args.size, max_seconds=float(args.max_seconds))
    from radar_suite.intake.from_video import SET_ASIDE, import_videos
    from radar_suite.intake.rows import QUARANTINE

    options = {"categories": args.categories, "ignore": args.ignore, "seed": args.seed, "name": args.name}
    posts = import_videos(args.folder, args.out, reading=reading, table=args.table, workers=args.workers, **options)
    for key, file in (("set_aside", SET_ASIDE), ("quarantined", QUARANTINE)):
        if number := posts.info.get(key):
            print(f"{key.replace('_', ' ')}: {number:,}, in {near(posts.folder / file)}")
    counts = ", ".join(f"{split} {count:,}" for split, count in posts.splits.items())
    print(f"{posts.folder}: {len(posts):,} posts ({counts}); categories {', '.join(posts.categories)}")
    print(f"next: radar posts check {shlex.quote(near(posts.folder))}")
    return exits.OK


def posts_roundtrip(args: argparse.Namespace) -> int:
    """`radar posts roundtrip`."""
    reading = _reading(args)
    from radar_lib.files import write_json
    from radar_suite.intake.roundtrip import roundtrip
    from radar_suite.report.workspace import device_name, versions

    record = roundtrip(args.posts, args.out, reading=reading, seed=args.seed, workers=args.workers)
    record |= {"date": date.today().isoformat(), "device": device_name("cpu"),
               "versions": versions() | reading.versions()}  # fmt: skip
    write_json(args.out / "record.json", record)
    for line in record["lines"]:
        print("  ".join(f"{name} {'-' if value is None else value}" for name, value in line.items()))
    print(near(args.out / "record.json"))
    return exits.OK


def _reading(args: argparse.Namespace, **options: Any) -> Any:
    """Settings of the video commands; a package that is missing is a matter of set-up."""
    from radar_suite.intake.one_video import Reading

    reading = Reading(ocr=args.ocr, speech=args.speech, **options)
    if missing := reading.missing():
        raise exits.SetupError(missing)
    return reading


def posts_check(args: argparse.Namespace) -> int:
    """`radar posts check`."""
    from radar_suite.intake.check import check_posts
    from radar_suite.world.standins import named_checkpoint

    checkpoint = args.checkpoint and named_checkpoint(args.checkpoint)
    print(check_posts(args.folder, checkpoint=checkpoint, text_tokens=args.text_tokens))
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
    posts = build_corpus(CorpusConfig(**settings), args.out, workers=args.workers, progress=True)
    print(f"{posts.folder}: {len(posts):,} posts, digest {posts.digest}")
    return exits.OK


def corpus_targets(args: argparse.Namespace) -> int:
    """`radar corpus targets`."""
    from radar_suite.report.tables import paper_results
    from radar_suite.world.targets import table, targets

    measured = list(targets(paper_results().groupby(["category", "metric"])["value"].max()))
    print(table(measured))
    return exits.OK if all(target.met for target in measured) else exits.FAILURE
