"""Floating-point operations that a post requires: a function of the model's geometry and the post's shape alone.

Counted are matrix products, two operations per multiply-add, as torch's FlopCounterMode counts them (tested), and only
those that the definition of the model requires: no padding, no recomputation (of activations or of attention scores),
no language-model head. Attention is counted over all pairs of tokens, causal or not, as is usual. For a weight matrix
of m x n and one token, with r the rank of its LoRA:

    forward            2mn                     LoRA forward       2r(m + n)
    backward, frozen   2mn (input)             LoRA backward      4r(m + n) (input and both factors)
    backward, trained  4mn (input and weight)

A LoRA step is therefore a little above 4 operations per block parameter and token, not the 6 of full fine-tuning. The
first layer's query, key and value need no input gradient under LoRA: nothing below them is trained.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from radar_suite.chain.geometries import RICE, published_config

Shape = tuple[int, int]  # inputs and outputs of a linear layer


@dataclass(frozen=True)
class Stack:
    """Equal transformer layers; `gated` for an MLP of three matrices instead of two."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    gated: bool

    @property
    def reading(self) -> tuple[Shape, ...]:
        """Query, key and value of one layer."""
        kv = self.kv_heads * self.head_dim
        return (self.hidden, self.heads * self.head_dim), (self.hidden, kv), (self.hidden, kv)

    @property
    def linears(self) -> tuple[Shape, ...]:
        """All weight matrices of one layer."""
        up = (self.hidden, self.intermediate)
        return (*self.reading, (self.heads * self.head_dim, self.hidden), *[up] * (1 + self.gated), up[::-1])

    @property
    def parameters(self) -> int:
        """Weights of the linear layers, the "block parameters" of a FLOP count."""
        return self.layers * _weights(self.linears)

    def attention(self, lengths: Sequence[float]) -> float:
        """Forward operations of the scores and of their product with the values."""
        return 4.0 * self.layers * self.heads * self.head_dim * sum(length**2 for length in lengths)

    def forward(self, lengths: Sequence[float]) -> float:
        """Forward operations of some sequences."""
        return 2.0 * self.parameters * sum(lengths) + self.attention(lengths)

    def lora(self, lengths: Sequence[float], rank: int) -> float:
        """Forward and backward operations when every linear layer carries LoRA of this rank and all else is frozen."""
        per_token = 4.0 * self.parameters + 6.0 * rank * self.layers * _edges(self.linears)
        untouched = 2.0 * _weights(self.reading) + 2.0 * rank * sum(m for m, _ in self.reading)
        return (per_token - untouched) * sum(lengths) + 3 * self.attention(lengths)

    def full(self, lengths: Sequence[float]) -> float:
        """Forward and backward operations when everything is trained."""
        return 3 * self.forward(lengths)


def _weights(shapes: Sequence[Shape]) -> int:
    return sum(m * n for m, n in shapes)


def _edges(shapes: Sequence[Shape]) -> int:
    return sum(m + n for m, n in shapes)


