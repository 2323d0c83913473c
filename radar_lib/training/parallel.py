"""Several runs at once on CPUs: one process per core, each reading or training on its own, all into the same cache.

A small model leaves a second core idle most of the time, so runs side by side are worth more than threads within one.
Each run computes what it would compute alone: nothing is shared but the cache, where a finished run stays finished
whatever happens to the others. On a GPU the runs follow each other; several GPUs train each run together.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
import torch

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_lib.models.backbones import checkpoint_folder
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, Run, RunSpec, SideFiles, SoftLabels
from radar_lib.training.launch import train_over_processes
from radar_lib.training.processes import Message, Report

FEWEST_STEPS = 200  # all runs together; for less, starting processes takes longer than they save
MOST_WORKERS = 4  # each holds Python, torch and a model: about 0.7 GiB with a stand-in
WORKER_BYTES, PER_CHECKPOINT_BYTE = 1 << 30, 8  # float32 copy, gradients and activations of float16 weights

_lab: Lab | None = None  # of a worker process


def train_all(
    lab: Lab,
    specs: Sequence[RunSpec],
    *,
    titles: Sequence[str],
    teacher: SoftLabels | None = None,
    side: SideFiles | None = None,
    workers: int = 0,
    desc: str = "training",
) -> list[Run]:
    """The runs of these specifications, in their order; those not in the cache are trained, several at a time.

    Args:
        titles: what progress bars and errors call each run.
        teacher, side: of every run; each reads what its recipe needs.
        workers: runs at a time; 0 for one per core, as work and memory allow, at most `MOST_WORKERS`. On GPUs one.
        desc: what the bar over all of them is called.

    Raises:
        RadarError: as `Lab.train`, or a process died.
    """
    count = worker_count(lab, specs, workers)
    with _threads(max(1, _cores() // count), on=lab.device == "cpu"):  # the same for one run that is left of many
        jobs = [(spec, title) for spec, title in zip(specs, titles, strict=True)
                if not lab.entry(spec, teacher=teacher, side=side).complete]  # fmt: skip
        if count > 1 and len(jobs) > 1:
            lab.release()
            _train_in_processes(lab, jobs, partial(_train, teacher=teacher, side=side), min(count, len(jobs)), desc)
        elif jobs and (devices := _devices(lab)) > 1:
            lab.release()
            said: dict[str, str] = {}
            with lab.bar(total=sum(lab.steps(spec) for spec, _ in jobs), desc=desc, unit="step", mininterval=2) as bar:
                show = partial(_show, bar, "step", said)
                train_over_processes(lab, jobs, teacher=teacher, side=side, processes=devices, on_message=show)
        return [lab.train(spec, teacher=teacher, side=side, title=title)
                for spec, title in zip(specs, titles, strict=True)]  # fmt: skip


def side_by_side(function: Callable[..., Any], jobs: Sequence[tuple], *, workers: int = 0) -> Iterator[Any]:
    """Results of `function(*job)` for each job, in order, from processes with one thread each; one: in this process.

    Args:
        function: of a module, so that processes can import it; what it returns travels back.
        workers: processes at a time; 0 for one per core, at most `MOST_WORKERS`.

    Raises:
        RadarError: a process died.
    """
    workers = min(workers or _cores(), MOST_WORKERS, len(jobs))
    if workers <= 1:
        yield from (function(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_plain)
    try:
        for future in [pool.submit(function, *job) for job in jobs]:
            yield future.result()
    except BrokenProcessPool:
        raise RadarError(
            "a process died, perhaps for lack of memory. What is finished is kept; go on with fewer at a time: "
            "workers=1."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def worker_count(lab: Lab, specs: Sequence[RunSpec], workers: int = 0) -> int:
    """How many of these runs to train at once."""
    if lab.device != "cpu":
        return 1
    if workers:
        return max(1, min(workers, len(specs)))
    if sum(lab.steps(spec) for spec in specs) < FEWEST_STEPS:
        return 1
    largest = max((_weights(lab, spec) for spec in specs), default=0)
    fitting = psutil.virtual_memory().available // (WORKER_BYTES + PER_CHECKPOINT_BYTE * largest)
    return max(1, min(_cores(), len(specs), MOST_WORKERS, fitting))


def _devices(lab: Lab) -> int:
    """GPUs that train each run together; one where the lab names one."""
    return torch.cuda.device_count() if lab.device == "cuda" else 1


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _weights(lab: Lab, spec: RunSpec) -> int:
    """Bytes of a run's checkpoint. A Hub checkpoint's are not known before it is there, so it counts as large."""
    folder = checkpoint_folder(lab.checkpoint(spec.backbone))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder else 1 << 34


@contextmanager
def _threads(number: int, *, on: bool) -> Iterator[None]:
    before = torch.get_num_threads()
    if on:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_in_processes(
    lab: Lab, jobs: Sequence[tuple[RunSpec, str]], do: Callable[[Sequence[tuple[RunSpec, str]]], None], workers: int,
    desc: str,
) -> None:  # fmt: skip
    context = multiprocessing.get_context("spawn")  # no copies of this process's threads
    messages = context.Queue()
    rebuild = {
        "checkpoints": lab.checkpoints, "score_splits": lab.score_splits, "checkpoint_seconds": lab.checkpoint_seconds,
        "execution": lab.execution, "encoded_bytes": lab.encoded_bytes, "readers": workers,
    }  # fmt: skip
    start = (lab.posts.folder, lab.cache.root, rebuild, messages, torch.get_num_threads())
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=start)
    try:
        splits = {split: lab.posts.splits[split] for split in ("train", *lab.score_splits)}
        reads = [(name, split) for name in dict.fromkeys(spec.backbone for spec, _ in jobs) for split in splits
                 if lab.shares_encoded(name) and not lab.encoded_entry(name, split).complete]  # fmt: skip
        reads.sort(key=lambda read: -splits[read[1]])
        total = sum(splits[split] for _, split in reads)
        with lab.bar(total=total, desc="reading posts", unit="post", mininterval=2) as bar:
            _follow([pool.submit(_read, *read) for read in reads], messages, bar, unit="post")
        groups = sorted(_together(lab, jobs), key=lambda group: _cost(lab, group[0][0]), reverse=True)
        total = sum(lab.steps(spec) for spec, _ in jobs)
        with lab.bar(total=total, desc=desc, unit="step", mininterval=2) as bar:
            _follow([pool.submit(do, group) for group in groups], messages, bar, unit="step")
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise RadarError(
                "a training process died, perhaps for lack of memory. Finished runs are kept; go on with fewer at a "
                "time: parameter workers=1."
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _together(lab: Lab, jobs: Sequence[tuple[RunSpec, str]]) -> list[list[tuple[RunSpec, str]]]:
    """One group per run, but one per backbone where reading the posts is part of each run's process."""
    groups: dict[Any, list[tuple[RunSpec, str]]] = {}
    for number, (spec, title) in enumerate(jobs):
        groups.setdefault(number if lab.shares_encoded(spec.backbone) else spec.backbone, []).append((spec, title))
    return list(groups.values())


