"""LoRA: which linear layers fine-tuning adapts, and how narrow ones are computed.

Targets are regular expressions over the names of modules; each family's class names its own as `lora_targets` and
`vision_lora_targets`.
"""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDEST_FOLDED = 512  # measured on a CPU: below it one dense product beats LoRA's two thin ones, whatever the rank
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


def fold_narrow_adapters(model: nn.Module) -> None:
    """Compute peft's LoRA layers that are at most `WIDEST_FOLDED` wide as one product with W + s B A.

    The same function up to rounding, and the same gradients: they reach A and B through the sum. A narrow layer saves
    two thin products, which cost more than their operations; a wide one would pay for a dense gradient.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if isinstance(layer, Linear) and max(layer.in_features, layer.out_features) <= WIDEST_FOLDED:
            layer.forward = types.MethodType(_folded, layer)


def _folded(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base, names = self.base_layer, self.active_adapters
    plain = len(names) == 1 and isinstance(self.lora_dropout[names[0]], nn.Identity) and not args and not kwargs
    if not plain or self.disable_adapters or self.merged or self.lora_A[names[0]].weight.dtype != base.weight.dtype:
        return type(self).forward(self, x, *args, **kwargs)
    a, b = self.lora_A[names[0]].weight, self.lora_B[names[0]].weight
    return F.linear(x, torch.addmm(base.weight, b, a, alpha=self.scaling[names[0]]), base.bias)
