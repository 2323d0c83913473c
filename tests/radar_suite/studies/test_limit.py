"""The limit of either loss: against a simulated table of labels, and the classic result on random annotation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radar_lib.evidence import AVERAGE
from radar_suite.studies.limit import label_chance, limit_map, limit_scores
from radar_suite.studies.pool import BLIND, Cell
from radar_suite.world.pipelines import Intake, Signals

NO_ERRORS = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def kinds(generator, n=6):
    """A world of n kinds of post, all equally frequent."""
    return Signals(generator.random((n, 3)), generator.random((n, 3)) < 0.5, generator.uniform(0.05, 0.9, (n, 3)))


def test_limits_are_the_label_frequencies_of_a_simulated_table():
    """Draw posts pipeline by pipeline and label by label as the generator does, and count."""
    generator = np.random.default_rng(2)
    posts, intake = kinds(generator), Intake(2.0, 0.6, 0.8)
    sizes, prevalences = (800, 300, 600), (0.25, 0.2, 0.1)
    masked, unmasked = limit_scores(posts, intake=intake, sizes=sizes, prevalences=prevalences, errors=NO_ERRORS)
    positive, reviewed, seen = np.zeros((6, 3)), np.zeros((6, 3)), np.zeros(6)
    for k in range(3):
        for y, count in ((1, sizes[k] * prevalences[k]), (0, sizes[k] * (1 - prevalences[k]))):
            p = posts.posteriors[:, k]
            share = (p if y else 1 - p) * intake.chance(posts)[:, k]
            drawn = generator.multinomial(round(400 * count), share / share.sum())
            seen += drawn
            reviewed[:, k] += drawn
            positive[:, k] += y * drawn
    assert np.abs(positive / reviewed - masked).max() < 0.02
    assert np.abs(positive / seen[:, None] - unmasked).max() < 0.02


@given(st.integers(0, 10_000), st.floats(0, 6), st.floats(0, 0.99), st.floats(0, 3))
def test_a_mask_ranks_as_the_posterior_at_every_setting(seed, beta, focus, overlap):
    posts = kinds(np.random.default_rng(seed))
    masked, _ = limit_scores(posts, intake=Intake(beta, focus, overlap))
    assert (np.argsort(masked, axis=0) == np.argsort(posts.posteriors, axis=0)).all()


@given(st.integers(0, 10_000))
def test_without_mask_the_ranking_stays_where_other_pipelines_do_not_choose(seed):
    """Elkan and Noto: one violation in question, everything else the same for every post."""
    generator = np.random.default_rng(seed)
    posteriors = np.column_stack([generator.uniform(0.05, 0.9, 6), np.full(6, 0.1), np.full(6, 0.2)])
    posts = Signals(np.full((6, 3), 0.3), np.ones((6, 3), bool), posteriors)
    _, unmasked = limit_scores(posts, intake=Intake(4.0, 0.5))
    assert (np.argsort(unmasked[:, 0]) == np.argsort(posteriors[:, 0])).all()


def test_co_violation_buries_violations_without_a_mask():
    """Two posts alike for the first risk; the second also violates another one, whose pipeline took it."""
    posteriors = np.vstack([[[0.6, 0.02, 0.02], [0.6, 0.9, 0.02]], np.full((60, 3), 0.02)])
    posts = Signals(np.zeros((62, 3)), np.zeros((62, 3), bool), posteriors)
    masked, unmasked = limit_scores(posts, intake=Intake())
    assert masked[0, 0] == masked[1, 0] and unmasked[1, 0] < 0.9 * unmasked[0, 0]


def test_annotators_errors_keep_the_order():
    p = np.linspace(0, 1, 9)[:, None].repeat(3, axis=1)
    assert (np.diff(label_chance(p), axis=0) > 0).all()
    assert label_chance(p, (0.1,) * 3, (0.2,) * 3)[[0, -1], 0] == pytest.approx([0.2, 0.9])


def test_in_the_limit_a_mask_does_not_lose():
    dials = (Intake(), Intake(6.0), Intake(1.5, 0.7), Intake(1.5, 0.7, 1.5))
    found = limit_map([Cell(intake, level) for level in (0.0, 1.0) for intake in dials], seed=3, blocks=4)
    area = found[found["metric"] == "PR-AUC"]
    assert (area.loc[area["population"] == BLIND, "gain"] > -0.005).all()
    keys = ["population", "beta", "focus", "overlap", "co_violation"]
    average = area[area["category"] == AVERAGE].set_index(keys)["gain"].sort_index()
    assert average[BLIND, 0.0, 0.0, 0.0, 1.0] > average[BLIND, 0.0, 0.0, 0.0, 0.0]
    assert average[BLIND, 1.5, 0.7, 1.5, 1.0] > average[BLIND, 1.5, 0.7, 0.0, 1.0]  # overlap buries violations
    parts = area[area["category"] != AVERAGE].groupby(keys)["gain"].mean()
    assert np.allclose(parts.sort_index(), average)


def test_the_simulations_error_is_what_other_worlds_differ_by():
    """Batch means within a world against the spread over worlds."""
    worlds = [limit_map([Cell(Intake(), 1.0)], seed=seed, blocks=4) for seed in range(10)]
    gains = np.array([world["gain"].to_numpy() for world in worlds])[:, worlds[0]["metric"] == "PR-AUC"]
    said = np.array([world["gain_se"].to_numpy() for world in worlds])[:, worlds[0]["metric"] == "PR-AUC"]
    ratio = np.sqrt(np.square(said).mean(axis=0)) / gains.std(axis=0, ddof=1)
    assert ((ratio > 0.5) & (ratio < 2)).all()
