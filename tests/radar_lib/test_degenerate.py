"""All functions of metrics and intervals on degenerate input: a named error, or a warning and NaN."""

import inspect
import warnings
from functools import partial

import numpy as np
import pytest

from radar_lib import intervals, metrics, seed_intervals
from radar_lib.metrics import DegenerateWarning

NAN, INF = np.nan, np.inf
POSTS = {
    "no positive": ([0, 0, 0], [1.0, 2.0, 3.0]),
    "no post": ([], []),
    "nan": ([1, 0, 1], [1.0, NAN, 2.0]),
    "infinite": ([1, 0, 1], [1.0, INF, 2.0]),
    "unequal": ([1, 0], [1.0]),
    "matrix": ([[1, 0]], [[1.0, 2.0]]),
    "not verified": ([1, -1, 0], [1.0, 2.0, 3.0]),
    "tied": ([1, 0, 1, 0, 0], [2.0] * 5),
    "no negative": ([1, 1, 1], [1.0, 2.0, 3.0]),
    "one post": ([1], [2.0]),
    "one cleared post": ([0], [2.0]),
}
REFUSED = {"no positive": "no violating post", "no post": "no post", "nan": "NaN or infinite",
           "infinite": "NaN or infinite", "unequal": "one length", "matrix": "two vectors",
           "not verified": "not verified", "one cleared post": "no violating post",
           "no negative": "no cleared post", "one post": "no cleared post"}  # fmt: skip
STATE_THE_DISPATCH = ("pr_curve", "threshold_at_recall")
R60, R90 = partial(metrics.recall_at_precision, precision=0.6), partial(metrics.apr_at_recall, recall=0.9)

