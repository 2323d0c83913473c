"""Every number of a notebook or a command has a range, and what lies outside starts nothing."""

import math
from pathlib import Path

import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES
from radar_lib.training.loop import Execution, Recipe
from radar_lib.training.specs import RunSpec
from radar_suite.chain.cli import main
from radar_suite.chain.exits import OK, USAGE
from radar_suite.chain.notebooks import discover
from radar_suite.report import parameter_ranges
from radar_suite.report.workspace import Workspace

NOTEBOOKS = {notebook.name: notebook for notebook in discover(Path(__file__).parents[3] / "notebooks")}
DECLARED = {name: one for notebook in NOTEBOOKS.values() for name, one in notebook.parameters.items()}
OUTSIDE = [
    "epochs=-1", "epochs=0", "expert_epochs=100000", "batch_size=0", "lambda_grid=[]", "lambda_grid=[0.5, 1.5]",
    "lambda_grid=[-0.1]", "lambda_tables=1.5", "lambda_tables=0", "seed=12345678901234567890123", "seed=-1",
    "seeds=0", "workers=-1", "learning_rate=0", "learning_rate=-1e-3", "lora_rank=0", "lora_alpha=0", "train_posts=0",
    "test_posts=0", "frame_px=16", "intake_beta=7", "stream_focus=1.1", "queue_overlap=4", "co_violation=1.1",
    "device=tpu", "phase_backbone=GPT", "phase_betas=[]", "phase_focus=[2.0]", "lambda_grid=[0.5, 0.1, 0.5]",
    "lambda_grid=[0, 0.0]", "phase_betas=[6, 6]", "phase_overlap=[0.0, 1.0, 1.0]", "phase_seeds=0", "accumulate=0",
    "checkpoint_seconds=-1", "audit_posts=-5",
]  # fmt: skip


def test_every_parameter_has_a_range_and_every_range_a_parameter():
    assert set(parameter_ranges.RANGES) == set(DECLARED)
    assert set(parameter_ranges.BACKBONES) == set(BACKBONES)


@pytest.mark.parametrize("setting", OUTSIDE)
def test_a_value_outside_its_range_starts_nothing(setting, tmp_path, capsys):
    name = setting.partition("=")[0]
    arguments = ["--runs", str(tmp_path), "--dry-run"]
    assert main(["reproduce", "--set", setting, *arguments]) == USAGE
    said = capsys.readouterr().err
    assert name in said and str(parameter_ranges.RANGES[name]) in said and len(said) < 400


@pytest.mark.parametrize("setting", [
    "train_posts=1", "train_posts=11", "validation_posts=3", "phase_posts=2", "phase_pool=4", "phase_pool=1000",
])  # fmt: skip
def test_built_in_posts_that_cannot_be_had_start_nothing(setting, tmp_path, sound, capsys):
    """A pipeline's quota would hold no violating post, or a pool fewer posts than are drawn from it."""
    arguments = ["reproduce", "--runs", str(tmp_path), "--dry-run"]
    assert main([*arguments, "--set", setting]) == USAGE
    assert setting.partition("_posts")[0].partition("=")[0] in capsys.readouterr().err
    write_corpus(tmp_path / "own", sound(), name="own", kind="imported", categories=("A", "B"))
    own = main([*arguments, "--set", setting, "--posts", str(tmp_path / "own")])
    assert own == (USAGE if setting.startswith("phase") else OK)  # own posts are not built


def test_every_list_has_a_range_that_knows_lists():
    lists = {name for name, one in DECLARED.items() if one.annotation.startswith(("list", "tuple"))}
    ranges = parameter_ranges.RANGES
    assert lists and lists == {name for name in ranges if isinstance(ranges[name], parameter_ranges.Several)}


def test_profiles_and_defaults_are_held_to_the_same_ranges(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("epochs: 0\n")
    assert main(["reproduce", "--profile", str(tmp_path / "mine.yaml"), "--runs", str(tmp_path), "--dry-run"]) == USAGE
    assert "mine.yaml: 05_router_training declares `epochs: int`, from 1 to 10,000" in capsys.readouterr().err


def test_a_notebook_run_by_hand_is_held_to_them_too(tmp_path):
    names = {name: one.default for name, one in NOTEBOOKS["05_router_training"].parameters.items()}
    names["runs_dir"] = str(tmp_path)
    assert Workspace.open("05_router_training", names).seed == 1
    with pytest.raises(RadarError, match=r"lambda_tables is 1.5; it must be above 0, at most 1"):
        Workspace.open("05_router_training", {**names, "lambda_tables": 1.5})


@pytest.mark.parametrize("command", [
    ["studies", "--seeds", "0"], ["studies", "--workers", "-1"], ["plan", "--train-posts", "0"],
    ["corpus", "build", "--out", "x", "--workers", "0"], ["corpus", "build", "--out", "x", "--seed", "-1"],
    ["corpus", "build", "--out", "x", "--size", "8"], ["corpus", "build", "--out", "x", "--posts", "1e3"],
    ["posts", "import", "--table", "x", "--out", "y", "--seed", "9" * 23],
])  # fmt: skip
def test_the_commands_own_numbers_have_ranges(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == USAGE
    assert f"argument {command[-2]}" in capsys.readouterr().err.replace("--size/--px", "--size").replace(
        "--posts/--train-posts", "--posts")  # fmt: skip


@pytest.mark.parametrize("wrong", [
    {"epochs": 0}, {"batch_size": -1}, {"learning_rate": math.nan}, {"learning_rate": math.inf}, {"lam": 1.5},
    {"lam_verified": -0.1}, {"warmup": 2.0}, {"weight_decay": -1.0}, {"clip": 0.0}, {"seed": 2**63}, {"epochs": True},
])  # fmt: skip
def test_a_recipe_names_what_is_no_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(RadarError, match=f"{name} is {value}; it must be"):
        Recipe(**wrong)


def test_what_else_a_run_is_made_of_has_ranges():
    for make in (lambda: RunSpec("SigLIP2", ("A",), Recipe(), lora_rank=0), lambda: Execution(accumulate=0),
                 lambda: RunSpec("SigLIP2", ("A",), Recipe(), lora_alpha=-1)):  # fmt: skip
        with pytest.raises(RadarError, match="it must be"):
            make()
