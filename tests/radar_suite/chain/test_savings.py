"""What a router saves, by hand from the counted operations."""

import pytest

from radar_lib.models.backbones import BACKBONES
from radar_suite.chain.flops import cost_of
from radar_suite.chain.savings import MODULE, savings_table


def test_savings_are_worked_out_from_the_counted_operations():
    table = savings_table({name: (0.2, 0.2, 0.2) for name in BACKBONES})
    shape = {"words": 128, "frames": 4, "px": 384, "rank": 1, "categories": 3}
    for name, row in table.iterrows():
        router, module = (sum((c.text[0], c.tower[0])) for c in (cost_of(n, "hub", **shape) for n in (name, MODULE)))
        assert row["cost_ratio"] == pytest.approx(router / (3 * module) + 0.2)
        assert row["break_even"] == pytest.approx(2.4 * module) and row["source"] == "operations"
    family = table.loc[["Qwen3-VL-2B", "Qwen3-VL-4B", "Qwen3-VL-8B"], "cost_ratio"]
    assert family.is_monotonic_increasing and family.iloc[-1] == pytest.approx(1 / 3 + 0.2)


def test_what_is_paid_either_way_makes_the_saving_smaller():
    rates = {"Qwen3-VL-2B": (0.1, 0.3)}
    plain, shared = savings_table(rates), savings_table(rates, shared=1e13)
    assert plain["cost_ratio"].item() < shared["cost_ratio"].item() < 1
