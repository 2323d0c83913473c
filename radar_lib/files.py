"""Files that are either finished or absent: atomic writes, JSON, and content digests.

Every write goes to a temporary name in the same folder and is renamed when it is complete, so that a killed
process never leaves a half-written file under a final name. What is written with a digest is checked when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout
from tqdm import tqdm

from radar_lib.errors import RadarError

DIGEST_LENGTH = 16
BEFORE = ".before"  # in a temporary folder: the folder that is being replaced
SEAL = "seal"  # key of a record's own digest
_SPACE = Path("/proc/self/ns/pid")  # containers may share a name and a disk, not their numbers of processes
# with the process's number, who writes: folders may be shared by machines
_HERE = f"{platform.node()}-{_SPACE.stat().st_ino if _SPACE.exists() else 0}-"
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # a write may fail without the file's name
CANNOT_WRITE = "cannot write "
_SETTLED_S = 2.0  # clocks of file systems are coarse: a file as young as this may change and keep its time
_known: dict[tuple[int, ...], str] = {}  # digests of files that this process has read


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, on failure remove it.

    What is created may be a file or a folder. A folder replaces an existing one of that name, which is set aside and
    goes only when the new one is in place.

    Raises:
        RadarError: the disk is full or the folder cannot be written, with the folder's name.
    """
    path = Path(path)
    with _beside(path) as temporary:
        inner = temporary / path.name
        yield inner
        if inner.is_dir() and path.is_dir():
            (temporary / BEFORE).mkdir()
            os.rename(path, temporary / BEFORE / path.name)
        os.replace(inner, path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder beside `path` for this process alone, which goes afterwards."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix, suffix = f".{path.name}.", f".{_HERE}{os.getpid()}.tmp"
        temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=path.parent))
        yield temporary
    except OSError as error:
        ours = [temporary is not None and Path(str(name)).is_relative_to(temporary)
                for name in (error.filename, error.filename2)]  # fmt: skip
        if temporary is None or error.errno in _OF_THE_DISK or any(ours):
            raise cannot_write(path, error) from error
        raise  # about another file, such as one that was to be copied
    finally:
        if temporary is not None:
            _discard(temporary)


def _discard(temporary: Path) -> None:
    """Remove what `atomic_path` made; what it set aside for a folder that never came goes back to its place."""
    for aside in (temporary / BEFORE).glob("*"):
        if not os.path.lexists(place := temporary.parent / aside.name):
            with contextlib.suppress(FileNotFoundError):  # another process is at it
                os.rename(aside, place)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there: under its name it is whole or absent, whoever reads it meanwhile."""
    with _beside(folder) as temporary, contextlib.suppress(FileNotFoundError):
        os.replace(folder, temporary / folder.name)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold a lock file, which one process (or thread) has at a time; the system drops it with its process.

    Raises:
        RadarError: its folder cannot be made, or the disk knows no locks.
    """
    lock = FileLock(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(Path(path).parent, error) from error
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if current_process().name == "MainProcess":  # a worker waits for its neighbour, which has its own bar
                tqdm.write(f"waiting for another process, which holds {path}", file=sys.stderr)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise RadarError(f"cannot lock {path} ({error}). Choose a folder on a disk that knows file locks.") from error
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary paths below `folder` whose process, of this machine, was killed before it could."""
    for parent, names, _ in os.walk(folder):  # which passes over what others remove meanwhile
        for name in names:
            _, mark, rest = name.rpartition(f".{_HERE}")
            pid, suffix = rest.removesuffix(".tmp"), rest.endswith(".tmp")
            if mark and suffix and name[0] == "." and pid.isdigit() and not psutil.pid_exists(int(pid)):
                _discard(Path(parent, name))


def cannot_write(path: Path, error: OSError) -> RadarError:
    """What to raise where a file or folder cannot be written."""
    reason = error.strerror or error
    return RadarError(f"{CANNOT_WRITE}{path}: {reason}. Free some space or choose a folder you may write to.")


def is_disk_trouble(message: str) -> bool:
    """Whether an error message, of another process perhaps, is about the disk rather than about the work."""
    return any(text in message for text in (CANNOT_WRITE, *map(os.strerror, _OF_THE_DISK)))


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


def write_sealed(path: str | Path, record: dict[str, Any]) -> None:
    """Write a record as JSON with its own digest, its seal."""
    write_json(path, record | {SEAL: digest_json(record)})


def read_sealed(path: str | Path) -> dict[str, Any]:
    """Read a record that `write_sealed` wrote, without its seal.

    Raises:
        RadarError: the file is missing, or its content is not what was written.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not seal_fits(record):
        raise RadarError(f"{path} is not what was written: its seal does not fit. Delete it and run its step again.")
    return {name: value for name, value in record.items() if name != SEAL}


def seal_fits(record: dict[str, Any]) -> bool:
    """Whether a record has the seal that `write_sealed` gave it."""
    with contextlib.suppress(ValueError):  # an infinity, which is never written
        return record.get(SEAL) == digest_json({name: value for name, value in record.items() if name != SEAL})
    return False


def digest_bytes(data: bytes) -> str:
    """SHA-256 of `data`, first 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, first 16 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]


def digest_known(path: str | Path) -> str:
    """`digest_file` of a file that this process reads once, and again only after it was touched."""
    about = os.stat(path)
    mark = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if mark in _known:
        return _known[mark]
    settled, digest = time.time() - about.st_ctime > _SETTLED_S, digest_file(path)
    if settled:
        _known[mark] = digest
    return digest


def digests_below(folder: Path, *, without: Collection[str] = ()) -> dict[str, str]:
    """Digest of each file below a folder, by its path there; `without` names files of the folder that do not count."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: digest_file(folder / name) for name in names if name not in without}


def changed_file(folder: Path, digests: dict[str, str]) -> str:
    """The first file of a folder that is absent or has not its digest; '' where all are as they were."""
    present = ((name, (folder / name).is_file(), digest) for name, digest in digests.items())
    return next((name for name, there, digest in present if not there or digest_known(folder / name) != digest), "")


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys), first 16 hexadecimal digits."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
