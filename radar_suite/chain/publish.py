"""Copy what finished notebooks state to the project's `figures/<run>/`, under one manifest.

`manifest.json` has an entry per figure, table and claim (`Workspace.enter`), and minutes and memory of each notebook.
A rerun that changes no file of results changes no byte here: what is measured anew each time stays as it was
recorded.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_file, remove_leftovers, write_json
from radar_suite.chain.ledger import FIGURES
from radar_suite.report.manifest import MANIFEST, Manifest, read_manifest

RUNS = "runs.parquet"  # of radar_suite.report.record: every run with what it reached
STUDIES = "studies"  # what `radar studies` leaves lies below this name; a study that did not run now keeps its own
WHERE = {"device", "versions"}  # where a result was computed, which decides it no more where it comes out equal


def publish(
    run_dir: Path, names: Iterable[str], target: Path, ledger: Mapping[str, Mapping[str, Any]] | None = None, *,
    only: Collection[str] | None = None,
) -> list[str]:  # fmt: skip
    """Replace in `target` what these notebooks left there before by what they left now.

    Files of other notebooks, and files of yours, stay; one of yours that has the name of a new file is renamed to
    `<name>.yours`. Where two notebooks use one name, the later notebook's gets its notebook's name in front. All copies
    are made and compared with their digests before the first file is replaced, old files go after that, and the
    manifest comes last, so a full disk changes nothing, and what a kill left half done the next call completes.

    Args:
        run_dir: `<runs>/<run>`.
        names: notebooks that have finished, or `STUDIES`.
        target: e.g. `figures/cpu`.
        ledger: entries by notebook, with `seconds` and `peak_memory_mb`.
        only: entries to publish, by the name in their notebook's manifest; all if None.

    Returns:
        The files that are now there and came from a notebook.

    Raises:
        RadarError: a file is not the one that its notebook wrote, a manifest is none, or the disk is full.
    """
    remove_leftovers(target)
    names, before = list(names), read_manifest(target)
    entries = {key: entry for key, entry in before["entries"].items()
               if entry["notebook"] not in names or entry["notebook"] == STUDIES}  # fmt: skip
    times, copies = dict(before["notebooks"]), {}
    for name in names:
        own = {}
        for key, entry in read_manifest(run_dir / name / FIGURES)["entries"].items():
            if only is not None and key not in only:
                continue
            prefix = _prefix(key, entry, name, entries)
            sources = {prefix + file: run_dir / name / FIGURES / file for file in entry["files"]}
            new = entry | {"files": {prefix + file: digest for file, digest in entry["files"].items()}}
            old = before["entries"].get(prefix + key, {"files": {}})
            own[prefix + key] = _settle(new, old, target)
            copies |= {file: sources[file] for file, digest in own[prefix + key]["files"].items()
                       if _digest(target / file) != digest}  # fmt: skip
        lasted = _times(name, own, before, (ledger or {}).get(name))
        times |= {name: lasted} if lasted else {}
        entries |= {key: entry | ({"minutes": lasted["minutes"]} if lasted else {}) for key, entry in own.items()}
    files = {file: digest for entry in entries.values() for file, digest in entry["files"].items()}
    known = {file for entry in before["entries"].values() for file in entry["files"]}
    now: Manifest = {"entries": dict(sorted(entries.items())), "notebooks": dict(sorted(times.items()))}
    if copies or known - files.keys() or now["entries"] != before["entries"]:
        _replace(target, {file: (source, files[file]) for file, source in copies.items()}, known, now)
    publish_runs(run_dir, target)
    return sorted(files)


def publish_studies(run_dir: Path, target: Path, names: Collection[str]) -> None:
    """Publish these entries of `<run_dir>/studies` as `studies/<name>`, and the record of all runs."""
    publish(run_dir, [STUDIES], target, only=names)


def publish_runs(run_dir: Path, target: Path) -> None:
    """Enter a run's record of all runs, where there is one, in the one beside a profile's figures.

    Lines of studies that this run has not, because it is a fresh clone's, stay (`radar_suite.report.record.merge`).
    """
    if (run_dir / RUNS).is_file() and target.is_dir():
        from radar_suite.report.record import WHOLE, read_record, record

        record(target / RUNS, read_record(run_dir / RUNS), whole=WHOLE)


def _prefix(key: str, entry: Mapping[str, Any], name: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """What to put in front of a notebook's names, so that they are nobody else's."""
    if name == STUDIES:
        return f"{STUDIES}/"
    taken = {file for other in entries.values() for file in other["files"]}
    return f"{name}_" if key in entries or taken & entry["files"].keys() else ""


def _settle(new: dict[str, Any], old: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """The entry to record. It is the old one, with where that was recorded, if nothing that decides a result differs
    and the files are the same; measured files need only be whole."""
    causes = new.keys() - WHERE - {"files"}
    equal = new["files"] == old["files"] or (
        new["tolerance"] is None
        and new["files"].keys() == old["files"].keys()
        and all(_digest(target / file) == digest for file, digest in old["files"].items())
    )
    stays = equal and all(new[name] == old.get(name) for name in causes)
    return {name: value for name, value in old.items() if name != "minutes"} if stays else new


def _times(name: str, own: Mapping[str, Any], before: Manifest, ran: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Minutes and peak memory of a notebook: as recorded before while nothing changed, else of its last run.

    Equal results in less than half of the time found their training in the cache: then too the recorded time stays.
    """
    old = before["notebooks"].get(name)
    if ran is None:
        return old
    new = {"minutes": round(ran["seconds"] / 60, 2), "peak_memory_gib": round(ran["peak_memory_mb"] / 1024, 1)}
    then = {key: entry for key, entry in before["entries"].items() if entry["notebook"] == name}
    same = own == {key: {k: v for k, v in entry.items() if k != "minutes"} for key, entry in then.items()}
    results = [{key: entry["files"] for key, entry in entries.items() if entry["tolerance"] is not None}
               for entries in (own, then)]  # fmt: skip
    cached = old is not None and results[0] == results[1] and new["minutes"] < old["minutes"] / 2
    return old if old is not None and (same or cached) else new


def _replace(target: Path, copies: Mapping[str, tuple[Path, str]], known: Iterable[str], manifest: Manifest) -> None:
    """Copy files (source and digest by name), remove known ones that no entry has now, and write the manifest."""
    with atomic_path(target / MANIFEST) as temporary:
        staged = {file: temporary.with_name(str(number)) for number, file in enumerate(copies)}
        for file, (source, digest) in copies.items():
            shutil.copyfile(source, staged[file])
            if digest_file(staged[file]) != digest:
                raise RadarError(f"{source} is not the file that its notebook wrote. `radar reproduce` makes it again.")
        for file, copy in staged.items():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            if file not in known and (target / file).exists():
                os.replace(target / file, target / f"{file}.yours")
            os.replace(copy, target / file)
        for file in set(known).difference(*(entry["files"] for entry in manifest["entries"].values())):
            (target / file).unlink(missing_ok=True)
        write_json(temporary, manifest)


def _digest(path: Path) -> str:
    return digest_file(path) if path.is_file() else ""
