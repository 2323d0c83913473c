"""Processes of the chain: one lock per run, no orphans, a kernel bound to this interpreter, a place to write.

Every process of a notebook carries the notebook's folder in its environment, its kernel's children included, whatever
session or parent they have. So "end all that was started here" is one function, and it is what everybody calls: the
runner after each notebook, a notebook's process when the runner is gone, and the next chain when it takes the lock.
"""

import os
import resource
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_bytes, write_json
from radar_suite.chain.exits import Interrupted, SetupError
from radar_suite.chain.kernel import IMPORTS

MARK = "RADAR_CHAIN_RUN"  # environment variable with the notebook's folder in the run, in every process of it
NEEDED = ("papermill", "nbclient", "nbformat", "ipykernel", "nbconvert")
MIN_FREE_MB = 512
MIN_FILES = 256
JUPYTER = ".jupyter"  # of a run: its kernelspec, and what its kernels leave
TERM_SECONDS = 3.0
# What a batch frees, the process keeps for the next one, in large pages: given back, it comes again page by page, each
# set to zero. Together a sixth of the time of training, a quarter of scoring, more of a vision tower's, and the same
# bits. These are glibc's settings; other allocators do not know them.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}  # fmt: skip


def check_packages(names: Iterable[str] = NEEDED) -> None:
    """Raise SetupError when a package that runs notebooks is missing."""
    missing = " ".join(name for name in names if find_spec(name) is None)
    if missing:
        raise SetupError(f"{missing} cannot be imported by {sys.executable}: no kernel can be started. "
                         f"`make setup`, or {sys.executable} -m pip install {missing}")  # fmt: skip


def allow_files(least: int = MIN_FILES) -> None:
    """Let this process, and those that it starts, open as many files at once as they may.

    Raises:
        SetupError: fewer than they need.
    """
    may, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough, raised = (limit >= least or limit == resource.RLIM_INFINITY for limit in limits)
    if not enough and not raised:
        raise SetupError(f"only {may} files may be open at once, and {least} are needed: `ulimit -n {least}` in this "
                         "shell, or ask whoever set the limit.")  # fmt: skip
    if not enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def check_writable(folder: Path, *, min_free_mb: int = MIN_FREE_MB) -> None:
    """Raise SetupError when `folder` cannot be created or written, or its disk is nearly full."""
    try:
        atomic_write_bytes(folder / ".probe", b"\0" * 2**20)
        (folder / ".probe").unlink()
        free_mb = shutil.disk_usage(folder).free // 2**20
    except (OSError, RadarError) as error:
        raise SetupError(f"{error} (--runs DIR puts results elsewhere.)") from None
    if free_mb < min_free_mb:
        raise SetupError(f"{folder}: only {free_mb} MiB free, {min_free_mb} needed. Free some space or use --runs DIR.")


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder for one chain. The system drops the lock with its process, so it is never stale.

    Raises:
        SetupError: another chain holds it; the message names its process.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        holder = Path(lock.lock_file).read_text(encoding="utf-8") or "unknown"
        raise SetupError(f"{run_dir} is in use by another chain (process {holder}). "
                         "Wait for it, stop it, or use another --profile or --runs.") from None  # fmt: skip
    except OSError:
        pass  # a network disk without locks: better to run unlocked than not at all
    try:
        Path(lock.lock_file).write_text(str(os.getpid()), encoding="utf-8")
        kill_marked(run_dir)
        shutil.rmtree(run_dir / JUPYTER, ignore_errors=True)  # of a chain that was killed: its kernels' keys
        yield
        shutil.rmtree(run_dir / JUPYTER, ignore_errors=True)
    finally:
        lock.release()


def kill_marked(folder: Path | str) -> None:
    """End all processes of a notebook's folder, or of a run's, but this one and those above it.

    They are asked, and after a little while made to.

    It looks again until it finds none, since what is being ended may have started another meanwhile.
    """
    begun, asked = time.monotonic(), set()
    while (alive := _marked(folder)) and (passed := time.monotonic() - begun) < 3 * TERM_SECONDS:
        for process in alive:
            with suppress(psutil.Error):
                if passed > TERM_SECONDS:
                    process.kill()
                elif process not in asked:
                    process.terminate()
        asked.update(alive)
        psutil.wait_procs(alive, timeout=TERM_SECONDS / 10)


def _marked(folder: Path | str) -> list[psutil.Process]:
    here, marked = psutil.Process(), []
    spared = {process.pid for process in (here, *here.parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone, or somebody else's
            if process.pid not in spared and f"{process.environ().get(MARK)}/".startswith(f"{folder}/"):
                marked.append(process)
    return marked


def resident_mb(pid: int) -> float:
    """Resident size of a process and all below it, MiB; pages that several share count in each. 0 when it is gone."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += member.memory_info().rss
    return total / 2**20


def kernel_environment(folder: Path, parameters: Mapping[str, Any], imports: Iterable[str] = ()) -> dict[str, str]:
    """Environment of a notebook's process, and on disk the kernelspec `python3` for this very interpreter.

    The user's kernels, IPython start-up files and matplotlib back-end stay out of it: MPLBACKEND=Agg would drop all
    figures without a word. With the stand-ins the Hub is not asked for anything.

    Args:
        folder: the notebook's, in the run.
        imports: modules that the kernel imports before its turn.
    """
    own = folder.parent / JUPYTER
    spec = {"argv": [sys.executable, "-m", "radar_suite.chain.kernel", "-f", "{connection_file}"], "language": "python",
            "display_name": "Python 3 (radar)", "metadata": {"debugger": False}}  # fmt: skip
    write_json(own / "kernels" / "python3" / "kernel.json", spec)
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {
        "JUPYTER_PATH": str(own),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_MININTERVAL": os.environ.get("TQDM_MININTERVAL", "5"),
        MARK: str(folder),
        IMPORTS: " ".join(imports),
    }
    # Threads that wait by spinning slow small models down tenfold as soon as anything else wants a core.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | KEEP_MEMORY | environment
    if parameters.get("checkpoints") == "standins":
        environment.setdefault("HF_HUB_OFFLINE", "1")
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path("purelib"):  # a checkout: the notebooks import the library that runs the chain
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return environment


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Interrupted`, so that kernels are ended and the ledger is kept."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
