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
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import nbformat.v4
import psutil

from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.processes import MIN_FREE_MB, NEEDED, check_writable

DISTRIBUTION = "radar-notebooks"
MEMORY_GIB = 6.0  # the default profile's bar
DISK_GIB = 5.0
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
    """Check packages, device, memory, disk, and a kernel that is really started; the exit code."""
    parts = check_packages(project / "constraints.txt"), check_devices(), check_room(runs), check_kernel()
    return report(parts, say)


def examine(checkpoint: str, *, text_tokens: int = 0, say: Callable[[str], None] = print) -> int:
    """Is a checkpoint fit to be a backbone? The exit code says it, too.

    Args:
        checkpoint: a folder, `standin:NAME`, a Hub id (with `@REVISION`, if you like), or a name of the paper's table.
        text_tokens: the profile's; posts are taken to be imported ones.
    """
    return report([check_checkpoint(checkpoint, text_tokens)], say)


def report(parts: Iterable[Generator[Check]], say: Callable[[str], None]) -> int:
    """Say each check as it ends; 0 when nothing failed (warnings allowed), else the exit code of the last failure."""
    checks, code = [], exits.OK
    for part in parts:
        label = part.__name__.removeprefix("check_")
        try:
            for check in part:
                label = f"after {check.label}"
                checks.append(check)
                say(str(check))
                code = exits.ENVIRONMENT if check.state == "fail" else code
        except RadarError as error:  # ends its part
            text, _, remedy = str(error).partition("\n")
            checks.append(Check("fail", label, text, remedy))
            say(str(checks[-1]))
            code = exits.code_of(error)
    failed, warned = ([check.state for check in checks].count(state) for state in ("fail", "warn"))
    say(f"\n{failed} failed, {warned} warnings" if failed or warned else "\nall in order")
    return code


def check_packages(constraints: Path) -> Generator[Check]:
    """This project's dependencies: missing is a failure, another version than the constraints' a warning."""
    text = constraints.read_text(encoding="utf-8") if constraints.is_file() else ""
    pins = {name.lower(): pin for name, pin in re.findall(r"^([\w.-]+)==([^\s;#]+)", text, flags=re.MULTILINE)}
    same = [f"python {platform.python_version()}"]
    for name in (re.match(r"[\w.-]+", text)[0] for text in requires(DISTRIBUTION) if "extra ==" not in text):
        pin = pins.get(name.lower())
        try:
            installed = version(name)
        except PackageNotFoundError:
            remedy = f"{sys.executable} -m pip install {name}{f'=={pin}' if pin else ''}"
            yield Check("fail", name, "not installed", remedy)
            continue
        if pin and installed.split("+")[0] != pin.split("+")[0]:
            remedy = "numbers may differ; `make setup` gives the recorded versions"
            yield Check("warn", name, f"{installed}, the recorded runs used {pin}", remedy)
        else:
            same.append(f"{name} {installed}")
    against = "as in constraints.txt" if pins else "no constraints.txt to compare with"
    yield Check("ok", "packages", f"{against}: {', '.join(same)}")


def check_devices() -> Generator[Check]:
    """What torch can compute on."""
    try:
        import torch
    except Exception as error:
        yield Check("fail", "device", f"torch cannot be imported: {error}", "reinstall torch (pytorch.org says how)")
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cards = [torch.cuda.get_device_properties(index) for index in range(count)]
    text = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    cpu = f"CPU, {torch.get_num_threads()} threads; no CUDA device (profiles smoke, cpu, public)"
    yield Check("ok", "device", text or cpu)


def check_room(runs: Path, limits: Iterable[Path] = CGROUP_LIMITS) -> Generator[Check]:
    """Memory that is free for the chain, a container's limit included, and disk that results can be written to."""
    memory = psutil.virtual_memory()
    texts = [path.read_text(encoding="utf-8").strip() for path in limits if path.is_file()]
    total = min([memory.total, *(int(text) for text in texts if text.isdigit())]) / 2**30
    free = min(memory.available / 2**30, total)
    remedy = f"profile cpu needs up to {MEMORY_GIB:.0f} GiB: close programs, or use smoke" * (free < MEMORY_GIB)
    yield Check("warn" if remedy else "ok", "memory", f"{free:.1f} of {total:.1f} GiB available", remedy)
    try:
        check_writable(runs)
    except exits.SetupError as error:
        yield Check("fail", "disk", str(error), "choose another folder with --runs DIR, or free some space")
        return
    free = shutil.disk_usage(runs).free / 2**30
    remedy = f"profile cpu writes a few GiB (a run stops below {MIN_FREE_MB} MiB)" * (free < DISK_GIB)
    yield Check("warn" if remedy else "ok", "disk", f"{runs} is writable, {free:.1f} GiB free", remedy)


