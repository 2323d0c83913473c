"""What a number may be, said once: held against a value, and printed in the error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from radar_lib.errors import RadarError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; a list holds one or more of them.

    Attributes:
        above: `low` itself is none of them.

    >>> 0.5 in Range(0, 1), [0, 1] in Range(0, 1), [] in Range(0, 1), 0 in Range(0, above=True)
    (True, True, False, False)
    >>> print(Range(0, 1), Range(1), Range(0, above=True), sep="; ")
    from 0 to 1; 1 or more; above 0
    """

    low: float
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            return len(value) > 0 and all(one in self for one in value)
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


def check_ranges(values: Any, **ranges: Range) -> None:
    """Hold fields of an object against their ranges; None, where a field has no value, is not looked at.

    Raises:
        RadarError: one lies outside; the message has its name, value and range.
    """
    for name, allowed in ranges.items():
        value = getattr(values, name)
        if value is not None and value not in allowed:
            raise RadarError(f"{name} is {value!r}; it must be {allowed}.")
