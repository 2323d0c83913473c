"""A slice that is missed is found, one that is not is not, and posts of one group count as one."""

import numpy as np
import pandas as pd
import pytest

from radar_suite.diagnosis.runs import About, RunFolder
from radar_suite.diagnosis.slices import find_slices


def audited(seed, *, missed=None, n=1500, copies=1):
    """A run of audit posts, half of them violating, of which a tenth is missed, and most where `missed` says."""
    random = np.random.default_rng(seed)
    posts = pd.DataFrame({
        "post_id": [f"p{i}" for i in range(n)], "region": random.choice(list("abcdefghij"), n),
        "language": random.choice(["en", "es", "ar"], n), "month": random.integers(0, 12, n),
    })  # fmt: skip
    y = np.arange(n) % 2
    p = np.where(missed(posts), 0.7, 0.1) if missed else np.full(n, 0.1)
    z = np.where(random.random(n) < p, -1, 1)
    posts = posts.assign(split="audit", group=posts["post_id"], label_A=y, logit_A=z)
    if copies > 1:
        more = [posts.assign(post_id=posts["post_id"] + f"-{i}") for i in range(copies)]
        posts = pd.concat(more, ignore_index=True)
    return RunFolder(About(version=1, categories=["A"], thresholds=[0.0]), posts)


@pytest.mark.parametrize(
    ("missed", "found"),
    [
        (lambda posts: posts["region"] == "c", "region c"),
        (lambda posts: posts["language"] == "ar", "language ar"),
        (lambda posts: (posts["language"] == "ar") & (posts["month"] < 5), "language ar, month <= 4.5"),
    ],
)
def test_a_slice_that_is_missed_comes_first(missed, found):
    first = find_slices(audited(1, missed=missed)).iloc[0]
    parts = set(first["slice"].split(", "))
    assert parts == set(found.split(", ")) and first["q"] < 0.01
    assert first["low"] < first["gap"] < first["high"] < 0 and first["recall"] < 0.6


def test_without_one_hardly_any_is_found():
    runs = [find_slices(audited(seed, n=600)) for seed in range(40)]
    assert sum((found["q"] < 0.05).any() for found in runs) <= 5  # 2 are expected; more than 5 once in a hundred


def test_copies_of_a_group_say_nothing_new():
    once, often = (find_slices(audited(2, missed=lambda p: p["region"] == "c", copies=n)) for n in (1, 5))
    pd.testing.assert_frame_equal(once, often)


def test_no_group_is_in_both_halves():
    found, whole = [], audited(4, missed=lambda p: (p["language"] == "ar") & (p["month"] < 5))
    posts = whole.posts.assign(label_B=whole.posts["label_A"], logit_B=whole.posts["logit_A"])
    twice = RunFolder(About(version=1, categories=["A", "B"], thresholds=[0.0, 0.0]), posts)
    for seed in range(5):  # each group violates both risks, so that a half of whole groups has them in pairs
        slices = find_slices(twice, seed=seed)
        found += slices.loc[slices["found_by"] == "tree", "violations"].tolist()
    assert len(found) > 5 and all(n % 2 == 0 for n in found)


def test_recall_counts_posts_above_the_threshold():
    run = audited(3)
    audit, found = run.splits["audit"], find_slices(run).set_index("slice")
    hit = audit.loc[(audit["label_A"] == 1) & (audit["region"] == "a"), "logit_A"] > 0
    other = audit.loc[(audit["label_A"] == 1) & (audit["region"] != "a"), "logit_A"] > 0
    assert found.loc["region a", "recall"] == pytest.approx(hit.mean())
    assert found.loc["region a", "gap"] == pytest.approx(hit.mean() - other.mean())
    assert found.loc["region a", "violations"] == len(hit)


def test_a_run_without_metadata_has_no_slices(run):
    bare = run(change=lambda posts: posts.drop(columns=["pipeline", "region", "language", "month", "group"]))
    assert find_slices(bare).empty
