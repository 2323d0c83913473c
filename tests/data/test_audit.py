"""Audit tables, against counts worked out by hand."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from radar_lib.data import audit
from radar_lib.data.posts import write_corpus


def table(rows, categories=("A", "B")):
    blank = {"title": "", "ocr_text": "", "asr_text": "", "region": "ZZ", "language": "und", "created_at": pd.NaT}
    blank |= {"pipeline": "traffic", "split": "train"} | {f"label_{c}": -1 for c in categories}
    return pd.DataFrame([{"post_id": f"p{i}", **blank, **row} for i, row in enumerate(rows)])


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


def test_duplicates_between_splits():
    texts = [
        ("train", "Hello  world"),
        ("train", "x"),
        ("train", ""),
        ("test", "hello world"),
        ("test", "x"),
        ("test", "x"),
    ]
    texts += [("test", ""), ("audit", "\U0001d421ello world"), ("audit", "alone")]
    found = audit.text_duplicates(table([{"split": split, "title": text} for split, text in texts]))
    n = found.set_index(["kind", "split", "other"])["n"]
    assert n["exact", "test", "train"] == 2 and n["exact", "train", "test"] == 1 and n["exact", "audit", "train"] == 0
    assert n["normalised", "test", "train"] == 3 and n["normalised", "audit", "test"] == 1
    share = found.set_index(["kind", "split", "other"])["share"]
    assert share["normalised", "audit", "train"] == 0.5 and len(found) == 12
    assert audit.shared_between_splits(pd.Series(["a"]), pd.Series(["train"])).empty


def test_text_statistics_are_of_the_texts_that_are_there():
    posts = table([{"title": "a" * n, "asr_text": "b"} for n in (0, 2, 4, 6)])
    row = audit.text_statistics(posts).set_index("column").loc["title"]
    assert (row["posts"], row["empty"], row["mean"], row["median"], row["p95"]) == (4, 0.25, 4, 4, pytest.approx(5.8))
    blank = audit.text_statistics(posts).set_index("column").loc["ocr_text"]
    assert blank["empty"] == 1 and np.isnan(blank["mean"])


def test_frames_and_missing_modalities(tmp_path, image):
    one, two = image(8, 6), image(5, 5, kind="JPEG")
    rows = [
        {"post_id": "a", "split": "train", "frames": [one, two], "title": "t"},
        {"post_id": "b", "split": "train", "asr_text": "s"},
        {"post_id": "c", "split": "test", "frames": [two]},
        {"post_id": "d", "split": "test"},
    ]
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="imported", categories=("A",))
    frames = audit.frame_table(posts)
    assert frames[["post_id", "frame", "width", "height", "n_bytes"]].values.tolist() == [
        ["a", 0, 8, 6, len(one)], ["a", 1, 5, 5, len(two)], ["c", 0, 5, 5, len(two)],
    ]  # fmt: skip
    assert len(audit.frame_table(posts, "test")) == 1
    shared = audit.frame_duplicates(frames).set_index(["split", "other"])
    assert shared.loc[("test", "train"), "share"] == 1 and shared.loc[("train", "test"), "share"] == 0.5
    shares = audit.missing_modalities(posts.table(), frames).set_index("group")
    assert shares.loc["train", ["posts", "title", "asr_text", "ocr_text", "frames", "everything"]].tolist() == [
        2, 0.5, 0.5, 1, 0.5, 0,
    ]  # fmt: skip
    assert shares.loc["test", "everything"] == 0.5


def test_probe_finds_a_pipeline_that_writes_its_own_language_and_none_that_does_not():
    rng = np.random.default_rng(0)
    words = {"a": ["uno", "dos", "tres", "y"], "b": ["one", "two", "three", "y"]}
    rows = [
        {"pipeline": p, "split": ("train", "test")[i % 2], "title": " ".join(rng.choice(words[p], 5))}
        for i in range(120)
        for p in ("a", "b")
    ]
    probe = audit.pipeline_probe(table(rows)).set_index("pipeline")
    assert (probe["auc"] > 0.95).all() and probe["n_train"].sum() == probe["n_test"].sum() == 120
    same = [{**row, "title": " ".join(rng.choice(words["a"], 5))} for row in rows]
    assert audit.pipeline_probe(table(same))["auc"].between(0.3, 0.7).all()
    one_sided = [row for row in rows if row["split"] == "train" or row["pipeline"] == "a"]
    assert audit.pipeline_probe(table(one_sided))["auc"].isna().all()
    assert audit.pipeline_probe(table([row for row in rows if row["pipeline"] == "a"])).empty


def test_all_text_joins_the_three_columns():
    assert audit.all_text(table([{"title": "a", "asr_text": "c"}, {}])).tolist() == ["a\n\nc", ""]
