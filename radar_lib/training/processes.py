"""Processes that train one run together: who is who under torchrun, who goes first, and one array from all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Shaped
from torch import distributed


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) outside torchrun."""
    together = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if rank_and_size()[1] > 1:
        distributed.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block while the others wait; they find in the cache what it has written."""
    first = rank_and_size()[0] == 0
    if not first:
        wait_for_all()
    yield
    if first:
        wait_for_all()


def sum_over_processes(array: Shaped[np.ndarray, "*shape"], *, device: str) -> Shaped[np.ndarray, "*shape"]:
    """The sum of the processes' arrays, in each of them; where all but one hold 0 it is exact."""
    if rank_and_size()[1] == 1:
        return array
    tensor = torch.from_numpy(array).to(device)
    distributed.all_reduce(tensor)
    return tensor.cpu().numpy()
