"""A fault changes what it says and nothing else, by its severity; plans differ and keys give nothing away."""

import numpy as np
import pytest

from radar_lib.training.cache import Cache
from radar_suite.diagnosis import held_out
from radar_suite.diagnosis.bench import Size, open_bench
from radar_suite.diagnosis.evaluate import SIZES
from radar_suite.diagnosis.faults import FAULTS, HISTORY, OUTSIDE, harmless
from radar_suite.diagnosis.plant import DEVELOPMENT, PLANS, Makings, runs_of
from radar_suite.diagnosis.setups import Setup, contract_of
from radar_suite.diagnosis.taxonomy import read_taxonomy

FITS = {"lam", "learning_rate", "epochs", "batch", "decay", "stop", "head_weights"}
SERVES = {"blank", "noise", "shift"}
LABELS = {"labels train", "labels validation", "read"}
SEEN = {f"seen {split}" for split in ("train", "validation", "audit", "serve")}
GROWN = {"rows train", "labels train", "read", "teacher train", "seen train"}  # posts come or go
CHANGES = {
    "unmasked_loss": {"read"}, "pipeline_label_noise": LABELS, "copies_across_splits": GROWN,
    "streams_across_splits": GROWN, "language_hole": GROWN, "modality_lost": {"seen train", "seen validation"},
    "unstable_training": {"learning_rate"}, "undertrained": {"stop"}, "low_capacity": SEEN,
    "overfit": {"epochs", "learning_rate", "decay"}, "collapsed_head": {"head_weights"},
    "overconfident_teacher": {f"teacher {split}" for split in ("train", "validation", "audit", "serve")},
    "misjoined_teacher": {"teacher train"},
    "weak_teacher": {f"teacher {split}" for split in ("train", "validation", "audit", "serve")},
    "distillation_too_strong": {"lam"}, "serving_modality": {"blank"}, "serving_truncation": {"blank"},
    "serving_precision": {"noise"}, "prevalence_shift": {"rows serve", "labels serve", "teacher serve", "seen serve"},
    "threshold_drift": {"shift"}, "regional_policy": LABELS, "policy_change": LABELS, "label_ambiguity": LABELS,
    "unseen_language": SEEN, "wrong_transcripts": SEEN,
    "soft_labels_of_others": {"teacher train"}, "doubled_store": {"seen train"}, "nothing_trained": {"learning_rate"},
    "black_frames": SEEN, "text_cut_unseen": {"blank"},
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return open_bench("facts", seed=11, size=Size(300, 150, 300, 250), cache=cache)


def parts(setup):
    """What a set-up is, part by part."""
    found = {name: getattr(setup, name) for name in FITS | SERVES} | {"read": setup.read}
    for split, posts in setup.posts.items():
        found |= {f"rows {split}": posts["post_id"].to_numpy(str), f"labels {split}": setup.labels(split)}
        found |= {f"teacher {split}": setup.teacher[split], f"seen {split}": setup.features("whole", split)}
    return found


def changed(before, after):
    def same(a, b):
        return a == b if isinstance(a, dict) else np.shape(a) == np.shape(b) and bool(np.all(a == b))

    return {name for name in before if not same(before[name], after[name])}


def planted(bench, fault, severity, seed=3):
    setup = Setup.of(bench)
    DEVELOPMENT.fault(fault)(setup, severity, np.random.default_rng(seed))
    return setup


@pytest.mark.parametrize("fault", CHANGES)
def test_a_fault_changes_what_it_says_and_nothing_else(bench, fault):
    healthy, ill = Setup.of(bench), planted(bench, fault, 0.8)
    assert changed(parts(healthy), parts(ill)) == CHANGES[fault]
    assert changed(parts(healthy), parts(Setup.of(bench))) == set()  # the bench itself stays as it is


@pytest.mark.parametrize("fault", [name for name, areas in CHANGES.items() if areas <= LABELS])
def test_labels_are_wrong_only_where_there_are_any(bench, fault):
    healthy, ill = Setup.of(bench), planted(bench, fault, 0.8)
    for split in ("train", "validation"):
        assert ((healthy.labels(split) < 0) == (ill.labels(split) < 0)).all()


@pytest.mark.parametrize("fault", ["pipeline_label_noise", "label_ambiguity", "unmasked_loss", "misjoined_teacher"])
def test_a_severer_fault_changes_more(bench, fault):
    healthy = parts(Setup.of(bench))
    mild, severe = (parts(planted(bench, fault, severity)) for severity in (0.1, 0.9))
    (where,) = CHANGES[fault] - {"labels train", "labels validation"}
    assert (mild[where] != healthy[where]).sum() < (severe[where] != healthy[where]).sum()


@pytest.mark.parametrize(
    "cause", [c.name for c in read_taxonomy().causes if c.contract not in (None, "copies", "groups")]
)
def test_a_fault_says_only_what_an_honest_log_would(bench, cause):
    said, healthy = contract_of(planted(bench, cause, 0.8)), contract_of(Setup.of(bench))
    assert said.keys() == healthy.keys()  # the key of a run gives nothing away
    assert 1 <= sum(said[name] != healthy[name] for name in said) <= 2


def test_outside_and_inside_are_disjoint_and_every_cause_can_be_planted():
    assert {c.name for c in read_taxonomy().causes} == set(FAULTS)
    assert not set(FAULTS) & set(OUTSIDE)
    assert set(HISTORY.values()) <= set(FAULTS) | {"unknown"}


def test_harmless_changes_leave_labels_and_teacher(bench):
    healthy, other = Setup.of(bench), Setup.of(bench)
    harmless(other, np.random.default_rng(1))
    assert not changed(parts(healthy), parts(other)) & {"labels validation", "teacher validation", "seen validation"}
    assert {"learning_rate", "rows train"} <= changed(parts(healthy), parts(other))


@pytest.mark.parametrize("size", [size for size, (development, _) in SIZES.items() if development])
def test_development_and_test_share_no_world(size):
    plans = PLANS | held_out.PLANS
    development, tests = ([plans[name] for name in names] for names in SIZES[size])
    assert not {plan.world for plan in tests} & {plan.world for plan in development}
    for test in tests:
        assert {c for one in runs_of(test) if one["kind"] == "single" for c in one["causes"]} == set(FAULTS)


def test_a_plan_draws_from_what_it_is_made_of():
    makings = Makings(held_out.OUTSIDE, held_out.harmless)
    listed = runs_of(held_out.PLANS["held-out-facts"], makings)
    assert {one["causes"][0] for one in listed if one["kind"] == "outside"} == set(held_out.OUTSIDE)
    assert makings.fault("evasion") is held_out.evasion
