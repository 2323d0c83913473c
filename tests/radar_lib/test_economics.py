"""Costs against a platform that is simulated post by post."""


import numpy as np
import pytest

from radar_lib.economics import Cost, missed_cost, savings, total
from radar_lib.errors import RadarError

MODULES, MISSED = np.array([1.0, 3.0, 7.0]), np.array([50.0, 20.0, 5.0])


@pytest.fixture
def day():
    """Labels and dispatches of a day's posts."""
    random = np.random.default_rng(1)
    labels = random.random((5000, 3)) < (0.05, 0.04, 0.03)
    return labels, random.random((5000, 3)) < np.where(labels, 0.9, 0.15)


def test_savings_are_those_of_paying_post_by_post(day):
    _, sent = day
    paid = sum(0.4 + 0.2 + float(MODULES[post].sum()) for post in sent) / len(sent)
    found = savings(0.4, MODULES, sent.mean(axis=0), shared=0.2)
    assert found.cost_ratio == pytest.approx(paid / (0.2 + MODULES.sum()))
    at = savings(found.break_even, MODULES, sent.mean(axis=0), shared=0.2)
    assert at.cost_ratio == pytest.approx(1.0)


def test_missed_violations_cost_what_they_cost_one_by_one(day):
    labels, sent = day
    lost = sum(float(MISSED[k]) for post in range(5000) for k in range(3) if labels[post, k] and not sent[post, k])
    prevalences = labels.mean(axis=0)
    recalls = (labels & sent).sum(axis=0) / labels.sum(axis=0)
    assert missed_cost(prevalences, recalls, MISSED) == pytest.approx(lost / 5000)


@pytest.mark.parametrize(
    "call",
    [
        lambda: total({"a": Cost(1, "s", "measured"), "b": Cost(1, "FLOP", "operations")}),
        lambda: total({}),
        lambda: Cost(-1, "s", "measured"),
        lambda: savings(0.1, [1.0, 2.0], [0.5]),
        lambda: savings(0.1, [1.0], [1.5]),
        lambda: savings(-0.1, [1.0], [0.5]),
        lambda: savings(0.1, [0.0], [0.5]),
        lambda: missed_cost([0.1], [1.2], [1.0]),
        lambda: missed_cost([0.1], [0.9], [1.0, 2.0]),
        lambda: missed_cost([0.1], [0.9], [float("nan")]),
        lambda: missed_cost([0.1], [0.9], [-1.0]),
        lambda: missed_cost([-0.1], [0.9], [1.0]),
        lambda: missed_cost([1.5], [0.9], [1.0]),
        lambda: savings(float("nan"), [1.0], [0.5]),
        lambda: savings(0.1, 1.0, 0.5),
        lambda: Cost(1, "s", "guessed"),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(RadarError):
        call()
