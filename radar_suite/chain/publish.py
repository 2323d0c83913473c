"""Copy the figures and tables that the notebooks left to the project's `figures/<run>/`, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from radar_lib.files import atomic_path, read_json, write_json
from radar_suite.chain.ledger import FIGURES

RECORD = "run.json"
RUNS = "runs.parquet"  # of radar_suite.report.record: every run with what it reached
MANIFEST = "manifest.json"  # which notebook each file came from


def publish(run_dir: Path, names: Iterable[str], target: Path) -> list[str]:
    """Replace in `target` what these notebooks left there before by what they left now.

    Files of other notebooks, and files of yours, stay. Where two notebooks use one file name, the later notebook's
    gets its notebook's name in front.

    Args:
        run_dir: `<runs>/<run>`.
        names: notebooks that have finished.
        target: e.g. `figures/cpu`.

    Returns:
        The files that are now there and came from a notebook.
    """
    names = list(names)
    before = read_json(target / MANIFEST) if (target / MANIFEST).exists() else {}
    owners = {
        file: owner for file, owner in before.items() if owner not in names and (target / file).is_file()
    }
    sources: dict[str, Path] = {}
    for name in names:
        folder = run_dir / name / FIGURES
        for path in sorted(
            path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
        ):
            file = path.relative_to(folder)
            if file.as_posix() in owners:
                file = file.with_name(f"{name}_{file.name}")
            owners[file.as_posix()], sources[file.as_posix()] = name, path
    if owners == before and all(_same(path, target / file) for file, path in sources.items()):
        return sorted(owners)
    if owners:
        with atomic_path(target) as temporary:
            if target.is_dir():
                gone = {file for file in before if file not in owners}
                shutil.copytree(target, temporary, ignore=lambda at, files: _below(target, at, files, gone))
            for file, path in sources.items():
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, temporary / file)
            write_json(temporary / MANIFEST, dict(sorted(owners.items())))
    return sorted(owners)


def record_run(target: Path, entries: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> None:
    """Write `run.json` beside the figures: seconds and peak memory of each notebook when it last ran."""
    keys = ("seconds", "peak_memory_mb", "finished")
    notebooks = [{"name": name, **{key: entries[name][key] for key in keys}} for name in names]
    record = {"seconds": round(sum(notebook["seconds"] for notebook in notebooks), 1), "notebooks": notebooks}
    if target.is_dir():
        write_json(target / RECORD, record)


def publish_runs(run_dir: Path, target: Path) -> None:
    """Enter a run's record of all runs, where there is one, in the one beside a profile's figures.

    Lines of studies that this run has not, because it is a fresh clone's, stay (`radar_suite.report.record.merged`).
    """
    if not (run_dir / RUNS).is_file() or not target.is_dir():
        return
    if (target / RUNS).is_file():
        from radar_suite.report.record import WHOLE, read_record, record

        record(target / RUNS, read_record(run_dir / RUNS), whole=WHOLE)
        return
    with atomic_path(target / RUNS) as temporary:
        shutil.copyfile(run_dir / RUNS, temporary)


def _below(target: Path, at: str, files: list[str], gone: set[str]) -> list[str]:
    return [file for file in files if (Path(at) / file).relative_to(target).as_posix() in gone]


def _same(first: Path, second: Path) -> bool:
    return second.is_file() and first.read_bytes() == second.read_bytes()
