"""The compact file of scores says which run each column is, and comes back bit for bit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.metrics import score_table
from radar_suite.report.row_scores import RowScores, labelled_test_posts, read_row_scores
from radar_suite.report.stated import grid_files


def scores(categories, rows, n=90):
    generator = np.random.default_rng(2)
    truth = np.full((n, len(categories)), -1)
    truth[np.arange(n), np.arange(n) % len(categories)] = np.arange(n) % 4 == 0
    truth[:7] = 1  # some posts are verified for all risks
    drawn = {row: {seed: generator.normal(size=truth.shape).astype(np.float32) for seed in seeds}
             for row, seeds in rows.items()}  # fmt: skip
    return RowScores([f"p{i}" for i in range(n)], truth, tuple(categories), drawn)


@pytest.mark.parametrize("categories", [("A",), ("A", "B", "C"), tuple("ABCDEFG")])
@pytest.mark.parametrize("rows", [{("BCE", "x"): [1], ("Masked BCE", "x"): [1, 2, 3]}, {0.0: [1], 0.5: [1, 2]}])
def test_what_was_written_comes_back(tmp_path, categories, rows):
    one = scores(categories, rows)
    one.write(tmp_path / "s.parquet")
    back = read_row_scores(tmp_path / "s.parquet")
    assert (list(back.post_ids), back.categories) == (one.post_ids, one.categories)
    assert {row: list(runs) for row, runs in back.rows.items()} == rows
    np.testing.assert_array_equal(back.truth, one.truth)
    assert back.scored() == one.scored()
    frame = pd.read_parquet(tmp_path / "s.parquet")  # as anyone reads it
    assert (frame.filter(like="label_").to_numpy() == one.truth).all()
    for row, runs in one.rows.items():
        for seed, logits in runs.items():
            np.testing.assert_array_equal(back.rows[row][seed], np.where(one.truth >= 0, logits, np.nan))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(RadarError, match="does not exist"):
        read_row_scores(tmp_path / "none.parquet")
    pd.DataFrame({"post_id": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(RadarError, match="does not say which runs"):
        read_row_scores(tmp_path / "other.parquet")
    one = scores(("A",), {0.0: [1]})
    one.write(tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:-100])
    with pytest.raises(RadarError, match="no readable scores"):
        read_row_scores(tmp_path / "cut.parquet")
    one.rows[0.0][1][3] = np.nan
    one.write(tmp_path / "nan.parquet")
    with pytest.raises(RadarError, match="lambda 0, seed 1: a verified post has no finite logit"):
        read_row_scores(tmp_path / "nan.parquet")


def test_a_reader_with_pandas_alone_gets_the_tables_numbers(tmp_path):
    one = scores(("A", "B"), {("BCE", "x"): [1]})
    one.write(tmp_path / "s.parquet")
    frame = pd.read_parquet(tmp_path / "s.parquet")
    logits = frame[["BCE, x, seed 1: A", "BCE, x, seed 1: B"]].to_numpy()
    truth = frame[["label_A", "label_B"]].to_numpy()
    assert logits.dtype == np.float32 and np.isnan(logits[truth < 0]).all()
    assert score_table(truth, logits, ("A", "B")) == one.scored()["BCE", "x"][1]


def test_groups_of_test_posts_come_along_and_widen_what_rests_on_them(tmp_path, sound):
    """From the posts' column to the file and to what `radar verify` computes from it."""
    rows = [{**row, "group": f"g{i // 30}" if i % 3 else ""} for i, row in enumerate(sound(240, frames=False))]
    rows = [row | {"split": "test" if i % 8 else "train"} for i, row in enumerate(rows)]
    posts = write_corpus(tmp_path / "posts", rows, name="x", kind="imported", categories=("A", "B"), groups=True)
    ids, truth, groups = labelled_test_posts(posts)
    names = posts.table("test").set_index("post_id").loc[ids, "group"].to_numpy()
    assert len(set(groups)) == 8 + (names == "").sum()
    assert len(set(zip(names, groups, strict=True))) == len(set(groups))
    logits = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32) + truth
    one = RowScores(ids, truth, posts.categories, {0.0: {1: logits}, 0.5: {1: logits[:, ::-1].copy()}}, groups)
    one.write(tmp_path / "s.parquet")
    back = read_row_scores(tmp_path / "s.parquet")
    np.testing.assert_array_equal(back.groups, groups)
    assert grid_files(back, seed=1) == grid_files(one, seed=1) != grid_files(replace(one, groups=None), seed=1)
