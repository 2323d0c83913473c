"""The paper's released traffic restated as what is saved after paying for the router, for each backbone.

Costs are operations of one post (`flops`), counted and not measured. A module is taken to cost what the paper's expert
of 8B parameters does: the paper does not state what its modules are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from radar_lib.economics import Cost, savings, total
from radar_lib.models.backbones import BACKBONES
from radar_suite.chain.flops import cost_of

MODULE = "Qwen3-VL-8B"


def savings_table(
    dispatch_rates: Mapping[str, Sequence[float]], *, checkpoints: str = "hub", words: float = 128, frames: float = 4,
    px: int = 384, shared: float = 0.0,
) -> pd.DataFrame:  # fmt: skip
    """Operations of a router and its modules for one post, cost ratio and break-even, by backbone.

    Args:
        dispatch_rates: of each backbone, the share of posts that each risk's module is sent.
        shared: operations before both, paid either way (decoding, OCR, speech recognition).
    """
    rows = {}
    for name, rates in dispatch_rates.items():
        shape = {"words": words, "frames": frames, "px": px, "rank": 1, "categories": len(rates)}
        router, module = (_cost(which, checkpoints, shape) for which in (name, MODULE))
        found = savings(router.value, [module.value] * len(rates), rates, shared=shared)
        rows[name] = {"role": BACKBONES[name].role, "router": router.value, "module": module.value,
                      "unit": router.unit, "source": router.source, **found._asdict()}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def _cost(name: str, checkpoints: str, shape: Mapping[str, float]) -> Cost:
    counted = cost_of(name, checkpoints, **shape)
    parts = {"text": counted.text[0], "tower": counted.tower[0]}
    return total({part: Cost(value, "FLOP", "operations") for part, value in parts.items()})