# Functions of labels and scores.
OF_POSTS = {
    "pr_curve": metrics.pr_curve,
    "average_precision": metrics.average_precision,
    "pr_auc_trapezoid": metrics.pr_auc_trapezoid,
    "recall_at_precision": R60,
    "apr_at_recall": R90,
    "auto_pass": lambda y, s: metrics.auto_pass(y[:, None], s[:, None], recall=0.9),
    "threshold_at_recall": partial(metrics.threshold_at_recall, recall=0.9),
    "table_metrics": metrics.table_metrics,
    "score_table": lambda y, s: metrics.score_table(y[:, None], s[:, None], ["risk"]),
    "average_precision_influence": intervals.average_precision_influence,
    "average_precision_interval": intervals.average_precision_interval,
    "average_precision_difference": lambda y, s: intervals.average_precision_difference(y, s, s[::-1]),
    "bootstrap_interval": partial(intervals.bootstrap_interval, R90, replicates=50, seed=1),
    "bootstrap_difference": lambda y, s: intervals.bootstrap_difference(R90, y, s, s[::-1], replicates=50, seed=1),
}
# The others, each with calls and what they must raise or give: a message, or values (NaN for NaN).
FEW = np.array([0.1, NAN, NAN, NAN])
POINT = intervals.Interval(1.0, NAN, NAN)
NOTHING, UNDEFINED = intervals.Interval(NAN, NAN, NAN), intervals.Difference(NAN, NAN, NAN, 1.0)
UNKNOWN = intervals.Difference(0.5, NAN, NAN, 1.0)
OTHERS = {
    "normalised_apr": [(lambda f: f(0.5, recall=0.9, prevalence=1.0), "prevalence is 1"),
                       (lambda f: f(NAN, recall=0.9, prevalence=0.1), "apr is nan"),
                       (lambda f: f(0.5, recall=0.0, prevalence=0.1), "recall is 0")],
    "uninformed_metrics": [(lambda f: f(NAN), "prevalence is nan"), (lambda f: f(0.1, recalls=[0.0]), "recall is 0"),
                           (lambda f: tuple(f(0.0).values())[:2], (0, 0))],
    "logit_interval": [(lambda f: f(1.0, 0.0), (1, NAN, NAN)), (lambda f: f(0.0, 0.0), (0, NAN, NAN)),
                       (lambda f: f(NAN, NAN), (NAN, NAN, NAN)), (lambda f: f(0.5, NAN), (0.5, NAN, NAN))],
    "student_difference": [(lambda f: f(0.2, 0.0), (0.2, NAN, NAN, 1)), (lambda f: f(NAN, 0.0), (NAN, NAN, NAN, 1)),
                           (lambda f: f(0.0, 0.0), (0, 0, 0, 1)), (lambda f: f(0.0, NAN), (0, NAN, NAN, 1))],
    "percentile_interval": [(lambda f: f(0.2, FEW), "3 of 4 replicates"),
                            (lambda f: f(0.2, np.ones(4)), (0.2, NAN, NAN)), (lambda f: f(NAN, FEW), (NAN, NAN, NAN))],
    "replicate_difference": [(lambda f: f(0.2, FEW), "3 of 4 replicates"),
                             (lambda f: f(0.0, np.zeros(4)), (0, 0, 0, 1)),
                             (lambda f: f(0.2, np.ones(4)), (0.2, NAN, NAN, 1)),
                             (lambda f: f(NAN, FEW), (NAN, NAN, NAN, 1))],
    "sum_within": [(lambda f: f(np.ones(3), np.zeros(3, int)), (3,)), (lambda f: f(np.ones(2), None), (1, 1))],
    "count_groups": [(lambda f: (f(np.zeros(3, int)), f(np.arange(3), among=np.array([True, False, False]))), (1, 1)),
                     (lambda f: (f(None) is None,), (True,))],
    "standard_error": [(lambda f: (f(np.ones(1), 1), f(np.zeros(3)), f(np.zeros(3), 3)), (NAN, 0, 0))],
    "bootstrap": [(lambda f: f(lambda weights: weights.sum(-1), posts=3, replicates=1, seed=1), "replicates is 1")],
    "quantile": [(lambda f: f(1.0), "level is 1"), (lambda f: f(NAN), "level is nan")],
    "draws": [(lambda f: f(np.random.default_rng(0), 2, 0).shape, (2, 0))],
    "recall_at_precision_is_reliable": [(lambda f: (f(NAN), f(0.0)), (False, False))],
    "seed_interval": [(lambda f: f([0.5]), "1 run"), (lambda f: f([]), "0 run"),
                      (lambda f: f([0.1] * 3), (NAN, NAN)), (lambda f: f([0.1, NAN]), (NAN, NAN, NAN)),
                      (lambda f: f([0.0] * 3), (0, NAN, NAN))],
    "seed_difference": [(lambda f: f([0.5] * 3, [0.5] * 3), (0, 0, 0, 1)),
                        (lambda f: f([0.5, NAN], [0.4, 0.4]), (NAN, NAN, NAN, 1)),
                        (lambda f: f([0.5], [0.4]), "1 run"), (lambda f: f([0.5] * 3, [0.5]), "1 run")],
    "combined_interval": [(lambda f: f(NOTHING, [1.0, NAN]), (NAN, NAN, NAN)),
                          (lambda f: f(POINT, [1.0]), "1 run"), (lambda f: f(POINT, [1.0, 1.0]), POINT)],
    "combined_difference": [(lambda f: f(UNDEFINED, [1.0, NAN], [0.5, 0.4]), UNDEFINED),
                            (lambda f: f(UNKNOWN, [1.0], [0.5]), "1 run"),
                            (lambda f: f(UNKNOWN, [1.0], [0.5, 0.4]), "1 run"),
                            (lambda f: f(UNKNOWN, [1.0, 0.9], [0.5, 0.4]), UNKNOWN)],
}  # fmt: skip


