"""What a number may be, said once: compared with a value, and printed in the error."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from radar_lib.errors import RadarError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Attributes:
        above: `low` itself is none of them.

    >>> 0.5 in Range(0, 1), 1.5 in Range(0, 1), True in Range(0, 1), 0 in Range(0, above=True)
    (True, False, False, False)
    >>> print(Range(0, 1), Range(1), Range(0, above=True), sep="; ")
    from 0 to 1; 1 or more; above 0
    """

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool) or value == math.inf:
            return False
        return self.low < value <= self.high or (value == self.low and not self.above)

    def __str__(self) -> str:
        low, high = f"{self.low:,}", f"{self.high:,}"
        if self.above:
            return f"above {low}" + ("" if self.high == math.inf else f", at most {high}")
        return f"{low} or more" if self.high == math.inf else f"from {low} to {high}"


SHARE, POSITIVE, COUNT = Range(0, 1), Range(0, above=True), Range(1)
SEED = Range(0, 2**31 - 1)  # what torch, numpy and scikit-learn take, and room to count up


def check_ranges(values: Mapping[str, Any], ranges: Mapping[str, Container[Any]]) -> None:
    """Compare values with the ranges of their names; one without a range, and None, which is no value, may be there.

    Raises:
        RadarError: one lies outside; the message has its name, value and range.
    """
    for name, value in values.items():
        if name in ranges and value is not None and value not in ranges[name]:
            raise RadarError(f"{name} is {value!r}; it must be {ranges[name]}.")
