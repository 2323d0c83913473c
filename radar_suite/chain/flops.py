"""Operations and sizes of a router, counted by torch's FlopCounterMode on models without weights (the meta device).

Counted are matrix products, two operations per multiply-add, and only those that the definition of the model requires:
no padding, no recomputation, no language-model head; attention over all pairs of tokens, by torch's unfused backend,
because the counter does not know every fused kernel. Inference is counted without LoRA, a training step with it:
gradients reach the adapters and nothing frozen, the first layer's inputs least of all.

Layers of a stack are equal, so models of one and two layers are counted and everything follows (exact, tested):

    cost(n layers)  = c(1) + (n - 1) (c(2) - c(1)),  of the language model and of the tower each by itself
    cost(T tokens)  = a T + b T^2
    head            = 2 w (w + K),  w the pooled width, K risks; three times that in training
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from radar_lib.models.backbones import quiet_transformers
from radar_lib.models.families import FAMILIES

PUBLISHED = Path(__file__).with_name("published.yaml")
COUNTED = ("qwen3_vl", "gemma3", "llava_onevision", "siglip")  # families
LENGTHS = (64, 128)  # of the two sequences that give a and b


@dataclass(frozen=True)
class Cost:
    """What a router on one backbone takes.

    Attributes:
        parameters, trained: of the backbone, and of its adapters.
        tower, tower_step: one frame through tower and projector; in training (equal where the tower is frozen).
        language, language_step: (b, a) of a sequence.
        head: forward operations of MLP and heads, per post.
        frame_tokens, frame_values: that one frame adds to the sequence; numbers that the tower gives for it.
        text_length: tokens of every text, where that is fixed (dual encoders).
        width, layers: of the language model.
        frozen_tower: its output can be kept, so that it runs once.
    """

    parameters: float
    trained: float
    tower: float
    tower_step: float
    language: tuple[float, float]
    language_step: tuple[float, float]
    head: float
    frame_tokens: int
    frame_values: int
    text_length: int | None
    width: int
    layers: int
    frozen_tower: bool

    def tokens(self, words: float, frames: float) -> float:
        """Length of the sequence of a post with `words` tokens besides the visual ones."""
        return (self.text_length or words) + frames * self.frame_tokens

    def inference(self, words: float, frames: float, *, given: bool = False) -> float:
        """Operations of a forward pass over one post; `given`: the tower's output is kept from before."""
        tower = 0.0 if given and self.frozen_tower else frames * self.tower
        return tower + _sequence(self.language, self.tokens(words, frames)) + self.head

    def step(self, words: float, frames: float, *, given: bool = False) -> float:
        """Operations of a training step on one post. Means of many posts may be given: attention is then too small."""
        tower = 0.0 if given and self.frozen_tower else frames * self.tower_step
        return tower + _sequence(self.language_step, self.tokens(words, frames)) + 3 * self.head


def _sequence(coefficients: tuple[float, float], tokens: float) -> float:
    return float(np.polyval(coefficients, tokens) * tokens)


