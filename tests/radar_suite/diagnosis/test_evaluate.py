"""The key stays closed until all is diagnosed, and the numbers are those of their definitions."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from radar_lib.errors import RadarError
from radar_lib.files import digest_json, read_json, write_json, write_sealed
from radar_suite.diagnosis.diagnose import HEALTHY, UNKNOWN
from radar_suite.diagnosis.evaluate import (
    calibration_error,
    cross_validated,
    evaluate,
    judge,
    macro_f1,
    open_key,
    reached,
)  # fmt: skip

ANSWERS = {
    "a": {"kind": "single", "causes": ["x"], "hurt": {"x": True}},
    "b": {"kind": "single", "causes": ["y"], "hurt": {"y": False}},
    "c": {"kind": "healthy", "causes": [], "hurt": None},
    "d": {"kind": "pair", "causes": ["x", "y"], "hurt": {"x": True, "y": True}},
    "e": {"kind": "outside", "causes": ["z"], "hurt": {"z": True}},
    "f": {"kind": "single", "causes": ["y"], "hurt": {"y": True}},
    "g": {"kind": "band", "causes": [], "hurt": None},
}


@pytest.fixture
def sealed(tmp_path):
    """Folders of a key and of runs, and the verdicts that open it."""
    write_sealed(tmp_path / "key/key.json", {"answers": ANSWERS})
    write_json(tmp_path / "runs/key_digest.json", digest_json({"answers": ANSWERS}))
    write_json(tmp_path / "verdicts.json", {name: {} for name in ANSWERS if name != "g"})
    return tmp_path / "key", tmp_path / "runs", tmp_path / "verdicts.json"


def test_the_key_opens_when_every_run_has_a_verdict(sealed):
    assert open_key(*sealed) == ANSWERS


def undiagnosed(key, runs, verdicts):
    verdicts.unlink()


def diagnosed_in_part(key, runs, verdicts):
    write_json(verdicts, {"a": {}})


def changed_after_sealing(key, runs, verdicts):
    answers = ANSWERS | {"a": ANSWERS["a"] | {"causes": ["y"]}}
    write_sealed(key / "key.json", {"answers": answers})


def changed_by_hand(key, runs, verdicts):
    write_json(key / "key.json", read_json(key / "key.json") | {"answers": {}})


@pytest.mark.parametrize("damage", [undiagnosed, diagnosed_in_part, changed_after_sealing, changed_by_hand])
def test_a_key_opened_early_or_changed_is_an_error(sealed, damage):
    damage(*sealed)
    with pytest.raises(RadarError, match="key"):
        open_key(*sealed)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_macro_f1_is_scikit_learns(pairs):
    truth, verdict = zip(*pairs, strict=True)
    expected = f1_score(truth, verdict, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert macro_f1(pairs) == pytest.approx(expected)


def verdicts(**named):
    return {name: {"verdict": named[name][0] if named[name] else HEALTHY, "causes": named[name]} for name in named}


def test_latent_faults_pairs_and_faults_outside_are_counted_apart():
    found = verdicts(a=["x"], b=["y"], c=[], d=["y", "x"], e=["x"], f=["x"])
    found["e"] = {"verdict": UNKNOWN, "causes": []}
    numbers = judge(ANSWERS, found.get)
    n = {name: numbers[name]["n"] for name in ("top1", "latent", "exact_pairs", "unknown", "false_alarms", "detected")}
    assert n == {"top1": 2, "latent": 1, "exact_pairs": 1, "unknown": 1, "false_alarms": 1, "detected": 4}
    shares = {name: numbers[name]["share"] for name in n}
    assert shares == {"top1": 0.5, "latent": 1, "exact_pairs": 1, "unknown": 1, "false_alarms": 0, "detected": 1}
    assert numbers["detection_f1"] == 1
    missed = verdicts(a=[], c=["x"], d=[], e=[], f=["y"], b=[])
    assert judge(ANSWERS, missed.get)["detection_f1"] == pytest.approx(1 / 3)


def test_the_smallest_evaluation_plants_diagnoses_and_scores_and_does_nothing_twice(tmp_path):
    scores = evaluate("smoke", tmp_path / "smoke", tmp_path / "cache")
    best = scores["posterior"]["BLC"]
    assert best["top1"]["n"] == 25 and best["false_alarms"]["n"] == 6 and best["exact_pairs"]["n"] == 2
    assert best["top1"]["share"] > 0.5 > best["false_alarms"]["share"]
    assert best["top1"]["share"] > scores["rules"]["BLC"]["top1"]["share"]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "scores.json"]
    before = [path.stat().st_mtime_ns for path in kept]
    again = evaluate("smoke", tmp_path / "smoke", tmp_path / "cache")
    assert json.dumps(again) == json.dumps(scores) and [path.stat().st_mtime_ns for path in kept] == before


def test_a_bar_is_met_from_its_side():
    def shares(**named):
        return {name: {"share": value, "low": 0.0, "high": 1.0, "n": 100} for name, value in named.items()}

    one = shares(detected=0.99, false_alarms=0.03, top1=0.9, exact_pairs=0.6, unknown=0.1) | {"detection_f1": 0.98}
    rows = {(r["measure"], r["knowledge"]): r for r in reached({"posterior": dict.fromkeys(("B", "BL", "BLC"), one)})}
    met = {name for name, row in rows.items() if row["met"]}
    assert met == {("detection_f1", "BLC"), ("top1", "B"), ("top1", "BL"), ("exact_pairs", "BLC")}
    f1 = rows["detection_f1", "BLC"]
    assert f1["low"] < f1["share"] < f1["high"] <= 1


def test_development_is_diagnosed_by_other_worlds():
    random, rows = np.random.default_rng(2), []
    for i in range(120):
        truth = ["", "one", "two", "one+two"][i % 4]
        x = {name: random.normal(0, 0.3) + 4 * (of in truth) for name, of in (("slope", "one"), ("siding", "two"))}
        rows.append({"truth": truth, "latent": False, "world": "ab"[i // 4 % 2], **x})
    found = cross_validated(pd.DataFrame(rows))
    assert found["B"]["top1"]["share"] > 0.8 and found["B"]["top1"]["n"] == 60
    assert found["B"]["false_alarms"]["n"] == found["B"]["exact_pairs"]["n"] == 30
    wrong = pd.DataFrame(rows).assign(truth=lambda t: t["truth"].where(t["world"] == "a", t["truth"].map(
        {"": "", "one": "two", "two": "one", "one+two": "one+two"})))  # fmt: skip
    assert cross_validated(wrong)["B"]["top1"]["share"] < 0.1  # a world teaches nothing about itself


def test_a_posterior_that_is_right_as_often_as_it_says_has_no_calibration_error():
    answers = {str(i): {"kind": "single", "causes": ["x" if i < 7 else "y"], "hurt": None} for i in range(10)}
    found = {name: {"verdict": "x", "posterior": {"x": 0.7}} for name in answers}
    assert calibration_error(answers, found) == pytest.approx(0, abs=1e-9)
    sure = {name: {"verdict": "x", "posterior": {"x": 1.0}} for name in answers}
    assert calibration_error(answers, sure) == pytest.approx(0.3)
    assert np.isfinite(calibration_error(ANSWERS, {name: found["0"] for name in ANSWERS}))
