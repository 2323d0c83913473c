"""A bundle is used as it was calibrated, or refused; its numbers are recomputed here from its logits."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import labels, write_corpus
from radar_lib.decisions import bundle as room
from radar_lib.decisions.bundle import BUNDLE, below_target, calibrate, open_bundle
from radar_lib.decisions.routing import score
from radar_lib.errors import RadarError
from radar_lib.files import read_sealed, write_sealed
from radar_lib.models.backbones import load_backbone
from radar_lib.thresholds import certified_threshold


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_thresholds_are_those_of_the_calibration_logits(bundle, corpus, make):
    logits = np.stack(list(score(bundle.router, [make.sound(i) for i in range(220)])))
    truth = labels(corpus.table("calibration"), bundle.categories)
    for k, category in enumerate(bundle.categories):
        expected = certified_threshold(logits[truth[:, k] == 1, k], recall=0.8, risks=2)
        found = bundle.record["thresholds"][category]
        assert found["rank"] == expected.rank and found["positives"] == (truth[:, k] == 1).sum()
        assert found["logit"] == pytest.approx(expected.logit, abs=1e-5)
        about = bundle.record["calibration"]["risks"][category]
        assert about["recall"] == np.mean(logits[truth[:, k] == 1, k] > expected.logit) >= 0.8
        assert about["apr"] <= about["naive_apr"]


def test_a_saved_bundle_decides_the_same(bundle, saved, make):
    again = open_bundle(saved)
    assert again.digest == bundle.digest and again.thresholds == bundle.thresholds
    posts = [make.sound(i) for i in range(300, 340)]
    for one, other in zip(bundle.route(posts), again.route(posts), strict=True):
        assert one.modules == other.modules and np.allclose(one.logits, other.logits, atol=1e-5)


def test_a_dataset_is_routed_without_its_frames_being_decoded_for_all(bundle, corpus, make):
    decisions = list(bundle.route(corpus.split("calibration").select(range(30))))
    expected = list(bundle.route([make.sound(i) for i in range(30)]))
    assert [d.modules for d in decisions] == [d.modules for d in expected]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "heads.safetensors", "adapter_config.json", BUNDLE])
def test_a_changed_file_is_refused(copy, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(RadarError, match=name.partition(".")[0]):
        open_bundle(copy)


def test_the_card_may_be_edited(copy, bundle):
    card = (copy / "README.md").read_text()
    assert "| A | " in card and f"{bundle.thresholds[0]:.6g}" in card
    (copy / "README.md").write_text(card + "\nour notes\n")
    assert open_bundle(copy).digest == bundle.digest


def resealed(folder, **changes):
    record = read_sealed(folder / BUNDLE)
    write_sealed(folder / BUNDLE, record | changes)


@pytest.mark.parametrize(
    ("changes", "said"), [({"categories": ["B", "A"]}, "risks"), ({"format": 7}, "format 7")], ids=["risks", "format"]
)
def test_what_does_not_fit_the_router_is_refused(copy, changes, said):
    resealed(copy, **changes)
    with pytest.raises(RadarError, match=said):
        open_bundle(copy)


def test_another_encoder_is_refused(copy, checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / "qwen3-vl-2b")
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": [0.1, 0.1, 0.1]}))
    base = json.loads((copy / "router_config.json").read_text())
    record = {k: v for k, v in base.items() if k != "seal"}
    write_sealed(copy / "router_config.json", record | {"base": record["base"] | {"checkpoint": str(other)}})
    resealed(copy, files={})
    with pytest.raises(RadarError, match="digest"):
        open_bundle(copy)


def test_an_encoder_that_is_computed_otherwise_is_refused(saved, monkeypatch):
    def differs(*args, **options):
        backbone = load_backbone(*args, **options)
        backbone.frame_processor._table += 0.5  # as another version of an image processor would
        return backbone

    monkeypatch.setattr(room, "load_backbone", differs)
    with pytest.raises(RadarError, match="Calibrate the router here"):
        open_bundle(saved)


def test_a_router_that_changed_since_is_not_saved(build, corpus, tmp_path):
    made = calibrate(build(3), corpus, recall=0.8)
    made.router.heads[0].bias.data += 1
    with pytest.raises(RadarError, match="not what was calibrated"):
        made.save(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recall": 0.95}, "A: 55 .*violating .* takes 72"),
        ({"split": "test"}, "cannot calibrate"),
        ({"recall": 1.5}, "recall is 1.5"),
        ({"inclusion": pd.Series({"p00000": 0.5})}, "chance of inclusion"),
    ],
)
def test_bad_calibrations_are_refused(bundle, corpus, options, said):
    with pytest.raises(RadarError, match=said):
        calibrate(bundle.router, corpus, **({"recall": 0.8} | options))


def test_a_risk_without_cleared_posts_is_refused(bundle, tmp_path, make):
    rows = [make.sound(i) | {"split": "calibration", "label_A": 1, "label_B": i % 2} for i in range(60)]
    posts = write_corpus(tmp_path / "p", rows, name="one kind", kind="imported", categories=("A", "B"))
    with pytest.raises(RadarError, match="A: no calibration post is cleared"):
        calibrate(bundle.router, posts, recall=0.8)


def test_a_router_of_other_risks_is_refused(build, corpus):
    with pytest.raises(RadarError, match="no labels for C"):
        calibrate(build(1, ("A", "C")), corpus)


def test_known_chances_thin_the_posts(bundle, corpus):
    ids = corpus.table("calibration")["post_id"]
    chances = pd.Series(np.where(np.arange(len(ids)) % 2, 1.0, 0.8), index=ids)
    made = calibrate(bundle.router, corpus, recall=0.8, inclusion=chances, seed=4)
    assert 5 <= made.record["calibration"]["thinned"] <= 45
    halved = chances.where(chances < 1, 0.05)
    with pytest.raises(RadarError, match="independent violating"):
        calibrate(bundle.router, corpus, recall=0.8, inclusion=halved)


def test_posts_of_a_group_count_once(bundle, tmp_path, make):
    rows = [make.sound(i) | {"split": "calibration", "group": f"g{i // 8}" * (i < 80), "label_A": int(i % 4 == 0),
                             "label_B": int(i % 4 == 1)} for i in range(220)]  # fmt: skip
    posts = write_corpus(tmp_path / "p", rows, name="g", kind="imported", categories=("A", "B"), groups=True)
    record = calibrate(bundle.router, posts, recall=0.8).record
    assert record["thresholds"]["A"]["positives"] == 10 + 35 and record["calibration"]["risks"]["A"]["violating"] == 55


def test_slices_below_the_target_are_named_the_surest_first():
    region = ["BR"] * 20 + ["FI"] * 20 + ["IN"] * 2 + ["DE"] * 20
    logits = np.r_[np.ones(20), -np.ones(15), np.ones(5), -1, 1, np.ones(19), -1][:, None]
    table = pd.DataFrame({"region": region, "language": "en", "created_at": pd.Timestamp("2026-05-01")})
    found = below_target(table, np.ones((62, 1), int), logits, np.zeros(1), ["A"], 0.9)
    named = {(one["by"], one["slice"]): (one["found"], one["positives"]) for one in found}
    assert named == {("region", "FI"): (5, 20), ("region", "IN"): (1, 2), ("language", "en"): (45, 62),
                     ("month", "2026-05"): (45, 62)}  # fmt: skip
    assert found[0]["slice"] == "FI" and found[0]["recall_upper"] < 0.5 and found[-1]["recall_upper"] > 0.9
