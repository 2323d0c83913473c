"""Processes of the chain: one lock per run, no orphans, a kernel bound to this interpreter, a place to write.

A kernel lives in a session of its own, so that killing a process group does not reach it; whole trees are killed
here instead. Every process of a run carries the run's folder in its environment, by which leftovers of a chain
that was killed with SIGKILL are found.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_bytes, write_json
from radar_suite.chain.exits import Interrupted, SetupError

MARK = "RADAR_CHAIN_RUN"  # environment variable with the run's folder, in every process of the run
NEEDED = ("papermill", "nbclient", "nbformat", "ipykernel", "nbconvert")
MIN_FREE_MB = 512
TERM_SECONDS = 3.0


def check_packages(names: Iterable[str] = NEEDED) -> None:
    """Raise SetupError when a package that runs notebooks is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise SetupError(
            f"{', '.join(missing)} cannot be imported by {sys.executable}: no kernel can be started. "
            f"`make setup`, or {sys.executable} -m pip install {' '.join(missing)}"
        )


def check_writable(folder: Path, *, min_free_mb: int = MIN_FREE_MB) -> None:
    """Raise SetupError when `folder` cannot be created or written, or its disk is nearly full."""
    try:
        atomic_write_bytes(folder / ".probe", b"\0" * 2**20)
        (folder / ".probe").unlink()
        free_mb = shutil.disk_usage(folder).free // 2**20
    except (OSError, RadarError) as error:
        raise SetupError(f"{error} (--runs DIR puts results elsewhere.)") from None
    if free_mb < min_free_mb:
        raise SetupError(
            f"{folder}: only {free_mb} MiB free, {min_free_mb} needed. Free some space or use --runs DIR."
        )


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder for one chain. The system drops the lock with its process, so it is never stale.

    Raises:
        SetupError: another chain holds it; the message names its process.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SetupError(
                f"{run_dir} is in use by another chain (process {file.read().strip() or 'unknown'}). "
                "Wait for it, stop it, or use another --profile or --runs."
            ) from None
        except OSError:
            pass  # a network disk without locks: better to run unlocked than not at all
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        kill_leftovers(run_dir)
        yield


def kill_leftovers(run_dir: Path, *, spare: Iterable[psutil.Process] = ()) -> None:
    """Kill what a dead chain or notebook left running for this folder, `spare` apart; call it with the lock held."""
    here = psutil.Process()
    spared = {process.pid for process in (here, *here.parents(), *spare)}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in spared and process.environ().get(MARK) == str(run_dir):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone, or somebody else's
    kill(found)


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def kill(processes: Iterable[psutil.Process]) -> None:
    """Ask processes to end, wait a little, then end them."""
    alive = list(processes)
    for act, seconds in ((psutil.Process.terminate, TERM_SECONDS), (psutil.Process.kill, TERM_SECONDS)):
        for process in alive:
            try:
                act(process)
            except psutil.Error:
                pass
        _, alive = psutil.wait_procs(alive, timeout=seconds)


def resident_mb(processes: Iterable[psutil.Process]) -> float:
    """Sum of the resident sizes, MiB. Pages that several processes share count in each."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**20


def kernel_environment(run_dir: Path, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Environment of a notebook's process, and on disk the kernelspec `python3` for this very interpreter.

    The user's kernels, IPython start-up files and matplotlib back-end stay out of it: MPLBACKEND=Agg would drop all
    figures without a word. With the stand-ins the Hub is not asked for anything.
    """
    own = run_dir / ".jupyter"
    argv = [sys.executable, "-m", "radar_suite.chain.kernel", "-f", "{connection_file}"]
    spec = {
        "argv": argv,
        "display_name": "Python 3 (radar)",
        "language": "python",
        "metadata": {"debugger": False},
    }
    write_json(own / "kernels" / "python3" / "kernel.json", spec)
    environment = dict(os.environ)
    environment.pop("MPLBACKEND", None)
    environment |= {
        "JUPYTER_PATH": str(own),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_MININTERVAL": os.environ.get("TQDM_MININTERVAL", "5"),
        MARK: str(run_dir),
    }
    # Threads that wait by spinning slow small models down tenfold as soon as anything else wants a core.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if parameters.get("checkpoints") == "standins":
        environment.setdefault("HF_HUB_OFFLINE", "1")
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path(
        "purelib"
    ):  # a checkout: the notebooks import the library that runs the chain
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return environment


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Interrupted`, so that kernels are killed and the ledger is kept."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
