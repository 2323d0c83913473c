"""The ledger: what each notebook was computed from, and whether that still holds.

`runs/<run>/ledger.json` is the only witness of success. An executed notebook is none: after a dead kernel or a
timeout its cells still read 'completed'. A notebook is up to date when its code cells, parameters, the library's
sources, the packages, the posts, what it reads and what it left, in its own folder and in the cache, are as they were.
Bytes are compared: nothing is believed because its size and time look right. A command reads each file once.
"""

import json
import os
import platform
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

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
NOT_KEYED = ("runs_dir",)  # where the results lie does not change them
ABSENT = type("Absent", (), {"__repr__": lambda self: "nothing"})()
REASONS = {  # to run a notebook, by what it depends on
    "code": "code changed",
    "parameters": "parameter {name} changed {old!r} -> {new!r}",
    "sources": "library changed: {name}",
    "packages": "{name} changed {old!r} -> {new!r}",
    "folders": "{name}: the folder's content changed",
    "checkpoints": "checkpoints: the folder's content changed",
    "listed": "checkpoints: the folder's files, their sizes or times changed",
    "reads": "upstream {name} changed",
    "writes": "output {name} missing or changed on disk",
    "kept": "{name} missing or changed on disk",
}
LEFT = ("writes", "kept")  # what is its own work, of what it depends on
WHOLE = tuple(kind for kind in REASONS if kind != "listed")  # what a run looks at: bytes
GLANCE = tuple(kind for kind in REASONS if kind != "checkpoints")  # without reading gigabytes of weights
SHOWN = 3  # changed sources that are named, before they are counted
_HASH = re.compile(r"\b[0-9a-f]{16}\b")
Group = Mapping[str, Any]  # what a notebook depends on, of one kind, by name
Running = create_model("Running", state=Literal["running"])
Failed = create_model("Failed", state=Literal["failed"], error=str, where=str)
Done = create_model("Done", state=Literal["done"], seconds=float, peak_memory_mb=float,
                    **{kind: (dict[str, Any], {}) for kind in REASONS})  # fmt: skip


class Content(BaseModel):
    """Shape of ledger.json."""

    notebooks: dict[str, Annotated[Running | Failed | Done, Field(discriminator="state")]]


def sources_of(notebook: Notebook) -> dict[str, str]:
    """Digest of each source and data file of this project that a notebook's cells import, followed to the end.

    Exercises are shown and compute nothing that is kept, so a reworded one makes no notebook stale.
    """
    modules = {name for source in notebook.sources for name in imports_of(without_magics(source), packages=PROJECT)}
    return source_digests(*sorted(modules), without=("radar_suite.exercises",))


@cache
def package_versions() -> dict[str, str]:
    """Versions that a number may depend on, read from the installed metadata; nothing is imported."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])} | dict.fromkeys(PACKAGES, "absent")
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def content_digest(path: Path) -> str:
    """Digest of a file's bytes, or of names and bytes of a folder's files; '' where there is nothing.

    Hidden files of a folder are caches or half-written, and do not count. A notebook by itself is what it shows: opened
    and saved in an editor, it is as it was.
    """
    if path.suffix == ".ipynb" and path.is_file():
        return notebook_digest(path)
    if path.is_dir():
        parts = sorted((file.relative_to(path).parts, file) for file in path.rglob("*") if file.is_file())
        shown = [(names, file) for names, file in parts if not any(name.startswith(".") for name in names)]
        return digest_json([["/".join(names), digest_file(file)] for names, file in shown])
    return digest_file(path) if path.exists() else ""


def notebook_digest(path: Path) -> str:
    """Digest of what a notebook shows, its cells' sources and outputs; of its bytes, if it is none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return digest_json([[cell["cell_type"], "".join(cell["source"]), _shown(cell)] for cell in cells])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return digest_file(path)