def _cost(lab: Lab, spec: RunSpec) -> tuple[bool, float]:
    """Orders runs by expected work: the longest should not start last. First come those that train their own tower."""
    return not lab.shares_encoded(spec.backbone), float(lab.steps(spec) * spec.recipe.batch_size * _weights(lab, spec))


def _follow(futures: Sequence[Future], messages: Any, bar: Any, *, unit: str) -> None:
    """Move the bar by what the workers say in its unit, until all futures are done; the first failure is raised."""
    said: dict[str, str] = {}
    while True:
        done = all(future.done() for future in futures)
        failed = next((f for f in futures if f.done() and not f.cancelled() and f.exception()), None)
        if failed is not None:
            failed.result()
        try:
            while True:
                # where all are done, the last words may still be under way
                _show(bar, unit, said, messages.get(timeout=0.2 if done else 0.5))
        except Empty:
            if done:
                return


def _show(bar: Any, unit: str, said: dict[str, str], message: Message) -> None:
    title, its_unit, units, text = message
    bar.update(units if its_unit == unit else 0)
    said[title] = text
    if text is None:
        del said[title]
    bar.set_postfix_str("; ".join(f"{name} {value}" for name, value in said.items() if value))


def _start(folder: Path, root: Path, rebuild: dict[str, Any], messages: Any, threads: int) -> None:
    """Prepare a worker: its own lab, and an end when its parent ends."""
    global _lab
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _lab = Lab(open_posts(folder), Cache(root), bar=partial(Report, messages.put), **rebuild)


def _start_plain() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _read(backbone: str, split: str) -> None:
    _lab.encoded(backbone, split)


def _train(group: Sequence[tuple[RunSpec, str]], *, teacher: SoftLabels | None, side: SideFiles | None) -> None:
    for spec, title in group:
        _lab.train(spec, teacher=teacher, side=side, title=title)
