"""Propensities of a pool drawn by the corpus' own selection are calibrated; estimated ones find what decides."""

import numpy as np
import pytest
from scipy.special import softmax

from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, SideFiles
from radar_lib.training.loop import no_bar
from radar_suite.studies.propensities import (
    estimated_propensities,
    kept_estimated,
    known_propensities,
    unverified_shares,
)
from radar_suite.world.pipelines import Intake, Signals, select_annotated

INTAKE = Intake(beta=3.0, focus=0.5, overlap=1.0)


@pytest.fixture(scope="module")
def pool():
    sizes, prevalences = (2000, 750, 1500), (0.255, 0.177, 0.09)
    return select_annotated(5, "train", "train", sizes, prevalences, intake=INTAKE, co_violation=0.9, noisy=True)


def misfit(propensity, verified, bins=10):
    """Largest distance of a bin's share of verified cells from its mean propensity, in standard errors."""
    parts = np.array_split(np.argsort(propensity, kind="stable"), bins)
    errors = [np.sqrt((propensity[part] * (1 - propensity[part])).sum()) for part in parts]
    return max(abs((verified[part] - propensity[part]).sum()) / error
               for part, error in zip(parts, errors, strict=True))  # fmt: skip


def test_known_propensities_are_calibrated_on_the_pool_and_naive_ones_are_not(pool):
    signals = Signals.of(pool.facts)
    intake = INTAKE.chance(signals)
    found = known_propensities(intake, signals.posteriors, pool.labels)
    valid = pool.labels >= 0
    assert np.allclose(found.sum(axis=1), 1) and (found > 0).all()
    assert np.allclose(found.sum(axis=0), valid.sum(axis=0))
    naive = intake * valid.sum(axis=0) / intake.sum(axis=0)
    naive /= naive.sum(axis=1, keepdims=True)
    for k in range(3):
        assert misfit(found[:, k], valid[:, k]) < 3
    assert max(misfit(naive[:, k], valid[:, k]) for k in range(3)) > 4


def test_weights_by_known_propensities_bring_the_whole_pool_back(pool):
    signals = Signals.of(pool.facts)
    found, cues = known_propensities(INTAKE.chance(signals), signals.posteriors, pool.labels), signals.cues
    for k in range(3):
        known = pool.labels[:, k] >= 0
        plain, weights = cues[known, k].mean(), 1 / found[known, k]
        weighted, everyone = np.average(cues[known, k], weights=weights), cues[:, k].mean()
        assert abs(weighted - everyone) < 0.25 * abs(plain - everyone)


def test_posts_of_several_pipelines_have_no_known_propensities():
    with pytest.raises(ValueError, match="one pipeline each"):
        known_propensities(np.ones((2, 2)), np.full((2, 2), 0.1), np.array([[1, 0], [-1, 0]], np.int8),
                           missed=(0, 0), false_alarm=(0, 0))  # fmt: skip


def test_estimated_propensities_are_close_to_those_that_drew_the_masks():
    random = np.random.default_rng(0)
    features = random.normal(size=(3000, 4))
    truth = softmax(features[:, :3] * 1.5, axis=1)
    owner = (truth.cumsum(axis=1) > random.random((3000, 1))).argmax(axis=1)
    labels = np.where(np.arange(3) == owner[:, None], 0, -1).astype(np.int8)
    found = estimated_propensities(features, labels, seed=1)
    assert np.allclose(found.sum(axis=1), 1) and np.abs(found - truth).mean() < 0.02


@pytest.mark.parametrize("categories", [1, 3, 7])
def test_cross_fitting_keeps_chance_features_from_knowing_the_mask(categories):
    random = np.random.default_rng(1)
    features = random.normal(size=(120, 60))  # enough to tell all posts apart
    several = random.integers(-1, 2, (120, categories)).astype(np.int8)
    several[:, 0] = 0  # one risk that everybody verifies
    one = np.where(np.arange(categories) == random.integers(categories, size=(120, 1)), 0, -1).astype(np.int8)
    for labels in (one, several):
        found, valid = estimated_propensities(features, labels, seed=1), labels >= 0
        assert ((found >= 0) & (found <= 1 + 1e-9)).all()
        shared = valid.all(axis=0)
        assert np.array_equal(found[:, shared], np.ones((120, shared.sum())))
        if not shared.all():
            unsure, known = found[:, ~shared], valid[:, ~shared]
            assert abs(unsure[known].mean() - unsure[~known].mean()) < 0.25  # in sample 0.45 and more


def test_priors_are_means_over_unverified_cells():
    labels = np.array([[1, -1], [-1, -1], [-1, 0]], np.int8)
    values = np.array([[9.0, 0.2], [0.5, 0.4], [0.1, 9.0]])
    assert unverified_shares(values, labels, ("A", "B")) == pytest.approx({"A": 0.3, "B": 0.3})
    assert unverified_shares(values, np.zeros_like(labels), ("A", "B")) == {"A": 0.0, "B": 0.0}
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        unverified_shares(values, -np.ones_like(labels), ("A", "B"))


def test_estimates_are_kept_and_read_as_they_were_found(posts, checkpoints, tmp_path, monkeypatch):
    lab = Lab(posts, Cache(tmp_path), checkpoints=str(checkpoints), bar=no_bar)
    file = kept_estimated(lab, "Qwen3-VL-8B", seed=1)
    ids = lab.table("train")["post_id"].tolist()[::-1]
    read = SideFiles(propensity=file).read(("propensity",), ids, posts.categories).propensity.numpy()
    assert np.allclose(read.sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr("radar_suite.studies.propensities.estimated_propensities", None)  # it is in the cache now
    assert kept_estimated(lab, "Qwen3-VL-8B", seed=1) == file