def _shown(cell: Mapping[str, Any]) -> list[Any]:
    """A cell's outputs as an editor keeps them: streams joined, of a line written over its last state, no metadata."""
    shown: list[Any] = []
    for output in cell.get("outputs", ()):
        if output["output_type"] != "stream":
            about = {name: value for name, value in output.items() if name not in ("metadata", "execution_count")}
            bundle = {kind: "".join(data) if isinstance(data, list) else data
                      for kind, data in output.get("data", {}).items()}  # fmt: skip
            shown.append(about | {"data": bundle})
        elif shown and shown[-1].get("name") == output["name"]:
            shown[-1]["text"] += "".join(output["text"])
        else:
            shown.append({"name": output["name"], "text": "".join(output["text"])})
    return [one | {"text": re.sub(r"[^\n]*\r(?!\n)", "", one["text"])} if "text" in one else one for one in shown]


class Ledger:
    """The ledger of one run folder, `<runs>/<run>/`; every change is on disk before the method returns."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = run_dir / "ledger.json"
        content = read_json(self.path, Content) if self.path.exists() else {"notebooks": {}}
        self.entries: dict[str, dict[str, Any]] = content["notebooks"]
        self._digests: dict[Path, str] = {}  # of what lies still while no notebook starts or ends
        self._folders: dict[Path, str] = {}  # of the user's, which no notebook writes

    def start(self, notebook: Notebook) -> None:
        """Take back a notebook's success: its files are about to be overwritten."""
        self._enter(notebook, "running")

    def fail(self, notebook: Notebook, *, error: str, where: str) -> None:
        """Record a failure, for `--list` and the report."""
        self._enter(notebook, "failed", error=error, where=where)

    def finish(
        self, notebook: Notebook, parameters: Mapping[str, Any], *, seconds: float, peak_memory_mb: float
    ) -> None:
        """Record a success, with all that it depends on and all that it left."""
        left = {*notebook.writes, *([FIGURES] if (self.run_dir / notebook.name / FIGURES).is_dir() else [])}
        groups = self._groups(notebook, parameters, REASONS, writes=left, kept=self._kept(notebook))
        spent = {"seconds": round(seconds, 1), "peak_memory_mb": round(peak_memory_mb)}
        self._enter(notebook, "done", **groups, **spent)

    def _enter(self, notebook: Notebook, state: str, **entry: Any) -> None:
        when = "started" if state == "running" else "finished"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.entries[notebook.name] = {"state": state, **entry, when: now}
        self._digests.clear()
        write_json(self.path, {"notebooks": self.entries})

    def done(self, notebook: Notebook) -> bool:
        """Whether it succeeded when it last ran, up to date or not."""
        return self.entries.get(notebook.name, {}).get("state") == "done"

    def other_parameters(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """Name, value then and value now of each parameter that a finished notebook was run with another value of."""
        before, now = self.entries[name]["parameters"], _keyed(parameters)
        return [one for one in _differences(before, now) if ABSENT not in one]

    def damage(self, notebook: Notebook, parameters: Mapping[str, Any]) -> list[str]:
        """What is wrong with a notebook's own work that others read: not what it left when it last succeeded."""
        shown = {FIGURES, f"{notebook.name}/{EXECUTED}"}
        return self.why(notebook, parameters, kinds=LEFT, without=shown)

    def why(
        self, notebook: Notebook, parameters: Mapping[str, Any], *, kinds: Collection[str] = WHOLE,
        without: Collection[str] = (),
    ) -> list[str]:  # fmt: skip
        """Reasons to run a notebook; empty when it is up to date.

        Args:
            kinds: of reasons, that are looked for where it succeeded when it last ran.
            without: names that are passed over.
        """
        entry = self.entries.get(notebook.name, {"state": "new"})
        match entry["state"]:
            case "new":
                return ["never run"]
            case "running":
                return ["interrupted last time"]
            case "failed":
                return [f"failed last time ({entry['where']}): {entry['error']}"]
        if not REASONS.keys() <= entry.keys():
            return ["recorded by an older version of the chain"]
        writes = {*entry["writes"], *notebook.writes}
        now = self._groups(notebook, parameters, kinds, writes=writes, kept=entry["kept"])
        reasons = []
        for kind in kinds:
            reason, changes = REASONS[kind], _differences(entry[kind], now[kind])
            changes = [change for change in changes if change[0] not in without]
            most = SHOWN if kind == "sources" else len(changes)
            reasons += [reason.format(name=name, old=old, new=new) for name, old, new in changes[:most]]
            reasons += [f"{len(changes) - most} more {kind} changed"] * (len(changes) > most)
        return reasons

    def _groups(
        self, notebook: Notebook, parameters: Mapping[str, Any], kinds: Iterable[str], *, writes: Iterable[str],
        kept: Iterable[str],
    ) -> dict[str, Group]:  # fmt: skip
        """What a notebook's being up to date rests on, as it is now: these kinds of it."""
        weights = {"checkpoints": parameters.get("checkpoints")}
        groups: dict[str, Callable[[], Group]] = {
            "code": lambda: {"cells": notebook.code},
            "parameters": lambda: _keyed(parameters),
            "sources": lambda: sources_of(notebook),
            "packages": package_versions,
            "folders": lambda: self.folder_digests({**parameters, "checkpoints": ""}),
            "checkpoints": lambda: self.folder_digests(weights),
            "listed": lambda: {name: _listed(folder) for name, folder in _folders(weights).items()},
            "reads": lambda: {name: self.digest(name) for name in (*notebook.reads, *notebook.shows)},
            "writes": lambda: {name: self.digest(f"{notebook.name}/{name}") for name in sorted(writes)},
            "kept": lambda: {name: self.digest(name) for name in kept},
        }
        return {kind: groups[kind]() for kind in kinds}

    def _kept(self, notebook: Notebook) -> list[str]:
        """What it left without declaring it: the executed notebook, and the folders of the shared cache,
        `cache/<kind>/<hash>`, whose hashes the notebook's JSON files name."""
        files = [self.run_dir / notebook.name / write for write in notebook.writes if write.endswith(".json")]
        named = {mark for file in files for mark in _HASH.findall(file.read_text(encoding="utf-8", errors="replace"))}
        cached = [path for path in self.run_dir.parent.glob("cache/*/*") if path.name in named]
        return [f"{notebook.name}/{EXECUTED}", *sorted(os.path.relpath(path, self.run_dir) for path in cached)]

    def digest(self, name: str) -> str:
        """`content_digest` of a file or folder, named from this run's."""
        return _once(self._digests, self.run_dir / name)

    def folder_digests(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """`content_digest` of each folder of the user's that the parameters name."""
        return {name: _once(self._folders, folder) for name, folder in _folders(parameters).items()}


def _folders(parameters: Mapping[str, Any]) -> dict[str, Path]:
    """Folders of the user's that the parameters name."""
    named = {name: Path(str(parameters.get(name) or ".")) for name in FOLDERS}
    return {name: folder for name, folder in named.items() if folder.is_absolute() and folder.is_dir()}


def _listed(folder: Path) -> str:
    """Digest of the names, sizes and times of a folder's files."""
    files = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return digest_json([[str(path.relative_to(folder)), about.st_size, about.st_mtime_ns] for path, about in files])


def _once(known: dict[Path, str], path: Path) -> str:
    if path not in known:
        known[path] = content_digest(path)
    return known[path]


def _keyed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({name: value for name, value in parameters.items() if name not in NOT_KEYED}))


def _differences(before: Group, now: Group) -> list[tuple[str, Any, Any]]:
    """Name, value then and value now of what differs; `ABSENT` on the side that does not have it."""
    both = [(name, before.get(name, ABSENT), now.get(name, ABSENT)) for name in dict.fromkeys([*now, *before])]
    return [one for one in both if one[1] != one[2]]
