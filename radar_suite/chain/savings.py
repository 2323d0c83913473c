"""The paper's released traffic restated as what is saved after paying for the router, for each backbone.

A post's cost is in seconds where throughput was measured, else in operations (`flops`), counted. A module is taken to
cost what the paper's expert of 8B parameters does: the paper does not state what its modules are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from radar_lib.economics import Cost, savings, total
from radar_lib.models.backbones import BACKBONES
from radar_suite.chain.flops import cost_of

MODULE = "Qwen3-VL-8B"


def savings_table(
    dispatch_rates: Mapping[str, Sequence[float]], *, posts_per_second: Mapping[str, float] | None = None,
    path: Mapping[str, Cost] | None = None, shared: Mapping[str, Cost] | None = None, checkpoints: str = "hub",
    words: float = 128, frames: float = 4, px: int = 384,
) -> pd.DataFrame:  # fmt: skip
    """Cost of a router and a module for one post, cost ratio and break-even, by backbone.

    Args:
        dispatch_rates: of each backbone, the share of posts that each risk's module is sent.
        posts_per_second: measured on one device, of `MODULE` and all backbones; None for operations.
        path, shared: decoding, OCR and speech recognition that only the router needs, and that is paid either way.

    Raises:
        RadarError: a step is in another unit than the models.
    """
    rows = {}
    for name, rates in dispatch_rates.items():
        shape = {"words": words, "frames": frames, "px": px, "rank": 1, "categories": len(rates)}
        own, module = (_cost(which, posts_per_second, checkpoints, shape) for which in (name, MODULE))
        router, either = total({"router": own, **(path or {})}), total({"module": module, **(shared or {})})
        paid = sum(cost.value for cost in (shared or {}).values())
        found = savings(router.value, [module.value] * len(rates), rates, shared=paid)
        source = total({"router": router, "either": either}).source
        rows[name] = {"role": BACKBONES[name].role, "router": router.value, "module": module.value,
                      "unit": router.unit, "source": source, **found._asdict()}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _cost(
    name: str, posts_per_second: Mapping[str, float] | None, checkpoints: str, shape: Mapping[str, float]
) -> Cost:
    if posts_per_second is not None:
        return Cost(1 / posts_per_second[name], "s", "measured")
    counted = cost_of(name, checkpoints, **shape)
    return Cost(counted.text[0] + counted.tower[0], "FLOP", "operations")
