"""Several runs at once: side by side on a CPU (joblib), or each over several GPUs (accelerate launch).

A small model leaves a second core idle most of the time, so runs side by side are worth more than threads within one.
Each run computes what it would compute alone: nothing is shared but the cache, where a finished run stays finished
whatever happens to the others. Over several GPUs each process trains on its share of every batch and gradients are
averaged (DDP), so the loss curve is that of one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from joblib import cpu_count

from radar_lib.data.posts import open_posts
from radar_lib.models.backbones import checkpoint_folder
from radar_lib.models.text import TextLimit
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Execution, no_bar
from radar_lib.training.specs import Run, RunSpec, SideFiles, SoftLabels
from radar_lib.training.workers import MOST_WORKERS, launch, launched, launched_bar, pool

FEWEST_STEPS = 200  # all runs together; for less, starting processes takes longer than they save
WORKER_BYTES, PER_CHECKPOINT_BYTE = 1 << 30, 8  # float32 copy, gradients and activations of float16 weights
TOGETHER_BYTES = 1 << 28  # checkpoints whose posts one process encodes at the same time
PATIENCE = timedelta(days=1)  # the others wait while the first process reads posts

Job = tuple[RunSpec, str]  # with its title


def train_all(
    lab: Lab, specs: Sequence[RunSpec], *, titles: Sequence[str], teacher: SoftLabels | None = None,
    side: SideFiles | None = None, workers: int = 0, desc: str = "training",
) -> list[Run]:  # fmt: skip
    """The runs of these specifications, in their order; those not in the cache are trained, several at a time.

    Args:
        titles: what progress bars and errors call each run.
        teacher, side: of every run; each reads what its recipe needs.
        workers: runs at a time; 0 for one per core, as work and memory allow, at most `MOST_WORKERS`. On GPUs one.
        desc: what the bar over all of them is called.

    Raises:
        RadarError: as `Lab.train`, or a process died.
    """
    every, count = list(zip(specs, titles, strict=True)), worker_count(lab, specs, workers)
    files, before = {"teacher": teacher, "side": side}, torch.get_num_threads()
    if lab.device == "cpu":
        torch.set_num_threads(max(1, cpu_count() // count))  # the same for one run that is left of many
    try:
        jobs = [job for job in every if not lab.finished(job[0], **files)]
        if count > 1 and len(jobs) > 1:
            train_side_by_side(lab, jobs, **files, workers=min(count, len(jobs)), desc=desc)
        elif jobs and lab.device == "cuda" and torch.cuda.device_count() > 1:
            train_over_processes(lab, jobs, **files, processes=torch.cuda.device_count(), desc=desc)
        return [lab.train(spec, **files, title=title) for spec, title in every]
    finally:
        torch.set_num_threads(before)


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
    return max(1, min(cpu_count(), len(specs), MOST_WORKERS, fitting))


def train_side_by_side(
    lab: Lab, jobs: Sequence[Job], *, teacher: SoftLabels | None, side: SideFiles | None, workers: int, desc: str
) -> None:
    """Train runs in `workers` processes with as many threads as this one; afterwards they are in the lab's cache."""
    lab.release()
    read = dict.fromkeys(("train", "validation", *lab.score_splits))  # curves need validation, whatever is scored
    splits = {split: lab.posts.splits[split] for split in read if split in lab.posts.splits}
    reads = _reads(lab, list(dict.fromkeys(spec for spec, _ in jobs)), splits)
    together: dict[Any, list[Job]] = {}  # runs of a backbone whose posts each process must read for itself
    for i, (spec, title) in enumerate(jobs):
        together.setdefault(i if lab.shares_encoded(spec.backbone) else spec.backbone, []).append((spec, title))
    groups = sorted(together.values(), key=lambda group: _cost(lab, group[0][0]), reverse=True)
    own, shared = ([g for g in groups if lab.shares_encoded(g[0][0].backbone) == kept] for kept in (False, True))
    # Those that share posts are scored when all have begun, so that no process is left with the last run; whoever is to
    # score one that another process still trains waits for it.
    tasks = [(group, True, _trained(lab, group) + _scored(lab, group)) for group in own]
    tasks += [(group, False, _trained(lab, group)) for group in shared]
    tasks += [(group, True, _scored(lab, group)) for group in shared]
    phases = [
        ("reading posts", [len(names) * splits[split] for names, split in reads], _read, reads),
        (desc, [posts for *_, posts in tasks], _train, [(*task[:2], teacher, side) for task in tasks]),
    ]
    about = describe(lab, readers=workers)
    with pool(workers, threads=torch.get_num_threads()) as results:
        for title, sizes, function, what in phases:
            with lab.bar(total=sum(sizes), desc=title, unit="post", mininterval=2) as bar:
                for size, _ in zip(sizes, results(function, [(about, *one) for one in what]), strict=True):
                    bar.update(size)


