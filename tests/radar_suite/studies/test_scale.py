"""The study `scale`: parts of one corpus, gaps that are differences of the rows, and a whole run at its smallest."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.metrics import average_precision, score_table
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_suite.report.comparison import study_values
from radar_suite.report.experiments import EXPERT_BACKBONE
from radar_suite.report.record import read_record
from radar_suite.studies import scale
from radar_suite.studies.heads import head_logits
from radar_suite.studies.stage import Stage
from radar_suite.world.policies import CATEGORIES


def some_labels(n, seed=0):
    """One verified cell a post."""
    rng = np.random.default_rng(seed)
    labels = np.full((n, 3), -1, np.int8)
    labels[np.arange(n), rng.integers(0, 3, n)] = rng.random(n) < 0.3
    return labels


def test_smaller_corpora_are_parts_of_larger_ones_with_their_shares():
    labels = some_labels(1600)
    small, large = (scale.part_of_all(labels, share) for share in (1 / 16, 1 / 4))
    assert set(small) <= set(large) and len(scale.part_of_all(labels, 1.0)) == 1600
    for k in range(3):
        for y in (0, 1):
            whole = (labels[:, k] == y).sum()
            assert abs((labels[large, k] == y).sum() - whole / 4) <= 0.5


def test_gaps_are_differences_of_the_rows():
    rng = np.random.default_rng(1)
    truth = some_labels(900)
    logits = {row: rng.normal(size=truth.shape) + n * (truth == 1)
              for n, row in enumerate((scale.UNMASKED, scale.MASKED, scale.LARGER, scale.DISTILLED))}  # fmt: skip
    for line in scale.gap_lines(truth, logits, seed=1):
        ours, theirs = (score_table(truth, logits[line[name]], CATEGORIES)[line["category"]][line["metric"]]
                        for name in ("row", "against"))  # fmt: skip
        assert (line["value"], line["other"], line["gain"]) == pytest.approx((ours, theirs, ours - theirs))
        assert line["low"] <= line["gain"] <= line["high"]


def test_a_distilled_head_follows_experts_that_know_more(monkeypatch):
    """Only the experts' features show the risks; a student whose own features do show them learns more from experts."""
    rng = np.random.default_rng(2)
    truth = rng.random((1500, 3)) < 0.3
    labels = np.full((1500, 3), -1, np.int8)
    rows, own = np.arange(900), rng.integers(0, 3, 1500)
    labels[rows, own[:900]] = truth[rows, own[:900]]
    seen = (3.0 * truth @ rng.normal(size=(3, 8)) + rng.normal(size=(1500, 8))).astype(np.float32)
    clear = np.concatenate([8.0 * truth - 4, rng.normal(size=(1500, 3))], axis=1).astype(np.float32)
    features = {scale.TINY: seen, scale.SMALL: seen, EXPERT_BACKBONE: clear}
    monkeypatch.setattr(scale, "HeadRecipe", partial(scale.HeadRecipe, epochs=30))
    heads = scale.train_rows(features, rows, labels, lam=0.5, seed=1)
    areas = {row: np.mean([average_precision(truth[900:, k], head_logits(seen[900:], head)[:, k]) for k in range(3)])
             for row, head in heads.items()}  # fmt: skip
    assert set(areas) == {row for pair in scale.GAPS.values() for row in pair}
    assert areas[scale.DISTILLED] > areas[scale.LARGER]


@pytest.mark.slow
def test_a_whole_study_at_its_smallest_is_recorded_and_trains_nothing_twice(stage, monkeypatch):
    monkeypatch.setattr(scale, "FROZEN", (1, 2))
    monkeypatch.setattr(scale, "TUNED", (1, 2))
    scale.study(stage)
    lines = pd.read_csv(stage.workspace.path("figures/scale.csv"))
    assert len(lines) == 2 * 2 * 2 * len(scale.GAPS) * 4 * 4
    assert lines.groupby("times")["training_posts"].unique().map(list).to_dict() == {1: [60], 2: [120]}
    kept = read_record(stage.record_path)
    means = kept.set_index("study").loc["scale"].groupby(["row", "category", "metric"])["value"].mean()
    for line in lines.to_dict("records"):
        assert study_values("scale", line, means) == pytest.approx(
            {n: line[n] for n in ("value", "other", "gain")}, abs=1e-5
        )
    monkeypatch.setattr("radar_suite.studies.frozen.encode_slice", None)
    monkeypatch.setattr(Lab, "_fine_tune", None)
    before = stage.workspace.path("figures/scale.csv").read_bytes()
    scale.study(stage)
    assert stage.workspace.path("figures/scale.csv").read_bytes() == before


def test_imported_posts_cannot_be_made_more(posts, tmp_path):
    lab = Lab(posts, Cache(tmp_path), checkpoints=str(tmp_path))
    with pytest.raises(RadarError, match="imported posts cannot be made more"):
        scale.study(Stage(None, lab, None, None, 1, 1, {}))
