"""The seven checkpoints of the paper's Tables 1 and 2, and one function that loads any of them.

    load_backbone(resolve_checkpoint(BACKBONES["Qwen3-VL-4B"], "standins"))   # committed stand-in
    load_backbone("Qwen/Qwen3-VL-4B-Instruct", revision="<commit>")           # the real one, from the Hub

A stand-in is the same transformers class at a small size, saved as an ordinary checkpoint folder, so one path serves
both. Weights are read from safetensors only and no code from a checkpoint is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from radar_lib.errors import RadarError
from radar_lib.files import digest_files, read_json
from radar_lib.models.base import Backbone, Encoded
from radar_lib.models.families import FAMILIES
from radar_lib.models.quiet import quiet_transformers

__all__ = [
    "BACKBONES", "Backbone", "BackboneSpec", "Encoded", "checkpoint_digest", "load_backbone", "resolve_checkpoint",
]  # fmt: skip

STANDINS = Path(__file__).parent / "standins"
STANDIN_PREFIX = "standin:"  # a checkpoint reference that is the same on every machine
DEFAULT_TEXT_TOKENS = 512  # for checkpoints whose tokenizer states no practical limit; our choice, not the paper's


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the registry.

    Attributes:
        name: as in the paper's tables.
        role: "expert" (the three teachers), "tiny" or "small" (the routers, by size).
        hub_id: the real checkpoint.
        family: key of `families.FAMILIES`.
        standin: folder name of its stand-in.
    """

    name: str
    role: str
    hub_id: str
    family: str
    standin: str


BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        BackboneSpec("Qwen3-VL-8B", "expert", "Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", "qwen3-vl-8b"),
        BackboneSpec("SigLIP2", "tiny", "google/siglip2-so400m-patch14-384", "siglip", "siglip2"),
        BackboneSpec(
            "LLaVA-OV-0.5B", "tiny", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "llava_onevision", "llava-ov-0.5b"
        ),
        BackboneSpec("Qwen3-VL-2B", "tiny", "Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", "qwen3-vl-2b"),
        BackboneSpec("Gemma3-4B", "small", "google/gemma-3-4b-it", "gemma3", "gemma3-4b"),
        BackboneSpec(
            "LLaVA-OV-1.5-4B", "small", "lmms-lab/LLaVA-OneVision-1.5-4B-Instruct", "llava_onevision", "llava-ov-1.5-4b"
        ),
        BackboneSpec("Qwen3-VL-4B", "small", "Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", "qwen3-vl-4b"),
    )
}


def resolve_checkpoint(spec: BackboneSpec, checkpoints: str) -> str:
    """Where a backbone's checkpoint is.

    Args:
        checkpoints: "standins", "hub", or a folder with one sub-folder per backbone (its stand-in's or its own name).

    Raises:
        RadarError: the folder has no sub-folder for this backbone.
    """
    if checkpoints == "standins":
        return STANDIN_PREFIX + spec.standin
    if checkpoints == "hub":
        return spec.hub_id
    for name in (spec.standin, spec.name):
        folder = Path(checkpoints) / name
        if folder.is_dir():
            return str(folder)
    raise RadarError(
        f"no checkpoint for {spec.name} in {checkpoints}: expected a folder {spec.standin} or {spec.name}. "
        'Use checkpoints="standins" for the committed ones or "hub" for the real ones.'
    )


def checkpoint_folder(checkpoint: str | Path) -> Path | None:
    """The folder of a checkpoint's files; None for a Hub id."""
    reference = str(checkpoint)
    if reference.startswith(STANDIN_PREFIX):
        return STANDINS / reference.removeprefix(STANDIN_PREFIX)
    return Path(reference) if Path(reference).is_dir() else None


def folder_digest(folder: Path) -> str:
    """Digest of the files that decide what a checkpoint computes; cards and records beside them do not count."""
    files = [path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".jinja", ".txt", ".model"}]
    return digest_files([path for path in files if path.name != "record.json"], root=folder)


def checkpoint_digest(checkpoint: str | Path, *, revision: str | None = None) -> str:
    """The `digest` that a loaded backbone would have, without loading it: what a cache key needs."""
    folder = checkpoint_folder(checkpoint)
    return f"{checkpoint}@{revision}" if folder is None else folder_digest(folder)


def pretraining_record(checkpoint: str | Path) -> dict[str, Any] | None:
    """What a stand-in's folder says of its pretraining; None for a checkpoint without such a record."""
    folder = checkpoint_folder(checkpoint)
    path = folder / "record.json" if folder else None
    return read_json(path) if path and path.is_file() else None


def warm_up() -> None:
    """Import now what `load_backbone` and `RadarRouter` import at their first call, which takes some seconds."""
    import peft  # noqa: F401
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: F401
    from transformers.models.auto.image_processing_auto import AutoImageProcessor  # noqa: F401


def load_backbone(
    checkpoint: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    max_text_tokens: int | None = None,
    padding_side: str = "right",
) -> Backbone:
    """Load a checkpoint folder, a stand-in ("standin:NAME") or a Hub id.

    Args:
        revision: commit, tag or branch of a Hub checkpoint. Tokens come from the environment (`HF_TOKEN`) only.
        dtype: of the model's weights. Pooled vectors are float32 whatever it is.
        max_text_tokens: cut a post's text there; default is the tokenizer's own limit, at most 512.

    Raises:
        RadarError: no such folder or id, a family that is not in the registry, missing or non-safetensors weights.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    # under its top-level name some versions ask for torchvision, which the PIL backend does not need
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    reference = str(checkpoint)
    folder = checkpoint_folder(checkpoint)
    local = folder is not None
    if not local and (Path(reference).is_absolute() or reference.startswith(".") or reference.count("/") != 1):
        raise RadarError(f"there is no checkpoint folder {reference}, and it is not a Hub id (owner/name) either.")
    if local and not (folder / "config.json").is_file():
        raise RadarError(f"{reference}: {folder} holds no config.json, so it is not a checkpoint folder.")
    source = str(folder) if local else reference
    options = {"local_files_only": local, "revision": None if local else revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if config.model_type not in FAMILIES:
            raise RadarError(
                f"{reference}: model type {config.model_type!r} is not one of {', '.join(sorted(FAMILIES))}. "
                "A new family needs a class in radar_lib/models/families.py."
            )
        with quiet_transformers():
            model, info = AutoModel.from_pretrained(
                source, config=config, dtype=dtype, use_safetensors=True, attn_implementation="sdpa",
                output_loading_info=True, **options,
            )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RadarError(
            f"cannot load checkpoint {reference}: {first_line}\nA checkpoint needs config.json, *.safetensors, a "
            "tokenizer and preprocessor_config.json; a Hub id needs network access and, if it is gated, HF_TOKEN."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise RadarError(f"{reference}: {len(missing)} weights are missing from its files, first {missing[0]}.")
    limit = max_text_tokens or min(tokenizer.model_max_length, DEFAULT_TEXT_TOKENS)
    backbone = FAMILIES[config.model_type](
        model,
        tokenizer,
        image_processor,
        checkpoint=reference,
        digest=folder_digest(folder) if local else f"{reference}@{getattr(config, '_commit_hash', None) or revision}",
        max_text_tokens=limit,
        padding_side=padding_side,
    )
    return backbone.to(device).eval()