def train_over_processes(
    lab: Lab, jobs: Sequence[Job], *, teacher: SoftLabels | None, side: SideFiles | None, processes: int, desc: str
) -> None:
    """Train runs one after the other, each in all processes at once, one per device; then they are in the lab's cache.

    Raises:
        RadarError: as `launch`.
    """
    lab.release()
    side = side or SideFiles()
    files = {"teacher": teacher, "propensity": side.propensity, "imputed": side.imputed}
    job = {
        "lab": describe(lab), "jobs": [[asdict(spec), title] for spec, title in jobs],
        "prior": dict(side.prior), "files": {name: str(file.path) for name, file in files.items() if file},
    }  # fmt: skip
    with lab.bar(total=sum(lab.steps(spec) for spec, _ in jobs), desc=desc, unit="step", mininterval=2) as bar:
        launch(__name__, [json.dumps(job)], processes=processes, bar=bar, unit="step")


def describe(lab: Lab, **changes: Any) -> str:
    """What another process rebuilds a lab from, with some options of `Lab` changed, as JSON."""
    names = ("checkpoints", "device", "score_splits", "checkpoint_seconds", "encoded_bytes")
    about = {name: getattr(lab, name) for name in names} | changes
    about |= {"execution": asdict(lab.execution), "text": asdict(lab.text)}
    return json.dumps(about | {"posts": str(lab.posts.folder), "cache": str(lab.cache.root)})


@lru_cache(1)
def rebuild(about: str) -> Lab:
    """The lab that `describe` described, without bars; one process keeps one, with its backbone, from job to job."""
    options = json.loads(about)
    options |= {"execution": Execution(**options["execution"]), "text": TextLimit(**options["text"])}
    return Lab(open_posts(options.pop("posts")), Cache(Path(options.pop("cache"))), bar=no_bar, **options)


def _reads(lab: Lab, specs: Sequence[RunSpec], splits: Mapping[str, int]) -> list[tuple[list[str], str]]:
    """Backbones and split of each reading, the largest first: all backbones at once where their weights are small."""
    weights = {spec.backbone: _weights(lab, spec) for spec in specs if lab.shares_encoded(spec.backbone)}
    together = [list(weights)] if sum(weights.values()) < TOGETHER_BYTES else [[name] for name in weights]
    absent = {split: {name for name in weights if not lab.encoded_entry(name, split).complete} for split in splits}
    reads = [([name for name in names if name in absent[split]], split) for split in splits for names in together]
    return sorted((read for read in reads if read[0]), key=lambda read: -len(read[0]) * splits[read[1]])


def _read(about: str, backbones: Sequence[str], split: str) -> None:
    rebuild(about).encode_together(backbones, split)


def _train(about: str, group: Sequence[Job], score: bool, teacher: SoftLabels | None, side: SideFiles | None) -> None:
    lab = rebuild(about)
    for spec, title in group:
        (lab.train if score else lab.fit)(spec, teacher=teacher, side=side, title=title)


def _trained(lab: Lab, group: Sequence[Job]) -> int:
    """Posts that training these runs reads, each as often as it does."""
    return sum(lab.steps(spec) * spec.recipe.batch_size for spec, _ in group)


def _scored(lab: Lab, group: Sequence[Job]) -> int:
    return len(group) * sum(lab.posts.splits[split] for split in lab.score_splits)


def _cost(lab: Lab, spec: RunSpec) -> tuple[bool, float]:
    """Orders runs by expected work: the longest should not start last. First come those that train their own tower."""
    return not lab.shares_encoded(spec.backbone), float(lab.steps(spec) * spec.recipe.batch_size * _weights(lab, spec))


def _weights(lab: Lab, spec: RunSpec) -> int:
    """Bytes of a run's checkpoint. A Hub checkpoint's are not known before it is there, so it counts as large."""
    folder = checkpoint_folder(lab.checkpoint(spec.backbone))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder else 1 << 34


def main(text: str) -> None:
    """One of the processes of `train_over_processes`."""
    job = json.loads(text)
    lab, files = rebuild(job["lab"]), {name: SoftLabels.open(path) for name, path in job["files"].items()}
    state = PartialState(cpu=lab.device == "cpu", timeout=PATIENCE)
    lab.device, lab.bar = str(state.device), launched_bar if state.is_main_process else no_bar
    teacher, side = files.pop("teacher", None), SideFiles(job["prior"], **files)
    for spec, title in job["jobs"]:
        lab.train(RunSpec.from_json(spec), teacher=teacher, side=side, title=title)
    state.destroy_process_group()


if __name__ == "__main__":
    with launched():
        main(sys.argv[1])