@dataclass(frozen=True)
class Geometry:
    """What decides the operations, the memory and the tokens of a model, read from its configuration.

    Attributes:
        patch, patch_values: side of a patch in pixels, and the values that are embedded for one.
        merge: patches along each side that become one visual token.
        frame_px: side of the frames where it is fixed, None where they keep their resolution.
        class_tokens, newline_tokens: added to a frame's patches, and to its visual tokens.
        projector: linear layers that each visual token passes between tower and language model.
        pooling: linear layers of a tower's pooling head, run once per frame (after keys and values of every patch).
        trains_vision: LoRA sits on the vision tower too (dual encoders).
        vocabulary: rows of the token embedding.
        text_length: tokens of every text, where it is fixed.
    """

    family: str
    text: Stack
    vision: Stack
    patch: int
    patch_values: int
    merge: int
    frame_px: int | None
    projector: tuple[Shape, ...]
    pooling: tuple[Shape, ...] = ()
    class_tokens: int = 0
    newline_tokens: int = 0
    trains_vision: bool = False
    vocabulary: int = 0
    text_length: int | None = None

    @property
    def pooled_width(self) -> int:
        """Width of the vector that the router's MLP reads."""
        return self.text.hidden + (self.vision.hidden if self.trains_vision else 0)

    @property
    def levels(self) -> int:
        """Outputs of the tower that reach the language model: one, and Qwen3-VL's deepstack levels."""
        return len(self.projector) // 2 if self.family == "qwen3_vl" else 1

    @property
    def parameters(self) -> int:
        """Weights in memory, without norms, biases, positions and the language-model head (within 1 % of all)."""
        own = self.vocabulary * self.text.hidden + self.patch_values * self.vision.hidden
        return own + self.text.parameters + self.vision.parameters + _weights(self.projector) + _weights(self.pooling)

    def lora_parameters(self, rank: int) -> int:
        """Trained weights of adapters of this rank."""
        stacks = (self.text, self.vision) if self.trains_vision else (self.text,)
        return sum(rank * stack.layers * _edges(stack.linears) for stack in stacks)

    def patches(self, px: int) -> int:
        """Patches of one square frame of `px` pixels, as the image processor leaves it."""
        if self.frame_px is not None:
            return (self.frame_px // self.patch) ** 2
        unit = self.patch * self.merge
        return (max(1, round(px / unit)) * self.merge) ** 2

    def visual_tokens(self, px: int) -> int:
        """Tokens of one frame in the language model's sequence; 0 for a dual encoder."""
        return 0 if self.trains_vision else self.patches(px) // self.merge**2 + self.newline_tokens


@dataclass(frozen=True)
class PostFlops:
    """Operations of one post, router head included.

    Attributes:
        tokens: of the language model's sequence (or the text tower's).
        tower: vision tower and projector, forward.
        inference: all of a forward pass.
        lora: one training step with LoRA; a frozen tower runs forward only.
        lora_cached: the same with a frozen tower's output given.
        full: one training step of everything.
    """

    tokens: float
    tower: float
    inference: float
    lora: float
    lora_cached: float
    full: float


def post_flops(
    geometry: Geometry, *, text_tokens: float, frames: float, px: int, rank: int = 128, categories: int = 3
) -> PostFlops:
    """Operations of a post with `frames` frames of `px` pixels and `text_tokens` tokens besides the visual ones.

    Means of many posts may be given instead; only attention, which is quadratic, is then slightly too small.
    """
    g, patches = geometry, geometry.patches(px)
    text_tokens = g.text_length or text_tokens
    tokens = text_tokens + frames * g.visual_tokens(px)
    lengths = [patches + g.class_tokens]
    embed = 2.0 * g.patch_values * g.vision.hidden * patches
    if g.trains_vision:  # the probe attends to all patches; the text's pooled state passes one linear layer
        w = g.vision.hidden
        after = 4.0 * w * w * patches + 4.0 * w * patches + 2.0 * (_weights(g.pooling) - 2 * w * w)
        pooled = 2.0 * _weights(g.projector)
    else:
        after, pooled = 2.0 * _weights(g.projector) * (patches // g.merge**2), 0.0
    tower = frames * (embed + g.vision.forward(lengths) + after)
    head = 2.0 * (g.pooled_width**2 + g.pooled_width * categories)
    language = g.text.forward([tokens]) + pooled
    step = g.text.lora([tokens], rank) + 2 * pooled + 3 * head
    cached = step
    if g.trains_vision:
        cached = step = step + frames * (embed + g.vision.lora(lengths, rank) + 2 * after)
    else:
        step = step + tower
    whole = 3 * (language + head) + frames * (2 * embed + g.vision.full(lengths) + 3 * after)
    return PostFlops(tokens, tower, tower + language + head, step, cached, whole)


def geometry_of(config: Any) -> Geometry:
    """The geometry in a transformers configuration of one of the families of `families.FAMILIES`.

    Raises:
        KeyError: another family.
    """
    return _READERS[config.model_type](config)


def _text(config: Any) -> Stack:
    heads = config.num_attention_heads
    return Stack(
        config.num_hidden_layers, config.hidden_size, config.intermediate_size, heads, config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads, gated=True,
    )  # fmt: skip


def _tower(config: Any) -> Stack:
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    return Stack(
        config.num_hidden_layers, config.hidden_size, config.intermediate_size, heads, heads, width, gated=False
    )


def _qwen3_vl(config: Any) -> Geometry:
    text, vision = config.text_config, config.vision_config
    merged = vision.hidden_size * vision.spatial_merge_size**2
    mergers = 1 + len(vision.deepstack_visual_indexes)
    return Geometry(
        "qwen3_vl", _text(text), _tower(vision), vision.patch_size,
        3 * vision.temporal_patch_size * vision.patch_size**2, vision.spatial_merge_size, None,
        ((merged, merged), (merged, vision.out_hidden_size)) * mergers, vocabulary=text.vocab_size,
    )  # fmt: skip


def _gemma3(config: Any) -> Geometry:
    text, vision = config.text_config, config.vision_config
    side = vision.image_size // vision.patch_size
    return Geometry(
        "gemma3", _text(text), _tower(vision), vision.patch_size, 3 * vision.patch_size**2,
        side // round(config.mm_tokens_per_image**0.5), vision.image_size,
        ((vision.hidden_size, text.hidden_size),), vocabulary=text.vocab_size,
    )  # fmt: skip


def _llava_onevision(config: Any) -> Geometry:
    text, vision = config.text_config, config.vision_config
    return Geometry(
        "llava_onevision", _text(text), _tower(vision), vision.patch_size, 3 * vision.patch_size**2, 1,
        vision.image_size, ((vision.hidden_size, text.hidden_size), (text.hidden_size, text.hidden_size)),
        class_tokens=int(vision.model_type == "mlcd_vision_model"), newline_tokens=1, vocabulary=text.vocab_size,
    )  # fmt: skip


def _siglip(config: Any) -> Geometry:
    text, vision = config.text_config, config.vision_config
    v, i = vision.hidden_size, vision.intermediate_size
    return Geometry(
        "siglip", _tower(text), _tower(vision), vision.patch_size, 3 * vision.patch_size**2, 1, vision.image_size,
        ((text.hidden_size, text.projection_size),), pooling=(*[(v, v)] * 4, (v, i), (i, v)), trains_vision=True,
        vocabulary=text.vocab_size, text_length=text.max_position_embeddings,
    )  # fmt: skip


_READERS = {"qwen3_vl": _qwen3_vl, "gemma3": _gemma3, "llava_onevision": _llava_onevision, "siglip": _siglip}


def published_geometry(name: str) -> Geometry:
    """The geometry of one of the paper's checkpoints, LLaVA-OneVision-1.5 with its own tower."""
    geometry = geometry_of(published_config(name))
    if name != "LLaVA-OV-1.5-4B":
        return geometry
    merged = geometry.vision.hidden * RICE["spatial_merge_size"] ** 2
    return replace(
        geometry, merge=RICE["spatial_merge_size"], frame_px=None, newline_tokens=0,
        projector=((merged, merged), (merged, geometry.text.hidden)),
    )  # fmt: skip


def matrix_peak(device: str = "cpu", *, seconds: float = 0.5) -> float:
    """Operations per second of a large square matrix product, the best of many: what a device can do at most.

    bfloat16 on a GPU; float32 on a CPU, with as many threads as torch has now.
    """
    import torch

    size, dtype = (8192, torch.bfloat16) if device.startswith("cuda") else (512, torch.float32)
    a = torch.ones(size, size, dtype=dtype, device=device)
    out, best, end = torch.empty_like(a), float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        started = time.perf_counter()
        torch.mm(a, a, out=out)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
