"""Files that are either finished or absent: atomic writes, JSON, and content digests.

Every write goes to a temporary name in the same folder and is renamed when it is complete, so that a killed
process never leaves a half-written file under a final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from radar_lib.errors import RadarError

DIGEST_LENGTH = 16
_HERE = f"{platform.node()}-"  # with the process's number, who writes: folders may be shared by machines


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, on failure remove it.

    What is created may be a file or a folder. A folder replaces an existing one of that name.

    Raises:
        RadarError: the disk is full or the folder cannot be written, with the folder's name.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix, suffix = f".{path.name}.", f".{_HERE}{os.getpid()}.tmp"
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        inner = temporary / path.name
        yield inner
        if inner.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(inner, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary paths below `folder` whose process, of this machine, was killed before it could."""
    for parent, names, _ in os.walk(folder):  # which passes over what others remove meanwhile
        for name in names:
            pid = name.rpartition(f".{_HERE}")[2].removesuffix(".tmp")
            if name.endswith(".tmp") and pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(Path(parent, name), ignore_errors=True)


def _cannot_write(path: Path, error: OSError) -> RadarError:
    reason = error.strerror or error
    return RadarError(f"cannot write {path}: {reason}. Free some space or choose a folder you may write to.")


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` as UTF-8 with Unix line ends, whole or not at all."""
    atomic_write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinities are refused: a missing number is `null`."""
    atomic_write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON written by `write_json`.

    Raises:
        RadarError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RadarError(f"{path} does not exist. The step that writes it has not finished.") from error
    except json.JSONDecodeError as error:
        raise RadarError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Delete it and run its step again."
        ) from error


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data`, first 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, first 16 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys), first 16 hexadecimal digits."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
