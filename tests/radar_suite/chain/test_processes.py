"""Locks, leftovers, disks and the kernel's environment."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from radar_lib.errors import RadarError
from radar_suite.chain import processes
from radar_suite.chain.exits import SetupError


def test_a_second_chain_is_told_who_holds_the_run(tmp_path):
    with processes.run_lock(tmp_path):
        with pytest.raises(SetupError, match=rf"in use by another chain \(process {os.getpid()}\)"):
            with processes.run_lock(tmp_path):
                pass
    with processes.run_lock(tmp_path):
        pass


def test_the_lock_of_a_dead_chain_holds_nobody_up(tmp_path):
    code = (
        "import sys, time, pathlib; from radar_suite.chain.processes import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    chain = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert chain.stdout.readline() == "held\n"
    with pytest.raises(SetupError, match=str(chain.pid)):
        with processes.run_lock(tmp_path):
            pass
    chain.kill()
    chain.wait()
    chain.stdout.close()
    with processes.run_lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_leftovers_of_a_dead_chain_are_ended_and_others_are_not(tmp_path):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = subprocess.Popen(sleep, env={**os.environ, processes.MARK: str(tmp_path)}, start_new_session=True)
    other = subprocess.Popen(sleep, env={**os.environ, processes.MARK: str(tmp_path / "other")})
    time.sleep(0.2)  # until exec, the environment is still this process's
    try:
        processes.kill_leftovers(tmp_path)
        assert not psutil.pid_exists(left.pid) and other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "TERM_SECONDS", 0.3)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    stubborn = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    stubborn.stdout.readline()
    processes.kill([psutil.Process(stubborn.pid)])
    assert not psutil.pid_exists(stubborn.pid)
    stubborn.wait()
    stubborn.stdout.close()


def test_what_is_gone_is_no_error():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(gone.pid)
    gone.wait()
    assert processes.tree(gone.pid) == [] and processes.resident_mb([process]) == 0
    processes.kill([process])
    assert processes.resident_mb(processes.tree(os.getpid())) > 1


def test_a_missing_kernel_package_is_named():
    processes.check_packages()
    with pytest.raises(SetupError, match="no_such_kernel cannot be imported.* pip install no_such_kernel"):
        processes.check_packages(["papermill", "no_such_kernel"])


def test_a_file_in_place_of_the_folder_is_one_clear_error(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SetupError, match="cannot write .*--runs DIR"):
        processes.check_writable(tmp_path / "runs" / "cpu")


@pytest.mark.parametrize(("number", "text"), [(28, "No space left on device"), (30, "Read-only file system")])
def test_a_full_or_read_only_disk_is_one_clear_error(tmp_path, monkeypatch, number, text):
    def refuse(self, data):
        raise OSError(number, text)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SetupError, match=text):
        processes.check_writable(tmp_path / "cpu")
    assert list((tmp_path / "cpu").iterdir()) == []


def test_too_little_free_space_is_said_in_numbers(tmp_path):
    with pytest.raises(SetupError, match=r"only \d+ MiB free, \d+ needed"):
        processes.check_writable(tmp_path, min_free_mb=10**9)


def test_the_kernel_belongs_to_this_interpreter_and_sees_nothing_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    environment = processes.kernel_environment(tmp_path, {"checkpoints": "standins"})
    assert "MPLBACKEND" not in environment and environment["PYTHONHASHSEED"] == "0"
    assert environment["TOKENIZERS_PARALLELISM"] == "false" and environment["HF_HUB_OFFLINE"] == "1"
    assert environment["IPYTHONDIR"].startswith(str(tmp_path))
    spec = (Path(environment["JUPYTER_PATH"]) / "kernels/python3/kernel.json").read_text()
    assert sys.executable in spec
    assert "HF_HUB_OFFLINE" not in processes.kernel_environment(tmp_path, {"checkpoints": "hub"})
    assert "HF_HUB_OFFLINE" not in processes.kernel_environment(tmp_path, {})


def test_a_disk_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(processes.fcntl, "flock", unsupported)
    with processes.run_lock(tmp_path):
        pass
    assert issubclass(SetupError, RadarError)
