"""`make`: what is typed after it reaches the command line as it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def make(tmp_path):
    """`make(*words)`: `make` with a stand-in for `radar`, in a project of that kind; what `radar` is given."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    bin = tmp_path / "venv/bin"
    bin.mkdir(parents=True)
    (bin / "radar").write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    (bin / "radar").chmod(0o755)
    (bin / "python").symlink_to(sys.executable)
    (tmp_path / "venv/.installed").touch()

    def make(*words):
        command = ["make", "--no-print-directory", "--silent", "VENV=venv", *words]
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return make


@pytest.mark.parametrize("name", ["my posts", "it's", 'a "b"', "plain/posts", "$HOME", "$x", "a;b & c"])
def test_names_of_yours_arrive_as_they_are(make, name):
    given = make("reproduce", f"POSTS={name}", f"PUBLIC_SOURCES={name}", f"PROFILE={name}.yaml")
    assert given == ["reproduce", "--profile", f"{name}.yaml", "--posts", name, "--public-sources", name]


def test_what_is_not_given_is_left_out(make):
    assert make("reproduce") == ["reproduce", "--profile", "cpu"]
    assert make("reproduce", "SEEDS=3", "ARGS=--from 05") == [
        "reproduce", "--profile", "cpu", "--set", "seeds=3", "--from", "05"]  # fmt: skip
    assert make("verify", "PROFILE=my own", "ARGS=--json") == ["verify", "--profile", "my own", "--json"]
