"""Findings are graded by their share, and the truth is read by id and follows copies of copies."""

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_suite.report.audit_findings import CHECKS, SEVERITIES, finding, summary
from radar_suite.report.audit_truth import planted_pairs, truth_of


@pytest.mark.parametrize("name", CHECKS)
def test_what_was_not_seen_needs_nothing_and_what_was_needs_its_action(name):
    clean, unknown, bad = finding(name, 0, 7), finding(name, 0, 0), finding(name, 7, 7)
    assert (clean["share"], clean["severity"], clean["what to do"]) == (0, "none", "nothing")
    assert np.isnan(unknown["share"]) and unknown["severity"] == "none"
    assert bad["share"] == 1 and bad["severity"] != "none" and bad["what to do"] == CHECKS[name].action


def test_one_split_stream_is_grave_and_the_worst_case_may_stand_for_the_share():
    assert finding("streams", 1, 1_000)["severity"] == "high"
    assert [finding("domain leak", 1, 3, worst=auc)["severity"] for auc in (0.0, 0.6, 0.7, 0.96)] == list(SEVERITIES)


def test_the_summary_puts_the_gravest_first():
    lines = [finding("within", 1, 1_000), finding("empty", 0, 9), finding("across", 1, 9), finding("conflicts", 1, 90)]
    assert summary(lines)["severity"].tolist() == ["high", "low", "low", "none"]
    assert summary(lines)["finding"].tolist()[1:3] == [CHECKS["within"].finding, CHECKS["conflicts"].finding]


def test_planted_pairs_follow_copies_of_copies():
    ids = pd.Series(list("abcdef"))
    truth = pd.DataFrame({"duplicate_of": ["", "a", "b", "", "d", ""], "true_A": 0})
    assert planted_pairs(truth, ids) == {(0, 1), (0, 2), (1, 2), (3, 4)}
    assert planted_pairs(None, ids) is None and planted_pairs(truth[["true_A"]], ids) is None


def test_truth_is_read_by_id_and_absent_where_there_is_none(tmp_path):
    rows = [{"post_id": p, "split": "train", "title": p} for p in "ab"]
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="built-in", categories=("A",))
    ids = pd.Series(["b", "a"], index=[7, 9])
    assert truth_of(posts, ids) is None
    (posts.folder / "hidden").mkdir()
    hidden = pd.DataFrame({"post_id": ["a", "b", "z"], "true_A": [0, 1, 1], "fact_scene": "x"})
    hidden.to_parquet(posts.folder / "hidden" / "truth.parquet")
    truth = truth_of(posts, ids)
    assert truth["true_A"].tolist() == [1, 0] and truth.index.tolist() == [7, 9] and list(truth) == ["true_A"]


def test_a_truth_that_is_not_the_corpus_own_is_refused(tmp_path, sound):
    rows = sound()
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="built-in", categories=("A", "B"),
                         extra={"truth_digest": "0" * 16})  # fmt: skip
    (posts.folder / "hidden").mkdir()
    pd.DataFrame({"post_id": [row["post_id"] for row in rows]}).to_parquet(posts.folder / "hidden" / "truth.parquet")
    with pytest.raises(RadarError, match="truth.parquet has changed"):
        truth_of(posts, posts.table()["post_id"])
