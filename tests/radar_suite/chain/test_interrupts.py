"""Chains that are killed: nothing keeps running, nothing half-written counts, and the next run goes on."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from radar_suite.chain import exits

SLOW = """\
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "99"])
folder = pathlib.Path(runs_dir) / profile / "01_b"
folder.mkdir(parents=True, exist_ok=True)
(folder / "pids").write_text(f"{os.getpid()} {child.pid}")
while not (folder / "go").exists():
    time.sleep(0.05)
child.kill()"""


@pytest.fixture
def slow(project):
    project.step("00_a", "print(1)")
    project.step("01_b", "## 1. Wait", SLOW, reads=("00_a/out.json",))
    return project


def start(project) -> tuple[subprocess.Popen, list[int]]:
    """A chain that is inside 01_b; its process, and the ids of the kernel and the kernel's child."""
    def heed() -> None:  # tests that run in the background of a shell ignore Ctrl-C, and their children would
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    about = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True, "preexec_fn": heed}
    chain = subprocess.Popen(project.command(), **about)
    pids = project.runs / "cpu/01_b/pids"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and chain.poll() is None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            return chain, [int(pid) for pid in pids.read_text().split()]
        time.sleep(0.05)
    chain.kill()
    pytest.fail(f"the chain never got into 01_b: {chain.communicate()[0]}")


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_after_kill_9_nothing_runs_on_and_the_next_run_goes_on(slow, capsys):
    chain, pids = start(slow)
    assert slow.run() == exits.ENVIRONMENT
    assert f"in use by another chain (process {chain.pid})" in capsys.readouterr().err
    made = (slow.runs / "cpu/00_a/out.json").stat().st_mtime_ns
    chain.kill()
    chain.communicate()
    assert gone(pids)
    assert slow.entries()["00_a"]["state"] == "done" and slow.entries()["01_b"]["state"] == "running"
    assert not (slow.runs / "cpu/01_b/executed.ipynb").exists()
    (slow.runs / "cpu/01_b/go").touch()
    assert slow.run() == exits.OK
    out = capsys.readouterr().out
    assert "[1/2] 00_a · up to date" in out and "[2/2] 01_b · runs: interrupted last time" in out
    assert (slow.runs / "cpu/00_a/out.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)]
)
def test_a_polite_signal_ends_the_kernel_too_and_says_how_to_resume(slow, number, code):
    slow.step("00_a", "print(1)")
    (slow.notebooks / "00_a.ipynb").unlink()  # one kernel less to wait for
    slow.step("01_b", "## 1. Wait", SLOW)
    chain, pids = start(slow)
    os.kill(chain.pid, number)
    out = chain.communicate(timeout=120)[0]
    assert chain.returncode == code
    assert gone(pids, seconds=0.5)
    assert "stopped; finished notebooks are kept" in out and "-m radar_suite reproduce --profile cpu" in out
    assert slow.entries()["01_b"]["state"] == "running"
    assert not Path(slow.runs / "cpu/01_b/executed.ipynb").exists()


CHILD = "import subprocess, time\nsubprocess.Popen(['sleep', '66'], start_new_session=True)\ntime.sleep(0.3)"


def test_killed_at_random_moments_it_leaves_nothing_and_ends_with_the_same_bytes(project, kill):
    """The same as for the smoke chain, with notebooks whose children have sessions of their own."""
    project.step("00_a", CHILD, value="1")
    project.step("01_b", CHILD, value="2", reads=("00_a/out.json",))
    moments, done = random.Random(os.environ.get("KILL_SEED", "1")), project.runs / "cpu/report/index.html"
    for _ in range(6):
        moment = moments.uniform(0, 6)
        kill(project.command(), project.runs / "cpu", when=lambda seconds, at=moment: seconds > at or done.exists())
    assert project.run() == exits.OK
    assert [(project.runs / f"cpu/{name}/out.json").read_text() for name in ("00_a", "01_b")] == ["[1, 1]", "[1, 2]"]
    assert kill.half_written(project.runs) == [] and kill.running(project.runs / "cpu") == []
