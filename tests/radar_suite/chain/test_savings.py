"""What a router saves, by hand from the counted operations, and from measured throughput."""

import pytest

from radar_lib.economics import Cost
from radar_lib.errors import RadarError
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


def test_measured_seconds_count_and_so_do_the_steps_before_the_models():
    rates, speed = {"Qwen3-VL-2B": (0.1, 0.3)}, {"Qwen3-VL-2B": 50.0, MODULE: 10.0}
    row = savings_table(rates, posts_per_second=speed).iloc[0]
    assert row["cost_ratio"] == pytest.approx((0.02 + 0.4 * 0.1) / 0.2) and row["source"] == "measured"
    ocr = {"OCR": Cost(0.03, "s", "assumed")}
    more, both = (savings_table(rates, posts_per_second=speed, **{side: ocr}).iloc[0] for side in ("path", "shared"))
    assert more["cost_ratio"] == pytest.approx((0.05 + 0.4 * 0.1) / 0.2) and more["source"] == "assumed"
    assert both["cost_ratio"] == pytest.approx((0.05 + 0.4 * 0.1) / 0.23) and both["source"] == "assumed"
    with pytest.raises(RadarError, match="units"):
        savings_table(rates, path=ocr)
