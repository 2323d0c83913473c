"""Reliability of a teacher by hand, and of ones that are calibrated and over-confident."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from radar_suite.report import teacher_audit


def test_reliability_of_a_calibrated_and_of_an_over_confident_teacher():
    random = np.random.default_rng(0)
    logits = random.normal(size=40_000)
    labels = (random.random(40_000) < expit(logits)).astype(np.int8)
    bins = teacher_audit.reliability_bins(labels, logits)
    assert ((bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])).sum() >= 8
    assert len(bins) == 10 and bins["posts"].sum() == 40_000 and bins["predicted"].is_monotonic_increasing
    assert teacher_audit.quality(labels, logits)["calibration error"] < 0.01
    assert teacher_audit.quality(labels, 3 * logits)["calibration error"] > 0.1


def test_quality_by_hand():
    labels, logits = np.array([0, 1, 1, 1]), logit(np.array([0.2, 0.2, 0.6, 0.6]))
    bins = teacher_audit.reliability_bins(labels, logits, bins=2)
    by_hand = [[0.2, 0.5, 2], [0.6, 1, 2]]
    np.testing.assert_allclose(bins[["predicted", "observed", "posts"]], by_hand)
    quality = teacher_audit.quality(labels, logits)
    assert quality["observed rate"] == 0.75 and quality["mean probability"] == pytest.approx(0.4)
    assert quality["agreement"] == 0.75 and quality["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)  # chance: 1/2
    assert quality["log loss"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())
    assert quality["calibration error"] == pytest.approx((0.2 + 0.8 + 0.4 + 0.4) / 4)  # a group per cell
    one_kind = teacher_audit.quality(np.zeros(3, np.int8), np.zeros(3))
    assert np.isnan(one_kind["PR-AUC"]) and np.isnan(one_kind["kappa"])
