"""The command line: it teaches, it is quick to load, and it hands everything on."""

import json
import subprocess
import sys
import types
from pathlib import Path
from pkgutil import resolve_name
from typing import ClassVar

import pytest

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


@pytest.fixture
def room(monkeypatch):
    """`room(module, **functions)`: a stand-in for a room that a command hands over to, and the calls by function."""
    calls = {}

    def stand_in(name, **results):
        module = types.ModuleType(name)
        for function, result in results.items():
            act = lambda *args, f=function, r=result, **options: calls.update({f: (args, options)}) or r  # noqa: E731
            setattr(module, function, act)
        monkeypatch.setitem(sys.modules, name, module)
        return calls

    return stand_in


@pytest.mark.parametrize(("line", "module", "function", "expected"), [
    ("posts import --table p.csv --images f --out o --on-error quarantine --seed 3 --name mine "
     "--ignore notes --allow-empty", "importer",
     "import_table", ((Path("p.csv"), Path("f"), Path("o")), {"on_error": "quarantine", "seed": 3, "name": "mine",
                                                              "ignore": ["notes"], "allow_empty": True})),
    ("posts import --public-sources src --out o", "public", "import_public", ((Path("src"), Path("o")), {"seed": 1})),
])  # fmt: skip
def test_posts_import_hands_over_and_says_what_is_next(room, capsys, line, module, function, expected):
    class Posts(dict):
        folder, splits, categories = Path("o"), {"train": 1200, "test": 30}, ("LQC", "RCS")
        info: ClassVar = {
            "read_columns": ["title"],
            "ignored_columns": ["notes"],
            "quarantined": 3,
            "frames": {"flat": 1234},
        }

    calls = room(f"radar_suite.intake.{module}", **{function: Posts()})
    assert cli.main(line.split()) == exits.OK and calls[function] == expected
    out = capsys.readouterr().out
    assert "public" in line or "1,234 frames are of one colour" in out
    assert "(train 1,200, test 30); categories LQC, RCS" in out and "radar reproduce --posts o" in out


@pytest.mark.parametrize("given", ["--images f", "--on-error quarantine", "--ignore a b", "--allow-empty", "--name x"])
def test_options_of_a_table_are_refused_where_there_is_none(room, capsys, given):
    calls = room("radar_suite.intake.public", import_public=None)
    assert cli.main(f"posts import --public-sources src --out o {given}".split()) == exits.USAGE
    assert given.split()[0] in capsys.readouterr().err and not calls


def test_posts_that_are_bad_are_bad_usage(tmp_path, capsys):
    assert cli.main(["posts", "check", str(tmp_path)]) == exits.USAGE
    assert capsys.readouterr().err.startswith("radar: ")


def test_results_are_written_from_a_record(project, room, tmp_path, capsys):
    project.step("00_a", "print(1)")
    calls = room("radar_suite.report.results", update_project={"docs/results.md": True, "README.md": False})
    assert project.run("--record", str(tmp_path), command="results") == exits.OK
    assert calls["update_project"][0] == (project.root, tmp_path)
    out = capsys.readouterr().out
    assert "results.md: renewed" in out and "README.md: up to date" in out


def test_python_m_radar_suite_is_the_same_command(project):
    project.step("00_a", "print(1)")
    done = subprocess.run([*project.command("--set", "sed=1")], capture_output=True, text=True)
    assert done.returncode == exits.USAGE and "Did you mean 'seed'" in done.stderr
    listing = subprocess.run([*project.command("--list")], capture_output=True, text=True)
    assert listing.returncode == exits.OK and "00_a" in listing.stdout
    assert json.loads((project.notebooks / "00_a.ipynb").read_text())["cells"][0]["outputs"] == []
