"""Reliability by hand, and the share of violations among the cells that nobody verified."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from radar_lib.data.posts import write_corpus
from radar_suite.report import teacher_audit


def test_reliability_of_a_calibrated_and_of_an_over_confident_teacher():
    random = np.random.default_rng(0)
    logits = random.normal(size=40_000)
    labels = (random.random(40_000) < expit(logits)).astype(np.int8)
    bins = teacher_audit.reliability_bins(labels, logits)
    assert ((bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])).sum() >= 8
    assert len(bins) == 10 and bins["posts"].sum() == 40_000 and bins["predicted"].is_monotonic_increasing
    assert teacher_audit.calibration_error(labels, logits) < 0.01
    assert teacher_audit.calibration_error(labels, 3 * logits) > 0.1


def test_calibration_error_by_hand():
    labels, logits = np.array([0, 1, 1, 1]), logit(np.array([0.2, 0.2, 0.6, 0.6]))
    assert teacher_audit.calibration_error(labels, logits, bins=2) == pytest.approx((0.3 + 0.4) / 2)
    quality = teacher_audit.quality(labels, logits)
    assert quality["observed rate"] == 0.75 and quality["mean probability"] == pytest.approx(0.4)
    assert quality["agreement"] == 0.75 and quality["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)  # chance: 1/2
    assert quality["log loss"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())


def test_expected_violations_are_counted_in_unverified_cells_only():
    labels = np.array([[1, -1], [-1, 0], [-1, -1]], np.int8)
    teacher = logit(np.array([[0.9, 0.1], [0.25, 0.5], [0.75, 0.3]]))
    mass = teacher_audit.unverified_mass(labels, teacher, ("A", "B"))
    assert mass["expected violations among them"].tolist() == pytest.approx([1.0, 0.4])
    assert mass["unverified cells"].tolist() == [2, 2]


def test_hidden_truth_comes_in_the_order_of_the_split_and_is_absent_for_real_posts(tmp_path):
    rows = [{"post_id": name, "split": "train", "label_X": 0} for name in "cab"]
    posts = write_corpus(tmp_path / "posts", rows, name="toy", kind="imported", categories=("X",))
    assert teacher_audit.hidden_truth(posts, "train") is None
    (posts.folder / "hidden").mkdir()
    truth = pd.DataFrame({"post_id": list("abc"), "true_X": [1, 0, 1]})
    truth.to_parquet(posts.folder / "hidden/truth.parquet")
    assert teacher_audit.hidden_truth(posts, "train").ravel().tolist() == [1, 1, 0]
