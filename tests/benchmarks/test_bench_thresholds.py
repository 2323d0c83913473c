"""The guarantee's benchmark at a few runs, and its committed record."""

import sys
from pathlib import Path

from radar_lib.files import read_json

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_record_is_of_this_benchmark_and_meets_its_bar(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    from bench_thresholds import thresholds_record

    new, record = thresholds_record(runs=60), read_json(BENCHMARKS / "records" / "thresholds.json")
    assert record["bar_met"]
    sure = ("positives", "recall", "scores", "rank", "exact", "naive_exact", "refused", "required")
    for one, other in zip(new["lines"], record["lines"], strict=True):
        assert {name: one.get(name) for name in sure} == {name: other.get(name) for name in sure}
    assert [line["positives"] for line in record["lines"] if line.get("refused")] == [29, 29]
