"""A study has the chain's parameters or none, and publishes what it wrote and nothing else."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pandas as pd
import pytest

from radar_suite.chain import exits
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover
from radar_suite.chain.run_studies import COMPARED, ON_REQUEST, STUDIES
from radar_suite.report.workspace import Workspace
from radar_suite.studies.stage import StudiesWorkspace

PARAMETERS = 'profile: str = "cpu"\nruns_dir: str = "../runs"\nseed: int = 1\nseeds: int = 1\nworkers: int = 0\n'
PARAMETERS += 'epochs: int = 3\nlearning_rate: float = 0.002\nposts: str = ""\n'


@pytest.fixture
def chain(project, monkeypatch):
    """A project whose chain is said to have run with given parameters, and studies that leave one table each."""

    def finished(state="done", run="cpu", **values):
        ran = {
            "profile": "cpu",
            "seed": 1,
            "seeds": 1,
            "workers": 0,
            "epochs": 3,
            "learning_rate": 0.002,
            "posts": "",
        } | values
        for notebook in discover(project.notebooks):
            ledger = Ledger(project.runs / run)
            if state == "done":
                ledger.finish(notebook, ran, seconds=1.0, peak_memory_mb=1.0)
            else:
                ledger.fail(notebook, error="no", where="")

    def open_stage(runs, profile, _, **options):
        names = {"runs_dir": str(runs), "profile": profile, "seed": 1}
        return SimpleNamespace(workspace=StudiesWorkspace.of(Workspace.open("studies", names)))

    def study(name, said):
        return lambda stage: stage.workspace.save_table(pd.DataFrame({"said": [said]}), name, caption=said)

    for name in COMPARED:
        project.add(name, PARAMETERS, "pass", writes=["scores"] if name.startswith("05") else [])
    monkeypatch.setattr("radar_suite.studies.stage.open_stage", open_stage)
    project.say = lambda said: [monkeypatch.setattr(f"radar_suite.studies.{module}.study", study(name, said))
                                for name, (module, _) in STUDIES.items()]  # fmt: skip
    project.say("new")
    finished()
    project.finished = finished
    return project


def published(project):
    """What each published table says, and its caption in the profile's manifest."""
    folder = project.root / "figures" / "cpu"
    if not (folder / "manifest.json").is_file():
        return {}
    entries = json.loads((folder / "manifest.json").read_text())["entries"]
    return {name: (pd.read_csv(folder / f"{name}.csv")["said"][0], entry["caption"]) for name, entry in entries.items()}


def test_files_of_studies_that_did_not_run_now_stay(chain):
    assert chain.run(command="studies") == exits.OK
    every = set(STUDIES) - set(ON_REQUEST)
    assert published(chain) == {f"studies/{name}": ("new", "new") for name in every}
    chain.say("newer")
    assert chain.run("--only", "losses", command="studies") == exits.OK
    assert published(chain) == {f"studies/{name}": ("newer", "newer") if name == "losses" else ("new", "new")
                                for name in every}  # fmt: skip
    own = json.loads((chain.runs / "cpu/studies/figures/manifest.json").read_text())["entries"]
    assert set(own) == every and "radar studies" in own["losses"]["command"]


def test_a_study_with_other_parameters_than_the_chain_is_refused(chain, capsys):
    chain.finished(epochs=1, learning_rate=1e-5)
    assert chain.run("--only", "losses", command="studies") == exits.USAGE
    said = capsys.readouterr().err
    assert "--set epochs=1" in said and "--set learning_rate=1e-05" in said and "05_router_training" in said
    assert published(chain) == {}
    given = ["--set", "epochs=1", "--set", "learning_rate=1e-05"]
    assert chain.run("--only", "losses", *given, command="studies") == exits.OK
    assert chain.run("--only", "losses", "--set", "epochs=1", command="studies") == exits.USAGE


def test_a_study_does_not_work_with_what_somebody_edited(chain, capsys):
    scores = chain.runs / "cpu/05_router_training/scores/x.parquet"
    scores.parent.mkdir(parents=True)
    scores.write_text("0.1")
    chain.finished()
    assert chain.run("--only", "losses", command="studies") == exits.OK
    scores.write_text("0.9")
    assert chain.run("--only", "losses", command="studies") == exits.USAGE
    assert "05_router_training: output scores missing or changed on disk. `radar reproduce" in capsys.readouterr().err


def test_seeds_and_workers_are_a_study_s_own(chain):
    chain.finished(seeds=3, workers=1)
    assert chain.run("--only", "losses", command="studies") == exits.OK


def test_a_chain_that_has_not_finished_is_named(chain, capsys):
    chain.finished(state="failed")
    assert chain.run("--only", "losses", command="studies") == exits.USAGE
    assert "01_data_audit has not finished" in capsys.readouterr().err


def test_a_study_of_own_posts_is_of_their_run(chain, tmp_path, capsys):
    mine = tmp_path / "my posts"
    mine.mkdir()
    given = ["--only", "losses", "--posts", str(mine)]
    assert chain.run(*given, command="studies") == exits.USAGE and "no corpus.json" in capsys.readouterr().err
    (mine / "corpus.json").touch()
    assert chain.run(*given, command="studies") == exits.USAGE  # the chain ran on the built-in posts only
    said = capsys.readouterr().err
    assert "`radar reproduce --profile cpu --posts '" in said and "my posts'`" in said and published(chain) == {}
    chain.finished(run="cpu-my_posts", posts=os.path.realpath(mine))
    assert chain.run(*given, command="studies") == exits.OK and published(chain) == {}
    assert (chain.runs / "cpu-my_posts/studies/figures/losses.csv").is_file()
    assert (chain.root / "figures/cpu-my_posts/manifest.json").is_file()
    assert chain.run("--only", "losses", "--set", f"posts={mine}", command="studies") == exits.OK
