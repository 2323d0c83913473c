"""Findings count what they say, and the check against the truth counts pairs by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import write_corpus
from radar_suite.report import audit_findings as f
from radar_suite.report import audit_truth as t


def test_severity_follows_the_share():
    assert [f.graded(s, medium=0.1, high=0.5) for s in (None, 0, 0.05, 0.1, 0.5)] == [
        "none", "none", "low", "medium", "high",
    ]  # fmt: skip


def test_each_finding_counts():
    valid = np.array([[True, False], [False, True]])
    assert (f.unverified(valid).count, f.unverified(valid).share, f.unverified(valid).severity) == (2, 0.5, "high")
    pairs = pd.DataFrame({"a": [0, 0, 2], "b": [1, 2, 3], "kind": "near"})
    splits = pd.Series(["train", "train", "test", "test", "test"])
    across, within = (f.duplicates(pairs, splits, across=x) for x in (True, False))
    assert (across.count, across.share, within.count) == (2, 0.4, 4)
    assert f.conflicts(pd.DataFrame({"a": [1]}), 4).share == 0.25
    assert f.label_errors({"A": 3, "B": 1}, {"A": 50, "B": 50}).share == 0.04
    probe = pd.DataFrame(
        {"probe": ["text", "joint"] * 2, "pipeline": ["p", "p", "q", "q"], "auc": [0.5, 0.7, 0.52, 0.5]}
    )
    assert (f.domain_leak(probe).count, f.domain_leak(probe).severity) == (1, "high" if 0.7 > 0.95 else "medium")
    assert f.domain_leak(probe.iloc[:0]) is None and f.split_streams([], 0) is None
    assert f.split_streams(["s"], 4).severity == "high" and f.hidden_violations(1, 10).severity == "high"
    gains = pd.DataFrame(
        {"category": ["A", "A", "B", "B"], "over": ["text", "frames"] * 2, "low": [0.1, 0.2, 0.3, -0.1]}
    )
    assert f.useless_modality(gains).count == 1 and f.useless_modality(gains.iloc[:0]) is None
    absent = pd.DataFrame({"group": ["train", "test"], "posts": [100, 100], "title": [0, 0.3], "everything": [0, 0.1]})
    assert f.modality_gaps(absent).count == 1 and f.empty_posts(absent).count == 10
    tests = {
        "language": pd.DataFrame({"category": ["A"], "p_value": [1e-9]}),
        "region": pd.DataFrame({"category": ["A"], "p_value": [0.5]}),
    }
    assert (f.uneven_groups(tests).count, f.uneven_groups(tests).share) == (1, 0.5)


def test_the_summary_puts_the_gravest_first_and_leaves_out_what_does_not_apply():
    found = [f.Finding("a", 1, 0.1, "x", "low", "-"), None, f.Finding("b", 0, None, "x", "high", "-")]
    assert f.summary(found)["finding"].tolist() == ["b", "a"] and list(f.summary(found)) == f.COLUMNS
    line = f.check_line(
        {"flaw": "copies", "wanted": 3, "found": 0, "both": 0, "precision": float("nan"), "recall": 0.0}
    )
    assert "precision none, recall 0.0%" in line


@pytest.fixture
def truth():
    ids = pd.Series(list("abcdef"))
    original = ["", "a", "b", "", "d", ""]  # c is a copy of a copy
    frame = pd.DataFrame(
        {"duplicate_of": original, "true_A": [1, 1, 1, 0, 0, 1], "posterior_A": [0.9, 0.9, 0.9, 0.2, 0.1, 0.6]}
    )
    return ids, frame


def test_planted_pairs_follow_copies_of_copies(truth):
    ids, frame = truth
    pairs = t.planted_pairs(frame, ids)
    assert pairs == {(0, 1), (0, 2), (1, 2), (3, 4)}
    table = pd.DataFrame({"label_A": [1, 0, -1, 0, 0, 1]})
    assert t.planted_conflicts(pairs, table, ("A",)) == {(0, 1, "A")}
    assert t.planted_pairs(None, ids) is None and t.planted_pairs(frame[["true_A"]], ids) is None
    assert t.planted_conflicts(None, table, ("A",)) is None


def test_wrong_labels_and_the_best_order(truth):
    _, frame = truth
    labels = np.array([1, 0, 1, 0, 1, 1])
    wrong = t.wrong_labels(frame, labels, "A")
    assert wrong.tolist() == [False, True, False, False, True, False] and t.wrong_labels(None, labels, "A") is None
    order = t.bayes_order(frame, labels, "A")
    assert set(order[:2]) == {1, 4} and t.precision_curve(order, wrong).tolist() == pytest.approx(
        [1, 1, 2 / 3, 0.5, 0.4, 1 / 3]
    )
    assert t.bayes_order(frame[["true_A"]], labels, "A") is None


def test_truth_is_read_by_id_and_absent_where_there_is_none(tmp_path):
    rows = [{"post_id": p, "split": "train", "title": p} for p in "ab"]
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="built-in", categories=("A",))
    ids = pd.Series(["b", "a"], index=[7, 9])
    assert t.truth_of(posts, ids) is None
    (posts.folder / "hidden").mkdir()
    hidden = pd.DataFrame({"post_id": ["a", "b", "z"], "true_A": [0, 1, 1], "fact_scene": "x"})
    hidden.to_parquet(posts.folder / "hidden" / "truth.parquet")
    found = t.truth_of(posts, ids)
    assert found["true_A"].tolist() == [1, 0] and found.index.tolist() == [7, 9] and list(found) == ["true_A"]
