"""Copies: planted ones are found, look-alikes are not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_suite.intake import duplicates as d
from radar_suite.intake.scan import COLUMNS, HASH_BITS, FrameScan, scan_frames

WORDS = "river lamp seven green cook dance market old window fast song bread snow light train garden paper".split()


def test_text_core_forgets_what_reposting_changes():
    same = ["Buy my BREAD now!", "buy my bread now \U0001f525\U0001f525", "buy my bread now #fyp #viral @someone",
            "\U0001d41b\U0001d42e\U0001d432 my bread now https://x.y/z"]  # fmt: skip
    assert {d.text_core(text) for text in same} == {"buy my bread now"}
    assert d.text_core("#only #tags") == "only tags" and d.text_core("\U0001f525") == ""
    assert d.text_core("\u7d05\u3044\u82b1\uff01") == "\u7d05\u3044\u82b1"


def test_jaccard_by_hand():
    assert d.shingles("abcde") == {"abcd", "bcde"} and d.shingles("ab") == {"ab"} and not d.shingles("")
    assert d.jaccard(d.shingles("abcde"), d.shingles("abcdx")) == 1 / 3 and d.jaccard(frozenset(), frozenset()) == 1


def test_near_hashes_are_all_pairs_within_reach():
    rng = np.random.default_rng(0)
    hashes = rng.random((60, 64)) < 0.5
    hashes[30:] = hashes[:30] ^ (rng.random((30, 64)) < 0.05)
    apart = (hashes[:, None] != hashes[None]).sum(2)
    expected = {(i, j) for i in range(60) for j in range(i + 1, 60) if apart[i, j] <= 4}
    assert d.near_hashes(hashes, within=4, block=7) == expected and len(expected) > 10


def test_near_texts_pair_equal_and_similar_texts_but_not_everybodys():
    texts = ["the quick brown fox jumps over", "the quick brown fox jumps over it", "nothing of the kind at all", ""]
    assert (0, 1) in d.near_texts(texts, least=0.6) and (0, 2) not in d.near_texts(texts, least=0.6)
    everybody = ["good morning to you all"] * 8
    assert d.near_texts(everybody, least=0.6, max_users=5) == set() and len(d.near_texts(everybody, least=0.6)) == 28


def test_distances_take_the_nearest_frame_and_colours_tell_pictures_of_equal_shape_apart():
    one, two = np.zeros((1, 64), bool), np.stack([np.ones(64, bool), np.arange(64) < 3])
    assert d.frame_distance(one, two) == 3 == d.frame_distance(two, one) and np.isnan(d.frame_distance(one, one[:0]))
    dark, light = np.zeros((1, 48), np.float32), np.full((2, 48), 0.5, np.float32)
    light[1] = 0.1
    assert d.colour_distance(dark, light) == d.colour_distance(light, dark) == pytest.approx(0.1)


@pytest.fixture
def world(tmp_path, draw, repost):
    """120 posts; 20 exact and 20 near copies of them; 10 with the frames of another under another text: copies too, and
    10 that share only a text: no copies."""
    rng = np.random.default_rng(5)
    rows = [{"title": " ".join(rng.choice(WORDS, 8)), "frames": [draw(rng) for _ in range(1 + i % 3)], "label_A": i % 2}
            for i in range(120)]  # fmt: skip
    pairs = {}
    for k in range(40):
        pairs[len(rows)] = k
        rows.append({**repost(rows[k], rng, near=k >= 20), "label_A": rows[k]["label_A"] ^ (k % 4 == 0)})
    rows += [{"title": rows[k]["title"], "frames": [draw(rng)]} for k in range(60, 70)]
    for k in range(70, 80):
        pairs[len(rows)] = k
        rows.append({"title": " ".join(rng.choice(WORDS, 8)), "frames": rows[k]["frames"]})
    rows = [{"post_id": f"p{i}", "split": ("train", "test")[i >= 120], **row} for i, row in enumerate(rows)]
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="imported", categories=("A",))
    place = {post_id: i for i, post_id in enumerate(posts.table()["post_id"])}
    planted = {tuple(sorted((place[f"p{a}"], place[f"p{b}"]))) for a, b in pairs.items()}
    return posts, planted


def test_planted_copies_and_conflicts_are_found_and_look_alikes_are_not(world):
    posts, planted = world
    table = posts.table()
    scan = scan_frames(posts)
    assert d.duplicate_pairs(table.assign(stream_id="s1"), scan).empty  # segments of a stream are alike by nature
    pairs = d.duplicate_pairs(table, scan)
    check = d.retrieval(set(zip(pairs["a"], pairs["b"], strict=True)), planted)
    assert check["recall"] >= 0.97 and check["precision"] == 1.0
    assert (pairs["kind"] == "exact").sum() == 20
    conflicts = d.conflicting_labels(pairs, table, ("A",))
    assert len(conflicts) >= 9 and (conflicts["label_a"] + conflicts["label_b"] == 1).all()
    shared = d.between_splits(pairs, table["split"]).set_index(["split", "other", "kind"])
    assert shared.loc[("train", "test", "exact"), "posts"] == 20 == shared.loc[("test", "train", "exact"), "pairs"]


def test_frames_of_one_colour_are_no_evidence(tmp_path):
    rng = np.random.default_rng(3)
    rows = [{"post_id": f"p{i}", "split": "train", "title": " ".join(rng.choice(WORDS, 8)),
             "frames": [Image.new("RGB", (32, 32), ("black", "blue")[i % 2])]} for i in range(40)]  # fmt: skip
    posts = write_corpus(tmp_path / "c", rows, name="x", kind="imported", categories=("A",))
    assert d.duplicate_pairs(posts.table(), scan_frames(posts)).empty


def test_texts_alone_need_length_and_empty_posts_are_no_copies():
    long = "this sentence is long enough to be evidence on its own, is it not"
    titles = [long, long.upper(), "ok", "OK", "", "", long + " x"]
    blank = {"ocr_text": "", "asr_text": "", "split": "train"}
    table = pd.DataFrame([{"post_id": f"p{i}", "title": title, **blank} for i, title in enumerate(titles)])
    none = FrameScan(pd.DataFrame(columns=COLUMNS), np.empty((0, HASH_BITS), bool), np.empty((0, 0), np.float32))
    pairs = d.duplicate_pairs(table, none)
    assert set(zip(pairs["a"], pairs["b"], strict=True)) == {(0, 1), (0, 6), (1, 6)} and set(pairs["kind"]) == {"near"}
    assert d.duplicate_pairs(table.iloc[:0], none).empty


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda e: e[0] != e[1]), max_size=12))
def test_groups_are_the_connected_parts(edges):
    pairs = pd.DataFrame(sorted({tuple(sorted(e)) for e in edges}), columns=["a", "b"], dtype=int)
    groups = d.duplicate_groups(pairs, 10)
    reach = {i: {i} for i in range(10)}
    for a, b in edges:
        for member in (joined := reach[a] | reach[b]):
            reach[member] = joined
    assert all((groups[i] == groups[j]) == (j in reach[i]) for i in range(10) for j in range(10))


def test_retrieval_of_nothing():
    assert np.isnan(d.retrieval(set(), {1})["precision"]) and d.retrieval(set(), {1})["recall"] == 0
    assert np.isnan(d.retrieval({1}, set())["recall"])


def test_copies_and_posts_of_one_group_are_together_no_further_evidence():
    copies, declared = np.array([0, 0, 1, 2, 3, 4]), np.array([4, 3, 3, 2, 1, 1])
    assert d.dependent_groups(copies, declared).tolist() == [0, 0, 0, 1, 2, 2]
    assert d.dependent_groups(copies, None).tolist() == copies.tolist()
    assert d.dependent_groups(np.arange(6), declared).tolist() == [0, 1, 1, 2, 3, 3]
    assert d.dependent_groups(np.arange(6), None) is None
    assert d.dependent_groups(np.arange(0), None) is None
