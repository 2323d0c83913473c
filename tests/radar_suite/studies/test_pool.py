"""Re-sampling a pool: exact quotas, cues that rise with the bias, and the same posts as the generator would choose."""

import numpy as np
import pytest

from radar_lib.errors import RadarError
from radar_suite.studies.pool import (
    draw_own_stream,
    draw_training_set,
    intake_normaliser,
    missing_cells,
    plan_pool,
    sample_traffic,
)
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.pipelines import Intake, Signals, quotas, select_annotated
from radar_suite.world.policies import CATEGORIES

SIZES = sizes_of(1500)
DIALS = [Intake(), Intake(6.0), Intake(1.5, 0.7, 1.5)]
PREVALENCES = CorpusConfig.train_prevalence


@pytest.fixture(scope="module", params=[0.0, 1.0])
def world(request):
    config = CorpusConfig(seed=5, train_posts=10_500, test_posts=200, co_violation=request.param)
    return plan_pool(config), request.param


def test_weighted_pool_is_traffic(world):
    pool, level = world
    traffic = sample_traffic(11, level, blocks=12)
    share = pool.weight / pool.weight.sum()
    ours = np.column_stack([pool.truth, pool.signals.cues, pool.truth[:, [0, 0, 1]] & pool.truth[:, [1, 2, 2]]])
    truth = np.random.default_rng(1).random(traffic.posteriors.shape) < traffic.posteriors
    theirs = np.column_stack([truth, traffic.cues, truth[:, [0, 0, 1]] & truth[:, [1, 2, 2]]])
    mean = share @ ours
    error = np.sqrt(np.square(share[:, None] * (ours - mean)).sum(0) + theirs.var(0) / len(theirs))
    assert (np.abs(mean - theirs.mean(0)) < 4 * error + 1e-3).all()


@pytest.mark.parametrize("intake", DIALS)
def test_quotas_are_exact_and_a_post_goes_to_one_pipeline(world, intake):
    pool, _ = world
    drawn = draw_training_set(pool, intake=intake, sizes=SIZES, seed=1)
    assert len(set(drawn.rows)) == len(drawn.rows) == sum(SIZES)
    assert ((drawn.labels >= 0).sum(axis=1) == 1).all()
    found = [[(drawn.labels[:, k] == y).sum() for y in (0, 1)] for k in range(3)]
    assert (np.array(found) == quotas(SIZES, PREVALENCES)).all()


def test_draws_follow_their_seed(world):
    pool, _ = world
    first, again, other = (draw_training_set(pool, intake=Intake(3.0), sizes=SIZES, seed=seed) for seed in (1, 1, 2))
    assert (first.rows == again.rows).all() and (first.labels == again.labels).all()
    assert len(np.intersect1d(first.rows, other.rows)) < len(first.rows)


def test_cues_rise_with_the_bias(world):
    pool, _ = world
    means = []
    for beta in (0.0, 1.5, 3.0, 4.5, 6.0):
        hidden = missing_cells(pool, draw_training_set(pool, intake=Intake(beta), sizes=SIZES, seed=1))
        means.append([hidden[category]["cue_verified"] for category in CATEGORIES])
    assert (np.diff(means, axis=0) > 0).all()


def test_without_bias_cues_are_those_of_traffic_given_the_label(world):
    pool, level = world
    traffic = sample_traffic(11, level, blocks=12)
    drawn = draw_training_set(pool, intake=Intake(), sizes=SIZES, seed=3)
    for k in range(3):
        p = traffic.posteriors[:, k]
        for y, share in ((0, 1 - p), (1, p)):
            own = drawn.labels[:, k] == y
            cue = pool.signals.cues[drawn.rows, k][own]
            expected = (share @ traffic.cues[:, k]) / share.sum()
            assert abs(cue.mean() - expected) < 4 * cue.std() / np.sqrt(own.sum()) + 0.03  # annotators err


@pytest.mark.parametrize("intake", DIALS)
def test_a_cell_is_what_the_generator_would_choose(world, intake):
    """Cues, topics at home and hidden violations of training sets, and of own test streams, against the real thing."""
    pool, level = world
    real = select_annotated(77, "train", "train", sizes_of(3000), PREVALENCES, intake=intake, co_violation=level,
                            noisy=True)  # fmt: skip
    signals = Signals.of(real.facts)
    several = [draw_training_set(pool, intake=intake, sizes=SIZES, seed=seed) for seed in range(4)]
    hidden = [missing_cells(pool, drawn) for drawn in several]
    for k, category in enumerate(CATEGORIES):
        for name in ("cues", "at_home"):
            for y in (0, 1):
                theirs = getattr(signals, name)[real.labels[:, k] == y, k].astype(float)
                ours = np.mean([getattr(pool.signals, name)[d.rows, k][d.labels[:, k] == y].mean() for d in several])
                assert abs(ours - theirs.mean()) < 4 * theirs.std() / np.sqrt(len(theirs)) + 0.04, (name, k, y)
        unverified = real.labels[:, k] < 0
        ours = np.mean([one[category]["violating"] for one in hidden])
        assert abs(ours - real.truth[unverified, k].mean()) < 0.05  # posts of one stream or campaign are alike


def test_own_streams_are_held_out_adjudicated_and_at_test_prevalence(world):
    pool, _ = world
    own = draw_own_stream(pool, intake=Intake(1.5, 0.7, 1.0), posts=300, seed=1)
    drawn = draw_training_set(pool, intake=Intake(), sizes=SIZES, seed=1)
    assert not set(own.rows) & set(drawn.rows)
    known = own.labels >= 0
    assert (own.labels[known] == pool.truth[own.rows][known]).all()
    found = [[(own.labels[:, k] == y).sum() for y in (0, 1)] for k in range(3)]
    assert (np.array(found) == quotas([300] * 3, CorpusConfig.test_prevalence)).all()


def test_normaliser_by_hand():
    positive, chance = np.array([[0.5], [0.0]]), np.array([[1.0], [1.0]])
    assert intake_normaliser(positive, chance).tolist() == [[0.75, 0.25]]
    e = np.exp(-2.0)
    assert intake_normaliser(positive, np.array([[1.0], [e]])) == pytest.approx(np.array([[(0.5 + e) / 2, 0.25]]))


def test_what_a_pool_cannot_give_is_an_error(world):
    pool, _ = world
    with pytest.raises(RadarError, match="the pools cover 0 to 6"):
        draw_training_set(pool, intake=Intake(7.0), sizes=SIZES, seed=1)
    with pytest.raises(RadarError, match="larger pool or fewer posts"):
        draw_training_set(pool, intake=Intake(), sizes=sizes_of(30_000), seed=1)
