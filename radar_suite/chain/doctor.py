"""`radar doctor`: what is wrong with an environment or a checkpoint, one line each, with what to do about it."""

from __future__ import annotations

import io
import platform
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_suite.chain import exits
from radar_suite.chain.processes import MIN_FREE_MB, NEEDED, check_writable

DISTRIBUTION = "radar-notebooks"
PYTHON = (3, 11)
MEMORY_GIB = 6.0  # the default profile's bar
DISK_MIB = 5 * 1024
KERNEL_MIN = 2.0
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
FRAME_PX = 384
MARGIN = 1.25  # memory for activations and the loader, above the weights themselves


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


def diagnose(*, project: Path, runs: Path, say: Callable[[str], None] = print) -> int:
    """Check Python, packages, device, memory, disk, and a kernel that is really started; say what was found.

    Returns:
        0 when nothing failed (warnings allowed), else the exit code for a bad environment.
    """
    states = []
    for act in (check_python, lambda: check_packages(read_constraints(project / "constraints.txt")), check_devices,
                check_memory, lambda: check_disk(runs), check_kernel):  # fmt: skip
        checks = act()
        for check in checks if isinstance(checks, list) else [checks]:
            states.append(check.state)
            say(str(check))
    failed, warned = states.count("fail"), states.count("warn")
    say(f"\n{failed} failed, {warned} warnings" if failed or warned else "\nall in order")
    return exits.ENVIRONMENT if failed else exits.OK


def check_python() -> Check:
    """Python's version."""
    if sys.version_info[:2] >= PYTHON:
        return Check("ok", "python", f"{platform.python_version()} ({sys.executable})")
    text = f"{platform.python_version()}, 3.11 or newer is needed"
    return Check("fail", "python", text, "make PYTHON=python3.12 setup")


