"""`radar doctor`: what is wrong with an environment, one line each, with what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from radar_lib.files import write_json
from radar_suite.chain import exits
from radar_suite.chain.processes import MIN_FREE_MB, NEEDED, check_writable, kernel_environment

PACKAGES = (
    "torch", "transformers", "peft", "accelerate", "datasets", "pyarrow", "numpy", "pandas", "scikit-learn",
    "scipy", "matplotlib", "seaborn", "pillow", "safetensors", "tokenizers", "jaxtyping", "pyyaml", "psutil",
    "papermill", "nbclient", "nbconvert", "nbformat", "ipykernel", "ipywidgets", "jupyterlab",
)  # fmt: skip
PYTHON = (3, 11)
MEMORY_GIB = 6.0  # the default profile's bar
DISK_MIB = 5 * 1024
KERNEL_SECONDS = 120
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Check:
    """One finding: state 'ok', 'warn' or 'fail'; a remedy where it is not ok."""

    state: str
    label: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.state:4s}  {self.label:12s}{self.text}"
        return f"{line}\n      -> {self.remedy}" if self.remedy else line


def check_python() -> Check:
    """Python's version."""
    found = platform.python_version()
    if sys.version_info[:2] >= PYTHON:
        return Check("ok", "python", f"{found} ({sys.executable})")
    return Check("fail", "python", f"{found}, 3.11 or newer is needed", "make PYTHON=python3.12 setup")


def read_constraints(path: Path) -> dict[str, str]:
    """Exact versions by lower-case package name; empty when there is no such file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {
        name.lower(): pin for name, pin in re.findall(r"^([\w.-]+)==([^\s;#]+)", text, flags=re.MULTILINE)
    }


def check_packages(constraints: dict[str, str], names: Iterable[str] = PACKAGES) -> list[Check]:
    """Installed versions against the constraints. Missing is a failure; another version is only another version."""
    checks, same = [], []
    for name in names:
        pin = constraints.get(name)
        try:
            found = version(name)
        except PackageNotFoundError:
            remedy = f"{sys.executable} -m pip install {name}{f'=={pin}' if pin else ''}"
            checks.append(Check("fail", name, "not installed", remedy))
            continue
        if pin and found.split("+")[0] != pin.split("+")[0]:
            text = f"{found}, the recorded runs used {pin}"
            checks.append(
                Check("warn", name, text, "numbers may differ; `make setup` gives the recorded versions")
            )
        else:
            same.append(f"{name} {found}")
    against = "as in constraints.txt" if constraints else "no constraints.txt to compare with"
    return [
        Check("ok", "packages", f"{len(same)} of {len(same) + len(checks)} {against}: {', '.join(same)}"),
        *checks,
    ]


def check_devices() -> Check:
    """What torch can compute on."""
    try:
        import torch
    except Exception as error:
        return Check(
            "fail", "device", f"torch cannot be imported: {error}", "reinstall torch (pytorch.org says how)"
        )
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check(
            "ok", "device", ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
        )
    return Check(
        "ok",
        "device",
        f"CPU, {torch.get_num_threads()} threads; no CUDA device (profiles smoke, cpu, public)",
    )


def check_memory(limits: Iterable[Path] = CGROUP_LIMITS) -> Check:
    """Memory that is free for the chain, a container's limit included."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for path in limits:
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if text.isdigit() and int(text) < total:
            total = int(text)
    free = min(free, total)
    text = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB available"
    if free / 2**30 >= MEMORY_GIB:
        return Check("ok", "memory", text)
    return Check(
        "warn", "memory", text, f"profile cpu needs up to {MEMORY_GIB:.0f} GiB: close programs, or use smoke"
    )


def check_disk(runs: Path) -> Check:
    """Whether results can be written, and how much."""
    try:
        check_writable(runs)
    except exits.SetupError as error:
        return Check("fail", "disk", str(error), "choose another folder with --runs DIR, or free some space")
    free = shutil.disk_usage(runs).free // 2**20
    text = f"{runs} is writable, {free / 1024:.1f} GiB free"
    if free >= DISK_MIB:
        return Check("ok", "disk", text)
    return Check("warn", "disk", text, f"profile cpu writes a few GiB (a run stops below {MIN_FREE_MB} MiB)")


def check_kernel() -> Check:
    """Start a kernel as the chain does, and run one cell in it."""
    cell = {
        "cell_type": "code",
        "id": "probe",
        "metadata": {},
        "source": "6 * 7",
        "outputs": [],
        "execution_count": None,
    }
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    content["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    with tempfile.TemporaryDirectory() as name:
        book, out = Path(name) / "probe.ipynb", Path(name) / "out.ipynb"
        write_json(book, content)
        job = {
            "notebook": str(book),
            "output": str(out),
            "parameters": {},
            "cwd": name,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "radar_suite.chain.execute", str(os.getpid())],
                input=repr(job), text=True, cwd=name, env=kernel_environment(Path(name), {}),
                capture_output=True, timeout=KERNEL_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Check("fail", "kernel", f"no answer in {KERNEL_SECONDS} s", "is the machine overloaded?")
    if done.returncode == 0:
        return Check("ok", "kernel", "a kernel of this Python started and ran a cell")
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    remedy = f"{sys.executable} -m pip install --force-reinstall {' '.join(NEEDED)}"
    return Check("fail", "kernel", "".join(last) or "did not start", remedy)


def diagnose(*, project: Path, runs: Path, say: Callable[[str], None] = print) -> int:
    """Run every check and say what it found.

    Returns:
        0 when nothing failed (warnings allowed), else the exit code for a bad environment.
    """
    states = []

    def tell(*checks: Check) -> None:
        for check in checks:
            states.append(check.state)
            say(str(check))

    tell(check_python())
    tell(*check_packages(read_constraints(project / "constraints.txt")))
    tell(check_devices(), check_memory(), check_disk(runs), check_kernel())
    failed, warned = states.count("fail"), states.count("warn")
    say(f"\n{failed} failed, {warned} warnings" if failed or warned else "\nall in order")
    return exits.ENVIRONMENT if failed else exits.OK
