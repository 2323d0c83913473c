"""LoRA targets: the linear layers that fine-tuning adapts, as regular expressions over the names of modules.

Each family's class names its own as `lora_targets` and `vision_lora_targets`.
"""

from __future__ import annotations

from typing import Any

LANGUAGE_MODEL = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
DUAL_ENCODER = r"(text|vision)_model\.encoder\.layers\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
# of a dual encoder both towers: nothing stands above them; the others are vision towers
QWEN3_VL_TOWER = r"visual\.blocks\..*\.(qkv|proj|linear_fc1|linear_fc2)"
RICE_TOWER = r"visual\.blocks\..*\.(qkv|proj|fc1|fc2)"  # of LLaVA-OneVision-1.5
SIGLIP_TOWER = r"vision_tower\..*layers\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"  # MLCD's layers too


def lora_targets(backbone: Any, *, vision: bool) -> str:
    """LoRA targets: a regular expression over the names of the linear layers that are adapted.

    By default those of the language model (attention and MLP; of a dual encoder, both towers'); with `vision` the
    vision tower's as well.
    """
    parts = [backbone.lora_targets, backbone.vision_lora_targets if vision else ""]
    return "|".join(part for part in parts if part)
