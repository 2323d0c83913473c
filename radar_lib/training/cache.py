"""A content-addressed cache: each piece of long work has a hash of its inputs, and is absent, partial or complete.

`runs/cache/<kind>/<hash>/` holds one piece of work. `run.json` is written last, so a folder without it is partial
and its work resumes from whatever checkpoint it holds. The hash covers the inputs' own digests, the configuration
and the sources of the code that does the work; equal hashes therefore mean equal results, and notebooks that
ask for the same training run share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radar_lib.files import digest_json, read_json, write_json

RECORD = "run.json"


@dataclass(frozen=True)
class Entry:
    """One piece of work: its inputs, their hash, and the folder of its files."""

    folder: Path
    digest: str
    inputs: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        return (self.folder / RECORD).exists()

    def path(self, name: str) -> Path:
        return self.folder / name

    def finish(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record that marks the work complete; call it after everything else is on disk."""
        full = {"digest": self.digest, "inputs": dict(self.inputs), **record}
        write_json(self.folder / RECORD, full)
        return full

    def record(self) -> dict[str, Any]:
        """The record of complete work.

        Raises:
            RadarError: the work is not complete.
        """
        return read_json(self.folder / RECORD)


@dataclass(frozen=True)
class Cache:
    """The cache below one root folder."""

    root: Path

    def entry(self, kind: str, inputs: Mapping[str, Any]) -> Entry:
        """Entry for `inputs` (JSON values only); nothing is created on disk yet."""
        digest = digest_json({"kind": kind, **inputs})
        return Entry(self.root / kind / digest, digest, inputs)
