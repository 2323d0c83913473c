"""`manifest.json`: what the files of a `figures` folder state, with an entry per figure, table and claim."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.places import Below

MANIFEST = "manifest.json"
Manifest = dict[str, dict[str, dict[str, Any]]]


class Entry(BaseModel):
    """What is needed of an entry; `Workspace.enter` writes it. `files`: their digests. `tolerance`: of a rerun."""

    notebook: str
    files: dict[Below, str]
    caption: str
    tolerance: float | None
    seed: int
    device: str
    inputs: dict[str, str]


class Cost(BaseModel):
    """Of a notebook."""

    minutes: float
    peak_memory_gib: float


class Content(BaseModel):
    """Shape of the file; without costs, where a notebook itself wrote it."""

    entries: dict[str, Entry]
    notebooks: dict[str, Cost] = {}


def read_manifest(folder: Path) -> Manifest:
    """Content of a folder's manifest, `entries` by name and `notebooks` by name; both empty where there is none.

    Raises:
        RadarError: it is not of that shape.
    """
    path = folder / MANIFEST
    return {"entries": {}, "notebooks": {}} | (read_json(path, Content) if path.is_file() else {})


def read_entry(folder: Path, name: str) -> dict[str, Any]:
    """An entry of a folder's manifest.

    Raises:
        RadarError: there is none of that name.
    """
    entries = read_manifest(folder)["entries"]
    if name not in entries:
        raise RadarError(f"{folder / MANIFEST} has no entry {name!r}: `radar reproduce` writes it.")
    return entries[name]
