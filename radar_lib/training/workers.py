"""Processes that end with the one that started them, however it ends: joblib's, or those of accelerate's launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from radar_lib.errors import RadarError

MOST_WORKERS = 4  # each holds Python, torch and a model: about 0.7 GiB with a stand-in
PARENT = "RADAR_PARENT"  # in the environment of what `launch` starts: the process to end with
MESSAGE = "radar-message "  # begins a line that is for `launch`


def side_by_side(function: Callable[..., Any], jobs: Sequence[tuple], *, workers: int = 0) -> Iterator[Any]:
    """Results of `function(*job)` for each job, in order, from processes with one thread each; one: in this process.

    Args:
        function: of a module, so that processes can import it; what it returns travels back.
        workers: processes at a time; 0 for one per core, at most `MOST_WORKERS`.

    Raises:
        RadarError: a process died.
    """
    workers = min(workers or min(cpu_count(), MOST_WORKERS), len(jobs))
    if workers <= 1:
        yield from (function(*job) for job in jobs)
        return
    with pool(workers, threads=1) as results:
        yield from results(function, jobs)


@contextmanager
def pool(workers: int, *, threads: int) -> Iterator[Callable[[Callable[..., Any], Iterable[tuple]], Iterator[Any]]]:
    """A function that gives `function(*job)` for each job, in order, from processes that end with this one.

    torch has `threads` there; BLAS has what it has here, for the last bits' sake. The first failure stops all.

    Raises:
        RadarError: a process died.
    """
    start = {"initializer": _start, "initargs": (os.getpid(), threads)}
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=cpu_count(), **start):
        run = Parallel(return_as="generator", batch_size=1, pre_dispatch="all", max_nbytes=None)
    try:
        with warnings.catch_warnings():  # loky starts a worker anew that has grown
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            yield lambda function, jobs: run(delayed(function)(*job) for job in jobs)
    except BrokenProcessPool:
        raise RadarError(
            "a process died, perhaps for lack of memory. What is finished is kept; go on with fewer at a time: "
            "parameter workers=1."
        ) from None
    finally:
        get_reusable_executor().shutdown(wait=True)  # idle workers would keep their memory for minutes


def _start(parent: int, threads: int) -> None:
    end_with(parent)
    torch.set_num_threads(threads)


def end_with(parent: int) -> None:
    """End this process as soon as another has ended, even by SIGKILL."""

    def wait() -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(parent).wait()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def launch(module: str, arguments: Sequence[str], *, processes: int, bar: Any, unit: str) -> None:
    """Run a module's `main` as `accelerate launch` does, one process per device; `bar` moves as their bars do.

    Raises:
        RadarError: a process failed; the message is its own where it had one.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}",
               "--num_machines=1", "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no",
               "-m", module, *arguments]  # fmt: skip
    last, error, about = deque(maxlen=15), "", {"stdin": subprocess.DEVNULL, "text": True, "errors": "replace"}
    about |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": os.environ | {PARENT: str(os.getpid())}}
    with subprocess.Popen(command, **about) as launcher:
        try:
            for line in launcher.stdout:
                if not line.startswith(MESSAGE):
                    last.append(line)
                    continue
                message = json.loads(line.removeprefix(MESSAGE))
                error = error or message.get("error", "")
                bar.set_postfix_str(message.get("text", ""), refresh=False)
                bar.update(message["steps"] if message.get("unit") == unit else 0)
        except BaseException:
            launcher.terminate()
            raise
    if launcher.returncode:
        raise RadarError(error or f"{module} in {processes} processes failed. It said last:\n{''.join(last)}")


@contextmanager
def launched() -> Iterator[None]:
    """Around the work of a process that `launch` may have started: it ends with the other, and its error travels."""
    parent = os.environ.get(PARENT)
    if parent:
        end_with(int(parent))
    try:
        yield
    except RadarError as error:
        if parent:
            _send(error=str(error))
        raise


def launched_bar(*, unit: str = "", initial: int = 0, **_: Any) -> tqdm:
    """Stands in for tqdm where `launch` shows the bar."""
    bar, text = tqdm(disable=True), [""]
    bar.set_postfix_str = lambda new, **_: text.append(new)
    bar.update = lambda steps=1: _send(unit=unit, steps=steps, text=text[-1])
    bar.update(initial)
    return bar


def _send(**message: Any) -> None:
    print(f"\n{MESSAGE}{json.dumps(message)}", flush=True)  # a line of its own, whatever stands there
