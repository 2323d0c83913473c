"""Sizes of the stand-ins, and their configurations in each family's own transformers classes.

Order of capacity as in the paper: 8B > the three 4B > 2B > the two tiniest. Frames are 96 px squares and become 9
visual tokens in every family that has them (10 in LLaVA-OneVision, whose frames end in a newline vector).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

FRAME_PX = 96
INITIALISER_RANGE = 0.06  # the families' own 0.02 is meant for layers fifty times as wide
TEXT_TOKENS = 80  # cuts 1 % of the built-in posts; SigLIP keeps its own 64
SIGLIP_TEXT_TOKENS = 64


@dataclass(frozen=True)
class StandinGeometry:
    """Size of one stand-in. `text_*` is the language model (or text tower), `vision_*` the vision tower."""

    family: str
    variant: str
    text_hidden: int
    text_layers: int
    text_intermediate: int
    heads: int
    kv_heads: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    patch: int = 16
    frame_px: int = FRAME_PX


GEOMETRIES: dict[str, StandinGeometry] = {
    "qwen3-vl-8b": StandinGeometry("qwen3_vl", "qwen3_vl", 160, 4, 432, 5, 1, 80, 3, 5),
    "qwen3-vl-4b": StandinGeometry("qwen3_vl", "qwen3_vl", 128, 3, 256, 4, 1, 64, 2, 4),
    "qwen3-vl-2b": StandinGeometry("qwen3_vl", "qwen3_vl", 96, 2, 192, 3, 1, 48, 2, 3),
    "gemma3-4b": StandinGeometry("gemma3", "gemma3", 128, 3, 256, 4, 1, 96, 2, 4),
    "llava-ov-1.5-4b": StandinGeometry("llava_onevision", "mlcd", 128, 3, 256, 4, 1, 64, 2, 4, patch=32),
    "llava-ov-0.5b": StandinGeometry("llava_onevision", "siglip", 64, 2, 128, 2, 1, 32, 2, 2, patch=32),
    "siglip2": StandinGeometry("siglip", "siglip", 64, 2, 128, 2, 2, 64, 2, 2),
}


def tiny(geometry: StandinGeometry) -> StandinGeometry:
    """The same family at a size for tests: two 16-wide layers, 32 px frames."""
    return replace(
        geometry, text_hidden=16, text_layers=2, text_intermediate=24, heads=2, kv_heads=1, vision_hidden=16,
        vision_layers=2, vision_heads=2, patch=geometry.patch // 2, frame_px=48,
    )  # fmt: skip


def build_config(geometry: StandinGeometry, tokenizer: Any) -> Any:
    """The family's own configuration object, with the tokenizer's ids."""
    from transformers import (
        Gemma3Config,
        LlavaOnevisionConfig,
        MLCDVisionConfig,
        Qwen2Config,
        Qwen3Config,
        Qwen3VLConfig,
        SiglipConfig,
        SiglipVisionConfig,
    )  # fmt: skip

    g, ids = geometry, tokenizer.convert_tokens_to_ids
    special = {
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    layers = {
        "vocab_size": len(tokenizer), "hidden_size": g.text_hidden, "intermediate_size": g.text_intermediate,
        "num_hidden_layers": g.text_layers, "num_attention_heads": g.heads,
    }  # fmt: skip
    text = layers | special | {
        "num_key_value_heads": g.kv_heads, "head_dim": g.text_hidden // g.heads, "max_position_embeddings": 512,
        "use_cache": False,
    }  # fmt: skip
    vision = {
        "hidden_size": g.vision_hidden, "intermediate_size": 2 * g.vision_hidden, "num_hidden_layers": g.vision_layers,
        "num_attention_heads": g.vision_heads, "patch_size": g.patch, "image_size": g.frame_px,
    }  # fmt: skip
    if g.family == "qwen3_vl":
        half = g.text_hidden // g.heads // 2
        section = [half - 2 * (half // 3), half // 3, half // 3]
        grid = g.frame_px // g.patch
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": section}
        return Qwen3VLConfig(
            text_config=text | {"rope_parameters": rope},
            vision_config={
                "depth": g.vision_layers, "hidden_size": g.vision_hidden, "intermediate_size": 2 * g.vision_hidden,
                "num_heads": g.vision_heads, "patch_size": g.patch, "out_hidden_size": g.text_hidden,
                "num_position_embeddings": grid * grid, "deepstack_visual_indexes": [0],
            },
            image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
            vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
        )  # fmt: skip
    if g.family == "gemma3":
        return Gemma3Config(
            text_config=text | {"query_pre_attn_scalar": g.text_hidden // g.heads, "sliding_window": 512},
            vision_config=SiglipVisionConfig(**vision, vision_use_head=False).to_dict(), mm_tokens_per_image=9,
            boi_token_index=ids("<start_of_image>"), eoi_token_index=ids("<end_of_image>"),
            image_token_index=ids("<image_soft_token>"),
        )  # fmt: skip
    if g.family == "llava_onevision":
        is_mlcd = g.variant == "mlcd"
        tower = MLCDVisionConfig(**vision) if is_mlcd else SiglipVisionConfig(**vision, vision_use_head=False)
        language = Qwen3Config(**text) if is_mlcd else Qwen2Config(**{k: v for k, v in text.items() if k != "head_dim"})
        return LlavaOnevisionConfig(
            text_config=language.to_dict(), vision_config=tower.to_dict(),
            image_token_index=ids("<image>"), video_token_index=ids("<video>"), vision_feature_layer=-1,
            # MLCD puts a class token first; "default" drops it, "full" keeps every token.
            vision_feature_select_strategy="default" if is_mlcd else "full",
            image_grid_pinpoints=[[g.frame_px, g.frame_px]],
        )  # fmt: skip
    towers = {"max_position_embeddings": SIGLIP_TEXT_TOKENS, "projection_size": g.text_hidden}
    return SiglipConfig(text_config=layers | special | towers, vision_config=vision)


def build_image_processor(geometry: StandinGeometry) -> Any:
    """The family's own image processor, PIL backend, for square frames of the geometry's size."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    px = geometry.frame_px
    square = {"height": px, "width": px}
    if geometry.family == "qwen3_vl":
        return Qwen2VLImageProcessorPil(
            patch_size=geometry.patch, size={"shortest_edge": px * px, "longest_edge": px * px},
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        )  # fmt: skip
    if geometry.family == "gemma3":
        return Gemma3ImageProcessorPil(size=square)
    if geometry.family == "llava_onevision":
        return LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=[[px, px]])
    return SiglipImageProcessorPil(size=square)


def build_model(geometry: StandinGeometry, tokenizer: Any, *, seed: int) -> torch.nn.Module:
    """A model of that geometry with random weights from the family's own initialisation."""
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = build_config(geometry, tokenizer)
        for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
            if hasattr(part, "initializer_range"):
                part.initializer_range = INITIALISER_RANGE
        return AutoModel.from_config(config, attn_implementation="sdpa")
