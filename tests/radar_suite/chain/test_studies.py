"""A study has the chain's parameters or none, and publishes what it wrote and nothing else."""

from __future__ import annotations

import json

import pytest

from radar_suite.chain import exits
from radar_suite.chain.studies import COMPARED

PARAMETERS = 'profile: str = "cpu"\nruns_dir: str = "../runs"\nseed: int = 1\nseeds: int = 1\nworkers: int = 0\n'
PARAMETERS += "epochs: int = 3\nlearning_rate: float = 0.002\n"
WROTE = {"losses": "losses.csv", "controls": "controls.csv", "phase": "phase.csv"}


@pytest.fixture
def chain(project, monkeypatch):
    """A project whose chain is said to have run with given parameters, and studies that write one file each."""

    def finished(state="done", **values):
        ran = {"profile": "cpu", "seed": 1, "seeds": 1, "workers": 0, "epochs": 3, "learning_rate": 0.002} | values
        notebooks = {name: {"state": state, "parameters": ran} for name in COMPARED}
        (project.runs / "cpu").mkdir(parents=True, exist_ok=True)
        (project.runs / "cpu" / "ledger.json").write_text(json.dumps({"notebooks": notebooks}))

    for name in COMPARED:
        project.add(name, PARAMETERS, "pass")
    figures = project.runs / "cpu" / "studies" / "figures"

    def write(name):
        figures.mkdir(parents=True, exist_ok=True)
        (figures / WROTE[name]).write_text(f"new {name}")

    monkeypatch.setattr("radar_suite.studies.stage.open_stage", lambda *_, **__: None)
    for name in WROTE:
        monkeypatch.setattr(f"radar_suite.studies.{name}.study", lambda _, name=name: write(name))
    finished()
    project.finished, project.figures = finished, figures
    return project


def published(project):
    folder = project.root / "figures" / "cpu" / "studies"
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.is_dir() else {}


def test_files_of_studies_that_did_not_run_now_stay(chain):
    folder = chain.root / "figures" / "cpu" / "studies"
    folder.mkdir(parents=True)
    for file in WROTE.values():
        (folder / file).write_text("committed")
    chain.figures.mkdir(parents=True)
    (chain.figures / "phase.csv").write_text("of an earlier run, with other parameters")
    assert chain.run("--only", "losses", command="studies") == exits.OK
    assert published(chain) == {"losses.csv": "new losses", "controls.csv": "committed", "phase.csv": "committed"}
    assert chain.run(command="studies") == exits.OK
    assert published(chain) == {file: f"new {name}" for name, file in WROTE.items()}


def test_a_study_with_other_parameters_than_the_chain_is_refused(chain, capsys):
    chain.finished(epochs=1, learning_rate=1e-5)
    assert chain.run("--only", "losses", command="studies") == exits.USAGE
    said = capsys.readouterr().err
    assert "epochs = 3, the chain with 1: give --set epochs=1 (01_data_audit, 03_expert_training, 05_" in said
    assert "learning_rate = 0.002, the chain with 1e-05: give --set learning_rate=1e-05" in said
    assert published(chain) == {}
    given = ["--set", "epochs=1", "--set", "learning_rate=1e-05"]
    assert chain.run("--only", "losses", *given, command="studies") == exits.OK
    assert chain.run("--only", "losses", "--set", "epochs=1", command="studies") == exits.USAGE


def test_seeds_and_workers_are_a_study_s_own(chain):
    chain.finished(seeds=3, workers=1)
    assert chain.run("--only", "losses", command="studies") == exits.OK


def test_a_chain_that_has_not_finished_is_named(chain, capsys):
    chain.finished(state="failed")
    assert chain.run("--only", "losses", command="studies") == exits.USAGE
    assert "01_data_audit has not finished" in capsys.readouterr().err
