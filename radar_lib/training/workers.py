"""Functions side by side in processes (joblib) that end with the one that started them, however it ends."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from radar_lib.errors import RadarError

MOST_WORKERS = 4  # each holds Python, torch and a model: about 0.7 GiB with a stand-in


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
