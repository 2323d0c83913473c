"""Locks, leftovers, disks and the kernel's environment."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from radar_suite.chain import processes
from radar_suite.chain.exits import SetupError

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def start(code: str, *arguments: object, **process) -> subprocess.Popen:
    """A Python process that has printed its first line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **process)
    child.stdout.readline()
    return child


def test_a_second_chain_hears_who_holds_the_run_and_a_dead_chain_holds_nobody_up(tmp_path):
    code = (
        "import sys, time, pathlib; from radar_suite.chain.processes import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with start(code, tmp_path) as chain:
        for _ in range(2):
            with pytest.raises(SetupError, match=rf"in use by another chain \(process {chain.pid}\)"):
                with processes.run_lock(tmp_path):
                    pass
        chain.kill()
    for _ in range(2):
        with processes.run_lock(tmp_path):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_connection_files_of_kernels_that_were_killed_go_with_the_next_chain(tmp_path):
    left = tmp_path / "cpu/.jupyter/runtime/kernel-1.json"
    for _ in range(2):
        left.parent.mkdir(parents=True)
        left.write_text('{"key": "secret"}')
        with processes.run_lock(tmp_path / "cpu"):
            assert not left.exists()


def test_a_disk_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def unsupported(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(processes.FileLock, "acquire", unsupported)
    with processes.run_lock(tmp_path):
        pass


def test_what_a_run_left_is_ended_in_whatever_session_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TERM_SECONDS", 0.3)
    left = start(STUBBORN, env={**os.environ, processes.MARK: str(tmp_path / "00_a")}, start_new_session=True)
    other = start(STUBBORN, env={**os.environ, processes.MARK: f"{tmp_path}-other"})
    try:
        monkeypatch.setenv(processes.MARK, str(tmp_path))  # not this process itself
        processes.kill_marked(tmp_path)
        assert not psutil.pid_exists(left.pid) and other.poll() is None
        assert processes.resident_mb(left.pid) == 0 and processes.resident_mb(os.getpid()) > 10
    finally:
        for process in (left, other):
            with process:
                process.kill()


def test_a_missing_kernel_package_is_named():
    processes.check_packages()
    with pytest.raises(SetupError, match="no_such_kernel cannot be imported.* pip install no_such_kernel"):
        processes.check_packages(["papermill", "no_such_kernel"])


@pytest.mark.parametrize(("number", "text"), [(28, "No space left on device"), (30, "Read-only file system")])
def test_a_disk_that_takes_nothing_is_one_clear_error(tmp_path, monkeypatch, number, text):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SetupError, match="cannot write .*--runs DIR"):
        processes.check_writable(tmp_path / "runs" / "cpu")
    with pytest.raises(SetupError, match=r"only \d+ MiB free, \d+ needed"):
        processes.check_writable(tmp_path, min_free_mb=10**9)

    def refuse(self, data):
        raise OSError(number, text)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SetupError, match=text):
        processes.check_writable(tmp_path / "cpu")
    assert list((tmp_path / "cpu").iterdir()) == []


def test_the_kernel_belongs_to_this_interpreter_and_sees_nothing_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    environment = processes.kernel_environment(tmp_path / "00_a", {"checkpoints": "standins"})
    assert "MPLBACKEND" not in environment and environment["PYTHONHASHSEED"] == "0"
    assert environment["TOKENIZERS_PARALLELISM"] == "false" and environment["HF_HUB_OFFLINE"] == "1"
    assert environment["IPYTHONDIR"].startswith(str(tmp_path))
    spec = (Path(environment["JUPYTER_PATH"]) / "kernels/python3/kernel.json").read_text()
    assert sys.executable in spec
    for parameters in ({"checkpoints": "hub"}, {}):
        assert "HF_HUB_OFFLINE" not in processes.kernel_environment(tmp_path / "00_a", parameters)


TWO_BATCHES = """if True:
    import ctypes, resource
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for _ in range(2):
        before, size = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, 40 << 20
        blocks = [libc.malloc(size) for _ in range(5)]
        for block in blocks:
            ctypes.memset(block, 1, size)
        for block in blocks:
            libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other settings")
def test_a_second_batch_finds_the_memory_of_the_first_but_where_the_user_decides(tmp_path, monkeypatch):
    def pages_anew() -> int:
        environment = processes.kernel_environment(tmp_path / "00_a", {})
        return int(subprocess.run([sys.executable, "-c", TWO_BATCHES], env=environment, capture_output=True).stdout)

    assert pages_anew() < 100
    for name, default in zip(processes.KEEP_MEMORY, ("65536", "131072", "glibc.malloc.hugetlb=0"), strict=True):
        monkeypatch.setenv(name, default)
    assert pages_anew() > 1000


def test_few_open_files_are_made_more_or_said(tmp_path):
    code = "import resource; from radar_suite.chain.processes import allow_files; allow_files(256)\n"
    code += "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    for limit, said in [("-S -n 64", "256\n"), ("-n 300", "300\n")]:
        done = subprocess.run(["sh", "-c", f"ulimit {limit}; exec {sys.executable} -c '{code}'"], capture_output=True)
        assert done.stdout.decode() == said, done.stderr
    done = subprocess.run(["sh", "-c", f"ulimit -n 64; exec {sys.executable} -c '{code}'"], capture_output=True)
    assert b"SetupError: only 64 files may be open at once, and 256 are needed: `ulimit -n 256`" in done.stderr
