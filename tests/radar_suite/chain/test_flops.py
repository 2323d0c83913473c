"""The FLOP counter against torch's own on the stand-ins, against its docstring, and at the published geometries."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.chain.flops import Stack, geometry_of, post_flops, published_geometry
from radar_suite.chain.geometries import GEOMETRIES, PUBLISHED_BILLIONS
from radar_suite.world.standins import FOLDER as STANDINS

RANK, RISKS, FRAMES = 4, ("LQC", "RCS", "FE"), 3


def counted(function) -> float:
    """Operations by torch's counter; attention as plain matrix products, which it sees on every device."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "gemma3-4b", "llava-ov-0.5b", "llava-ov-1.5-4b", "siglip2"])
def test_counter_equals_torchs(name, make_frame):
    backbone = load_backbone(STANDINS / name)
    frames = [make_frame(i, (96, 96)) for i in range(FRAMES)]
    (post,) = backbone.encode([{"title": "follow me and win", "ocr_text": "", "asr_text": "", "frames": frames}])
    text_tokens = post.n_tokens - sum(post.frame_tokens)
    expected = post_flops(
        geometry_of(backbone.model.config), text_tokens=text_tokens, frames=FRAMES, px=96, rank=RANK
    )
    assert expected.tokens == post.n_tokens
    batch, given = backbone.collate([post]), backbone.collate(backbone.cache_features([post]))
    router = RadarRouter(backbone, RouterConfig(RISKS, lora_rank=RANK, lora_alpha=8))
    assert counted(lambda: router(batch).sum().backward()) == pytest.approx(expected.lora, rel=0.005)
    assert counted(lambda: router(given).sum().backward()) == pytest.approx(expected.lora_cached, rel=0.005)
    router.detach()
    head = 2 * (backbone.hidden_size**2 + len(RISKS) * backbone.hidden_size)
    with torch.no_grad():
        assert counted(lambda: backbone(batch)) + head == pytest.approx(expected.inference, rel=0.005)
        if backbone.features_cacheable:
            assert counted(lambda: backbone.vision_features(post.frames)) == pytest.approx(expected.tower, rel=0.005)
    backbone.model.requires_grad_(True)
    assert counted(lambda: backbone(batch).sum().backward()) + 3 * head == pytest.approx(expected.full, rel=0.01)


@pytest.mark.parametrize("rank", [1, 16, 128])
def test_a_lora_step_is_four_operations_per_parameter_and_its_rank(rank):
    stack = Stack(layers=2, hidden=8, intermediate=24, heads=2, kv_heads=1, head_dim=4, gated=True)
    per_layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 24
    edges = 16 + 2 * 12 + 16 + 3 * 32
    assert stack.parameters == 2 * per_layer
    below = 2 * (8 * 8 + 2 * 8 * 4) + 2 * rank * 24  # nothing trained below the first query, key and value
    attention = 2 * 3 * 4 * 8 * 5**2
    assert stack.lora([5], rank) == 5 * (4 * 2 * per_layer + 6 * rank * 2 * edges - below) + attention


@pytest.mark.parametrize("name", ["Qwen3-VL-2B", "Qwen3-VL-4B", "Qwen3-VL-8B"])
def test_published_lora_steps_need_four_and_a_bit_per_block_parameter_and_token(name):
    g = published_geometry(name)
    flops = post_flops(g, text_tokens=128, frames=4, px=384, rank=16)
    assert flops.tokens == 128 + 4 * 144
    assert 4.1 < flops.lora_cached / (g.text.parameters * flops.tokens) < 4.5
    assert flops.inference < flops.lora < flops.full


@pytest.mark.parametrize("name", GEOMETRIES)
def test_parameters_of_a_geometry_are_those_of_the_model(name):
    g = published_geometry(name)
    untied_head = g.vocabulary * g.text.hidden if name in ("Qwen3-VL-8B", "LLaVA-OV-1.5-4B") else 0
    assert (g.parameters + untied_head) / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.01)


@pytest.mark.parametrize(("name", "tokens"), [("Qwen3-VL-2B", 144), ("Gemma3-4B", 256), ("LLaVA-OV-0.5B", 730),
                                              ("LLaVA-OV-1.5-4B", 196), ("SigLIP2", 0)])  # fmt: skip
def test_visual_tokens_of_a_384_px_frame(name, tokens):
    assert published_geometry(name).visual_tokens(384) == tokens


def test_lora_parameters_are_the_adapters():
    for name in ("qwen3-vl-2b", "siglip2"):
        backbone = load_backbone(STANDINS / name)
        router = RadarRouter(backbone, RouterConfig(("LQC",), lora_rank=RANK, lora_alpha=8))
        adapters = sum(p.numel() for n, p in router.named_parameters() if "lora_" in n)
        assert geometry_of(backbone.model.config).lora_parameters(RANK) == adapters
        router.detach()
