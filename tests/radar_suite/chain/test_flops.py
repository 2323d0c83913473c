"""Counted costs against whole models: stand-ins run for real, parameter totals of the published geometries."""

import pytest
import torch
from PIL import Image

from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.chain.flops import config_of, count_flops, router_cost
from radar_suite.world.standins import FOLDER as STANDINS

RANK, RISKS, FRAMES = 4, ("LQC", "RCS", "FE"), 3
# Thousand millions of parameters as the checkpoints' pages state them, language-model head included where untied.
BILLIONS = {"Qwen3-VL-8B": 8.77, "Qwen3-VL-4B": 4.44, "Qwen3-VL-2B": 2.13, "Gemma3-4B": 4.30, "LLaVA-OV-0.5B": 0.894,
            "LLaVA-OV-1.5-4B": 4.7, "SigLIP2": 1.136}  # fmt: skip
TOKENS = {"Gemma3-4B": 256, "LLaVA-OV-0.5B": 730, "LLaVA-OV-1.5-4B": 196}  # of a frame; others: 144


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "gemma3-4b", "llava-ov-0.5b", "llava-ov-1.5-4b", "siglip2"])
def test_costs_of_layers_add_up_to_the_real_router(name):
    backbone = load_backbone(STANDINS / name)
    frames = [Image.new("RGB", (96, 96), (40 * i, 90, 200)) for i in range(FRAMES)]
    (post,) = backbone.encode([{"title": "follow me and win", "ocr_text": "", "asr_text": "", "frames": frames}])
    cost = router_cost(backbone.model.config, words=post.n_tokens - sum(post.frame_tokens), frames=FRAMES, px=96,
                       rank=RANK, categories=len(RISKS))  # fmt: skip
    assert cost.tokens == post.n_tokens and cost.frozen == backbone.features_cacheable
    assert cost.parameters == sum(p.numel() for p in backbone.model.parameters())
    batch, given = backbone.collate([post]), backbone.collate(backbone.cache_features([post]))
    head = 2 * (backbone.hidden_size**2 + len(RISKS) * backbone.hidden_size)
    with torch.no_grad():
        assert count_flops(lambda: backbone(batch))[0] + head == pytest.approx(cost.text[0] + cost.tower[0], rel=0.005)
        if cost.frozen:
            operations, levels = count_flops(lambda: backbone.vision_features(post.frames))
            assert operations == pytest.approx(cost.tower[0], rel=0.005)
            assert sum(level.numel() for level in levels) == cost.visual
    router = RadarRouter(backbone, RouterConfig(RISKS, lora_rank=RANK, lora_alpha=8))
    for layer in (module for module in router.modules() if hasattr(module, "lora_A")):
        vars(layer).pop("forward", None)  # peft's own: a folded adapter does more operations, in less time
    assert cost.trained == sum(p.numel() for n, p in router.named_parameters() if "lora_" in n)
    for inputs, tower in ((batch, cost.tower[1]), (given, 0.0 if cost.frozen else cost.tower[1])):
        operations, _ = count_flops(lambda inputs=inputs: router(inputs).sum().backward())
        assert operations == pytest.approx(cost.text[1] + tower, rel=0.005)
    router.detach()


@pytest.mark.parametrize("name", BACKBONES)
def test_published_geometries_have_the_published_sizes(name):
    config = config_of(name)
    cost = router_cost(config, words=128, frames=4, px=384, rank=16)
    untied = 0 if name == "SigLIP2" or config.tie_word_embeddings else config.text_config.vocab_size * cost.width
    assert (cost.parameters + untied) / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)
    assert cost.tokens == (64 if name == "SigLIP2" else 128 + 4 * TOKENS.get(name, 144))
    if name.startswith("Qwen3"):  # LoRA: about four operations per block parameter and token, none in the last layer
        tower = 0.42e9 if name != "Qwen3-VL-8B" else 0.6e9
        blocks = cost.parameters - config.text_config.vocab_size * cost.width - tower
        assert 3.9 < cost.text[1] / (blocks * cost.tokens) < 4.5


def test_chosen_checkpoints_are_known_or_refused_in_one_line(tmp_path):
    lines = ["Qwen3-VL-2B: Qwen/Qwen3-VL-4B-Instruct@main", "Qwen3-VL-4B: someone/else", f"SigLIP2: {tmp_path / 'odd'}",
             f"Gemma3-4B: {tmp_path / 'bert'}"]  # fmt: skip
    (tmp_path / "checkpoints.yaml").write_text("\n".join(lines))
    for name, text in (("odd", "{}"), ("bert", '{"model_type": "bert"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    assert config_of("Qwen3-VL-2B", str(tmp_path)).to_dict() == config_of("Qwen3-VL-4B").to_dict()
    for name in ("Qwen3-VL-4B", "SigLIP2", "Gemma3-4B", "Qwen3-VL-8B"):
        with pytest.raises(RadarError, match=name):
            config_of(name, str(tmp_path))
