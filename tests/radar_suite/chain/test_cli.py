"""The command line: it teaches, it is quick to load, and it hands everything on."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import pytest

from radar_lib.errors import RadarError
from radar_suite.chain import cli, commands, exits
from radar_suite.chain.reproduce import resume_command


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS] + ["", "posts", "corpus"])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert done.value.code == 0 and ("example" in out or "exit codes" in out or "--help says how" in out)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_each_command_is_a_function_of_a_room(command):
    assert callable(resolve_name(f"radar_suite.chain.{command.act}"))


def test_loading_the_command_line_is_light():
    heavy = "{'torch', 'transformers', 'datasets', 'pandas', 'papermill', 'nbconvert', 'nbformat', 'matplotlib'}"
    code = f"import sys, radar_suite.chain.cli; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_wrong_option_is_bad_usage(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["reproduce", "--no-such-option"])
    assert done.value.code == exits.USAGE
    choice = "posts import --out x --table a --public-sources b"
    for line in ("reproduce --from 1 --only 2", "posts import --out x", choice):
        with pytest.raises(SystemExit):
            cli.main(line.split())


def test_the_notebooks_of_the_current_folder_come_first(project, monkeypatch, capsys):
    project.step("00_a", "print(1)")
    monkeypatch.chdir(project.root)
    assert cli.main(["reproduce", "--list"]) == exits.OK
    out = capsys.readouterr().out
    assert "[1/1] 00_a" in out and "results: runs/cpu" in out


def test_the_resume_command_is_the_command_itself(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/radar"])
    line = "reproduce --profile smoke --posts p --runs /tmp/r --only 01 02 --force --set seed=2 --set x=[1, 2]"
    arguments = [*line.split()[:-2], "x=[1, 2]"]
    command = resume_command(cli.parser().parse_args(arguments))
    assert command == (
        "/opt/venv/bin/radar reproduce --profile smoke --posts p --runs /tmp/r --only 01 02 "
        "--set seed=2 --set 'x=[1, 2]'"
    )
    monkeypatch.setattr("shutil.which", lambda name: "/opt/venv/bin/radar")
    assert resume_command(cli.parser().parse_args(["reproduce", "--from", "5"])) == (
        "radar reproduce --profile cpu --from 5"
    )


def test_interrupts_outside_the_chain_have_their_code_too(monkeypatch, project):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "discover", stopped)
    assert project.run(command="report") == exits.INTERRUPTED


def test_report_is_written_again(project, capsys):
    project.step("00_a", "print(1)")
    assert project.run("--profile", "cpu", command="report") == exits.USAGE
    assert "no notebook has finished yet" in capsys.readouterr().err


def test_doctor_is_called_with_the_projects_places(project, monkeypatch):
    project.step("00_a", "print(1)")
    monkeypatch.setattr("radar_suite.chain.doctor.diagnose", lambda *, project, runs: (project, runs))
    assert project.run(command="doctor") == (project.root, project.runs)


@dataclass
class Posts:
    folder: Path
    splits: dict
    categories: tuple = ("LQC", "RCS")
    digest: str = "abc"

    def __len__(self) -> int:
        return sum(self.splits.values())


@pytest.fixture
def colleagues(monkeypatch):
    """Stand-ins for the modules that the commands hand over to; they note their arguments."""
    calls = {}

    def noted(name, result):
        def call(*args, **kwargs):
            calls[name] = (args, kwargs)
            if isinstance(result, Exception):
                raise result
            return result(args) if callable(result) else result

        return call

    @dataclass(frozen=True)
    class CorpusConfig:
        seed: int = 1
        train_posts: int = 8500
        frame_px: int = 96

    def made(args):
        return Posts(Path("out"), {"train": 1200, "test": 30})

    modules = {
        "radar_suite.intake.importers": {"import_table": noted("table", made)},
        "radar_suite.intake.public": {"import_public": noted("public", made)},
        "radar_suite.intake.check": {"check_posts": noted("check", RadarError("posts.csv, row 3: a label of 2."))},
        "radar_suite.world.build": {"build_corpus": noted("build", made), "CorpusConfig": CorpusConfig},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_posts_import_hands_over_and_says_what_is_next(colleagues, capsys):
    line = "posts import --table p.csv --images frames --out out --on-error quarantine --seed 3 --name mine"
    assert cli.main(line.split()) == exits.OK
    assert colleagues["table"] == (
        (Path("p.csv"), Path("frames"), Path("out")), {"on_error": "quarantine", "seed": 3, "name": "mine"},
    )  # fmt: skip
    out = capsys.readouterr().out
    assert "out: 1,230 posts (train 1,200, test 30); categories LQC, RCS" in out
    assert "radar reproduce --posts out" in out
    assert cli.main("posts import --public-sources src --out out".split()) == exits.OK
    assert colleagues["public"] == ((Path("src"), Path("out")), {"seed": 1})


def test_posts_check_turns_bad_posts_into_bad_usage(colleagues, capsys):
    assert cli.main(["posts", "check", "mine"]) == exits.USAGE
    assert capsys.readouterr().err == "radar: posts.csv, row 3: a label of 2.\n"


def test_corpus_build_takes_a_profiles_settings_and_its_own(colleagues, project, capsys):
    project.add("00_a", "seed: int = 4\ntrain_posts: int = 100\nother: int = 0", "print(seed)")
    project.profile("smoke", "train_posts: 20\n")
    line = "corpus build --profile smoke --px 64 --out out --notebooks"
    assert cli.main([*line.split(), str(project.notebooks)]) == exits.OK
    (config, out), options = colleagues["build"]
    assert (config.seed, config.train_posts, config.frame_px) == (4, 20, 64)
    assert options == {"workers": 1, "progress": True}
    assert "digest abc" in capsys.readouterr().out


def test_results_are_written_from_a_record(project, monkeypatch, tmp_path, capsys):
    project.step("00_a", "print(1)")
    calls = []
    for name, function in (("results", "write_results"), ("readme", "update_project")):
        module = types.ModuleType(name)
        setattr(module, function, lambda *paths, name=name: calls.append(paths) or ({} if name == "readme" else True))
        monkeypatch.setitem(sys.modules, f"radar_suite.report.{name}", module)
    assert project.run("--record", str(tmp_path), command="results") == exits.OK
    assert calls[0] == (tmp_path, project.root / "docs/results.md") and "results.md: renewed" in capsys.readouterr().out


def test_python_m_radar_suite_is_the_same_command(project):
    project.step("00_a", "print(1)")
    done = subprocess.run([*project.command("--set", "sed=1")], capture_output=True, text=True)
    assert done.returncode == exits.USAGE and "Did you mean 'seed'" in done.stderr
    listing = subprocess.run([*project.command("--list")], capture_output=True, text=True)
    assert listing.returncode == exits.OK and "00_a" in listing.stdout
    assert json.loads((project.notebooks / "00_a.ipynb").read_text())["cells"][0]["outputs"] == []
