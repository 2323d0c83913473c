"""Fine-tunes are planted as heads are: readable folders, faults where they belong, a key apart, trainings once."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open

from radar_lib.data.posts import labels
from radar_lib.files import digest_json, read_json, read_sealed
from radar_lib.training.cache import Cache
from radar_suite.diagnosis import finetuned
from radar_suite.diagnosis.bench import SPLITS, Size
from radar_suite.diagnosis.finetuned import CAUSES, FineTune, low_capacity, open_lab, plant, with_harm
from radar_suite.diagnosis.plant import Plan
from radar_suite.diagnosis.runs import read_run
from radar_suite.diagnosis.signals import broken_contracts
from radar_suite.diagnosis.taxonomy import read_taxonomy

PLAN = Plan("LLaVA-OV-0.5B", 733, (0.9,), repeats=1, band=0, healthy=1, pairs=0, size=Size(60, 40, 150, 150))
PLANTED = ("modality_lost", "serving_modality")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def planted(base):
    """Folders of runs and of the key: one healthy run and two faulty ones; and the answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuned, "CAUSES", {name: CAUSES[name] for name in PLANTED})
        for _ in range(2):  # the second time, all is there
            plant(PLAN, base / "runs", base / "key", Cache(base / "cache"))
    return base / "runs", base / "key", read_sealed(base / "key/key.json")["answers"]


@pytest.fixture(scope="module")
def runs(planted):
    folder, _, answers = planted
    return {(*one["causes"], "healthy")[0]: read_run(folder / name) for name, one in answers.items()}


@pytest.fixture(scope="module")
def opened(base, planted):
    return open_lab(PLAN, base / "posts", Cache(base / "cache"))


def test_every_cause_is_the_taxonomys():
    assert set(CAUSES) <= {cause.name for cause in read_taxonomy().causes}


def test_a_run_says_what_an_honest_log_would(runs):
    broken = {name: set(broken_contracts(run)) for name, run in runs.items()}
    assert broken == {"healthy": set(), "modality_lost": {"train_empty"}, "serving_modality": {"serve_empty"}}


def test_a_fault_of_serving_changes_what_is_served_alone(runs):
    healthy, ill = runs["healthy"], runs["serving_modality"]
    for split in SPLITS:
        np.testing.assert_array_equal(healthy.matrix(split, "logit"), ill.matrix(split, "logit"))
    np.testing.assert_array_equal(healthy.matrix("serve", "served"), healthy.matrix("serve", "logit"))
    assert (np.abs(ill.matrix("serve", "served") - ill.matrix("serve", "logit")) > 1e-3).any(axis=1).mean() > 0.7


def test_a_fault_of_training_changes_the_router_and_not_the_posts(runs):
    healthy, ill = (runs[name].splits["audit"].set_index("post_id") for name in ("healthy", "modality_lost"))
    both = healthy.index.intersection(ill.index)
    assert len(both) > 100
    assert (healthy.loc[both, "teacher_LQC"] == ill.loc[both, "teacher_LQC"]).all()
    assert not np.allclose(healthy.loc[both, "logit_LQC"], ill.loc[both, "logit_LQC"], atol=1e-3)


def test_each_training_and_each_run_is_made_once(base, planted):
    assert len(list((base / "cache/training").iterdir())) == 2
    assert len(list(planted[0].glob("*/run.json"))) == 3


def test_the_key_lies_apart(planted):
    folder, key, answers = planted
    said = "".join(path.read_text() for path in folder.rglob("*.json"))
    assert not any(cause in said for cause in CAUSES) and not key.is_relative_to(folder)
    assert read_json(folder / "key_digest.json") == digest_json({"answers": answers})


def test_the_backbone_reads_the_posts_of_the_bench(opened):
    lab, bench, _ = opened
    for split, own in SPLITS.items():
        table = lab.posts.table(own)
        assert (labels(table, lab.posts.categories) == labels(bench.posts[split], lab.posts.categories)).all()
        assert table["language"].tolist() == bench.posts[split]["language"].tolist()


@pytest.mark.parametrize("look", ["no_frames", "no_text", "cut"])
def test_some_posts_look_otherwise_and_the_others_do_not(opened, look):
    lab, bench, _ = opened
    setup = FineTune.of(bench)
    setup.keep("serve", np.arange(50, 10, -1))
    chosen = np.arange(40) % 3 == 0
    lab.use(setup)
    whole = lab.seen("serve").take(range(40))
    own = lab.encoded(lab.name, "unlabelled").take(range(50, 10, -1))
    assert all(a.input_ids.equal(b.input_ids) for a, b in zip(whole, own, strict=True))
    setup.mix("serve", look, chosen)
    for before, after, changed in zip(whole, lab.seen("serve").take(range(40)), chosen, strict=True):
        frames = before.frame_tokens if not changed or look != "no_frames" else ()
        assert after.frame_tokens == frames and (after.features is None) == (not frames)
        assert changed or after.input_ids.equal(before.input_ids)
        if changed and look != "no_frames":
            assert after.n_tokens <= before.n_tokens and all(map(np.array_equal, before.features, after.features))


def test_low_capacity_adapts_few_layers_and_can_be_read_again(opened):
    lab, bench, teacher = opened
    setup = replace(FineTune.of(bench), epochs=1)
    low_capacity(setup, 0.9, np.random.default_rng(0))
    lab.use(setup)
    run = lab.train(lab.spec(1), teacher=teacher)
    with safe_open(run.router_folder / "adapter_model.safetensors", "np") as file:
        adapted = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  it is no mapping
    assert len(adapted) == 2 and all("layers.0" in name and 1 in shape for name, shape in adapted.items())
    own = run.scores("validation")["logit_LQC"].to_numpy()
    assert lab.scores_of(run)["logit", "validation"][:, 0] == pytest.approx(own, abs=1e-4)


def test_a_fault_counts_where_it_is_worse_than_every_healthy_run():
    def one(kind, causes, loss):
        return {"kind": kind, "causes": causes, "harms": {"pr_auc": loss, "served_pr_auc": 0.0}}

    answers = with_harm({"a": one("band", [], -0.5), "b": one("healthy", [], -0.4),
                         "c": one("single", ["undertrained"], -0.45), "d": one("single", ["undertrained"], -0.3),
                         "e": one("single", ["serving_modality"], -0.3)})  # fmt: skip
    hurt = {name: its["hurt"] for name, its in answers.items()}
    assert hurt == {"a": None, "b": None, "c": {"undertrained": False}, "d": {"undertrained": True},
                    "e": {"serving_modality": False}}  # fmt: skip
