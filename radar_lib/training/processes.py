"""Processes that work together: who is who under torchrun, who goes first, one array from all, and their bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import distributed

Message = tuple[str, str, int, str | None]  # title, unit, units done, last words; None for those at the end


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) outside torchrun."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if rank_and_size()[1] > 1:
        distributed.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block while the others wait; they find in the cache what it has written."""
    rank, _ = rank_and_size()
    if rank:
        wait_for_all()
    yield
    if not rank:
        wait_for_all()


def sum_over_processes(array: Shaped[np.ndarray, "*shape"], *, device: str) -> Shaped[np.ndarray, "*shape"]:
    """The sum of the processes' arrays, in each of them; where all but one hold 0 it is exact."""
    if rank_and_size()[1] == 1:
        return array
    tensor = torch.from_numpy(array).to(device)
    distributed.all_reduce(tensor)
    return tensor.cpu().numpy()


class Report:
    """Stands in for tqdm in a process whose bar is elsewhere: it is told on as messages, twice a second at most."""

    def __init__(
        self, send: Callable[[Message], None], *, desc: str = "", unit: str = "", initial: int = 0, **_: Any
    ):  # fmt: skip
        self.send, self.desc, self.unit = send, desc, unit
        self.waiting, self.text, self.sent = initial, "", 0.0

    def update(self, steps: int = 1) -> None:
        self.waiting += steps
        if perf_counter() - self.sent > 0.5:
            self._send(self.text)

    def set_postfix_str(self, text: str) -> None:
        self.text = text

    def close(self) -> None:
        self._send(None)

    def _send(self, text: str | None) -> None:
        self.send((self.desc, self.unit, self.waiting, text))
        self.waiting, self.sent = 0, perf_counter()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
