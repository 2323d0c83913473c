"""Each fix undoes its fault and does a healthy router no harm; a tie, or what helps anyway, proves nothing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from radar_lib.errors import RadarError
from radar_lib.training.cache import Cache
from radar_suite.diagnosis import card, fixes, proof
from radar_suite.diagnosis.bench import VARIANTS, Bench
from radar_suite.diagnosis.break_router import HIDDEN, Lab, play
from radar_suite.diagnosis.card import draw_signature
from radar_suite.diagnosis.faults import FAULTS
from radar_suite.diagnosis.fixes import BUDGET, FIXES, record
from radar_suite.diagnosis.setups import K, Setup, harms, learn, score
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.world.policies import CATEGORIES

SEEDS = (0, 1, 2)
HALF = 16  # features of frames, and of text
HURTFUL = [  # faults that this bench can show
    "unmasked_loss", "copies_across_splits", "streams_across_splits", "modality_lost",
    "unstable_training", "undertrained", "low_capacity", "collapsed_head", "misjoined_teacher",
    "serving_modality", "serving_truncation", "serving_precision", "prevalence_shift",
    "threshold_drift", "regional_policy", "policy_change", "unseen_language", "wrong_transcripts",
]  # fmt: skip


def made_up() -> Bench:
    """Posts whose violations are linear in frames and text, and a teacher that knows them with some noise."""
    random = np.random.default_rng(0)
    rules = random.normal(size=(2 * HALF, K)) / (2 * HALF) ** 0.5
    posts, truth, posterior, teacher = {}, {}, {}, {}
    features = {variant: {} for variant in VARIANTS}
    for split, n in (("train", 480), ("validation", 160), ("audit", 400), ("serve", 400)):
        x = random.normal(size=(n, 2 * HALF))
        logits = 4 * x @ rules - 4
        posterior[split], teacher[split] = expit(logits), logits + random.normal(0, 1, logits.shape)
        truth[split] = (random.random(logits.shape) < posterior[split]).astype(np.int8)
        own = random.integers(K, size=n)[:, None] == np.arange(K)
        seen = own if split in ("train", "validation") else np.full(own.shape, split == "audit")
        ids = [f"{split}{i}" for i in range(n)]
        posts[split] = pd.DataFrame({
            "post_id": ids, "content": ids, "group": ids, "pipeline": np.array(CATEGORIES)[own.argmax(1)],
            "region": random.choice(list("rstu"), n), "language": random.choice(["en", "es", "ar"], n),
            "month": random.integers(0, 12, n),
        } | {f"label_{c}": np.where(seen[:, k], truth[split][:, k], -1).astype(np.int8)
             for k, c in enumerate(CATEGORIES)})  # fmt: skip
        frames = np.arange(2 * HALF) < HALF
        half = np.where(random.random((n, 1)) < 0.5, 0.2, 1.0)
        changes = {"whole": x, "no_frames": x * ~frames, "no_text": x * frames, "cut": np.where(frames, x, half * x),
                   "garbled": np.where(frames, x, random.normal(size=x.shape))}  # fmt: skip
        for variant, values in changes.items():
            features[variant][split] = values.astype(np.float32)
    return Bench("made up", posts, truth, posterior, features, teacher)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small take threads far longer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bench():
    return made_up()


@pytest.fixture(scope="module")
def healthy(bench):
    setup = Setup.of(bench)
    setup.epochs = 6
    return setup


@pytest.fixture(scope="module")
def well(healthy):
    return outcomes(healthy)


def outcomes(setup):
    return pd.DataFrame([harms(setup, score(setup, weights)) for weights in learn(setup, list(SEEDS))[0]])


def broken(healthy, fault, severity=0.9, seed=1):
    setup = healthy.copy()
    FAULTS[fault](setup, severity, np.random.default_rng(seed))
    return setup


@pytest.mark.parametrize("fault", HURTFUL)
def test_a_fix_brings_back_most_of_what_a_fault_took(healthy, well, fault):
    setup, cause = broken(healthy, fault), read_taxonomy().cause(fault)
    ill, (fix,) = outcomes(setup)[cause.harm], proof.fixes_of([fault])
    lost = (ill - well[cause.harm]).mean()
    assert lost > 0 and (ill > well[cause.harm]).sum() >= 2
    mended = outcomes(proof.treat(setup, record(setup, seed=0), [fix]))[cause.harm]
    assert (ill - mended).mean() > 0.5 * lost


UNCHANGED = ["mask_on", "deduplicate", "split_by_group", "repair_extraction", "repair_recognition", "raise_rank",
             "change_backbone", "initialise_head", "rejoin_teacher", "repair_serving", "serve_uncut", "serve_exactly",
             "derive_thresholds"]  # fmt: skip


def test_a_repair_of_what_is_whole_changes_nothing(healthy, well):
    treated = proof.treat(healthy, record(healthy, seed=0), UNCHANGED)
    pd.testing.assert_frame_equal(outcomes(treated), well)


@pytest.mark.parametrize("fix", ["relabel_suspects", "relabel_regions", "relabel_before", "sample_language",
                                 "calibrate_teacher", "lower_lambda", "stop_early"])  # fmt: skip
def test_a_fix_does_a_healthy_router_no_harm(healthy, well, fix):
    treated = proof.treat(healthy, record(healthy, seed=0), [fix])
    assert treated.said.get("reviewed", 0) <= BUDGET
    assert (outcomes(treated)["pr_auc"] - well["pr_auc"]).mean() < 3 * well["pr_auc"].std() + 0.005


def test_a_placebo_mends_nothing_that_it_does_not_treat(healthy):
    setup = broken(healthy, "low_capacity")
    treated = proof.treat(setup, record(setup, seed=0), ["repair_extraction", "rejoin_teacher", "change_backbone"])
    pd.testing.assert_frame_equal(outcomes(treated), outcomes(setup))


def test_a_set_up_stays_as_it_was_when_a_copy_is_treated(healthy, well):
    run = record(healthy, seed=0)
    for fix in FIXES:
        proof.treat(healthy, run, [fix])
    pd.testing.assert_frame_equal(outcomes(healthy), well)


def test_sampling_adds_the_missing_language_only(healthy):
    setup = healthy.copy()
    setup.keep("train", np.flatnonzero(setup.posts["train"]["language"] != "ar"))
    treated = proof.treat(setup, record(setup, seed=0), ["sample_language"])
    added = treated.posts["train"].iloc[len(setup.read) :]
    assert 0 < len(added) <= BUDGET and set(added["language"]) == {"ar"}
    assert len(treated.read) == len(treated.posts["train"]) == len(treated.x["whole"]["train"])


def crowded(healthy):
    """Without a language, some of whose posts validation holds; with copies and posts of other groups in training."""
    setup = healthy.copy()
    train = setup.posts["train"]
    setup.keep("train", np.r_[np.flatnonzero(train["language"] != "ar"), :60])
    absent, held = train.loc[train["language"] == "ar", "content"].head(40), setup.posts["validation"]
    held.loc[held.index[: len(absent)], "content"] = absent.to_numpy()
    held.loc[held.index[:30], "group"] = setup.posts["train"]["group"][60:90].to_numpy()
    return setup


@pytest.mark.parametrize("order", [1, -1])
def test_fixes_that_change_the_posts_leave_the_others_the_rows_that_they_mean(healthy, order):
    setup = crowded(healthy)
    run = record(setup, seed=0)
    fixes = ["sample_language", "split_by_group", "deduplicate", "drop_before"][::order]
    treated, unread = proof.treat(setup, run, fixes), proof.treat(setup, run, ["drop_before"])
    train, held = (treated.posts[split] for split in ("train", "validation"))
    before = set(unread.posts["train"].loc[(unread.read < 0).all(axis=1), "month"])
    own = train["post_id"].isin(setup.posts["train"]["post_id"])
    assert ((treated.read < 0).all(axis=1)[own] == train.loc[own, "month"].isin(before)).all() and not own.all()
    assert not train["content"].duplicated().any() and not train["content"].isin(held["content"]).any()
    assert not train["group"].isin(held["group"]).any()
    assert len(treated.read) == len(train) == len(treated.x["whole"]["train"])


def test_reviews_find_the_wrong_labels(healthy, monkeypatch):
    monkeypatch.setattr(fixes, "BUDGET", 40)
    setup = broken(healthy, "pipeline_label_noise")
    wrong = lambda s: ((s.labels("train") >= 0) & (s.labels("train") != s.truth["train"])).sum()  # noqa: E731
    treated = proof.treat(setup, record(setup, seed=0), ["relabel_suspects"])
    assert treated.said["reviewed"] == 40
    assert wrong(setup) - wrong(treated) > 20  # of 40; the rate of wrong labels is about a third


def test_every_fix_that_runs_is_named_and_every_name_runs():
    named = {step.runs for cause in read_taxonomy().causes for step in cause.interventions if step.runs}
    assert named == set(FIXES)
    assert all(proof.fixes_of([cause.name]) for cause in read_taxonomy().causes)


@pytest.mark.parametrize("cause", FAULTS)
def test_a_placebo_is_no_known_treatment(cause):
    own = {step.runs for step in read_taxonomy().cause(cause).interventions}
    (placebo,) = proof.placebo_of([cause], {other: 1.0 for other in read_taxonomy().cause(cause).look_alikes})
    assert placebo in FIXES and placebo not in own


def test_a_proof_needs_a_win_over_placebo_and_nothing_in_every_seed(healthy):
    setup = broken(healthy, "undertrained")
    won = proof.verify(setup, ["more_steps"], ["mask_on"], SEEDS, healthy=healthy)
    assert won["verified"] and won["wins"] == 3 and won["low"] < won["gain"] < won["high"]
    assert won["recovered"] == pytest.approx(1)
    tie = proof.verify(setup, ["more_steps"], ["more_steps"], SEEDS)
    assert not tie["verified"] and tie["wins"] == 0 and tie["recovered"] is None
    harmful = proof.verify(healthy, ["mask_on"], ["drop_distillation", "raise_rank"], SEEDS)
    assert not harmful["verified"]  # it does nothing, so a bad placebo proves nothing


@pytest.mark.parametrize("verdict", [{"verdict": "healthy", "causes": []}, {"verdict": "x", "causes": ["overfit"]}])
def test_what_cannot_be_proven_is_one_clear_error(tmp_path, verdict):
    with pytest.raises(RadarError, match="run7"):
        proof.prove(verdict, tmp_path, Cache(tmp_path), "run7")


def test_the_lab_grades_and_hides(bench):
    lab = Lab(bench, reruns=5)
    patient = lab.break_it("undertrained", seed=3)
    assert list(patient.grade("undertrained", "curves", "more_steps")["point"]) == [1, 1, 1]
    assert list(patient.grade("overfit", "relabel", "mask_on")["point"]) == [0, 0, 0]
    assert {lab.break_it(HIDDEN, seed=seed).fault for seed in range(2)} <= set(FAULTS)
    assert patient.test("curves") and set(patient.deviations) > set(patient.test("curves"))


def test_the_labs_buttons_show_something(bench, monkeypatch):
    shown = []
    monkeypatch.delenv("RADAR_NOTEBOOK_DIGEST", raising=False)
    monkeypatch.setattr("IPython.display.display", shown.append)
    play(Lab(bench, reruns=5))
    (controls,) = shown
    buttons = {one.description: one for row in controls.children[:4] for one in row.children if hasattr(one, "click")}
    line, *outputs = controls.children[4:]
    buttons["run test"].click()
    assert line.value and len(shown) == 1, "nothing is broken yet"
    while_at_work = []
    monkeypatch.setattr("radar_suite.diagnosis.break_router.draw_signature", lambda axes, z: (
        while_at_work.append((line.value, *(one.disabled for one in buttons.values()))), draw_signature(axes, z)))
    for name in ("break", "run test", "apply fix", "grade"):
        buttons[name].click()
    assert len(while_at_work) == 2 and all(map(all, while_at_work))
    assert not line.value and not any(one.disabled for one in buttons.values()) and len(outputs) == len(buttons)
    figures, tables = shown[1:3], shown[3:]
    assert all(figure.axes for figure in figures)
    assert list(tables[1].index) == ["cause", "test", "fix"] and "healthy" in tables[0].index


def test_a_card_shows_each_signal_once_and_all_arms(bench, healthy):
    lab = Lab(bench, reruns=5)
    patient = lab.break_it("undertrained", seed=3)
    found = {"verdict": "undertrained", "causes": ["undertrained"], "posterior": {"undertrained": 0.9, "healthy": 0.1},
             "evidence": [{"signal": "train_auc"}, {"signal": "train_auc, extreme"}], "broken": {"copies": 0.5},
             "ruled_out": None, "fixes": [{"fix": "more steps", "cost": "one retraining"}]}  # fmt: skip
    proven = proof.verify(patient.setup, ["more_steps"], ["mask_on"], (0, 1), healthy=healthy)
    page = card.draw_card(found, name="run", signals=patient.signals, band=lab.band, proof=proven)
    ticks = [[label.get_text().split("  ")[0] for label in axes.get_yticklabels()] for axes in page.axes]
    assert ticks[2][0] == "train_auc" and len(set(ticks[2])) == 5
    assert ticks[3] == ["none", "placebo: mask_on", "fix: more_steps", "healthy"]
    plt.close(page)
