"""Audit tables, against counts worked out by hand."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency

from radar_suite.intake import audit


def table(rows, categories=("A", "B")):
    blank = {"title": "", "ocr_text": "", "asr_text": "", "region": "ZZ", "language": "und", "created_at": pd.NaT}
    blank |= {"pipeline": "traffic", "split": "train"} | {f"label_{c}": -1 for c in categories}
    return pd.DataFrame([{"post_id": f"p{i}", **blank, **row} for i, row in enumerate(rows)])


def test_posts_of_one_group_are_no_further_evidence():
    """Every post twice, as a group, has the intervals and the test of the posts alone; taken for new, narrower ones."""
    rows = [{"language": code, "label_A": int(i % 100 < share), "label_B": -1 if i % 2 else 1}
            for code, share in (("en", 20), ("pt", 35)) for i in range(100)]  # fmt: skip
    alone, copies = table(rows), [{**row, "group": f"g{i}"} for i, row in enumerate(rows)] * 2
    found = audit.prevalence(alone, ("A", "B"), by="language")
    twice = audit.prevalence(table(copies), ("A", "B"), by="language")
    new = audit.prevalence(table([{**row, "group": ""} for row in copies]), ("A", "B"), by="language")
    ends = ["prevalence", "low", "high", "effective"]
    np.testing.assert_allclose(twice[ends], found[ends])
    assert (twice["verified"] == 2 * found["verified"]).all() and (new["low"] > found["low"]).all()
    assert audit.uneven(twice)["p_value"].tolist() == pytest.approx(audit.uneven(found)["p_value"].tolist())
    nothing = audit.prevalence(table(copies).assign(label_A=-1), ("A",), by="language")
    assert (nothing["effective"] == 0).all() and nothing["low"].isna().all()


def test_validity_matrix_and_prevalence():
    rows = [{"pipeline": "a", "label_A": 1}, {"pipeline": "a", "label_A": 0}, {"pipeline": "a", "label_A": 0}]
    rows += [{"pipeline": "b", "label_B": 1, "split": "test"}, {"split": "test"}]
    posts = table(rows)
    matrix = audit.validity_matrix(posts, ("A", "B"))
    assert matrix.to_dict("index") == {"a": {"A": 3, "B": 0}, "b": {"A": 0, "B": 1}, "traffic": {"A": 0, "B": 0}}
    tidy = audit.prevalence(posts, ("A", "B")).set_index(["group", "category"])
    assert tuple(tidy.loc[("train", "A"), ["posts", "verified", "positives"]]) == (3, 3, 1)
    assert tidy.loc[("train", "A"), "prevalence"] == pytest.approx(1 / 3)
    assert tidy.loc[("test", "B"), "prevalence"] == 1 and np.isnan(tidy.loc[("test", "A"), "prevalence"])
    assert set(audit.prevalence(posts, ("A",), by="pipeline")["group"]) == {"a", "b", "traffic"}


def test_prevalence_by_month_leaves_out_posts_without_a_time():
    times = [datetime(2024, 1, 31), datetime(2024, 2, 1), datetime(2024, 2, 28), pd.NaT]
    tidy = audit.prevalence(table([{"created_at": t, "label_A": 1} for t in times]), ("A",), by="month")
    assert tidy["group"].tolist() == ["2024-01", "2024-02"] and tidy["posts"].tolist() == [1, 2]


def test_wilson_intervals_are_statsmodels_and_hold_at_the_ends():
    # statsmodels 0.14, proportion_confint(k, n, method="wilson")
    low, high = audit.wilson([0, 1, 5, 10], [10, 10, 20, 10])
    assert low == pytest.approx([0.0, 0.01787621, 0.11186211, 0.72246712], abs=1e-6)
    assert high == pytest.approx([0.27753288, 0.40415003, 0.46870126, 1.0], abs=1e-6)
    assert np.isnan(audit.wilson([0], [0])).all()
    row = audit.prevalence(table([{"label_A": 1}] * 3 + [{"label_A": 0}] * 7), ("A",)).iloc[0]
    assert (row["low"], row["high"]) == tuple(end.item() for end in audit.wilson([3], [10]))


def test_co_annotation_counts_posts_with_both_labels():
    rows = [{"label_A": 1}, {"label_A": 0, "label_B": 1}, {"label_B": 0}, {"label_B": 0}, {}]
    assert audit.co_annotation(table(rows), ("A", "B")).to_numpy().tolist() == [[2, 1], [1, 3]]
    assert audit.co_annotation(table(rows), ("A",)).to_numpy().tolist() == [[2]]


def test_uneven_groups_agree_with_scipy():
    positives = {"en": 5, "de": 20, "fr": 9}
    rows = [{"language": lang, "label_A": int(i < n)} for lang, n in positives.items() for i in range(40)]
    rows += [{"language": "xx", "label_A": 1}] * 3  # too few to be tested
    found = audit.uneven(audit.prevalence(table(rows), ("A", "B"), by="language"))
    expected = chi2_contingency([[5, 20, 9], [35, 20, 31]], correction=False).pvalue
    assert found["p_value"].tolist() == pytest.approx([expected]) and found["groups"].tolist() == [3]
    assert audit.uneven(audit.prevalence(table([{"label_A": 1}] * 50), ("A",), by="region")).empty


@pytest.mark.parametrize("column", ["stream_id", "group"])
def test_streams_and_groups_must_not_span_splits(column):
    where = (("a", "train"), ("a", "test"), ("b", "test"), ("", "audit"), ("", "test"))
    rows = [{column: name, "split": split} for name, split in where]
    assert audit.across_splits(table(rows), column) == ["a"] and audit.across_splits(table([{}]), column) == []


def test_a_sample_keeps_order_and_small_tables_whole():
    posts = table([{}] * 30)
    assert audit.sample_posts(posts, 30, seed=1) is posts
    few = audit.sample_posts(posts, 10, seed=1)
    places = few["post_id"].str[1:].astype(int)
    assert len(few) == 10 and places.is_monotonic_increasing and few.index.tolist() == list(range(10))


def test_missing_modalities_and_frame_statistics():
    posts = table([{"title": "t"}, {"asr_text": "s"}, {"split": "test"}, {"split": "test", "ocr_text": "o"}])
    shares = audit.missing_modalities(posts, pd.Series(["p0"])).set_index("group")
    assert shares.loc["train", ["posts", "title", "asr_text", "ocr_text", "frames", "everything"]].tolist() == [
        2, 0.5, 0.5, 1, 0.5, 0,
    ]  # fmt: skip
    assert shares.loc["test", "everything"] == 0.5
    frames = pd.DataFrame({"post_id": list("aabb"), "split": "train", "digest": list("xxxy")})
    frames = frames.assign(width=10, height=[1, 2, 3, 4], n_bytes=5, brightness=1.0, sharpness=2.0)
    row = audit.frame_statistics(frames).iloc[0]
    assert (row["group"], row["frames"], row["repeated"], row["height"]) == ("train", 4, 0.25, 2.5)
    assert audit.frame_statistics(frames.iloc[:0]).empty


def test_what_of_a_text_is_not_read_by_field_and_language():
    tokens = np.array([[10, 0, 5], [4, 0, 0], [20, 0, 6]])
    read = np.array([[6, 0, 4], [4, 0, 0], [10, 0, 6]])
    lost = audit.text_cut(pd.Series(["zh", "en", "en"]), tokens, read).set_index(["language", "field"])
    assert lost.loc[("*", "title")].to_dict() == {"posts": 3, "cut": 2, "tokens": 34, "unread": 14 / 34}
    assert lost.loc[("en", "asr_text")].to_dict() == {"posts": 1, "cut": 0, "tokens": 6, "unread": 0.0}
    assert lost.loc[("zh", "title"), "unread"] == 0.4 and "ocr_text" not in lost.index.get_level_values("field")
    assert audit.text_cut(pd.Series(["en"]), np.zeros((1, 3), int), np.zeros((1, 3), int)).empty
