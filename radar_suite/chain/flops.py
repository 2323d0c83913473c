"""Operations and sizes of a router, counted by torch's FlopCounterMode on models without weights (the meta device).

Counted are the matrix products that the state of a post's last token requires, two operations per multiply-add: no
padding, no recomputation, no language-model head, of the last layer only keys and values of the other tokens. Inference
is counted without LoRA, a training step with it. Layers between first and last are equal, so models of two and three
are counted, and cost(n layers) = c(2) + (n - 2) (c(3) - c(2)), of the language model and of the tower each by itself
(exact, tested). Head: 2 w (w + K), w the pooled width, K risks; training: thrice.
"""

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

from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES, checkpoint_folder, quiet_transformers
from radar_lib.models.families import FAMILIES
from radar_lib.models.last_layer import narrow_last_layer
from radar_suite.world.standins import resolve


@dataclass(frozen=True)
class Cost:
    """What a router takes for one post; a pair is of inference and of a training step.

    Attributes:
        parameters, trained: of the backbone, and of its adapters.
        text, tower: operations of language model and head; of the frames' way through tower and projector.
        tokens, visual: of the sequence; numbers that the tower gives for the frames.
        width, layers: of the language model.
        frozen: the tower; its output can be kept, so that it runs once.
    """

    parameters: float
    trained: float
    text: tuple[float, float]
    tower: tuple[float, float]
    tokens: int
    visual: float
    width: int
    layers: int
    frozen: bool


def count_flops(call: Callable[[], Any]) -> tuple[float, Any]:
    """Operations of a call by torch's counter (which does not know every fused kernel), and what the call returns."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = call()
    return float(counter.get_total_flops()), result


def config_of(name: str, checkpoints: str = "hub") -> Any:
    """The transformers configuration of a backbone: of its stand-in, its folder, or as `published.yaml` has it.

    Raises:
        RadarError: neither the paper's checkpoint nor a folder with a configuration of a family that is known here.
    """
    from transformers import AutoConfig

    reference = resolve(BACKBONES[name], checkpoints)
    folder, ids = checkpoint_folder(reference), {spec.hub_id: spec.name for spec in BACKBONES.values()}
    try:
        with quiet_transformers():
            if folder is None:
                published = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
                return AutoConfig.for_model(**published[ids[reference.partition("@")[0]]])
            config = AutoConfig.from_pretrained(folder)
        _, _ = FAMILIES[config.model_type], config.vision_config
        return config
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RadarError(f"{name}: {reference} is neither a checkpoint of the paper nor a folder with a configuration "
                         "of one of its families, and nothing is downloaded. Name its folder.") from error  # fmt: skip


@lru_cache
def cost_of(name: str, checkpoints: str, **shape: Any) -> Cost:
    """`router_cost` of a backbone by name."""
    return router_cost(config_of(name, checkpoints), **shape)


def router_cost(config: Any, *, words: float, frames: float, px: int, rank: int, categories: int = 3) -> Cost:
    """Cost of a post with so many square frames of `px` pixels and `words` other tokens, in mean or exactly."""
    reader, vision, dual = config.text_config, config.vision_config, config.model_type == "siglip"
    (two, tokens, visual), (three, _, _) = (_count(config, n, words, frames, px, rank) for n in (2, 3))
    more = np.array([[getattr(part, _depth(part)) - 2] for part in (reader, vision)])
    text, tower = two + more * (three - two)
    width = reader.projection_size + vision.hidden_size if dual else reader.hidden_size
    text[2:] += 2.0 * width * (width + categories) * np.array([1, 3])
    return Cost(*(text + tower)[:2], tuple(text[2:]), tuple(tower[2:]), tokens, visual, reader.hidden_size,
                int(more[0, 0]) + 2, not dual)  # fmt: skip


def _depth(part: Any) -> str:
    return "depth" if hasattr(part, "depth") else "num_hidden_layers"


def _count(config: Any, layers: int, words: float, frames: float, px: int, rank: int) -> tuple[np.ndarray, int, float]:
    """Parameters, trained ones, operations forward and in training (columns) of the language model and of the rest of a
    model of so few layers; length of the sequence, and numbers that the tower gives."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModel

    targets, dual, config = FAMILIES[config.model_type].lora_targets, config.model_type == "siglip", deepcopy(config)
    for part in (config.text_config, config.vision_config):
        setattr(part, _depth(part), layers)
        if getattr(part, "layer_types", None):
            part.layer_types = [*part.layer_types, part.layer_types[-1]][:layers]
    with torch.device("meta"), quiet_transformers():
        model = AutoModel.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
        reader = model.text_model if dual else model.language_model
        if not dual:
            narrow_last_layer(reader)
        size, every = (sum(p.numel() for p in part.parameters()) for part in (reader, model))
        tower, output = count_flops(lambda: _tower(model, config, px))
        tokens = config.text_config.max_position_embeddings if dual else round(words + frames * len(output[0]))
        text, _ = count_flops(lambda: _text(reader, config, tokens))
        inject_adapter_in_model(LoraConfig(r=rank, target_modules=targets), model)
        new, all_new = (sum(p.numel() for p in part.parameters() if p.requires_grad) for part in (reader, model))
        step, _ = count_flops(lambda: _text(reader, config, tokens).sum().backward())
        tower_step = count_flops(lambda: _tower(model, config, px)[0].sum().backward())[0] if dual else tower
    rest = [every - size, all_new - new, frames * tower, frames * tower_step]
    return np.array([[size, new, text, step], rest], float), tokens, frames * sum(level.numel() for level in output)


def _text(reader: nn.Module, config: Any, tokens: int) -> Tensor:
    """A sequence through the language model or the text tower; its mask is ready, so that no value is looked at."""
    if config.model_type == "siglip":
        return reader(input_ids=torch.zeros(1, tokens, dtype=torch.long)).pooler_output
    states, mask = torch.empty(1, tokens, config.text_config.hidden_size), torch.empty(1, 1, tokens, tokens)
    last = torch.full((1, 1), tokens - 1)
    return reader(inputs_embeds=states, attention_mask=mask, read_at=last, use_cache=False).last_hidden_state


def _tower(model: nn.Module, config: Any, px: int) -> list[Tensor]:
    """One frame through the tower and what projects it: levels of (token, width)."""
    vision = config.vision_config
    if config.model_type == "qwen3_vl":  # its own forward reads the frames' sizes, which have no values here
        patches = (max(1, round(px / (vision.patch_size * vision.spatial_merge_size))) * vision.spatial_merge_size) ** 2
        angles = torch.empty(patches, vision.hidden_size // vision.num_heads)
        ends = torch.tensor([0, patches], device="cpu")
        hidden = model.visual.patch_embed(torch.empty(patches, 3 * vision.temporal_patch_size * vision.patch_size**2))
        for block in model.visual.blocks:
            hidden = block(hidden, cu_seqlens=ends, position_embeddings=(angles, angles))
        return [model.visual.merger(hidden), *(merger(hidden) for merger in model.visual.deepstack_merger_list)]
    frame = torch.empty(1, 3, vision.image_size, vision.image_size)
    if config.model_type == "siglip":
        return [model.vision_model(frame).pooler_output]
    if config.model_type == "gemma3":
        return [model.get_image_features(frame, return_dict=True).pooler_output[0]]
    sizes, group = (torch.tensor(x, device="cpu") for x in ([[vision.image_size] * 2], [2]))  # two: no crops
    return list(model.get_image_features(frame[None], sizes, batch_num_images=group, return_dict=True).pooler_output)
