"""Reference rows: the floor by simulation, regressions on posts that words or vectors do and do not explain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radar_lib.data.posts import labels, write_corpus
from radar_lib.evidence import Evidence
from radar_lib.metrics import auto_pass, average_precision, table_metrics, uninformed_metrics
from radar_suite.report import claims, references, stated, tables
from radar_suite.report.row_scores import RowScores, read_row_scores
from radar_suite.report.workspace import Workspace


@pytest.fixture(autouse=True)
def few_strengths(monkeypatch):
    """Three times as many say nothing more about posts this plain."""
    monkeypatch.setattr(references, "STRENGTHS", (0.1, 10.0))
    monkeypatch.setattr("radar_suite.report.row_scores.Evidence", partial(Evidence, replicates=100))


@pytest.mark.parametrize("prevalence", [0.05, 0.5, 0.75])
def test_a_random_order_reaches_what_is_said_of_it(prevalence):
    generator = np.random.default_rng(0)
    y = (np.arange(4000) < 4000 * prevalence).astype(int)
    drawn = [table_metrics(y, generator.random(4000)) for _ in range(30)]
    expected = uninformed_metrics(prevalence)
    for metric, value in expected.items():
        assert np.mean([one[metric] for one in drawn]) == pytest.approx(value, abs=0.02), metric
    assert expected["R@P60"] == (prevalence >= 0.6)


def corpus(folder, categories, *, n=120, text=True, seed=0):
    """Posts of which a word gives away each risk, every post verified for one of them."""
    generator = np.random.default_rng(seed)
    rows = []
    for split, count in (("train", n), ("test", n)):
        for i in range(count):
            k = i % len(categories)
            y = int(generator.random() < 0.3)
            words = [generator.choice(["casa", "дом", "家", "house"]), f"bad{k}" if y else "fine"]
            row = {"post_id": f"{split}{i}", "split": split, "title": " ".join(words) if text else ""}
            rows.append(row | {f"label_{c}": y if j == k else -1 for j, c in enumerate(categories)})
    return write_corpus(folder, rows, name="toy", kind="imported", categories=categories)


@pytest.mark.parametrize("categories", [("A",), ("A", "B", "C"), tuple("ABCDEFG")])
def test_words_find_what_words_give_away_for_any_number_of_risks(tmp_path, categories):
    posts = corpus(tmp_path / "posts", categories, n=40 * len(categories))
    logits, chosen = references.words_logits(posts, seed=1)
    truth = labels(posts.table("test"), posts.categories)
    assert len(chosen) == len(categories) and set(chosen) <= set(references.STRENGTHS)
    for k in range(len(categories)):
        known = truth[:, k] >= 0
        assert average_precision(truth[known, k], logits[known, k]) > 0.99


def test_posts_without_text_say_nothing(tmp_path):
    posts = corpus(tmp_path / "posts", ("A",), text=False)
    logits, chosen = references.words_logits(posts, seed=1)
    assert not logits.any() and chosen == [None]


def test_no_test_post_chooses_anything_and_rare_classes_need_no_folds():
    generator = np.random.default_rng(3)
    train, test = generator.normal(size=(60, 4)), generator.normal(size=(9, 4))
    known = np.full((60, 3), -1)
    known[:40, 0] = train[:40, 0] > 0
    known[:20, 1], known[5, 1] = 0, 1  # one violation: nothing to hold out
    known[:20, 2] = 0
    logits, chosen = references.fit_regressions(train, known, test, seed=1)
    assert chosen[0] in references.STRENGTHS and chosen[1:] == [1.0, None] and not logits[:, 2].any()
    one, _ = references.fit_regressions(train, known, test[:3], seed=1)
    np.testing.assert_array_equal(one, logits[:3])
    assert ((logits[:, 0] > 0) == (test[:, 0] > 0)).mean() > 0.8
    other = np.where(np.arange(60)[:, None] >= 40, 1 - known.clip(0), known)  # beyond the verified posts, anything
    other[40:, 0] = -1
    again, _ = references.fit_regressions(train, other[:, :1], test, seed=1)
    np.testing.assert_array_equal(again[:, 0], logits[:, 0])


def test_the_oracle_ranks_by_the_posterior_and_breaks_ties_at_random(tmp_path):
    posts = corpus(tmp_path / "posts", ("A",))
    assert references.oracle_logits(posts, seed=1) is None
    ids = posts.table("test")["post_id"]
    posterior = np.repeat([0.0, 0.01, 0.9, 1.0], len(ids) // 4).astype(np.float32)
    (tmp_path / "posts" / "hidden").mkdir()
    pq.write_table(pa.table({"post_id": ids, "posterior_A": posterior}), tmp_path / "posts/hidden/truth.parquet")
    logits = references.oracle_logits(posts, seed=1)[:, 0]
    assert np.isfinite(logits).all() and len(np.unique(logits)) > len(ids) * 0.9
    ends = pd.Series(logits).groupby(posterior).agg(["min", "max"])
    assert (ends["max"].to_numpy()[:-1] < ends["min"].to_numpy()[1:]).all()
    np.testing.assert_array_equal(logits, references.oracle_logits(posts, seed=1)[:, 0])


def scored(categories=("A", "B"), *, seeds=(1,), n=300):
    """Thirteen rows, and two reference rows, on posts that are verified for one risk each."""
    generator = np.random.default_rng(4)
    truth = np.full((n, len(categories)), -1)
    truth[np.arange(n), np.arange(n) % len(categories)] = generator.random(n) < 0.2
    rows = [*tables.ROW_ORDER, (references.REFERENCE, references.WORDS), (references.REFERENCE, references.PROBE)]
    found = {row: {seed: (truth + generator.normal(size=truth.shape)).astype(np.float32)
                   for seed in (seeds if row[1] != references.WORDS else seeds[:1])} for row in rows}  # fmt: skip
    return RowScores([f"p{i}" for i in range(n)], truth, tuple(categories), found)


def test_reference_rows_are_apart_from_the_thirteen():
    scores = scored(seeds=(1, 2))
    stating = stated.TableResults.of(scores, seed=1)
    assert stating.beside["method"].unique().tolist() == [references.CHANCE, references.WORDS, references.PROBE]
    texts = stating.files()
    assert len(texts["table1.csv"].splitlines()) == 14 and "Reference" not in texts["table1.csv"] + texts["claims.csv"]
    lines = texts["references.csv"].splitlines()
    assert len(lines) == 4 and lines[0].count(",") == 1 + 3 * 4 and "b_apr_at_r95" in lines[0]


def test_what_all_risks_release_is_known_where_every_post_is_verified_for_all():
    disjoint = scored()
    assert tables.auto_pass_results(disjoint, seed=1).empty
    assert "auto_pass.csv" not in stated.TableResults.of(disjoint, seed=1).files()
    joint = replace(disjoint, truth=(np.random.default_rng(1).random((300, 2)) < 0.2).astype(np.int8))
    lines = tables.auto_pass_results(joint, seed=1)
    assert len(lines) == 2 * len(joint.rows) and lines["value"].between(lines["low"], lines["high"]).all()
    row, runs = next(iter(joint.rows.items()))
    assert lines["value"][0] == pytest.approx(auto_pass(joint.truth, runs[1], recall=0.9))
    assert stated.TableResults.of(joint, seed=1).files()["auto_pass.csv"].count("\n") == len(lines) + 1


def test_what_the_mask_changes_is_by_construction_on_built_in_posts_only(tmp_path):
    for kind, verdicts in {"built-in": {claims.CHOSEN}, "own": {claims.ABOVE, claims.BELOW, claims.OPEN}}.items():
        scores = replace(scored(), kind=kind)
        scores.write(tmp_path / "scores.parquet")
        kept = read_row_scores(tmp_path / "scores.parquet")
        assert kept.kind == kind
        found = stated.OwnStreamResults.of(kept, seed=1)
        assert set(found.decided["verdict"]) <= verdicts and set(found.decided["claim"]) == {claims.MASKING}
        assert set(found.files()) == {"own_stream.csv", "own_stream_mask.csv"}


def test_the_row_without_information_is_the_prevalence_with_its_interval():
    scores = scored(("A",))
    refs = references.reference_results(scores, scores.evidence(seed=1)).set_index(["method", "category", "metric"])
    floor = refs.loc[references.CHANCE]
    for category in ("A", tables.AVERAGE):
        area = floor.loc[category, "PR-AUC"]
        assert area["value"] == pytest.approx((scores.truth == 1).mean())
        assert area["low"] < area["value"] < area["high"]
        for metric, value in {"R@P60": 0.0, "APR@R90": 0.1, "APR@R95": 0.05}.items():
            assert floor.loc[(category, metric), ["value", "low", "high"]].tolist() == pytest.approx([value] * 3)


def test_what_tuning_is_worth_is_the_paired_difference_to_the_probe():
    scores = scored()
    probe, same = (references.REFERENCE, references.PROBE), ("Masked BCE", "Qwen3-VL-4B")
    scores.rows[probe] = scores.rows[same]
    evidence = scores.evidence(seed=1)
    gains = references.gains(evidence).set_index(["row", "against"])
    assert len(gains) == 4 and gains.loc["Masked BCE, Qwen3-VL-4B", references.PROBE].tolist() == [0, 0, 0]
    paired = evidence.difference(("Masked BCE + Distill", same[1]), probe, tables.AVERAGE, "PR-AUC")
    told = gains.loc["Masked BCE + Distill, Qwen3-VL-4B", references.PROBE].tolist()
    assert told == pytest.approx([100 * value for value in paired[:3]], abs=0.006)


def test_kept_scores_have_an_entry_like_a_run_and_come_back(tmp_path):
    posts = corpus(tmp_path / "posts", ("A", "B"))
    ws = Workspace.open("nb", {"runs_dir": str(tmp_path / "runs"), "profile": "p", "seed": 1, "device": "cpu"})
    entry = references.words_entry(ws, posts, seed=7)
    assert entry["config"]["C"].keys() == {"A", "B"} and entry["seed"] == 7 and entry["seconds"] >= 0
    found = references.reference_scores([entry], posts, runs_dir=ws.runs_dir)
    logits, _ = references.words_logits(posts, seed=7)
    kept = found.rows[references.REFERENCE, references.WORDS][7]
    known = found.truth >= 0
    np.testing.assert_array_equal(kept[known], logits[known])


@pytest.mark.parametrize("options", [{"prevalence": 1.2}, {"prevalence": 0.1, "recalls": [0]}])
def test_what_is_no_share_is_refused(options):
    with pytest.raises(ValueError, match="must lie in"):
        uninformed_metrics(**options)
