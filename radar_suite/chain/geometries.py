"""The published geometries of the paper's seven checkpoints, as transformers configurations: data, no weights.

Each is what the checkpoint's own `config.json` says of its sizes. `published_config` turns one into a configuration
object; on the meta device it builds the whole model without memory, which is how parameter counts, FLOPs and memory of
the real models are known on a machine that has none of them.

LLaVA-OneVision-1.5 has no class in transformers 5.23. Its entry is the LlavaOnevision with an MLCD tower and Qwen3 text
that its stand-in is too. The sizes of tower and language model are its own; its RICE-ViT differs in three ways that
are kept beside it in `RICE`: patches are merged 2 x 2, frames keep their resolution, and there is no newline token.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

_SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 384, "num_hidden_layers": 27,
}  # fmt: skip


def _qwen3_vl(*, text: dict[str, Any], vision: dict[str, Any], tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": tied,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "text_config": {
            "model_type": "qwen3_vl_text", "vocab_size": 151936, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 262144, "tie_word_embeddings": tied,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True,
            },
        } | text,
        "vision_config": {
            "model_type": "qwen3_vl_vision", "num_heads": 16, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2, "num_position_embeddings": 2304, "out_hidden_size": text["hidden_size"],
        } | vision,
    }  # fmt: skip


_QWEN_TOWER_2B_4B = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17],
}  # fmt: skip
_QWEN_TOWER_8B = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip

GEOMETRIES: dict[str, dict[str, Any]] = {
    "Qwen3-VL-8B": _qwen3_vl(
        text={"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
        vision=_QWEN_TOWER_8B, tied=False,
    ),
    "Qwen3-VL-4B": _qwen3_vl(
        text={"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
        vision=_QWEN_TOWER_2B_4B, tied=True,
    ),
    "Qwen3-VL-2B": _qwen3_vl(
        text={"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
        vision=_QWEN_TOWER_2B_4B, tied=True,
    ),
    "Gemma3-4B": {
        "model_type": "gemma3",
        "tie_word_embeddings": True,
        "mm_tokens_per_image": 256,
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "image_token_index": 262144,
        "text_config": {
            "model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240,
            "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
            "sliding_window": 1024, "query_pre_attn_scalar": 256,
        },
        "vision_config": _SO400M | {"image_size": 896, "vision_use_head": False},
    },
    "LLaVA-OV-0.5B": {
        "model_type": "llava_onevision",
        "tie_word_embeddings": True,
        "image_token_index": 151646,
        "video_token_index": 151647,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[384, 384]],
        "text_config": {
            "model_type": "qwen2", "vocab_size": 152000, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
            "max_position_embeddings": 32768, "tie_word_embeddings": True,
        },
        "vision_config": _SO400M | {"num_hidden_layers": 26, "vision_use_head": False},
    },
    "LLaVA-OV-1.5-4B": {
        "model_type": "llava_onevision",
        "tie_word_embeddings": False,
        "image_token_index": 151655,
        "video_token_index": 151656,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "image_grid_pinpoints": [[384, 384]],
        "text_config": {
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728,
            "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 32768, "tie_word_embeddings": False,
        },
        "vision_config": {
            "model_type": "mlcd_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14, "image_size": 384,
        },
    },
    "SigLIP2": {
        "model_type": "siglip",
        "text_config": {
            "model_type": "siglip_text_model", "vocab_size": 256000, "hidden_size": 1152, "intermediate_size": 4304,
            "num_hidden_layers": 27, "num_attention_heads": 16, "max_position_embeddings": 64,
            "projection_size": 1152,
        },
        "vision_config": _SO400M,
    },
}  # fmt: skip

RICE = {"spatial_merge_size": 2, "patch_size": 14}  # LLaVA-OneVision-1.5's own tower, where it differs from the above

# Parameters in thousand millions as the checkpoints' pages state them, language-model head included where it is untied.
PUBLISHED_BILLIONS = {
    "Qwen3-VL-8B": 8.77, "Qwen3-VL-4B": 4.44, "Qwen3-VL-2B": 2.13, "Gemma3-4B": 4.30, "LLaVA-OV-0.5B": 0.894,
    "LLaVA-OV-1.5-4B": 4.7, "SigLIP2": 1.136,
}  # fmt: skip


def published_config(name: str) -> Any:
    """The transformers configuration of a checkpoint by the paper's name for it, a key of `GEOMETRIES`."""
    from transformers import AutoConfig

    values = deepcopy(GEOMETRIES[name])
    return AutoConfig.for_model(values.pop("model_type"), **values)
