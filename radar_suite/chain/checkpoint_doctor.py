"""`radar doctor --checkpoint`: is a checkpoint fit to be a backbone? One line each, without training.

Nothing is loaded before the files have passed, and the weights last of all, where memory permits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.doctor import Check

FRAME_PX = 384
MARGIN = 1.25  # memory for activations and the loader, above the weights themselves


def examine(checkpoint: str, *, say: Callable[[str], None] = print) -> int:
    """Check one checkpoint and say what was found.

    Args:
        checkpoint: a folder, `standin:NAME`, a Hub id (with `@REVISION`, if you like), or a name of the paper's table.

    Returns:
        0 when nothing failed (warnings allowed), else the exit code for bad input.
    """
    label, states = "files", []
    try:
        for check in _checks(checkpoint):
            say(str(check))
            label = check.label
            states.append(check.state)
    except RadarError as error:
        text, _, remedy = str(error).partition("\n")
        say(str(Check("fail", "files" if not states else f"after {label}", text, remedy)))
        say("\n1 failed: not fit to load")
        return exits.code_of(error)
    warned = states.count("warn")
    say(f"\nfit to load, {warned} warnings" if warned else "\nall in order")
    return exits.OK


def _checks(checkpoint: str) -> Iterator[Check]:
    import torch

    from radar_lib.models.backbones import BACKBONES, load_backbone, resolve_checkpoint
    from radar_lib.models.checkpoints import open_checkpoint
    from radar_suite.world.standins import WORD, checkpoints_named

    if checkpoint.startswith("standin:"):
        checkpoint = f"{checkpoints_named(WORD)}/{checkpoint.removeprefix('standin:')}"
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
    tokenizer, processor = empty.tokenizer, empty.frame_processor.processor
    template = "with a chat template" if tokenizer.chat_template else "no chat template: a plain prompt"
    text = f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens, {template}; text is cut at {empty.max_text_tokens}"
    yield Check("ok", "tokenizer", text)
    yield Check("ok", "images", type(processor).__name__)
    encoded = empty.encode([_post()])
    visual = sum(encoded[0].frame_tokens)
    text = f"two {FRAME_PX} px frames and a title are {encoded[0].n_tokens} tokens, {visual} of them visual"
    yield Check("ok", "post", text)
    where, dtype = _room(parameters)
    if dtype is None:
        text = f"left out: {parameters * 2 * MARGIN / 2**30:.1f} GiB are needed in bfloat16"
        yield Check("warn", "forward", text, "run it where there is that much; until then the weights are unseen")
        return
    backbone = load_backbone(files, dtype=dtype, device=where)
    if backbone.unused_weights:
        yield Check("ok", "left out", ", ".join(backbone.unused_weights[:3]) + ", which a router does not need")
    begun = time.perf_counter()
    with torch.no_grad():
        vector = backbone({key: value.to(where) for key, value in backbone.collate(encoded).items()})
    if not vector.isfinite().all():
        raise RadarError(f"the vector of one post is not finite in {str(dtype).removeprefix('torch.')}.")
    seconds = time.perf_counter() - begun
    name = str(dtype).removeprefix("torch.")
    yield Check("ok", "forward", f"one post in {seconds:.2f} s on {where} in {name}: a vector of {vector.shape[1]}")


def _post() -> dict[str, Any]:
    from PIL import Image

    frames = [Image.radial_gradient("L").resize((FRAME_PX, FRAME_PX)).convert("RGB") for _ in range(2)]
    return {"title": "Win a prize: follow and share", "ocr_text": "", "asr_text": "", "frames": frames}


def _room(parameters: int) -> tuple[str, Any]:
    """Where the weights fit, and in which dtype; None for nowhere."""
    import torch

    places = [("cpu", psutil.virtual_memory().available)]
    if torch.cuda.is_available():
        places.insert(0, ("cuda", torch.cuda.mem_get_info()[0]))
    for where, free in places:
        for dtype in (torch.float32, torch.bfloat16):
            if parameters * dtype.itemsize * MARGIN < free:
                return where, dtype
    return "cpu", None
