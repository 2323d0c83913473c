"""Which posts go together: in a fold, in an optimiser step, in each process's micro-batches of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Int
from torch import Tensor

Item = TypeVar("Item")


class BatchSource(Protocol):
    """Posts ready for one backbone: how long each is, and a batch of any of them for each entry of a plan, in order."""

    lengths: Sequence[int]

    def batches(self, plan: Iterable[Sequence[int]]) -> Iterator[dict[str, Tensor]]: ...


def part_of(post_ids: Sequence[str], count: int) -> Int[np.ndarray, " post"]:
    """The part of each post, from 0 to `count` - 1, by a hash of its id: the same in any order, split and machine.

    >>> part_of([f"post-{i}" for i in range(8)], 2).tolist()
    [1, 1, 1, 0, 1, 0, 0, 1]
    """
    digests = (hashlib.blake2b(str(post).encode(), digest_size=8).digest() for post in post_ids)
    return np.array([int.from_bytes(digest, "big") % count for digest in digests], dtype=np.int64)


def epoch_batches(lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches of one epoch: shuffled, yet of similar lengths, so that little is padding.

    Posts are shuffled, cut into pools of 16 batches, sorted by length within a pool, and the batches are shuffled
    again. Each post appears exactly once.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    length = np.asarray(lengths)
    pools = [order[start : start + 16 * batch_size] for start in range(0, len(order), 16 * batch_size)]
    batches = []
    for pool in pools:
        pool = pool[np.argsort(length[pool], kind="stable")]
        batches += [pool[start : start + batch_size] for start in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def run_batches(
    lengths: Sequence[int], *, epochs: int, batch_size: int, seed: int, first: int = 0
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(step, epoch, indices) of a whole run, from step `first` on."""
    step = 0
    for epoch in range(epochs):
        for indices in epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch):
            if step >= first:
                yield step, epoch, indices
            step += 1


def micro_batches(
    indices: Int[np.ndarray, " post"], *, process: int = 0, processes: int = 1, accumulate: int = 1
) -> list[tuple[Int[np.ndarray, " post"], float]]:
    """One process's share of a batch cut into `accumulate` micro-batches over all processes, with each one's weight.

    Losses are means over posts, gradients of micro-batches add up and those of processes are averaged. A micro-batch
    of n of the batch's N posts therefore weighs n * processes / N, and the sum is the gradient of the whole batch
    however it is cut. All processes must meet in a backward pass, so one without posts takes one at weight 0.
    """
    mine = indices[process::processes]
    if not len(mine):
        return [(indices[:1], 0.0)]
    parts = np.array_split(mine, min(math.ceil(accumulate / processes), len(mine)))
    return [(part, len(part) * processes / len(indices)) for part in parts]


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made by a thread while the one before it is in use."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item
