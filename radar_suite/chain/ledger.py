"""The ledger: what each notebook was computed from, and whether that still holds.

`runs/<run>/ledger.json` is the only witness of success. An executed notebook is none: after a dead kernel or a
timeout its cells still read 'completed'. A notebook is up to date when its code cells, parameters, the library's
sources, the packages, the posts and what it reads are what they were, and what it wrote is still there, in its own
folder and in the cache.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from radar_lib.files import digest_file, digest_json, read_json, write_json
from radar_lib.sources import imports_of, source_digests
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.parameters import without_magics
from radar_suite.chain.profiles import FOLDERS

# Their versions can change a number; the rest of the environment is the doctor's business.
PROJECT = ("radar_lib", "radar_suite")  # packages whose sources notebooks are keyed by
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pandas", "scikit-learn")
FIGURES = "figures"  # every notebook may leave figures and tables here
EXECUTED = "executed.ipynb"
_HASH = re.compile(r"\b[0-9a-f]{16}\b")
NOT_KEYED = ("runs_dir",)  # where the results lie does not change them


def sources_of(notebook: Notebook) -> dict[str, str]:
    """Digest of each source and data file of this project that a notebook's cells import, followed to the end.

    Exercises are shown and compute nothing that is kept, so a reworded one makes no notebook stale.
    """
    modules = {name for source in notebook.sources for name in imports_of(without_magics(source), packages=PROJECT)}
    return source_digests(*sorted(modules), without=("radar_suite.exercises",))


@lru_cache
def package_versions() -> dict[str, str]:
    """Versions that a number may depend on, read from the installed metadata; nothing is imported."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def folder_digests(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each folder of the user's that the parameters name, without reading it all.

    A corpus carries its own digest in corpus.json; of other folders names, sizes and times are compared.
    """
    found = {}
    for name in FOLDERS:
        folder = Path(str(parameters.get(name) or "."))
        if not folder.is_absolute() or not folder.is_dir():
            continue
        mark = folder / "corpus.json"
        found[name] = digest_file(mark) if mark.is_file() else digest_json(_listing(folder))
    return found


def _listing(path: Path) -> list[list[Any]]:
    """Name, size and time of the files of a folder (or of one file); hidden ones are caches or half-written."""
    if path.is_file():
        return [["", path.stat().st_size, path.stat().st_mtime_ns]]
    out = []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and not any(part.startswith(".") for part in name.split("/")):
            out.append([name, file.stat().st_size, file.stat().st_mtime_ns])
    return out


KEYS = {"code", "parameters", "library", "packages", "folders", "reads", "writes", "cache"}


class Ledger:
    """The ledger of one run folder, `<runs>/<run>/`; every change is on disk before the method returns."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = run_dir / "ledger.json"
        content = read_json(self.path) if self.path.exists() else {}
        self.entries: dict[str, dict[str, Any]] = content.get("notebooks", {})
        # [listing, digest] by path: a file of the same size and time is not read again.
        self._digests: dict[str, list[str]] = content.get("digests", {})

    def start(self, notebook: Notebook) -> None:
        """Take back a notebook's success: its files are about to be overwritten."""
        self.entries[notebook.name] = {"state": "running", "started": _now()}
        self._save()

    def fail(self, notebook: Notebook, *, error: str, where: str) -> None:
        """Record a failure, for `--list` and the report."""
        self.entries[notebook.name] = {"state": "failed", "error": error, "where": where, "finished": _now()}
        self._save()

    def finish(
        self, notebook: Notebook, parameters: Mapping[str, Any], *, seconds: float, peak_memory_mb: float
    ) -> None:
        """Record a success, with all that it depends on and all that it left."""
        self.entries[notebook.name] = {
            "state": "done",
            "code": notebook.code,
            "parameters": _keyed(parameters),
            "library": sources_of(notebook),
            "packages": package_versions(),
            "folders": folder_digests(parameters),
            "reads": {read: self.digest(read) for read in (*notebook.reads, *notebook.shows)},
            "writes": {write: self.digest(f"{notebook.name}/{write}") for write in self._outputs(notebook)},
            "cache": self._cached(notebook),
            "seconds": round(seconds, 1),
            "peak_memory_mb": round(peak_memory_mb),
            "finished": _now(),
        }
        self._save()

    def missing(self, notebook: Notebook) -> list[str]:
        """Declared writes that are not there."""
        return [write for write in notebook.writes if not (self.run_dir / notebook.name / write).exists()]

    def done(self, notebook: Notebook) -> bool:
        """Whether it succeeded when it last ran, up to date or not."""
        return self.entries.get(notebook.name, {}).get("state") == "done"

    def other_parameters(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """Name, value then and value now of each parameter that a finished notebook was run with another value of."""
        before, now = self.entries[name]["parameters"], _keyed(parameters)
        return [one for one in _differences(before, now) if one[0] in before and one[0] in now]

    def why(self, notebook: Notebook, parameters: Mapping[str, Any]) -> list[str]:
        """Reasons to run a notebook; empty when it is up to date."""
        entry = self.entries.get(notebook.name, {})
        if entry.get("state") != "done":
            failed = f"failed last time ({entry.get('where')}): {entry.get('error')}"
            return [
                {"failed": failed, "running": "interrupted last time"}.get(
                    entry.get("state", ""), "never run"
                )
            ]
        if KEYS - entry.keys():
            return ["recorded by an older version of the chain"]
        reasons = [] if entry["code"] == notebook.code else ["code changed"]
        reasons += _changes("parameter ", entry["parameters"], _keyed(parameters))
        changed = [name for name, _, _ in _differences(entry["library"], sources_of(notebook))]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            reasons.append(f"library changed: {', '.join(changed[:3])}{more}")
        reasons += _changes("", entry["packages"], package_versions())
        folders = _differences(entry["folders"], folder_digests(parameters))
        reasons += [f"{name}: the folder's content changed" for name, _, _ in folders]
        reads = {read: self.digest(read) for read in (*notebook.reads, *notebook.shows)}
        reasons += [f"upstream {name} changed" for name, _, _ in _differences(entry["reads"], reads)]
        gone = [name for name in entry["cache"] if not (self.run_dir.parent / name).is_dir()]
        reasons += [f"{name} missing" for name in gone]
        return reasons + self._outputs_changed(notebook, entry["writes"])

    def _outputs_changed(self, notebook: Notebook, writes: Mapping[str, str]) -> list[str]:
        reasons = [
            f"output {write} was not declared before" for write in notebook.writes if write not in writes
        ]
        for write, digest in writes.items():
            now = self.digest(f"{notebook.name}/{write}")
            if now != digest:
                reasons.append(f"output {write} {'missing' if now == '' else 'changed on disk'}")
        if not (self.run_dir / notebook.name / EXECUTED).exists():
            reasons.append(f"output {EXECUTED} missing")
        return reasons

    def _outputs(self, notebook: Notebook) -> list[str]:
        figures = [FIGURES] if (self.run_dir / notebook.name / FIGURES).is_dir() else []
        return list(dict.fromkeys([*notebook.writes, *figures]))

    def _cached(self, notebook: Notebook) -> list[str]:
        """Folders of the shared cache, `cache/<kind>/<hash>`, whose hashes the notebook's JSON files name."""
        runs = self.run_dir.parent
        files = [self.run_dir / notebook.name / write for write in notebook.writes if write.endswith(".json")]
        named = {mark for file in files for mark in _HASH.findall(file.read_text(encoding="utf-8"))}
        return sorted(
            path.relative_to(runs).as_posix() for path in runs.glob("cache/*/*") if path.name in named
        )

    def digest(self, name: str) -> str:
        """Digest of a file or folder of this run; '' if it does not exist."""
        path = self.run_dir / name
        if not path.exists():
            return ""
        listing = _listing(path)
        mark = digest_json(listing)
        known = self._digests.get(name)
        if known is None or known[0] != mark:
            content = [[part, digest_file(path / part if part else path)] for part, _, _ in listing]
            self._digests[name] = known = [mark, digest_json(content)]
        return known[1]

    def _save(self) -> None:
        write_json(self.path, {"notebooks": self.entries, "digests": self._digests})


def _keyed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(
        json.dumps({name: value for name, value in parameters.items() if name not in NOT_KEYED})
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*now, *before])
    return [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _changes(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    out = []
    for name, old, new in _differences(before, now):
        if name not in before or name not in now:
            out.append(f"{kind}{name} {'removed' if name in before else 'added'}")
        else:
            out.append(f"{kind}{name} changed {old!r} -> {new!r}")
    return out


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
