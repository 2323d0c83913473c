"""The benchmark's own path at a tiny size: the one that a GPU takes, with random weights, and the corpus lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from radar_lib.intervals import draws
from radar_lib.metrics import apr_at_recall
from radar_lib.models.backbones import quiet_transformers
from radar_suite.chain.flops import config_of

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import bench_training

    return bench_training


def tiny():
    """Qwen3-VL-4B's configuration with its widths and depths cut."""
    config = config_of("Qwen3-VL-4B")
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 16}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "depth": 3, "num_heads": 2, "out_hidden_size": 32,
              "deepstack_visual_indexes": [0, 1, 2]}  # fmt: skip
    for part, values in ((config.text_config, text), (config.vision_config, vision)):
        for name, value in values.items():
            setattr(part, name, value)
    config.text_config.rope_parameters["mrope_section"] = [4, 2, 2]
    return config


def test_ours_and_the_ordinary_recipe_at_a_tiny_true_geometry(bench):
    with quiet_transformers():
        case = bench.random_case(tiny(), device="cpu", posts=16, batch=4, rank=2, px=64, text=(4, 12), frames=2)
        with bench.stock_tower():
            plain = bench.random_backbone(tiny(), device="cpu", dtype=case.backbone.model.dtype, px=64)
    plain.model.load_state_dict(case.backbone.model.state_dict(), assign=True)
    record = bench.compare(case, plain, repeats=1)
    lines = {line["line"]: line for line in record["lines"]}
    assert record["same_batches"]["steps"] == 4 and record["same_batches"]["largest_difference"] < 1e-4
    assert lines[bench.ORDINARY]["times_the_ordinary"] == 1
    assert all(line["posts_per_second"] > 0 and 0 <= line["mfu"] < 1 for line in lines.values())
    assert "train: ours, no cached features" not in lines  # one epoch: nothing is cached
    assert record["gflop_per_post"]["inference"] < record["gflop_per_post"]["step"]
    json.dumps(record, allow_nan=False)


def test_posts_of_the_benchmark_have_the_stated_shape(bench):
    with quiet_transformers():
        case = bench.random_case(tiny(), device="cpu", posts=8, batch=4, rank=2, px=64, text=(4, 12))
    for post in case.posts:
        assert len(post.frame_tokens) == 4 and sum(post.frame_tokens) == 16
        assert 4 <= post.n_tokens - 16 <= 12


def test_intervals_and_the_scikit_learn_loop_at_a_tiny_size(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import bench_metrics

    record = bench_metrics.metrics_record(posts=300, replicates=20, repeats=1)
    assert len(record["lines"]) == 5 and all(line["median_ms"] > 0 for line in record["lines"])
    assert record["times_faster_than_the_loop"] > 0
    json.dumps(record, allow_nan=False)

    generator = np.random.default_rng(0)
    labels = (generator.random(300) < 0.2).astype(np.int8)
    scores = np.round(generator.normal(size=300) + labels, 1)
    weights = draws(np.random.default_rng(5), 20, 300)
    expected = apr_at_recall(labels, scores, recall=0.9, weights=weights)
    assert bench_metrics.sklearn_loop(labels, scores, 20, 5) == expected.tolist()  # the loop is no straw man


def test_the_committed_speed_meets_its_bars():
    record = json.loads((PROJECT / "benchmarks" / "records" / "metrics-cpu.json").read_text())
    lines = {line["line"]: line for line in record["lines"]}
    assert lines["PR-AUC interval"]["median_ms"] <= 20 and record["times_faster_than_the_loop"] >= 10


def test_committed_records_say_where_they_come_from():
    records = [json.loads(path.read_text()) for path in (PROJECT / "benchmarks" / "records").glob("*.json")]
    assert records and all(record["device"] and record["date"] and record["lines"] for record in records
                           if "lines" in record)  # fmt: skip
