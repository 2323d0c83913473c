"""Runs over several devices: torchrun starts a process for each, and every one of them runs this module on one job.

Each process trains on its share of every batch, gradients are averaged (DDP), the first process writes. The loss curve
is that of one process. The caller's bar follows lines of JSON that the first process prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

from accelerate import PartialState

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_lib.files import read_json, write_json
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, RunSpec, SideFiles, SoftLabels
from radar_lib.training.loop import Execution, no_bar
from radar_lib.training.processes import Message, Report

PATIENCE = timedelta(days=1)  # the others wait while the first process reads posts


def train_over_processes(
    lab: Lab,
    jobs: Sequence[tuple[RunSpec, str]],
    *,
    teacher: SoftLabels | None,
    side: SideFiles | None,
    processes: int,
    on_message: Callable[[Message], None],
) -> None:
    """Train runs one after the other, each in all processes at once; afterwards they are in the lab's cache.

    Args:
        jobs: specifications with their titles.
        processes: how many, one per device.
        on_message: told what the bars of the first process are told.

    Raises:
        RadarError: a process failed; the message is its own where it had one.
    """
    job = {
        "posts": str(lab.posts.folder),
        "cache": str(lab.cache.root),
        "checkpoints": lab.checkpoints,
        "device": lab.device,
        "score_splits": lab.score_splits,
        "checkpoint_seconds": lab.checkpoint_seconds,
        "execution": asdict(lab.execution),
        "encoded_bytes": lab.encoded_bytes,
        "teacher": teacher and teacher.to_json(),
        "side": (side or SideFiles()).to_json(),
        "jobs": [[asdict(spec), title] for spec, title in jobs],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        write_json(path, job)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
                   "-m", "radar_lib.training.launch", str(path)]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as torchrun:
            try:
                error, last = _follow(torchrun.stdout, on_message)
            except BaseException:
                torchrun.terminate()
                raise
    if error or torchrun.returncode:
        raise RadarError(error or f"training over {processes} processes failed. It said last:\n{last}")


def _follow(lines: Iterable[str], on_message: Callable[[Message], None]) -> tuple[str, str]:
    """Pass messages on until the processes end; returns the error that one of them named, and the last other lines."""
    error, last = "", deque(maxlen=15)
    for line in lines:
        if line.startswith('{"message"'):
            on_message(tuple(json.loads(line)["message"]))
        elif line.startswith('{"error"'):
            error = json.loads(line)["error"]
        else:
            last.append(line)
    return error, "".join(last)


def _say(kind: str, content: object) -> None:
    print(json.dumps({kind: content}), flush=True)


def main(path: str) -> None:
    """One of torchrun's processes."""
    job = read_json(path)
    state = PartialState(cpu=job["device"] == "cpu", timeout=PATIENCE)
    lab = Lab(
        open_posts(job["posts"]), Cache(Path(job["cache"])), checkpoints=job["checkpoints"], device=str(state.device),
        score_splits=job["score_splits"], checkpoint_seconds=job["checkpoint_seconds"],
        execution=Execution(**job["execution"]), encoded_bytes=job["encoded_bytes"],
        bar=partial(Report, partial(_say, "message")) if state.is_main_process else no_bar,
    )  # fmt: skip
    teacher, side = SoftLabels.from_json(job["teacher"]), SideFiles.from_json(job["side"])
    try:
        for spec, title in job["jobs"]:
            lab.train(RunSpec.from_json(spec), teacher=teacher, side=side, title=title)
    except RadarError as error:
        _say("error", str(error))
        sys.exit(1)
    state.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
