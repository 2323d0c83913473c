"""The ledger: success is what it says, and each reason to run again has a name."""

import json

import pytest

from radar_suite.chain import ledger as module
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover

LIBRARY = {"losses.py": "1", "metrics.py": "2"}
PACKAGES = {"python": "3.11", "torch": "2.13.0"}


@pytest.fixture
def world(project, monkeypatch):
    """Two finished notebooks; returns a function that gives the second one's reasons to run."""
    monkeypatch.setattr(module, "library_digests", lambda: dict(LIBRARY))
    monkeypatch.setattr(module, "package_versions", lambda: dict(PACKAGES))
    project.add("00_a", "seed: int = 1", "print(seed)", writes=["out.json"])
    project.add("01_b", "seed: int = 1", "print(seed)", reads=["00_a/out.json"], writes=["scores", "b.json"])
    run = project.runs / "cpu"
    for name in (
        "00_a/out.json",
        "00_a/executed.ipynb",
        "01_b/scores/x.parquet",
        "01_b/b.json",
        "01_b/executed.ipynb",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    ledger = Ledger(run)
    for notebook in discover(project.notebooks):
        ledger.start(notebook)
        ledger.finish(notebook, {"seed": 1, "runs_dir": "/somewhere"}, seconds=1.0, peak_memory_mb=10.0)
    project.run_dir = run

    def why(**parameters):
        return Ledger(run).why(discover(project.notebooks)[1], {"seed": 1, "runs_dir": "/else", **parameters})

    project.why = why
    return project


def test_an_unchanged_notebook_is_up_to_date_wherever_its_runs_lie(world):
    assert world.why() == []


def test_never_run_interrupted_and_failed_are_told_apart(world):
    ledger, notebook = Ledger(world.run_dir), discover(world.notebooks)[1]
    ledger.start(notebook)
    assert world.why() == ["interrupted last time"]
    ledger.fail(notebook, error="ValueError: no", where="3.2 Training")
    assert world.why() == ["failed last time (3.2 Training): ValueError: no"]
    (world.run_dir / "ledger.json").unlink()
    assert world.why() == ["never run"]


def test_changed_code_is_a_reason_and_changed_prose_is_none(world):
    radar = {"reads": ["00_a/out.json"], "writes": ["scores", "b.json"]}
    world.add("01_b", "seed: int = 1", "# Prose", "print(seed)", **radar)
    assert world.why() == []
    world.add("01_b", "seed: int = 1", "print(seed + 1)", **radar)
    assert world.why() == ["code changed"]


def test_parameters_are_named_with_both_values(world):
    assert world.why(seed=2) == ["parameter seed changed 1 -> 2"]
    assert world.why(extra=[1]) == ["parameter extra added"]


def test_library_and_packages_are_named(world, monkeypatch):
    LIBRARY_NOW = {"losses.py": "9", "metrics.py": "2", "new.py": "3"}
    monkeypatch.setattr(module, "library_digests", lambda: LIBRARY_NOW)
    monkeypatch.setattr(module, "package_versions", lambda: PACKAGES | {"torch": "2.11.0"})
    assert world.why() == ["library changed: losses.py, new.py", "torch changed '2.13.0' -> '2.11.0'"]


def test_many_changed_library_files_are_counted(world, monkeypatch):
    monkeypatch.setattr(module, "library_digests", lambda: LIBRARY | {f"{i}.py": "x" for i in range(5)})
    assert world.why() == ["library changed: 0.py, 1.py, 2.py and 2 more"]


def test_upstream_and_outputs_are_named(world):
    (world.run_dir / "00_a/out.json").write_text("other")
    assert world.why() == ["upstream 00_a/out.json changed"]
    (world.run_dir / "01_b/b.json").unlink()
    (world.run_dir / "01_b/scores/x.parquet").write_text("tampered")
    (world.run_dir / "01_b/executed.ipynb").unlink()
    assert world.why()[1:] == [
        "output scores changed on disk", "output b.json missing", "output executed.ipynb missing",
    ]  # fmt: skip


def test_cached_work_that_a_notebook_names_must_still_be_there(world):
    run = world.runs / "cache/training/0123456789abcdef"
    for folder in (run, world.runs / "cache/training/fedcba9876543210"):
        folder.mkdir(parents=True)
    (world.run_dir / "01_b/b.json").write_text('{"run": "0123456789abcdef"}')
    notebook = discover(world.notebooks)[1]
    Ledger(world.run_dir).finish(notebook, {"seed": 1}, seconds=1.0, peak_memory_mb=1.0)
    assert world.entries()["01_b"]["cache"] == ["cache/training/0123456789abcdef"] and world.why() == []
    run.rmdir()
    assert world.why() == ["cache/training/0123456789abcdef missing"]


def test_hidden_files_of_a_folder_do_not_count(world):
    (world.run_dir / "01_b/scores/.cache").mkdir()
    (world.run_dir / "01_b/scores/.cache/copy.arrow").write_text("x")
    assert world.why() == []


def test_a_file_of_the_same_size_and_time_is_not_read_again(world, monkeypatch):
    monkeypatch.setattr(module, "digest_file", lambda path: pytest.fail(f"read {path}"))
    assert world.why() == []


def test_a_corpus_is_known_by_its_own_digest_and_other_folders_by_their_listing(world, tmp_path):
    posts = tmp_path / "posts"
    posts.mkdir()
    (posts / "corpus.json").write_text("1")
    ledger, notebook = Ledger(world.run_dir), discover(world.notebooks)[1]
    parameters = {
        "seed": 1,
        "posts": str(posts),
        "public_sources": str(world.root),
        "checkpoints": "standins",
    }
    ledger.finish(notebook, parameters, seconds=1.0, peak_memory_mb=1.0)
    assert world.why(**{**parameters, "public_sources": ""})[0].startswith("parameter public_sources changed")
    (posts / "shard.parquet").write_text("not looked at")
    assert Ledger(world.run_dir).why(notebook, parameters | {"public_sources": parameters["public_sources"]})[
        :1
    ] == [
        "public_sources: the folder's content changed"  # the ledger itself lies in it here
    ]
    (posts / "corpus.json").write_text("2")
    assert "posts: the folder's content changed" in ledger.why(notebook, parameters)


def test_the_real_library_is_digested_without_the_chain_and_without_torch():
    module.library_digests.cache_clear()
    names = module.library_digests()
    assert "losses.py" in names and not any(name.startswith("chain/") or "pycache" in name for name in names)
    assert module.package_versions()["python"].startswith("3.")


def test_a_missing_package_is_absent(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package",))
    module.package_versions.cache_clear()
    assert module.package_versions()["no-such-package"] == "absent"
    module.package_versions.cache_clear()


def test_a_broken_ledger_says_what_to_do(world):
    (world.run_dir / "ledger.json").write_text("{")
    with pytest.raises(Exception, match="Delete it and run its step again"):
        Ledger(world.run_dir)


def test_the_ledger_is_plain_json(world):
    entry = json.loads((world.run_dir / "ledger.json").read_text())["notebooks"]["01_b"]
    assert entry["state"] == "done" and entry["reads"].keys() == {"00_a/out.json"}
    assert entry["parameters"] == {"seed": 1}