def count_flops(call: Callable[[], Any]) -> tuple[float, Any]:
    """Operations of a call by torch's counter, and what the call returns."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = call()
    return float(counter.get_total_flops()), result


@lru_cache
def published_config(name: str) -> Any:
    """The transformers configuration of one of the paper's checkpoints, by the paper's name for it."""
    from transformers import AutoConfig

    values = dict(yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))[name])
    return AutoConfig.for_model(values.pop("model_type"), **values)


def router_cost(config: Any, *, px: int, rank: int, categories: int = 3) -> Cost:
    """Cost of a router on a model of this transformers configuration, for square frames of `px` pixels.

    Raises:
        KeyError: a family that is not in `COUNTED`.
    """
    (one, shape), (two, _) = (_count(config, layers, px=px, rank=rank) for layers in (1, 2))
    layers, depth = (_layers(part) for part in (config.text_config, config.vision_config))
    text, tower = (c1 + (n - 1) * (c2 - c1) for c1, c2, n in zip(one, two, (layers, depth), strict=True))
    forward, step = np.split(text[2:], 2)
    reader, vision = config.text_config, config.vision_config
    dual = config.model_type == "siglip"
    lengths = (reader.max_position_embeddings,) if dual else LENGTHS
    fits = [(0.0, *np.polyfit(lengths, total / np.array(lengths), len(lengths) - 1))[-2:] for total in (forward, step)]
    width = reader.projection_size + vision.hidden_size if dual else reader.hidden_size
    tokens, values = shape
    return Cost(
        text[0] + tower[0], text[1] + tower[1], *tower[2:], *fits, 2.0 * width * (width + categories),
        0 if dual else tokens, values, lengths[0] if dual else None, reader.hidden_size, layers, not dual,
    )  # fmt: skip


def _layers(part: Any) -> int:
    return part.depth if hasattr(part, "depth") else part.num_hidden_layers


def _count(config: Any, layers: int, *, px: int, rank: int) -> tuple[tuple[np.ndarray, np.ndarray], list[int]]:
    """Of a model of so few layers: parameters, trained ones, operations forward and in training, of the language model
    and of the rest; tokens and numbers that the tower gives for a frame."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModel

    family, dual = FAMILIES[config.model_type], config.model_type == "siglip"
    config = deepcopy(config)
    for part in (config.text_config, config.vision_config):
        setattr(part, "depth" if hasattr(part, "depth") else "num_hidden_layers", layers)
        if getattr(part, "layer_types", None):
            part.layer_types = part.layer_types[:layers]
    lengths = (config.text_config.max_position_embeddings,) if dual else LENGTHS
    with torch.device("meta"), quiet_transformers():
        model = AutoModel.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    reader = model.text_model if dual else model.language_model
    own, every = (sum(p.numel() for p in part.parameters()) for part in (reader, model))
    tower, out = count_flops(lambda: _tower(model, config, px))
    forward = [count_flops(lambda n=n: _text(model, config, n))[0] for n in lengths]
    with torch.device("meta"):
        inject_adapter_in_model(LoraConfig(r=rank, target_modules=family.lora_targets), model)
    new, all_new = (sum(p.numel() for p in part.parameters() if p.requires_grad) for part in (reader, model))
    tower_step = count_flops(lambda: _tower(model, config, px)[0].sum().backward())[0] if dual else tower
    step = [count_flops(lambda n=n: _text(model, config, n).sum().backward())[0] for n in lengths]
    counts = np.array([own, new, *forward, *step], float), np.array([every - own, all_new - new, tower, tower_step])
    return counts, [len(out[0]), sum(level.numel() for level in out)]


def _text(model: nn.Module, config: Any, tokens: int) -> Tensor:
    """A sequence through the language model or the text tower; its mask is ready, so that no value is looked at."""
    if config.model_type == "siglip":
        return model.text_model(input_ids=torch.zeros(1, tokens, dtype=torch.long, device="meta")).pooler_output
    states, mask = _empty(1, tokens, config.text_config.hidden_size), _empty(1, 1, tokens, tokens)
    return model.language_model(inputs_embeds=states, attention_mask=mask, use_cache=False).last_hidden_state


def _empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


def _tower(model: nn.Module, config: Any, px: int) -> list[Tensor]:
    """One frame through the tower and what projects it: levels of (token, width)."""
    vision = config.vision_config
    if config.model_type == "qwen3_vl":  # its own forward reads the frames' sizes, which have no values here
        patches = (max(1, round(px / (vision.patch_size * vision.spatial_merge_size))) * vision.spatial_merge_size) ** 2
        angles = _empty(patches, vision.hidden_size // vision.num_heads)
        ends = torch.tensor([0, patches])
        hidden = model.visual.patch_embed(_empty(patches, 3 * vision.temporal_patch_size * vision.patch_size**2))
        for block in model.visual.blocks:
            hidden = block(hidden, cu_seqlens=ends, position_embeddings=(angles, angles))
        return [model.visual.merger(hidden), *(merger(hidden) for merger in model.visual.deepstack_merger_list)]
    frame = _empty(1, 3, vision.image_size, vision.image_size)
    if config.model_type == "siglip":
        return [model.vision_model(frame).pooler_output]
    if config.model_type == "gemma3":
        return [model.get_image_features(frame, return_dict=True).pooler_output[0]]
    sizes, group = (torch.tensor(x) for x in ([[vision.image_size] * 2], [2]))  # two: no crops
    return list(model.get_image_features(frame[None], sizes, batch_num_images=group, return_dict=True).pooler_output)