def read_constraints(path: Path) -> dict[str, str]:
    """Exact versions by lower-case package name; empty when there is no such file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {name.lower(): pin for name, pin in re.findall(r"^([\w.-]+)==([^\s;#]+)", text, flags=re.MULTILINE)}


def check_packages(constraints: dict[str, str], names: Iterable[str] = ()) -> list[Check]:
    """Installed versions against the constraints. Missing is a failure; another version is only another version.

    Args:
        names: packages to look at; default are this project's own dependencies.
    """
    checks, same = [], []
    needed = [re.match(r"[\w.-]+", text)[0] for text in requires(DISTRIBUTION) if "extra ==" not in text]
    for name in names or needed:
        pin = constraints.get(name)
        try:
            installed = version(name)
        except PackageNotFoundError:
            remedy = f"{sys.executable} -m pip install {name}{f'=={pin}' if pin else ''}"
            checks.append(Check("fail", name, "not installed", remedy))
            continue
        if pin and installed.split("+")[0] != pin.split("+")[0]:
            text = f"{installed}, the recorded runs used {pin}"
            checks.append(Check("warn", name, text, "numbers may differ; `make setup` gives the recorded versions"))
        else:
            same.append(f"{name} {installed}")
    against = "as in constraints.txt" if constraints else "no constraints.txt to compare with"
    text = f"{len(same)} of {len(same) + len(checks)} {against}: {', '.join(same)}"
    return [Check("ok", "packages", text), *checks]


def check_devices() -> Check:
    """What torch can compute on."""
    try:
        import torch
    except Exception as error:
        text = f"torch cannot be imported: {error}"
        return Check("fail", "device", text, "reinstall torch (pytorch.org says how)")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    if cards and torch.cuda.is_available():
        return Check("ok", "device", ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards))
    text = f"CPU, {torch.get_num_threads()} threads; no CUDA device (profiles smoke, cpu, public)"
    return Check("ok", "device", text)


def check_memory(limits: Iterable[Path] = CGROUP_LIMITS) -> Check:
    """Memory that is free for the chain, a container's limit included."""
    memory = psutil.virtual_memory()
    texts = [path.read_text(encoding="utf-8").strip() for path in limits if path.is_file()]
    total = min([memory.total, *(int(text) for text in texts if text.isdigit())])
    free = min(memory.available, total) / 2**30
    text = f"{free:.1f} of {total / 2**30:.1f} GiB available"
    if free >= MEMORY_GIB:
        return Check("ok", "memory", text)
    remedy = f"profile cpu needs up to {MEMORY_GIB:.0f} GiB: close programs, or use smoke"
    return Check("warn", "memory", text, remedy)


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
    """Start a kernel as the chain does, and run one cell in it: a chain of one notebook."""
    from radar_suite.chain.notebooks import read_notebook
    from radar_suite.chain.runner import Chain, run_chain

    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    parameters = cell | {"id": "p", "metadata": {"tags": ["parameters"]}, "source": ""}
    cells = [parameters, cell | {"id": "c", "source": "6 * 7"}]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "radar": {"title": "probe", "time_limit_min": KERNEL_MIN}}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "00_probe.ipynb"
        write_json(path, {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
        probe, out = [read_notebook(path)], io.StringIO()
        try:
            code = run_chain(Chain(probe, probe, {path.stem: {}}, Path(name) / "run", out=out))
        except exits.SetupError as error:
            return Check("fail", "kernel", str(error))
    if code == exits.OK:
        return Check("ok", "kernel", "a kernel of this Python started and ran a cell")
    again = f"{sys.executable} -m pip install --force-reinstall {' '.join(NEEDED)}"
    remedy = "is the machine overloaded?" if code == exits.TIMEOUT else again
    return Check("fail", "kernel", out.getvalue().strip(), remedy)


def examine(checkpoint: str, *, say: Callable[[str], None] = print) -> int:
    """Is a checkpoint fit to be a backbone? Check it and say what was found.

    Args:
        checkpoint: a folder, `standin:NAME`, a Hub id (with `@REVISION`, if you like), or a name of the paper's table.

    Returns:
        0 when nothing failed (warnings allowed), else the exit code for bad input.
    """
    checks: list[Check] = []
    try:
        for check in check_checkpoint(checkpoint):
            say(str(check))
            checks.append(check)
    except RadarError as error:
        text, _, remedy = str(error).partition("\n")
        say(str(Check("fail", f"after {checks[-1].label}" if checks else "files", text, remedy)))
        say("\n1 failed: not fit to load")
        return exits.code_of(error)
    warned = [check.state for check in checks].count("warn")
    say(f"\nfit to load, {warned} warnings" if warned else "\nall in order")
    return exits.OK


def check_checkpoint(checkpoint: str) -> Iterator[Check]:
    """Nothing is loaded before the files have passed, and the weights last of all, where memory permits.

    Raises:
        RadarError: it is not fit; what was yielded before is.
    """
    import torch
    from PIL import Image

    from radar_lib.models.backbones import BACKBONES, load_backbone, resolve_checkpoint
    from radar_lib.models.checkpoints import open_checkpoint
    from radar_suite.world.standins import WORD, locate_checkpoints

    if checkpoint.startswith("standin:"):
        checkpoint = f"{locate_checkpoints(WORD)}/{checkpoint.removeprefix('standin:')}"
    if checkpoint in BACKBONES:
        checkpoint = resolve_checkpoint(BACKBONES[checkpoint], "hub")
    files = open_checkpoint(checkpoint)
    size = sum(path.stat().st_size for path in files.shards)
    yield Check("ok", "files", f"{files.reference}, digest {files.digest}, in {files.folder}")
    text = f"{len(files.shards)} safetensors, {size / 1e6:,.1f} MB, whole by their headers"
    yield Check("ok", "weights", f"{text}; {files.verified} of them compared with a known hash")
    empty = load_backbone(files, device="meta")
    own_code = ", with the checkpoint's own code" if files.runs_code else ""
    yield Check("ok", "family", f"{files.model_type}: {type(empty.model).__name__}{own_code}")
    parameters = sum(p.numel() for p in empty.model.parameters())
    if files.parameters < parameters:
        raise RadarError(f"its files hold {files.parameters:,} parameters, the model needs {parameters:,}.")
    dtypes = ", ".join(name for name, _ in Counter(dtype for dtype, _ in files.tensors.values()).most_common())
    yield Check("ok", "parameters", f"{parameters:,} used of {files.parameters:,} in the files ({dtypes})")
    tokenizer = empty.tokenizer
    template = "with a chat template" if tokenizer.chat_template else "no chat template: a plain prompt"
    text = f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens, {template}; text is cut at {empty.max_text_tokens}"
    yield Check("ok", "tokenizer", text)
    yield Check("ok", "images", type(empty.frame_processor.processor).__name__)
    frames = [Image.radial_gradient("L").resize((FRAME_PX, FRAME_PX)).convert("RGB") for _ in range(2)]
    post = {"title": "Win a prize: follow and share", "ocr_text": "", "asr_text": "", "frames": frames}
    encoded = empty.encode([post])
    visual = sum(encoded[0].frame_tokens)
    text = f"two {FRAME_PX} px frames and a title are {encoded[0].n_tokens} tokens, {visual} of them visual"
    yield Check("ok", "post", text)
    where, dtype = place_for(parameters)
    if dtype is None:
        text = f"left out: {parameters * 2 * MARGIN / 2**30:.1f} GiB are needed in bfloat16"
        yield Check("warn", "forward", text, "run it where there is that much; until then the weights are unseen")
        return
    backbone = load_backbone(files, dtype=dtype, device=where)
    if backbone.unused_weights:
        yield Check("ok", "left out", ", ".join(backbone.unused_weights[:3]) + ", which a router does not need")
    begun, name = time.perf_counter(), str(dtype).removeprefix("torch.")
    with torch.no_grad():
        vector = backbone({key: value.to(where) for key, value in backbone.collate(encoded).items()})
    if not vector.isfinite().all():
        raise RadarError(f"the vector of one post is not finite in {name}.")
    seconds = time.perf_counter() - begun
    yield Check("ok", "forward", f"one post in {seconds:.2f} s on {where} in {name}: a vector of {vector.shape[1]}")


def place_for(parameters: int) -> tuple[str, Any]:
    """Device and dtype in which so many weights fit; the dtype is None when they fit nowhere."""
    import torch

    places = [("cpu", psutil.virtual_memory().available)]
    if torch.cuda.is_available():
        places.insert(0, ("cuda", torch.cuda.mem_get_info()[0]))
    for where, free in places:
        for dtype in (torch.float32, torch.bfloat16):
            if parameters * dtype.itemsize * MARGIN < free:
                return where, dtype
    return "cpu", None
