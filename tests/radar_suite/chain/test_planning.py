"""`radar plan`: against the committed record, by hand, and on machines that are not here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.files import read_json
from radar_suite.chain import cli, exits
from radar_suite.chain.flops import cost_of
from radar_suite.chain.planning import GPUS, Machine, estimate, parameters_of, posts_of
from radar_suite.chain.profiles import Value

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
HERE = Machine("CPU, 2 cores", 0.0, 2, 8e9, 100e9)
GPU = Machine("a GPU", 0.4e15, 16, 80e9, 1e12)


def rows(profile: str, on: Machine, **changes):
    given = {name: Value(value, f"--set {name}") for name, value in changes.items()}
    names, values = parameters_of(profile, NOTEBOOKS, given)
    posts = posts_of(values)
    return {row.notebook[:2]: row for row in estimate(names, values, posts, on, NOTEBOOKS)}, posts


@pytest.fixture(scope="module")
def base():
    return rows("cpu", HERE)[0]


def test_the_recorded_profile_takes_what_was_recorded(base):
    record = read_json(NOTEBOOKS.parent / "benchmarks" / "records" / "chain-cpu.json")
    for entry in record["notebooks"]:
        row = base[entry["name"][:2]]
        assert row.seconds == pytest.approx(entry["seconds"]), entry["name"]
        assert 1 <= row.memory / 1e6 / entry["peak_memory_mb"] < 1.3, entry["name"]
    twice, _ = rows("cpu", replace(HERE, cores=4))
    assert twice["05"].seconds < base["05"].seconds and twice["06"].seconds == base["06"].seconds


def test_teacher_inference_by_hand():
    paper, posts = rows("paper", GPU)
    cost = cost_of("Qwen3-VL-8B", "hub", words=128, frames=4, px=384, rank=128, categories=3)
    count, changed = 1_717_000, 3 * 9 * (200 + 200)  # section 5: each of nine ablations passes the tower
    expected = (3 * count + changed) * cost.text[0] + (count + changed) * cost.tower[0]  # once for three experts
    assert paper["04"].flops == pytest.approx(expected) and paper["04"].posts == pytest.approx(3 * count + changed)
    assert paper["04"].seconds == pytest.approx(paper["00"].seconds + expected / GPU.speed)
    roomy, _ = rows("paper", replace(GPU, disk=1e16))  # towers run once where their output can be kept
    assert roomy["05"].disk > 1e14 > paper["05"].disk and roomy["05"].flops < paper["05"].flops
    wide, _ = rows("paper", GPU, accumulate=1)
    thin, _ = rows("paper", GPU, gradient_checkpointing=True)
    assert wide["03"].memory > paper["03"].memory > thin["03"].memory > 2 * cost.parameters


@pytest.mark.parametrize(
    ("changes", "number", "factor"),
    [({"train_posts": 42500}, "01", None), ({"epochs": 4}, "05", None), ({"seeds": 2}, "05", 2),
     ({"lambda_grid": [0.0, 0.5]}, "07", 0), ({"train_posts": 42500}, "08", 1),
     ({"phase_posts": 8500, "phase_own_posts": 1500, "phase_test_posts": 6000}, "08", 2),
     ({"calibration_posts": 14_000}, "09", 2)],
)  # fmt: skip
def test_work_follows_the_parameters(base, changes, number, factor):
    other = rows("cpu", HERE, **changes)[0][number]
    if factor is None:
        assert other.seconds > base[number].seconds and other.posts > base[number].posts
    else:
        assert other.flops == pytest.approx(factor * base[number].flops, rel=0.12)
        assert (other.seconds - base[number].seconds) * (factor - 1) >= 0


def test_a_corpus_folder_says_its_risks_and_frames(tmp_path, capsys):
    made = [{"post_id": f"{split}-{i}", "split": split, "title": "a post", "label_A": i % 2, "label_B": -1}
            for split in ("train", "test") for i in range(8)]  # fmt: skip
    folder = write_corpus(tmp_path / "mine", made, name="mine", kind="imported", categories=("A", "B")).folder
    assert cli.main(["plan", "--profile", "smoke", "--posts", str(folder), "--device", "h100", "--json"]) == exits.OK
    posts = json.loads(capsys.readouterr().out)["posts"]
    assert (posts["splits"], posts["risks"]) == ({"train": 8, "test": 8}, 2)
    assert (posts["frames"], posts["violations"]) == (0.0, 2.0)


def test_text_that_is_cut_takes_less_and_text_that_is_not_takes_as_much(base, tmp_path):
    made = [{"post_id": f"{split}-{i}", "split": split, "title": "word " * (160 if i else 8), "label_A": i % 2}
            for split in ("train", "test") for i in range(4)]  # fmt: skip
    folder = str(write_corpus(tmp_path / "mine", made, name="mine", kind="imported", categories=("A",)).folder)
    words = {n: posts_of(parameters_of("cpu", NOTEBOOKS, {name: Value(value, "--set") for name, value in (
        ("posts", folder), ("text_tokens", n))})[1]).words for n in (0, 20, 100, 512)}  # fmt: skip
    assert words == {0: (10 + 3 * 200) / 4, 20: (10 + 3 * 20) / 4, 100: (10 + 3 * 100) / 4, 512: (10 + 3 * 200) / 4}
    assert rows("cpu", HERE, text_tokens=10)[0]["05"].flops < base["05"].flops
    assert rows("cpu", HERE, text_tokens=400)[0]["05"].flops == base["05"].flops  # built-in posts are shorter


def test_a_gpu_by_name_in_both_forms(capsys):
    assert cli.main(["plan", "paper", "--device", "h100", "--json"]) == exits.OK
    out = json.loads(capsys.readouterr().out)
    assert out["posts"]["splits"]["train"] == 1_700_000 and out["machine"]["memory"] == GPUS["h100"][1]
    assert 100 < out["seconds"] / 3600 < 1000
    assert cli.main(["plan", "paper", "--train-posts", "500000", "--device", "rtx4090"]) == exits.OK
    text = capsys.readouterr().out
    assert all(row["notebook"] in text for row in out["notebooks"])
    assert "500,000 train" in text and "EFLOP" in text and "gradient_checkpointing" in text


@pytest.mark.parametrize("bad", [["nowhere"], ["cpu", "--device", "h10"], ["cpu", "--train-posts", "0"],
                                 ["cpu", "--set", "epoch=2"], ["cpu", "--set", "posts=nowhere"],
                                 ["cpu", "--posts", "nowhere"], ["cpu", "--profile", "paper"]])  # fmt: skip
def test_bad_usage_is_refused(bad, capsys):
    try:
        code = cli.main(["plan", *bad])
    except SystemExit as stop:  # of what argparse itself refuses
        code = stop.code
    assert code == exits.USAGE and "radar" in capsys.readouterr().err
