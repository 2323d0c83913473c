"""`radar plan`: against the committed record, by hand, and on machines that are not here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.chain import cli, exits
from radar_suite.chain.demand import Machine, config_of, cost_of, merge, posts_of
from radar_suite.chain.planning import GPUS, estimate, parameters_of, quantity, span
from radar_suite.chain.profiles import Value

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
HERE = Machine("CPU, 2 cores", False, 2, 2, 40e9, 8e9, 100e9)
GPU = Machine("a GPU", True, 16, 1, 0.4e15, 80e9, 1e12)


def rows(profile: str, on: Machine, *, train: int | None = None, **changes):
    given = {name: Value(value, f"--set {name}") for name, value in changes.items()}
    parameters = parameters_of(profile, NOTEBOOKS, given)
    posts = posts_of(merge(parameters), paper=profile == "paper", train=train)
    return {row.notebook[:2]: row for row in estimate(parameters, posts, on, NOTEBOOKS)}, posts


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
    found, posts = rows("paper", GPU)
    cost = cost_of("Qwen3-VL-8B", "hub", 384, 128, 3)
    count = 1_700_000 + 17_000
    changed = 3 * 9 * (posts.violations + 200)  # section 5: streamed posts pass the tower for each of nine ablations
    # streamed, the tower once for three experts
    expected = count * (3 * cost.inference(128, 4) - 2 * 4 * cost.tower) + changed * cost.inference(128, 4)
    assert found["04"].flops == pytest.approx(expected) and found["04"].posts == pytest.approx(3 * count + changed)
    assert found["04"].seconds == pytest.approx(found["00"].seconds + expected / GPU.speed)
    assert posts.splits["test"] == 75_000
    roomy, _ = rows("paper", replace(GPU, disk=1e16))  # towers run once where their output can be kept
    assert roomy["05"].disk > 1e14 > found["05"].disk and roomy["05"].flops < found["05"].flops
    wide, _ = rows("paper", GPU, accumulate=1)
    thin, _ = rows("paper", GPU, gradient_checkpointing=True)
    assert wide["03"].memory > found["03"].memory > thin["03"].memory > 2 * cost.parameters


@pytest.mark.parametrize(
    ("changes", "number", "factor"),
    [({"train_posts": 42500}, "01", None), ({"epochs": 4}, "05", None), ({"seeds": 2}, "05", 2),
     ({"lambda_grid": [0.0, 0.5]}, "07", 0), ({"phase_levels": [1.0]}, "08", 0.5), ({"train_posts": 42500}, "08", 1)],
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
    assert config_of("Qwen3-VL-2B", str(tmp_path)) == config_of("Qwen3-VL-4B", "hub")
    for name, message in (("Qwen3-VL-4B", "downloads"), ("SigLIP2", "no configuration"), ("Gemma3-4B", "family"),
                          ("Qwen3-VL-8B", "no checkpoint for")):  # fmt: skip
        with pytest.raises(RadarError, match=message):
            config_of(name, str(tmp_path))


def test_paper_is_planned_for_a_gpu_by_name_without_posts(capsys):
    assert cli.main(["plan", "paper", "--device", "h100", "--json"]) == exits.OK
    out = json.loads(capsys.readouterr().out)
    assert out["posts"]["splits"]["train"] == 1_700_000 and out["machine"]["memory"] == GPUS["h100"][2]
    assert 100 < out["seconds"] / 3600 < 1000 and len(out["notebooks"]) >= 8
    assert all(row["recorded_seconds"] is None for row in out["notebooks"])


def test_the_table_shows_records_totals_and_what_does_not_fit(capsys):
    assert cli.main(["plan", "cpu", "--device", "cpu"]) == exits.OK
    out = capsys.readouterr().out
    assert "recorded" in out and "total" in out and "assumed:" in out and "05_router_training" in out
    assert cli.main(["plan", "paper", "--device", "rtx4090"]) == exits.OK
    assert "gradient_checkpointing" in capsys.readouterr().out
    assert cli.main(["plan", "cpu", "--train-posts", "1000000", "--device", "a100"]) == exits.OK
    out = capsys.readouterr().out
    assert "1,000,000 train" in out and "  recorded" not in out


@pytest.mark.parametrize("bad", [["nowhere"], ["cpu", "--device", "h10"], ["cpu", "--train-posts", "0"],
                                 ["cpu", "--set", "epoch=2"], ["cpu", "--set", "posts=nowhere"],
                                 ["cpu", "--posts", "nowhere"], ["cpu", "--profile", "paper"]])  # fmt: skip
def test_bad_usage_is_refused(bad, capsys):
    assert cli.main(["plan", *bad]) == exits.USAGE
    assert "radar: " in capsys.readouterr().err


def test_numbers_at_a_glance():
    assert [quantity(0), quantity(1792), quantity(4.2e13, "FLOP")] == ["-", "1.79k", "42 TFLOP"]
    assert [quantity(1.5e9, "B"), span(102), span(3600 * 392)] == ["1.5 GB", "1m42s", "392 h"]
    assert span(8760 * 3600 * 34) == "34 years"
