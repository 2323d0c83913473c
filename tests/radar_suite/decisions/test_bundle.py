"""A bundle is used as it was calibrated, or refused; its numbers are recomputed here from its logits."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import labels, write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import read_sealed, write_sealed
from radar_lib.models.backbones import load_backbone
from radar_lib.thresholds import certified_threshold
from radar_suite.decisions import bundle as room
from radar_suite.decisions.bundle import BUNDLE, below_target, calibrate, open_bundle, route


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle.folder, tmp_path / "copy")


def test_thresholds_are_those_of_the_calibration_logits(bundle, corpus, make):
    logits = np.stack([d.logits for d in bundle.route([make.sound(i) for i in range(220)])])
    truth = labels(corpus.table("calibration"), bundle.categories)
    for k, category in enumerate(bundle.categories):
        expected = certified_threshold(logits[truth[:, k] == 1, k], recall=0.8, risks=2)
        found = bundle.record["thresholds"][category]
        assert found["rank"] == expected.rank and found["positives"] == (truth[:, k] == 1).sum()
        assert found["logit"] == pytest.approx(expected.logit, abs=1e-5)
        about = bundle.record["calibration"]["risks"][category]
        assert about["recall"] == np.mean(logits[truth[:, k] == 1, k] > expected.logit) >= 0.8
        assert about["apr"] <= about["naive_apr"]


def test_an_opened_bundle_decides_the_same(bundle, corpus, make):
    again = open_bundle(bundle.folder)
    assert again.digest == bundle.digest and again.thresholds == bundle.thresholds
    posts = [make.sound(i) for i in range(30)]
    for posts_again in (posts, corpus.split("calibration").select(range(30))):
        for one, other in zip(bundle.route(posts), again.route(posts_again), strict=True):
            assert one.modules == other.modules and np.allclose(one.logits, other.logits, atol=1e-5)


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


def reseal(folder, **changes):
    write_sealed(folder / BUNDLE, read_sealed(folder / BUNDLE) | changes)


@pytest.mark.parametrize(
    ("changes", "said"), [({"categories": ["B", "A"]}, "risks"), ({"format": 7}, "format 7")], ids=["risks", "format"]
)
def test_what_does_not_fit_the_router_is_refused(copy, changes, said):
    reseal(copy, **changes)
    with pytest.raises(RadarError, match=said):
        open_bundle(copy)


def test_another_encoder_is_refused(copy, checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / "qwen3-vl-2b")
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": [0.1, 0.1, 0.1]}))
    record = read_sealed(copy / "router_config.json")
    write_sealed(copy / "router_config.json", record | {"base": record["base"] | {"checkpoint": str(other)}})
    reseal(copy, files={})
    with pytest.raises(RadarError, match="digest"):
        open_bundle(copy)


def test_an_encoder_that_is_computed_otherwise_is_refused(bundle, monkeypatch):
    def differs(*args, **options):
        backbone = load_backbone(*args, **options)
        backbone.frame_processor._table += 0.5  # as another version of an image processor would
        return backbone

    monkeypatch.setattr(room, "load_backbone", differs)
    with pytest.raises(RadarError, match="Calibrate the router here"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recall": 0.95}, "A: 55 .*violating .* takes 72"),
        ({"split": "test"}, "cannot calibrate"),
        ({"recall": 1.5}, "recall is 1.5"),
        ({"inclusion": pd.Series({"p00000": 0.5})}, "chance of inclusion"),
    ],
)
def test_bad_calibrations_are_refused_before_scoring(bundle, corpus, tmp_path, options, said):
    def never(posts):
        raise AssertionError

    with pytest.raises(RadarError, match=said):
        calibrate(bundle.router, corpus, tmp_path / "b", **({"recall": 0.8, "bar": never} | options))
    assert not (tmp_path / "b").exists()


def test_labels_that_do_not_suffice_are_refused(bundle, build, corpus, tmp_path, make):
    rows = [make.sound(i) | {"split": "calibration", "label_A": 1, "label_B": i % 2} for i in range(60)]
    posts = write_corpus(tmp_path / "p", rows, name="one kind", kind="imported", categories=("A", "B"))
    with pytest.raises(RadarError, match="A: no calibration post is cleared"):
        calibrate(bundle.router, posts, tmp_path / "b", recall=0.8)
    with pytest.raises(RadarError, match="no labels for C"):
        calibrate(build(1, ("A", "C")), corpus, tmp_path / "b")
    with pytest.raises(RadarError, match="exists already"):
        calibrate(bundle.router, corpus, bundle.folder)


def test_known_chances_thin_the_posts(bundle, corpus, tmp_path):
    ids = corpus.table("calibration")["post_id"]
    chances = pd.Series(np.where(np.arange(len(ids)) % 2, 1.0, 0.8), index=ids)
    made = calibrate(bundle.router, corpus, tmp_path / "b", recall=0.8, inclusion=chances, seed=4)
    assert 5 <= made.record["calibration"]["thinned"] <= 45
    assert made.record["thresholds"]["B"]["positives"] < bundle.record["thresholds"]["B"]["positives"]
    with pytest.raises(RadarError, match="independent violating"):
        calibrate(bundle.router, corpus, tmp_path / "c", recall=0.8, inclusion=chances.where(chances < 1, 0.05))


def test_posts_that_cannot_be_scored_do_not_count(bundle, tmp_path, make):
    rows = [make.sound(i) | {"split": "calibration", "label_A": int(i % 4 == 0), "label_B": int(i % 4 == 1)}
            for i in range(220)]  # fmt: skip
    rows[0] |= {"title": "", "ocr_text": "", "frames": []}
    posts = write_corpus(tmp_path / "p", rows, name="e", kind="imported", categories=("A", "B"))
    record = calibrate(bundle.router, posts, tmp_path / "b", recall=0.8).record
    assert record["calibration"]["not_scored"] == {"empty": 1} and record["thresholds"]["A"]["positives"] == 54


def test_posts_of_a_group_count_once(bundle, tmp_path, make):
    rows = [make.sound(i) | {"split": "calibration", "group": f"g{i // 8}" * (i < 80), "label_A": int(i % 4 == 0),
                             "label_B": int(i % 4 == 1)} for i in range(220)]  # fmt: skip
    posts = write_corpus(tmp_path / "p", rows, name="g", kind="imported", categories=("A", "B"), groups=True)
    record = calibrate(bundle.router, posts, tmp_path / "b", recall=0.8).record
    assert record["thresholds"]["A"]["positives"] == 10 + 35 and record["calibration"]["risks"]["A"]["violating"] == 55


def test_a_router_that_scores_nothing_makes_no_bundle(build, corpus, tmp_path):
    router = build(3)
    router.heads[0].bias.data += np.nan
    with pytest.raises(RadarError):
        calibrate(router, corpus, tmp_path / "b", recall=0.8)
    assert {d.cause for d in route(router, (0.0, 0.0), [{"post_id": "a", "title": "b", "ocr_text": "", "asr_text": "",
                                                         "frames": []}])} == {"score"}  # fmt: skip


def test_slices_below_the_target_are_named_the_surest_first():
    region = ["BR"] * 20 + ["FI"] * 20 + ["IN"] * 2 + ["DE"] * 20
    logits = np.r_[np.ones(20), -np.ones(15), np.ones(5), -1, 1, np.ones(19), -1][:, None]
    table = pd.DataFrame({"region": region, "language": "en", "created_at": pd.Timestamp("2026-05-01")})
    found = below_target(table, np.ones((62, 1), int), logits, np.zeros(1), ["A"], 0.9)
    named = {(one["by"], one["slice"]): (one["found"], one["positives"]) for one in found}
    assert named == {("region", "FI"): (5, 20), ("region", "IN"): (1, 2), ("language", "en"): (45, 62),
                     ("month", "2026-05"): (45, 62)}  # fmt: skip
    assert found[0]["slice"] == "FI" and found[0]["recall_upper"] < 0.5 and found[-1]["recall_upper"] > 0.9
