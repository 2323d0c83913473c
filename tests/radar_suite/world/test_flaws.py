"""Planted copies: what they are, where they may be, and that they leave sizes, labels and clean splits alone."""

import collections
import dataclasses

import numpy as np
import pytest

from radar_suite.world.build import _originals, post_ids, render_posts, truth_table
from radar_suite.world.dials import CorpusConfig, plan_corpus
from radar_suite.world.flaws import EXACT, LEAKS, NEAR
from radar_suite.world.policies import CATEGORIES, posteriors

MANY = CorpusConfig(seed=6, train_posts=1700, validation_posts=300, test_posts=400, calibration_posts=400,
                    unlabelled_posts=600, audit_posts=100, duplicate_rate=0.1, frame_px=32)


@pytest.fixture(scope="module")
def plan():
    return plan_corpus(MANY)


@pytest.fixture(scope="module")
def posts(plan):
    """{post_id: (split, row, labels)} of the whole plan."""
    return {i: (s, n, s.labels[n]) for s in plan for n, i in enumerate(post_ids(MANY, s))}


def copies(plan, posts):
    for s in plan:
        for n, (i, original) in enumerate(zip(post_ids(MANY, s), _originals(MANY, s), strict=True)):
            if original:
                yield s, n, i, original, posts[original]


def test_as_many_as_asked_for_of_each_kind(plan):
    for s in plan:
        rate = (s.copy > 0).mean()
        assert rate == pytest.approx(0.1, abs=0.012) if s.split in LEAKS else rate == 0
        if s.split in LEAKS:
            assert 0.3 < (s.copy[s.copy > 0] == NEAR).mean() < 0.7


def test_originals_are_posts_of_the_corpus_with_the_same_facts_and_truth(plan, posts):
    leaks = collections.Counter()
    for s, n, i, original, (source, m, *_) in copies(plan, posts):
        assert original != i and source.copy[m] == 0 and s.facts["segment"][n] == 0
        assert source.split == s.split or source.split in LEAKS[s.split]
        assert all(s.facts[name][n] == source.facts[name][m] for name in s.facts)
        assert (s.truth[n] == source.truth[m]).all()
        leaks[s.split] += source.split != s.split
    assert leaks["train"] == pytest.approx(0.3 * 170, abs=20)


def test_labels_contradict_only_inside_a_split_that_annotators_may_err_in(plan, posts):
    kinds = collections.Counter()
    for s, n, _, _, (source, _, labels) in copies(plan, posts):
        if s.split == "unlabelled":
            continue
        k = s.pipeline[n]
        assert labels[k] >= 0
        conflict = s.labels[n, k] != labels[k]
        kinds[s.split, conflict] += 1
        assert not conflict or source.split == s.split
    assert kinds["train", True] == pytest.approx(0.3 * 0.7 * 170, abs=16)


def test_sizes_labels_and_clean_splits_stay(plan):
    for s, plain in zip(plan, plan_corpus(dataclasses.replace(MANY, duplicate_rate=0.0)), strict=True):
        assert (s.index == plain.index).all() and (s.labels == plain.labels).all() and (plain.copy == 0).all()
        if s.split not in LEAKS:
            assert all((s.facts[name] == plain.facts[name]).all() for name in s.facts)


def test_exact_copies_are_equal_and_near_ones_alike(plan, posts):
    s = next(s for s in plan if s.split == "train")
    near_texts = []
    for kind in (EXACT, NEAR):
        for n in np.flatnonzero(s.copy == kind)[:12]:
            copy = next(render_posts(MANY, s, n, n + 1))
            source, m, *_ = posts[_originals(MANY, s.take(slice(n, n + 1)))[0]]
            original = next(render_posts(MANY, source, m, m + 1))
            texts = [all(copy[c] == original[c] for c in ("title", "ocr_text", "asr_text"))]
            assert copy["post_id"] != original["post_id"] and copy["language"] == original["language"]
            if kind == EXACT:
                assert copy["frames"] == original["frames"] and texts == [True]
            else:
                assert copy["frames"] != original["frames"] and len(copy["frames"]) == len(original["frames"])
                near_texts += texts
    assert 0 < sum(near_texts) < len(near_texts)  # some are worded anew


def test_the_truth_names_them(plan):
    s = next(s for s in plan if s.split == "train")
    truth = truth_table(MANY, s).to_pandas()
    assert ((truth["duplicate_of"] != "") == (s.copy > 0)).all()
    assert set(truth["duplicate_kind"]) == {"", "exact", "near"}
    for k, c in enumerate(CATEGORIES):
        assert (truth[f"posterior_{c}"] == posteriors(s.facts)[:, k].astype(np.float32)).all()
        assert truth[f"votes_{c}"].between(0, 3).all() and (truth[f"votes_{c}"] >= truth[f"true_{c}"]).all()
    assert (truth["campaign"] == truth["fact_campaign"]).all()
    assert ((truth["stream_id"] != "") == (truth["fact_segment"] != "0")).all()
