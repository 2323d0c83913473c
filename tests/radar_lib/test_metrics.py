"""The metrics against scikit-learn and against a search over every possible threshold, ties included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from radar_lib import metrics
from radar_lib.metrics import (
    apr_at_recall,
    auto_pass,
    average_precision,
    normalised_apr,
    pr_auc_trapezoid,
    pr_curve,
    recall_at_precision,
    score_table,
    table_metrics,
    threshold_at_recall,
)

FRACTIONS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 0.95, 1.0)


def case(seed: int):
    """Labels of both kinds and float32 logits, not all equal; two cases of three have ties."""
    generator = np.random.default_rng(seed)
    posts = int(generator.integers(2, 40))
    labels = (generator.random(posts) < generator.choice([0.05, 0.3, 0.8])).astype(np.int8)
    labels[generator.choice(posts, 2, replace=False)] = 1, 0
    scores = np.round((generator.normal(size=posts) + labels).astype(np.float32), int(generator.choice([0, 1, 6])))
    scores[0] += np.ptp(scores) == 0
    return labels, scores


def tells_apart(labels, scores):
    """Whether a metric is defined: posts of both kinds, and two different scores."""
    return len(np.unique(labels)) == 2 and len(np.unique(scores)) > 1


def brute_force_recall_at_precision(labels, scores, precision):
    best = 0.0
    for tau in np.r_[-np.inf, np.unique(scores)]:
        sent = scores > tau
        if sent.any() and labels[sent].mean() >= precision:
            best = max(best, labels[sent].sum() / labels.sum())
    return best


def brute_force_apr(labels, scores, recall):
    return max(
        (scores <= tau).mean()
        for tau in np.r_[-np.inf, np.unique(scores)]
        if labels[scores > tau].sum() / labels.sum() >= recall
    )


def brute_force_auto_pass(labels, scores, recall):
    released = np.ones(len(labels), bool)
    for y, z in zip(labels.T, scores.T, strict=True):
        released &= z <= threshold_at_recall(y, z, recall=recall)
    return released.mean()


@pytest.mark.parametrize("seed", range(200))
def test_auto_pass_is_what_every_threshold_releases_and_a_weight_is_a_repeated_post(seed):
    generator = np.random.default_rng(seed)
    (posts, risks), recall = generator.integers([4, 1], [40, 4]), float(generator.choice(FRACTIONS))
    labels = (generator.random((posts, risks)) < 0.3).astype(np.int8)
    labels[:2] = [[1], [0]]
    scores = np.round(generator.normal(size=labels.shape) + labels, int(generator.choice([0, 6])))
    scores[0] += np.ptp(scores, axis=0) == 0
    found = auto_pass(labels, scores, recall=recall)
    assert found == pytest.approx(brute_force_auto_pass(labels, scores, recall), abs=1e-12)
    each = [apr_at_recall(y, z, recall=recall) for y, z in zip(labels.T, scores.T, strict=True)]
    assert found <= min(each) + 1e-12 and (risks > 1 or found == pytest.approx(each[0]))
    weights = generator.integers(0, 3, (3, posts))
    weights[:, :2] += 1
    repeated = [auto_pass(np.repeat(labels, w, axis=0), np.repeat(scores, w, axis=0), recall=recall) for w in weights
                if all(np.ptp(np.repeat(z, w)) for z in scores.T)]  # fmt: skip
    if len(repeated) == len(weights):
        np.testing.assert_allclose(auto_pass(labels, scores, recall=recall, weights=weights), repeated, atol=1e-12)


def test_a_model_that_orders_no_post_of_a_risk_has_no_auto_pass():
    labels, scores = np.array([[1, 0], [0, 1], [0, 0]]), np.array([[2.0, 1], [1, 1], [0, 1]])
    with pytest.warns(metrics.DegenerateWarning):
        assert math.isnan(auto_pass(labels, scores, recall=0.9))


def test_four_hundred_random_cases():
    for seed in range(1000):
        labels, scores = case(seed)
        fraction = FRACTIONS[seed % len(FRACTIONS)]
        assert math.isclose(average_precision(labels, scores), average_precision_score(labels, scores)), seed
        precision, recall, thresholds = precision_recall_curve(labels, scores)
        assert math.isclose(pr_auc_trapezoid(labels, scores), auc(recall, precision)), seed
        curve = pr_curve(labels, scores)  # scikit-learn's up to full recall
        np.testing.assert_allclose([curve.precision, curve.recall], [precision[-2::-1], recall[-2::-1]])
        np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
        expected = brute_force_recall_at_precision(labels, scores, fraction)
        assert math.isclose(recall_at_precision(labels, scores, precision=fraction), expected), seed
        apr = apr_at_recall(labels, scores, recall=fraction)
        assert math.isclose(apr, brute_force_apr(labels, scores, fraction)), seed
        tau = threshold_at_recall(labels, scores, recall=fraction)
        assert labels[scores > tau].sum() / labels.sum() >= fraction, seed
        assert math.isclose((scores <= tau).mean(), apr), seed


def test_average_precision_by_hand_with_a_tie():
    labels, scores = np.array([1, 1, 0, 1, 0]), np.array([3.0, 2.0, 2.0, 1.0, 0.0])
    # blocks: {1}, {1, 0} at 2.0, {1}, {0}: 1/3 * 1 + 1/3 * 2/3 + 1/3 * 3/4
    assert math.isclose(average_precision(labels, scores), (1 + 2 / 3 + 3 / 4) / 3)
    swapped = [0, 2, 1, 3, 4]
    assert average_precision(labels[swapped], scores[swapped]) == average_precision(labels, scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_only_the_order_counts(seed):
    labels, scores = case(seed)
    scores = scores.astype(np.float64)
    stretched = np.exp(scores / 2) + 3
    assert average_precision(labels, scores) == average_precision(labels, stretched)
    assert apr_at_recall(labels, scores, recall=0.9) == apr_at_recall(labels, stretched, recall=0.9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_a_weight_is_a_repeated_post(seed):
    labels, scores = case(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(labels)))
    for metric, options in [(average_precision, {}), (recall_at_precision, {}), (apr_at_recall, {"recall": 0.9})]:
        together = metric(labels, scores, weights=weights, **options)
        for row, value in zip(weights, together, strict=True):
            copies = np.repeat(np.arange(len(labels)), row)
            if len(np.unique(labels[copies])) == 2 and not tells_apart(labels[copies], scores[copies]):
                one_block = {average_precision: labels[copies].mean(), apr_at_recall: 0.0}
                assert math.isclose(value, one_block.get(metric, labels[copies].mean() >= 0.6))
            elif tells_apart(labels[copies], scores[copies]):
                assert math.isclose(value, metric(labels[copies], scores[copies], **options))
            else:
                assert np.isnan(value)


@pytest.mark.parametrize("decimals", [6, 1, 0])  # the fewer, the more ties
def test_a_bootstrap_is_scikit_learns_loop_on_the_same_draws(decimals):
    generator = np.random.default_rng(decimals)
    labels = (generator.random(500) < 0.1).astype(np.int8)
    scores = np.round(generator.normal(size=500) + labels, decimals).astype(np.float32)
    drawn = generator.integers(0, 500, (40, 500))
    weights = np.stack([np.bincount(row, minlength=500) for row in drawn])
    for kind in (np.uint8, np.int64, np.float64):
        found = table_metrics(labels, scores, weights=weights.astype(kind))
        for i, row in enumerate(drawn):
            y, s = labels[row], scores[row]
            precision, recall, thresholds = precision_recall_curve(y, s)
            assert math.isclose(found["PR-AUC"][i], average_precision_score(y, s))
            assert math.isclose(found["R@P60"][i], recall[:-1][precision[:-1] >= 0.6].max(initial=0))
            for name, least in (("APR@R90", 0.9), ("APR@R95", 0.95)):
                assert found[name][i] == (s < thresholds[recall[:-1] >= least].max()).mean()


def test_without_information_and_perfect():
    generator = np.random.default_rng(0)
    labels = (generator.random(20_000) < 0.05).astype(int)
    noise = generator.normal(size=20_000)
    prevalence = labels.mean()
    assert abs(average_precision(labels, noise) - prevalence) < 0.01
    apr = apr_at_recall(labels, noise, recall=0.9)
    assert abs(normalised_apr(apr, recall=0.9, prevalence=prevalence)) < 0.05
    perfect = apr_at_recall(labels, noise + 20 * labels, recall=0.9)
    assert abs(normalised_apr(perfect, recall=0.9, prevalence=prevalence) - 1) < 0.001
    assert average_precision(labels, noise + 20 * labels) == 1


def test_bad_options_are_named():
    labels, scores = np.array([1, 0]), np.array([1.0, 0.0])
    with pytest.raises(ValueError, match="recall is 1.5"):
        apr_at_recall(labels, scores, recall=1.5)
    with pytest.raises(ValueError, match="precision is 0"):
        recall_at_precision(labels, scores, precision=0)
    with pytest.raises(ValueError, match="weights"):
        average_precision(labels, scores, weights=np.ones((2, 3)))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_score_table_reads_verified_cells_only(k):
    categories = [f"c{i}" for i in range(k)]
    for seed in range(30):
        generator = np.random.default_rng(seed)
        labels = generator.integers(-1, 2, (60, k)).astype(np.int8)
        logits = np.round(generator.normal(size=(60, k)) + labels, seed % 3).astype(np.float32)
        logits[labels == -1] = np.nan  # what a router says of them is nobody's business here
        table = score_table(labels, logits, categories)
        assert list(table) == [*categories, "Average"]
        for i, category in enumerate(categories):
            y, z = labels[labels[:, i] >= 0, i], logits[labels[:, i] >= 0, i]
            row = table[category]
            assert math.isclose(row["PR-AUC"], average_precision_score(y, z))
            assert math.isclose(row["R@P60"], brute_force_recall_at_precision(y, z, 0.6))
            assert math.isclose(row["APR@R90"], brute_force_apr(y, z, 0.9))
            assert math.isclose(row["APR@R95"], brute_force_apr(y, z, 0.95))
            assert row["posts"] == len(y) and row["positives"] == y.sum()
            assert math.isclose(row["prevalence"], y.mean())
        average = table["Average"]
        assert list(average) == ["PR-AUC", "R@P60", "APR@R90", "APR@R95"]
        assert math.isclose(average["PR-AUC"], np.mean([table[c]["PR-AUC"] for c in categories]))


def test_score_table_names_the_category_at_fault():
    labels, logits = np.array([[1, 0], [0, 0]]), np.eye(2)
    with pytest.raises(ValueError, match="RCS: no violating post"):
        score_table(labels, logits, ["LQC", "RCS"])
    with pytest.raises(ValueError, match="no categories"):
        score_table(np.zeros((3, 0)), np.zeros((3, 0)), ())
    with pytest.raises(ValueError, match="do not fit"):
        score_table(labels, logits, ["LQC"])
