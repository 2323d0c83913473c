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
BEFORE = ".before"  # in a temporary folder: the folder that is being replaced
_HERE = f"{platform.node()}-"  # with the process's number, who writes: folders may be shared by machines


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, on failure remove it.

    What is created may be a file or a folder. A folder replaces an existing one of that name, which is set aside and
    goes only when the new one is in place.

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
            (temporary / BEFORE).mkdir()
            os.rename(path, temporary / BEFORE / path.name)
        os.replace(inner, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        _discard(temporary)


def _discard(temporary: Path) -> None:
    """Remove what `atomic_path` made; what it set aside for a folder that never came goes back to its place."""
    for aside in (temporary / BEFORE).glob("*"):
        if not os.path.lexists(place := temporary.parent / aside.name):
            os.rename(aside, place)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary paths below `folder` whose process, of this machine, was killed before it could."""
    for parent, names, _ in os.walk(folder):  # which passes over what others remove meanwhile
        for name in names:
            pid = name.rpartition(f".{_HERE}")[2].removesuffix(".tmp")
            if name.endswith(".tmp") and pid.isdigit() and not psutil.pid_exists(int(pid)):
                _discard(Path(parent, name))


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


def read_json(path: str | Path, shape: Any = None) -> Any:
    """Read JSON written by `write_json`.

    Args:
        shape: the type that its value must have, as pydantic knows types, such as `dict[str, list[int]]` or a model.

    Raises:
        RadarError: the file is missing, is not JSON, or its value has another shape; the message says where.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = json.loads(text)
        if shape is not None:
            from pydantic import TypeAdapter  # a moment of imports that most files do without

            TypeAdapter(shape).validate_json(text, strict=True)
        return value
    except FileNotFoundError as error:
        raise RadarError(f"{path} does not exist. The step that writes it has not finished.") from error
    except json.JSONDecodeError as error:
        where, what = f"{path}, line {error.lineno}", f"not valid JSON ({error.msg})"
    except OSError as error:
        where, what = path, f"cannot be read ({error.strerror or error})"
    except (ValueError, RecursionError) as error:  # not text, nested without end, or of another shape
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": error}
        where = ": ".join([str(path), *[".".join(map(str, first["loc"]))] * bool(first["loc"])])
        what = f"not as expected ({first['msg']})"
    raise RadarError(f"{where}: {what}. Delete it and run its step again.")


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