def check_kernel() -> Generator[Check]:
    """Start a kernel as the chain does, and run one cell in it: a chain of one notebook.

    Raises:
        SetupError: no kernel of this Python could be started.
    """
    from radar_suite.chain.notebooks import read_notebook
    from radar_suite.chain.runner import Chain, run_chain

    cells = [nbformat.v4.new_code_cell(metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell("6 * 7")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                "radar": {"title": "probe", "time_limit_min": 2.0}}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        path, out = Path(name) / "00_probe.ipynb", io.StringIO()
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
        probe = [read_notebook(path)]
        code = run_chain(Chain(probe, probe, {path.stem: {}}, Path(name) / "run", out=out))
    if code == exits.OK:
        yield Check("ok", "kernel", "a kernel of this Python started and ran a cell")
    else:
        again = f"{sys.executable} -m pip install --force-reinstall {' '.join(NEEDED)}"
        remedy = "is the machine overloaded?" if code == exits.TIMEOUT else again
        yield Check("fail", "kernel", out.getvalue().strip(), remedy)


def check_checkpoint(checkpoint: str, text_tokens: int = 0) -> Generator[Check]:
    """Nothing is loaded before the files have passed, and the weights last of all, where memory permits.

    Raises:
        RadarError: it is not fit; what was yielded before is.
    """
    import torch
    from PIL import Image

    from radar_lib.models.backbones import load_backbone
    from radar_lib.models.checkpoints import open_checkpoint
    from radar_lib.models.text import TextLimit
    from radar_suite.intake.texts import OWN_TEXT_TOKENS
    from radar_suite.world.standins import named_checkpoint

    limit = TextLimit(text_tokens or OWN_TEXT_TOKENS)
    files = open_checkpoint(named_checkpoint(checkpoint))
    yield Check("ok", "files", f"{files.reference}, digest {files.digest}, in {files.folder}")
    size = sum(path.stat().st_size for path in files.shards) / 1e6
    yield Check("ok", "weights", f"{len(files.shards)} safetensors, {size:,.1f} MB, whole by their headers; "
                                 f"{files.verified} of them compared with a known hash")  # fmt: skip
    empty = load_backbone(files, device="meta", text=limit)
    own_code = ", with the checkpoint's own code" if files.runs_code else ""
    yield Check("ok", "family", f"{files.model_type}: {type(empty.model).__name__}{own_code}")
    parameters = sum(p.numel() for p in empty.model.parameters())
    if files.parameters < parameters:
        raise RadarError(f"its files hold {files.parameters:,} parameters, the model needs {parameters:,}.")
    dtypes = ", ".join(name for name, _ in Counter(dtype for dtype, _ in files.tensors.values()).most_common())
    yield Check("ok", "parameters", f"{parameters:,} used of {files.parameters:,} in the files ({dtypes})")
    tokenizer, template = empty.tokenizer, "a" if empty.tokenizer.chat_template else "no"
    yield Check("ok", "tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens, {template} chat template; "
                                   f"text is cut at {empty.max_text_tokens}")  # fmt: skip
    yield Check("ok", "images", type(empty.frame_processor.processor).__name__)
    frames = [Image.radial_gradient("L").resize((FRAME_PX, FRAME_PX)).convert("RGB") for _ in range(2)]
    post = {"title": "Win a prize: follow and share", "ocr_text": "", "asr_text": "", "frames": frames}
    encoded = empty.encode([post])
    yield Check("ok", "post", f"two {FRAME_PX} px frames and a title are {encoded[0].n_tokens} tokens, "
                              f"{sum(encoded[0].frame_tokens)} of them visual")  # fmt: skip
    where, dtype = place_for(parameters)
    if dtype is None:
        yield Check("warn", "forward", f"left out: {parameters * 2 * MARGIN / 2**30:.1f} GiB are needed in bfloat16",
                    "run it where there is that much; until then the weights are unseen")  # fmt: skip
        return
    backbone = load_backbone(files, dtype=dtype, device=where, text=limit)
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