def public(module):
    """Functions that a module defines for others."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name for name, function in members if function.__module__ == module.__name__ and name[0] != "_"}


def test_every_public_function_is_here():
    assert set(OF_POSTS) | set(OTHERS) == public(metrics) | public(intervals) | public(seed_intervals)


@pytest.mark.parametrize("kind", POSTS)
@pytest.mark.parametrize("name", OF_POSTS)
def test_posts_that_decide_nothing_are_refused_or_flagged(name, kind):
    labels, scores = np.array(POSTS[kind][0]), np.array(POSTS[kind][1])
    if name == "score_table" and kind in ("not verified", "unequal", "matrix"):
        return  # takes a table, of which it reads verified cells only: test_metrics.py
    if kind in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[kind]):
            OF_POSTS[name](labels, scores)
        return
    with pytest.warns(DegenerateWarning, match=r"all scores are equal \(5 posts\)"):
        found = OF_POSTS[name](labels, scores)
    if name in STATE_THE_DISPATCH:
        assert np.isfinite(np.array(found)).all()
    elif name == "score_table":
        metrics_of = ("PR-AUC", "R@P60", "APR@R90", "APR@R95")
        assert np.isnan([found[part][metric] for part in found for metric in metrics_of]).all()
        assert found["risk"]["prevalence"] == 0.4
    elif name.endswith("_difference"):
        assert np.isnan(found[:3]).all() and found.p_value == 1
    else:
        assert np.isnan(list(found.values()) if isinstance(found, dict) else found).all()


@pytest.mark.parametrize("name", ["average_precision_difference", "bootstrap_difference"])
def test_a_difference_from_equal_scores_is_undefined(name):
    labels, scores, tied = np.array([1, 0, 1, 0, 0] * 4), np.arange(20.0), np.zeros(20)
    options = {"replicates": 50, "seed": 1} if name == "bootstrap_difference" else {}
    metric = [R90] if options else []
    with pytest.warns(DegenerateWarning):
        found = getattr(intervals, name)(*metric, labels, scores, tied, **options)
    assert np.isnan(found[:3]).all() and found.p_value == 1


def test_a_risk_without_verified_cells_is_named():
    with pytest.raises(ValueError, match="B: no post"):
        metrics.score_table(np.array([[1, -1], [0, -1]]), np.array([[1.0, NAN], [0.0, NAN]]), ["A", "B"])


@pytest.mark.parametrize("weights", [[1.0, NAN, 1.0], [1, -1, 1], [INF, 1.0, 1.0]])
def test_weights_count_posts(weights):
    for name in ("average_precision", "recall_at_precision", "apr_at_recall", "table_metrics"):
        with pytest.raises(ValueError, match="weights count posts"):
            OF_POSTS[name](np.array([1, 0, 1]), np.array([1.0, 2.0, 3.0]), weights=np.array(weights))


def test_rows_of_weights_that_decide_nothing_are_nan():
    labels, scores = np.array([1, 0, 0]), np.array([1.0, 0.0, 1.0])
    kinds = {"all": [1, 1, 1], "no violating": [0, 2, 1], "no cleared": [3, 0, 0], "none": [0, 0, 0], "tied": [1, 0, 2]}
    for kind in (np.uint8, float):
        found = metrics.table_metrics(labels, scores, weights=np.array(list(kinds.values()), dtype=kind))
        for values in found.values():
            assert np.isnan(values).tolist() == [False, True, True, True, False]
        assert found["PR-AUC"][-1] == 1 / 3
        with pytest.warns(DegenerateWarning):
            tied = metrics.average_precision(labels, np.ones(3), weights=np.ones((2, 3), dtype=kind))
        assert np.isnan(tied).all()


@pytest.mark.parametrize("name, call, expected", [(name, *case) for name, cases in OTHERS.items() for case in cases])
def test_the_other_functions(name, call, expected):
    function = next(vars(module)[name] for module in (metrics, intervals, seed_intervals) if name in vars(module))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            call(function)
        return
    with warnings.catch_warnings(action="error"):
        found = call(function)
    np.testing.assert_array_equal(found[-len(expected) :], expected)
