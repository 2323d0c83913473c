"""A post's own stream of random numbers: everything random about post i comes from (seed, stream, i)."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """Uniform numbers of one post for one purpose, from a counter-based generator keyed by (stream key, index).

    One vectorised call fetches ``chunk`` numbers; drawing from a list is then plain Python, which matters at
    thousands of draws per second and core.
    """

    def __init__(self, key: int, index: int, *, chunk: int = 192):
        self._generator = np.random.Generator(np.random.Philox(key=np.array([key, index], np.uint64)))
        self._chunk, self._numbers, self._next = chunk, [], 0

    def u(self) -> float:
        """Uniform on [0, 1)."""
        if self._next == len(self._numbers):
            self._numbers, self._next = self._generator.random(self._chunk).tolist(), 0
        self._next += 1
        return self._numbers[self._next - 1]

    def chance(self, p: float) -> bool:
        return self.u() < p

    def integer(self, low: int, high: int) -> int:
        """Integer in [low, high], both included."""
        return low + int(self.u() * (high - low + 1))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.u()

    def of(self, items: Sequence[T]) -> T:
        return items[int(self.u() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        order = sorted((self.u(), n) for n in range(len(items)))
        return [items[n] for _, n in order]
