"""The seven checkpoints of the paper's Tables 1 and 2, and one function that loads any of them.

    load_backbone(resolve_checkpoint(BACKBONES["Qwen3-VL-4B"], "hub"))        # at its pinned commit
    load_backbone(resolve_checkpoint(BACKBONES["Qwen3-VL-4B"], "my/folder"))  # its folder there

A new backbone is a row in `BACKBONES`; a new model family is a class in `families.py`. Weights are read from
safetensors only. No code from a checkpoint is run, but for LLaVA-OneVision-1.5, which has no class in transformers
5.23: its repository's code runs once you allow it by name (`checkpoints.TRUST`).

The commits are those under which public projects record their results with these checkpoints; another one is taken
with `owner/name@REVISION` (see `resolve_checkpoint`). A loaded backbone names the commit that it really has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_lib.models.base import Backbone, Encoded
from radar_lib.models.checkpoints import (
    PACKAGE,
    CheckpointFiles,
    checkpoint_digest,
    checkpoint_folder,
    open_checkpoint,
    pretraining_record,
)  # fmt: skip
from radar_lib.models.families import FAMILIES
from radar_lib.models.text import SHARED, TextLimit

__all__ = [
    "BACKBONES", "Backbone", "BackboneSpec", "Encoded", "checkpoint_digest", "checkpoint_folder", "load_backbone",
    "pretraining_record", "quiet_transformers", "resolve_checkpoint",
]  # fmt: skip

CHOSEN = "checkpoints.yaml"


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the registry.

    Attributes:
        name: as in the paper's tables.
        role: "expert" (the three teachers), "tiny" or "small" (the routers, by size).
        hub_id, revision: the real checkpoint and the commit of it.
        family: key of `families.FAMILIES`.
        folder: name of its folder in a folder of checkpoints.
    """

    name: str
    role: str
    hub_id: str
    revision: str
    family: str
    folder: str


BACKBONES: dict[str, BackboneSpec] = {
    name: BackboneSpec(name, *values)
    for name, *values in (
        ("Qwen3-VL-8B", "expert", "Qwen/Qwen3-VL-8B-Instruct", "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
         "qwen3_vl", "qwen3-vl-8b"),
        ("SigLIP2", "tiny", "google/siglip2-so400m-patch14-384", "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
         "siglip", "siglip2"),
        ("LLaVA-OV-0.5B", "tiny", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
         "74dd0bf867a4cda7950c17663794267c60cf4b40", "llava_onevision", "llava-ov-0.5b"),
        ("Qwen3-VL-2B", "tiny", "Qwen/Qwen3-VL-2B-Instruct", "89644892e4d85e24eaac8bacfd4f463576704203",
         "qwen3_vl", "qwen3-vl-2b"),
        ("Gemma3-4B", "small", "google/gemma-3-4b-it", "093f9f388b31de276ce2de164bdc2081324b9767",
         "gemma3", "gemma3-4b"),
        ("LLaVA-OV-1.5-4B", "small", "lmms-lab/LLaVA-OneVision-1.5-4B-Instruct",
         "3ad1d8780ca1e4c62c5dab3d5e17d28a66c5e7a0", "llava_onevision", "llava-ov-1.5-4b"),
        ("Qwen3-VL-4B", "small", "Qwen/Qwen3-VL-4B-Instruct", "ebb281ec70b05090aa6165b016eac8ec08e71b17",
         "qwen3_vl", "qwen3-vl-4b"),
    )
}  # fmt: skip


def resolve_checkpoint(spec: BackboneSpec, checkpoints: str) -> str:
    """Where a backbone's checkpoint is.

    Args:
        checkpoints: "hub" (each at its pinned commit), a folder, or "package:" and the dotted name of a Python package
            that holds them. A folder has one sub-folder per backbone (`spec.folder` or its own name), or a file
            `checkpoints.yaml` that says what to take instead, such as
            `Qwen3-VL-4B: Qwen/Qwen3-VL-4B-Instruct@REVISION` or the path of a folder, or both.

    Raises:
        RadarError: the folder has nothing for this backbone.
    """
    if checkpoints.startswith(PACKAGE):
        return f"{checkpoints}/{spec.folder}"
    if checkpoints == "hub":
        return f"{spec.hub_id}@{spec.revision}"
    chosen = _chosen(Path(checkpoints) / CHOSEN)
    if spec.name in chosen:
        return chosen[spec.name]
    for name in (spec.folder, spec.name):
        folder = Path(checkpoints) / name
        if folder.is_dir():
            return str(folder)
    raise RadarError(
        f"no checkpoint for {spec.name} in {checkpoints}: expected a folder {spec.folder} or {spec.name}, or a line "
        f'in {CHOSEN}. checkpoints="hub" takes the published ones.'
    )


def _chosen(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    chosen = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    unknown = sorted(set(chosen) - set(BACKBONES)) if isinstance(chosen, dict) else [str(chosen)]
    if unknown:
        raise RadarError(f"{path}: no backbone is called {unknown[0]!r}. Known: {', '.join(BACKBONES)}.")
    return {name: str(reference) for name, reference in chosen.items()}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bar per file and its advice about its own defaults; restored afterwards."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_backbone(
    checkpoint: str | Path | CheckpointFiles, *, dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu", text: TextLimit = SHARED, padding_side: str = "right",
) -> Backbone:  # fmt: skip
    """Load a checkpoint folder, one of a package ("package:DOTTED.NAME/FOLDER") or a Hub id ("owner/name@REVISION").

    Args:
        checkpoint: or the files that `open_checkpoint` gave for it.
        dtype: of the model's weights. Pooled vectors are float32 whatever it is.
        device: "meta" leaves the weights out: a post can be encoded and parameters counted, nothing computed.
        text: how much of a post's text is read.

    Raises:
        RadarError: see `open_checkpoint`; or weights are missing, or tokenizer or image processor do not load.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    # under its top-level name some versions ask for torchvision, which the PIL backend does not need
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    files = checkpoint if isinstance(checkpoint, CheckpointFiles) else open_checkpoint(checkpoint)
    reference, source, family = files.reference, str(files.folder), FAMILIES[files.model_type]
    options = {"local_files_only": True, "trust_remote_code": files.runs_code}
    missing, unused = (), ()
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source, **options)
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
            if torch.device(device).type == "meta":
                with torch.device("meta"):
                    model = AutoModel.from_config(
                        config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=files.runs_code
                    )
            else:
                model, info = AutoModel.from_pretrained(
                    source, config=config, dtype=dtype, use_safetensors=True, attn_implementation="sdpa",
                    output_loading_info=True, key_mapping=family.key_mapping, **options,
                )  # fmt: skip
                missing, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RadarError(
            f"cannot load checkpoint {reference}: {first_line}\nA checkpoint needs config.json, *.safetensors, a "
            "tokenizer and preprocessor_config.json."
        ) from error
    if missing:
        raise RadarError(f"{reference}: {len(missing)} weights are missing from its files, first {missing[0]}.")
    template = files.folder / "chat_template.json"  # older form, which only processors read
    if template.is_file():
        tokenizer.chat_template = read_json(template)["chat_template"]
    backbone = family(
        model.model if hasattr(model, "lm_head") else model, tokenizer, image_processor, checkpoint=reference,
        digest=files.digest, text=text, padding_side=padding_side,
    )  # fmt: skip
    backbone.unused_weights = tuple(unused)
    return backbone.to(device).eval()
