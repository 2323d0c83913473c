"""Model cards of the stand-ins."""

from __future__ import annotations

from typing import Any

from radar_lib.models.backbones import BackboneSpec
from radar_suite.world.standins.geometry import StandinGeometry

_CLASSES = {
    ("qwen3_vl", "qwen3_vl"): "`Qwen3VLModel`",
    ("gemma3", "gemma3"): "`Gemma3Model` (SigLIP tower, Gemma 3 text)",
    ("llava_onevision", "siglip"): "`LlavaOnevisionModel` (SigLIP tower, Qwen2 text)",
    ("llava_onevision", "mlcd"): "`LlavaOnevisionModel` (MLCD tower, Qwen3 text)",
    ("siglip", "siglip"): "`SiglipModel` (the class of the fixed-resolution SigLIP 2 checkpoints)",
}
_NOTE_MLCD = """
The real LLaVA-OneVision-1.5 has a RICE-ViT tower and no class of its own in transformers. This stand-in puts an MLCD
tower, RICE's predecessor from the same authors, into the LLaVA-OneVision class. It stands for the size and the text
model, not for the tower.
"""


def standin_card(spec: BackboneSpec, geometry: StandinGeometry, record: dict[str, Any]) -> str:
    """Markdown with Hub front matter. `record` is what `recipe.pretrain` returned, or has no "quality" if untrained."""
    g = geometry
    quality = record.get("quality")
    if quality:
        corpus, held_out = record["corpus"], record["held_out_posts"]
        trained = f"""Pretrained by `python -m radar_suite.world.standins.recipe --only {spec.folder}` on
{corpus["posts"] - held_out:,} posts of the built-in corpus' pretrain split (seed {corpus["seed"]}, generator digest
`{corpus["digest"]}`), {record["posts_seen"]:,} posts seen, all parameters, Muon and AdamW. The task is to name the
{record["words"]} words of a post's caption (what is to be seen and read) from the vector that a router reads; captions
never mention a risk, and no label was used.

| on {held_out:,} held-out posts | mean average precision | a random ranking |
|---|---|---|
| words about what is seen | {quality["seen_map"]} % | {quality["seen_prevalence"]} % |
| words about what is read | {quality["read_map"]} % | {quality["read_prevalence"]} % |

`record.json` has the loss curve, the settings and the versions."""
    else:
        trained = "Random weights: not pretrained. For tests and timing only."
    return f"""---
license: apache-2.0
library_name: transformers
tags: [stand-in, content-moderation, synthetic-data]
---

# {spec.folder}: stand-in for {spec.name}

A small model of the same transformers class as `{spec.hub_id}`:
{_CLASSES[g.family, g.variant]}, {record["parameters"]:,} parameters. It shares no weights with the real model
and says nothing about it. It exists so that the notebooks run end to end, with the same code, where the real
checkpoint cannot be had.
{_NOTE_MLCD if g.variant == "mlcd" else ""}
- Text: width {g.text_hidden}, {g.text_layers} layers. Vision: width {g.vision_hidden}, {g.vision_layers} layers.
- Frames of {g.frame_px} px in patches of {g.patch} px.
- Tokenizer trained on the same pretrain posts. Weights are float16 safetensors.

{trained}

It has seen nothing but synthetic posts with drawn frames. Do not use it on anything else.
"""
