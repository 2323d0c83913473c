"""Processes that train one run together: who is who under torchrun, who goes first, and one array from all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import distributed

from radar_lib.training.cache import Entry, Work


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) outside torchrun."""
    together = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if rank_and_size()[1] > 1:
        distributed.barrier()


def make_together(entry: Entry, work: Work, *, device: str, scratch: Collection[str] = ()) -> dict[str, Any]:
    """`Entry.make` of work that all processes do together: the first one holds the entry, and calls the others."""
    rank, begun = rank_and_size()[0], False

    def call(others: bool) -> bool:
        return bool(sum_over_processes(np.array([others], np.int64), device=device)[0])

    def lead(folder: Path) -> Any:
        nonlocal begun
        begun = call(True)
        return work(folder)

    if rank == 0:
        entry.make(lead, scratch=scratch)
        if not begun:
            call(False)
    elif call(False):
        work(entry.workplace)
    wait_for_all()
    return entry.record()


def sum_over_processes(array: Shaped[np.ndarray, "*shape"], *, device: str) -> Shaped[np.ndarray, "*shape"]:
    """The sum of the processes' arrays, in each of them; where all but one hold 0 it is exact."""
    if rank_and_size()[1] == 1:
        return array
    tensor = torch.from_numpy(array).to(device)
    distributed.all_reduce(tensor)
    return tensor.cpu().numpy()
