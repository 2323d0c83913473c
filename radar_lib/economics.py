"""What routing costs and saves: per post, in any one unit of cost (operations, seconds of a device, money).

Without a router every post goes to every module: sum_k c_k. With one it pays the router, c_r, and module k for the
share q_k of posts that it is sent: c_r + sum_k q_k c_k. c_r is the whole path to a decision: decoding, OCR, speech
recognition, and the router's own pass. What the modules need of that path anyway and can take over (decoded frames, a
transcript) is paid either way: `shared`, which stands on both sides.

`metrics.auto_pass` has the share that no module sees, `metrics.normalised_apr` how near to the perfect order one comes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from radar_lib.errors import RadarError
from radar_lib.ranges import Range, check_ranges

SOURCES = ("measured", "operations", "assumed")  # the best founded first


@dataclass(frozen=True)
class Cost:
    """Cost of one post at one step.

    Attributes:
        value: 0 or more.
        unit: such as 'FLOP' or 's'; costs of different units are never added.
        source: whether it was measured, counted from the model's operations, or assumed.
    """

    value: float
    unit: str
    source: Literal["measured", "operations", "assumed"]

    def __post_init__(self) -> None:
        check_ranges(vars(self), {"value": Range(0), "source": SOURCES})


def total(steps: Mapping[str, Cost]) -> Cost:
    """The cost of several steps together: as well founded as its least founded step.

    Raises:
        RadarError: the steps are in different units, or there is none.

    >>> total({"decoding": Cost(0.01, "s", "measured"), "OCR": Cost(1.5, "s", "assumed")})
    Cost(value=1.51, unit='s', source='assumed')
    """
    units = {name: cost.unit for name, cost in steps.items()}
    if len(set(units.values())) != 1:
        raise RadarError(f"costs are in different units, or there is none: {units}. Give all of them in one.")
    source = max((cost.source for cost in steps.values()), key=SOURCES.index)
    return Cost(math.fsum(cost.value for cost in steps.values()), next(iter(units.values())), source)


class Savings(NamedTuple):
    """Cost per post with a router, as a share of the cost without (above 1, the router costs more than it saves), and
    the most that the router may cost before that."""

    cost_ratio: float
    break_even: float


def savings(
    router: float, modules: Sequence[float], dispatch_rates: Sequence[float], *, shared: float = 0.0
) -> Savings:
    """(c_r + sum q_k c_k) / sum c_k, and sum (1 - q_k) c_k; with `shared` added above and below.

    Args:
        router: c_r; modules: c_k; dispatch_rates: q_k, the share of posts that each module is sent.

    >>> savings(0.5, [1.0, 1.0, 2.0], [0.1, 0.2, 0.3])     # (0.5 + 0.9) / 4
    Savings(cost_ratio=0.35, break_even=3.1)
    """
    c, q = _matching(modules, dispatch_rates)
    if not all(math.isfinite(cost) and cost >= 0 for cost in (router, shared)) or not c.sum() + shared > 0:
        raise RadarError("costs must be finite and 0 or more, and those of the modules above 0 together.")
    return Savings(float((shared + router + q @ c) / (shared + c.sum())), float((1 - q) @ c))


def missed_cost(prevalences: Sequence[float], recalls: Sequence[float], costs: Sequence[float]) -> float:
    """Expected cost per post of the violations that are released: sum_k pi_k (1 - R_k) m_k.

    >>> missed_cost([0.04, 0.05], [0.9, 0.95], [100.0, 10.0]).__round__(6)
    0.425
    """
    pi, recall = _matching(prevalences, recalls)
    costs, _ = _matching(costs, pi)
    return float((pi * (1 - recall)) @ costs)


def _matching(values: Sequence[float], shares: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(values, float), np.asarray(shares, float)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise RadarError(f"{one.size} values and {other.size} shares do not fit: give a list of one of each per risk.")
    if not ((other >= 0) & (other <= 1)).all() or not (np.isfinite(one) & (one >= 0)).all():
        raise RadarError("shares must lie between 0 and 1, and values be finite and 0 or more.")
    return one, other
