"""`radar plan`: against the committed record, by hand, and on machines that are not here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.chain import cli, exits
from radar_suite.chain.estimate import estimate, geometry_for, merged
from radar_suite.chain.flops import post_flops
from radar_suite.chain.machine import CPU_SHARE, DEVICES, Machine, machine
from radar_suite.chain.notebooks import discover
from radar_suite.chain.planned_posts import posts_of
from radar_suite.chain.planning import quantity, size, took
from radar_suite.chain.profiles import load_profile, resolve

PROJECT = Path(__file__).parents[3]
# What the committed record ran on: `radar plan` measures 97 to 100 GFLOP/s on each of its cores.
RECORDED_ON = Machine("two cores of an AMD EPYC", False, 2, 100e9, CPU_SHARE, 8e9, 100e9)
GPU = Machine("a GPU", True, 16, 1e15, 0.4, 80e9, 1e12)


def parameters(profile: str, **changes):
    folder = PROJECT / "notebooks"
    given = load_profile(profile, folder / "profiles")[1]
    found = resolve({notebook.name: notebook.parameters for notebook in discover(folder)}, given)
    return {name: values | {k: v for k, v in changes.items() if k in values} for name, values in found.items()}


def rows(profile: str, on: Machine, *, train: int | None = None, **changes):
    every = parameters(profile, **changes)
    posts = posts_of(merged(every), paper=profile == "paper", train=train, stored=None)
    return {row.notebook[:2]: row for row in estimate(every, posts, on)}, posts


def test_the_estimate_of_the_default_profile_is_near_its_record():
    record = read_json(PROJECT / "benchmarks" / "records" / "chain-cpu.json")
    found, _ = rows("cpu", RECORDED_ON)
    assert sum(row.seconds for row in found.values()) == pytest.approx(record["seconds"], rel=0.35)
    for entry in record["notebooks"]:
        row = found[entry["name"][:2]]
        assert 1 / 2 < row.seconds / entry["seconds"] < 2, entry["name"]
        assert 1 / 2 < row.memory / 1e6 / entry["peak_memory_mb"] < 2, entry["name"]


def test_teacher_inference_by_hand():
    found, posts = rows("paper", GPU)
    need = post_flops(geometry_for("Qwen3-VL-8B", "hub"), text_tokens=128, frames=4, px=384)
    count = 1_700_000 + 17_000
    changed = 3 * 9 * (posts.violations + 200)  # section 5: streamed posts pass the tower for each of nine ablations
    # streamed, the tower once for three experts
    expected = count * (3 * need.inference - 2 * need.tower) + changed * need.inference
    assert found["04"].flops == pytest.approx(expected) and found["04"].posts == pytest.approx(3 * count + changed)
    assert found["04"].seconds == pytest.approx(12 + expected / 0.4e15)
    assert posts.splits["test"] == 75_000


def test_ablations_and_the_bootstrap_count():
    few, posts = rows("cpu", RECORDED_ON, ablated_posts=100)
    many, _ = rows("cpu", RECORDED_ON, ablated_posts=300, seeds=2)
    assert many["04"].posts - few["04"].posts == 3 * 9 * 200 and posts.violations == 100
    test = posts.splits["test"]
    words = 0.6e-3 * (posts.splits["train"] + test)  # four of the reference rows have one seed
    assert few["06"].seconds == pytest.approx(12 + 3.5e-9 * 2000 * (14 + 4) * test + words)
    assert many["06"].seconds == pytest.approx(12 + 3.5e-9 * 2000 * (2 * 14 + 4) * test + words)


def test_a_corpus_folder_says_its_risks_and_frames(tmp_path, capsys):
    made = [{"post_id": f"{split}-{i}", "split": split, "title": "a post", "label_A": i % 2, "label_B": -1}
            for split in ("train", "test") for i in range(8)]  # fmt: skip
    folder = write_corpus(tmp_path / "mine", made, name="mine", kind="imported", categories=("A", "B")).folder
    assert cli.main(["plan", "--profile", "smoke", "--posts", str(folder), "--device", "h100", "--json"]) == exits.OK
    found = json.loads(capsys.readouterr().out)["posts"]
    assert (found["splits"], found["categories"]) == ({"train": 8, "test": 8}, 2)
    assert (found["frames"], found["violations"]) == (0.0, 2.0)


def test_chosen_checkpoints_are_known_or_refused_in_one_line(tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "checkpoints.yaml").write_text(
        "Qwen3-VL-2B: Qwen/Qwen3-VL-4B-Instruct@main\nQwen3-VL-4B: someone/else\n"
        f"SigLIP2: {tmp_path / 'odd'}\nGemma3-4B: {tmp_path / 'bert'}\n"
    )
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    assert geometry_for("Qwen3-VL-2B", str(tmp_path)) == geometry_for("Qwen3-VL-4B", "hub")
    for name, message in (("Qwen3-VL-4B", "downloads nothing"), ("SigLIP2", "no configuration that"),
                          ("Gemma3-4B", "family that is not known"), ("Qwen3-VL-8B", "no checkpoint for")):  # fmt: skip
        with pytest.raises(RadarError, match=message):
            geometry_for(name, str(tmp_path))


def test_towers_run_once_where_their_output_can_be_kept():
    roomy, _ = rows("paper", replace(GPU, disk=1e16))
    tight, _ = rows("paper", GPU)
    assert roomy["05"].disk > 1e14 > tight["05"].disk and roomy["05"].flops < tight["05"].flops


def test_more_posts_seeds_and_lambdas_take_longer():
    base, _ = rows("cpu", RECORDED_ON)
    for changes, number in (({"train_posts": 42500}, "01"), ({"lambda_grid": [0.0, 0.5]}, "07"), ({"epochs": 4}, "05")):
        other, _ = rows("cpu", RECORDED_ON, **changes)
        assert (other[number].seconds > base[number].seconds) != (number == "07")
    grown, posts = rows("cpu", RECORDED_ON, train=1_700_000)
    assert posts.splits["train"] == 1_700_000 and grown["01"].disk == pytest.approx(9.7e9, rel=0.1)


def test_paper_is_planned_for_a_gpu_by_name_without_posts(capsys):
    assert cli.main(["plan", "paper", "--device", "h100", "--json"]) == exits.OK
    out = json.loads(capsys.readouterr().out)
    assert out["posts"]["splits"]["train"] == 1_700_000 and out["machine"]["peak"] == DEVICES["h100"][1]
    assert 100 < out["seconds"] / 3600 < 1000 and len(out["notebooks"]) >= 8
    assert all(row["recorded_seconds"] is None for row in out["notebooks"])


def test_the_table_shows_records_totals_assumptions_and_what_does_not_fit(capsys):
    assert cli.main(["plan", "cpu", "--device", "cpu"]) == exits.OK
    out = capsys.readouterr().out
    assert "recorded" in out and "total" in out and "assumed:" in out and "05_router_training" in out
    assert cli.main(["plan", "paper", "--device", "rtx4090"]) == exits.OK
    assert "needs" in capsys.readouterr().out
    assert cli.main(["plan", "cpu", "--train-posts", "1000000", "--device", "a100"]) == exits.OK
    out = capsys.readouterr().out
    assert "1,000,000 train" in out and "recorded" not in out and "building the corpus" in out


@pytest.mark.parametrize("bad", [["nowhere"], ["cpu", "--device", "h10"], ["cpu", "--train-posts", "0"],
                                 ["cpu", "--set", "epoch=2"], ["cpu", "--set", "posts=nowhere"],
                                 ["cpu", "--posts", "nowhere"], ["cpu", "--profile", "paper"]])  # fmt: skip
def test_bad_usage_is_refused(bad, capsys):
    assert cli.main(["plan", *bad]) == exits.USAGE
    assert "radar: " in capsys.readouterr().err


def test_numbers_at_a_glance():
    assert [quantity(0), quantity(1792), quantity(4.2e13, "FLOP")] == ["-", "1.79k", "42 TFLOP"]
    assert [size(1.5e9), took(102), took(3600 * 392)] == ["1.5 GB", "1m42s", "392 h"]
    assert took(8760 * 3600 * 34) == "34 years"


def test_this_machine_has_a_measured_peak(tmp_path):
    here = machine("cpu", results=tmp_path / "runs")
    assert here.peak > 1e8 and here.disk > 0 and not here.gpu and here.lanes <= 4


def test_notebook_08_counts_its_own_posts_whatever_the_chains_are():
    base, _ = rows("cpu", RECORDED_ON)
    assert base["08"].posts == 2 * (10_000 + 1363 + 1250 + 1818)
    other, _ = rows("cpu", RECORDED_ON, train_posts=42_500)
    assert other["08"].posts == base["08"].posts
    fewer, _ = rows("cpu", RECORDED_ON, phase_levels=[1.0])
    assert fewer["08"].posts == base["08"].posts / 2 and fewer["08"].seconds < base["08"].seconds
