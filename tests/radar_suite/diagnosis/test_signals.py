"""Each signal against an oracle, or by what it must do to a run that is changed in one way."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from radar_lib.metrics import threshold_at_recall
from radar_suite.diagnosis.runs import RunFolder
from radar_suite.diagnosis.signals import SIGNALS, Signal, auc, broken_contracts, compute, fit_line


@given(st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=4))
def test_auc_is_scikit_learns(rows):
    y, z = np.array(rows, float).T
    if 0 < y.sum() < len(y):
        assert auc(y, z) == pytest.approx(roc_auc_score(y, z))
    else:
        assert np.isnan(auc(y, z))


@pytest.mark.parametrize("sharper", [0.3, 1, 6, 30])
def test_the_calibration_line_is_logistic_regression(sharper):
    random = np.random.default_rng(1)
    z = random.normal(size=4000)
    y = (random.random(4000) < 1 / (1 + np.exp(-(0.6 * z - 0.4)))).astype(int)
    oracle = LogisticRegression(C=np.inf).fit(z[:, None], y)
    slope, intercept = fit_line(sharper * z, y)
    assert (slope * sharper, intercept) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=0.01)


def test_rankings_are_scikit_learns(run):
    one = run()
    found, absent = compute(one)
    audit = one.splits["audit"]
    for k, c in enumerate(one.categories):
        assert found["audit_ap"][k] == pytest.approx(average_precision_score(audit[f"label_{c}"], audit[f"logit_{c}"]))
        assert found["audit_auc"][k] == pytest.approx(roc_auc_score(audit[f"label_{c}"], audit[f"logit_{c}"]))


def test_average_precision_does_not_know_the_order_of_tied_posts(run):
    coarse = where("audit", logit=lambda p, c: p[c].round())
    one = run(change=coarse)
    audit = one.splits["audit"]
    oracle = [average_precision_score(audit[f"label_{c}"], audit[f"logit_{c}"]) for c in one.categories]
    for order in (slice(None), slice(None, None, -1)):
        shuffled = run(change=lambda posts, order=order: coarse(posts).iloc[order].reset_index(drop=True))
        assert compute(shuffled, ["audit_ap"])[0]["audit_ap"] == pytest.approx(oracle)


def test_equal_scores_have_no_average_precision(run):
    assert compute(run(change=where("audit", logit=lambda p, c: 0.5)), ["audit_ap"]) == ({}, ["audit_ap"])


@pytest.mark.parametrize("mistake", [lambda run: run.splits["train"]["langauge"], lambda run: run.relabels.post_id])
def test_a_mistake_in_a_formula_is_no_absent_part(run, monkeypatch, mistake):
    monkeypatch.setitem(SIGNALS, "mine", Signal(mistake, "B"))
    with pytest.raises((KeyError, AttributeError)):
        compute(run(), ["mine"])
    monkeypatch.setitem(SIGNALS, "mine", Signal(lambda run: run.column("train", "device").nunique(), "B"))
    assert compute(run(), ["mine"]) == ({}, ["mine"])


def test_what_is_not_there_is_named_and_the_rest_is_computed(run):
    whole, _ = compute(run())
    kept = run(change=lambda posts: posts[[c for c in posts if not c.startswith(("teacher", "served", "region"))]])
    bare, absent = compute(kept, SIGNALS)
    assert {"teacher_auc", "served_bias", "pipeline_gap", "loss_end", "relabel_missed", "threshold_gap",
            "region_residual"} <= set(absent)
    assert bare["audit_auc"] == pytest.approx(whole["audit_auc"])
    assert set(bare) | set(absent) == set(SIGNALS)


def test_what_too_few_posts_give_no_number_of_is_absent(run):
    strange = run(change=lambda posts: posts.assign(language=None))
    assert {"language_share", "language_auc", "language_spread"} <= set(compute(strange)[1])
    one = run(change=lambda posts: posts.assign(language="en"))
    assert "language_auc" in compute(one)[1]


def test_one_empty_modality_breaks_the_contract_where_the_other_is_not_told_of(run):
    assert broken_contracts(run(contract={"train_no_text": 1.0})) == {"train_empty": 1.0}


def test_a_second_look_is_computed_only_when_it_is_asked_for(run):
    looked = relabelled(run(), lambda label: np.maximum(label, 0))
    assert not any(name.startswith("relabel") for name in sum(map(list, compute(looked)), []))
    assert list(compute(looked, ["relabel_missed"])[0]) == ["relabel_missed"]


def relabelled(one, gold):
    """The run with a second look at its first 100 training posts."""
    train = one.splits["train"].head(100)
    golds = {f"gold_{c}": gold(train[f"label_{c}"].to_numpy()) for c in one.categories}
    return RunFolder(one.about, one.posts, None, pd.DataFrame({"post_id": train["post_id"], **golds}))


def changed(run, name, change):
    """A signal before and after a change of the posts."""
    before, after = (compute(run(change=c))[0][name] for c in (lambda posts: posts, change))
    return np.mean(before), np.mean(after)


def where(split, **columns):
    """A change: in a split, columns by name (the prefix of all categories) become `f(posts, column)`."""

    def change(posts):
        rows = posts["split"] == split
        for prefix, f in columns.items():
            for c in [c for c in posts if c.startswith(prefix + "_")] or [prefix]:
                posts.loc[rows, c] = f(posts[rows], c)
        return posts

    return change


FALLS = [
    ("pipeline_gap", where("train", logit=lambda p, c: p[c] - 2 * (p["label" + c[5:]] < 0))),
    ("teacher_train_auc", where("train", teacher=lambda p, c: np.roll(p[c], 37))),
    ("teacher_agreement_train", where("train", teacher=lambda p, c: np.roll(p[c], 37))),
    ("teacher_slope", where("audit", teacher=lambda p, c: 4 * p[c])),
    ("score_ratio", where("audit", logit=lambda p, c: p[c] - 2)),
    ("score_spread", where("audit", logit=lambda p, c: p[c] / 5)),
    ("language_share", where("train", language=lambda p, c: p[c].where(p[c] != "ar", "en"))),
    ("language_spread", where("audit", logit=lambda p, c: p[c].where(p["language"] != "ar", -1.0))),
    ("language_auc", where("audit", logit=lambda p, c: p[c].where(p["language"] != "ar", -p[c]))),
    ("frames_effect", where("audit", no_frames=lambda p, c: p[c.replace("no_frames", "logit")])),
]
RISES = [
    ("content_overlap", where("validation", content=lambda p, c: "train" + p.index.astype(str).str[-2:])),
    ("group_overlap", where("validation", group=lambda p, c: "train" + p.index.astype(str).str[-2:])),
    ("region_residual", where("train", label=lambda p, c: p[c].where((p[c] < 1) | (p["region"] != "r"), 0))),
    ("language_residual", where("train", label=lambda p, c: p[c].where((p[c] < 1) | (p["language"] != "en"), 0))),
    ("month_residual", where("train", label=lambda p, c: p[c].where((p[c] < 1) | (p["month"] > 5), 0))),
    ("served_noise", where("serve", served=lambda p, c: p[c] + 0.3)),
    ("served_share", where("serve", served=lambda p, c: p[c] + 0.3)),
    ("serve_shift", where("serve", logit=lambda p, c: p[c] + 1)),
    ("serve_prevalence", where("serve", logit=lambda p, c: p[c] + 1)),
    ("suspect_positives", where("validation", label=lambda p, c: p[c].where(p[c] < 0, 1 - p[c]))),
    ("other_head", where("audit", logit=lambda p, c: p["logit_B" if c == "logit_A" else "logit_A"])),
    ("crossed_teacher", where("train", teacher=lambda p, c: p["teacher_B" if c == "teacher_A" else "teacher_A"])),
    ("train_shift", where("train", logit=lambda p, c: p[c] + 1)),
    ("tied_scores", where("audit", logit=lambda p, c: p[c].clip(lower=0))),
    ("tail_skew", where("audit", logit=lambda p, c: p[c].clip(lower=-1.5))),
    ("tail_weight", where("audit", logit=lambda p, c: p[c] + 20 * (p.index % 40 == 0))),
    ("validation_gap", where("validation", logit=lambda p, c: p[c] + 3 * p["label" + c[5:]])),
]


@pytest.mark.parametrize(("name", "change"), FALLS)
def test_a_signal_falls(run, name, change):
    before, after = changed(run, name, change)
    assert after < before - 0.05


@pytest.mark.parametrize(("name", "change"), RISES)
def test_a_signal_rises(run, name, change):
    before, after = changed(run, name, change)
    assert after > before + 0.05


def test_ranks_do_not_see_a_shift_and_calibration_does(run):
    shifted = where("audit", logit=lambda p, c: p[c] - 2)
    assert changed(run, "audit_auc", shifted)[0] == pytest.approx(changed(run, "audit_auc", shifted)[1])


def test_the_correlation_of_two_heads_is_spearmans(run):
    a, b = run().matrix("audit", "logit").T
    assert compute(run())[0]["heads_correlation"] == pytest.approx(np.arctanh(spearmanr(a, b).statistic))


def test_posts_of_one_content_may_have_one_score(run):
    same = where("audit", logit=lambda p, c: 0.5, content=lambda p, c: "one")
    assert compute(run(change=same), ["tied_scores"])[0] == {"tied_scores": 0.0}


def test_the_threshold_that_the_audit_gives_is_at_most_a_post_away(run):
    one = run()
    z, y = one.matrix("audit", "logit"), one.matrix("audit", "label")
    tau = [threshold_at_recall(y[:, k], z[:, k], recall=0.9) for k in range(2)]
    ranked = [np.sort(z[y[:, k] == 1, k]) for k in range(2)]
    step = [np.diff(one)[max(0, np.searchsorted(one, t) - 1)] for one, t in zip(ranked, tau, strict=True)]
    gap = compute(run(thresholds=tau))[0]["threshold_gap"]
    assert (0 <= gap + 1e-9).all() and (gap <= (np.array(step) + 1e-6) / z.std(axis=0)).all()
    above = compute(run(thresholds=[t + 0.5 for t in tau]))[0]["threshold_gap"]
    assert above - gap == pytest.approx(0.5 / z.std(axis=0), rel=1e-4)


def test_the_second_look_counts_what_the_label_missed(run):
    looked = relabelled(run(), lambda label: (label >= 0).astype(int))
    label = looked.splits["train"].head(100)[["label_A", "label_B"]].to_numpy()
    expected = (label == 0).sum(0) / ((label >= 0).sum(0) + 1)
    assert compute(looked, ["relabel_missed"])[0]["relabel_missed"] == pytest.approx(expected)


def test_a_sound_run_breaks_no_contract_and_a_silent_one_none_that_it_does_not_speak_of(run):
    said = {"loss_cells": 400.0, "verified_cells": 400.0, "teacher_mismatch": 0.0}
    assert broken_contracts(run()) == {}
    assert broken_contracts(run(contract=said)) == {}
    assert broken_contracts(run(contract=said | {"loss_cells": 800.0})) == {"unread_cells": 1.0}
