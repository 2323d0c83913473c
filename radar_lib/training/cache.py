"""A content-addressed cache: each piece of long work has a hash of its inputs, and is absent, partial or complete.

`runs/cache/<kind>/<hash>/` is finished work. It was made in `runs/cache/.partial/<kind>/<hash>/` by the process that
held the lock beside it, and moved when all of it was there; a killed process leaves that folder, and the next one goes
on from whatever checkpoint it holds. `run.json` names the digest of every file, and is checked with them when the work
is read; what is damaged is made again. The hash covers the inputs' own digests, the configuration and the sources of
the code that does the work; equal hashes therefore mean equal results, and all who ask for them share them.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from radar_lib.errors import RadarError
from radar_lib.files import (
    cannot_write,
    changed_file,
    digest_json,
    digests_below,
    locked,
    read_sealed,
    remove_folder,
    write_sealed,
)

RECORD = "run.json"
PARTIAL = ".partial"  # folder of what is not complete

Work = Callable[[Path], Mapping[str, Any] | None]


def damage(folder: Path) -> str:
    """The first file of a finished entry that is absent or not what was written; '' where the entry is intact.

    Each file is read once per process, and again only after it was touched.
    """
    try:
        files = read_sealed(folder / RECORD)["files"]
    except (RadarError, KeyError):
        return RECORD
    return changed_file(folder, files)


@dataclass(frozen=True)
class Entry:
    """One piece of work: its inputs, their hash, and the folder of its files."""

    folder: Path
    digest: str
    inputs: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether the work is done, and all of its files are what was written."""
        return self.folder.exists() and not damage(self.folder)

    @property
    def workplace(self) -> Path:
        """Where the work is done, and where it stays until it is complete."""
        return self.folder.parents[1] / PARTIAL / self.folder.parent.name / self.digest

    def path(self, name: str) -> Path:
        return self.folder / name

    def make(self, work: Work, *, scratch: Collection[str] = ()) -> dict[str, Any]:
        """The record of the complete work, which is done now if it is absent, partial or damaged.

        One process does it; others that ask for it meanwhile wait.

        Args:
            work: fills a folder, which may hold what a killed process left, and returns what the record is to say.
            scratch: files that the folder holds until the work is complete, such as a checkpoint.

        Raises:
            RadarError: the disk is full, or as `work` and `locked`.
        """
        with self.making(scratch=scratch) as said:
            if said is not None:
                said |= work(self.workplace) or {}
        return self.record()

    @contextmanager
    def making(self, *, scratch: Collection[str] = ()) -> Iterator[dict[str, Any] | None]:
        """Around work that fills `workplace`, as in `make`: gives what its record is to say, which the work adds to.

        None where there is nothing to do.
        """
        try:
            if self.complete:
                yield None
                return
            with locked(self.workplace.with_suffix(".lock")):
                if self.complete:  # another process was here meanwhile
                    yield None
                    return
                if damage(self.workplace):
                    for left in self.workplace.rglob(".*.tmp"):
                        shutil.rmtree(left, ignore_errors=True)
                    self.workplace.mkdir(exist_ok=True)
                    said: dict[str, Any] = {"digest": self.digest, "inputs": dict(self.inputs)}
                    yield said
                    files = digests_below(self.workplace, without=(RECORD, *scratch))
                    write_sealed(self.workplace / RECORD, said | {"files": files})
                else:  # a process was killed before its last two steps
                    yield None
                self._finish(scratch)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise cannot_write(self.folder, error) from error
            raise

    def _finish(self, scratch: Collection[str]) -> None:
        for name in scratch:
            (self.workplace / name).unlink(missing_ok=True)
        if self.folder.exists():
            what = f"{self.folder}: {damage(self.folder)} is not what was written, so all of it was made again"
            tqdm.write(what, file=sys.stderr)
            remove_folder(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.workplace, self.folder)

    def record(self) -> dict[str, Any]:
        """The record of complete work.

        Raises:
            RadarError: the work is not complete, or its record is not what was written.
        """
        return read_sealed(self.folder / RECORD)


@dataclass(frozen=True)
class Cache:
    """The cache below one root folder."""

    root: Path

    def entry(self, kind: str, inputs: Mapping[str, Any]) -> Entry:
        """Entry for `inputs` (JSON values only); nothing is created on disk yet."""
        digest = digest_json({"kind": kind, **inputs})
        return Entry(self.root / kind / digest, digest, inputs)
