"""Packed posts equal separate ones, from pixels and from features; the model's own four-row form is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.models.packing import join
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

TITLES = ("short", "a title of several words", "", "many words " * 9, "another")


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    standin = BACKBONES["Qwen3-VL-8B"].folder
    folder = tmp_path_factory.mktemp("packing") / standin
    write_random_standin(folder, standin, list(TITLES), geometry=tiny(GEOMETRIES[standin]), vocabulary=400)
    made = RadarRouter(load_backbone(folder), RouterConfig(("A", "B"), 4, 8)).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in made.trainable_parameters():  # so that all of them have a gradient
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def encoded(router):
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 255, (48, 48, 3), np.uint8)) for _ in range(3)]
    posts = [{"title": title, "ocr_text": "", "asr_text": "", "frames": frames[: i % 4]}
             for i, title in enumerate(TITLES)]  # fmt: skip
    return router.backbone.encode(posts)


def logits_and_gradient(router, posts):
    logits = router(router.backbone.collate(posts))
    (logits * torch.arange(1, logits.numel() + 1).view_as(logits)).sum().backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in router.trainable_parameters()])
    router.zero_grad()
    return logits.detach(), gradient


def test_packed_posts_equal_separate_ones(router, encoded):
    backbone = router.backbone
    separate = torch.cat([router(backbone.collate([post])).detach() for post in encoded])
    padded, expected = logits_and_gradient(router, encoded)
    backbone.pack(True)
    try:
        for posts in (encoded, backbone.cache_features(encoded)):
            batch = backbone.collate(posts)
            assert batch["input_ids"].shape == (1, sum(post.n_tokens for post in encoded))
            logits, gradient = logits_and_gradient(router, posts)
            assert torch.allclose(logits, separate, atol=1e-5) and torch.allclose(logits, padded, atol=1e-5)
            assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    finally:
        backbone.pack(False)
    again, _ = logits_and_gradient(router, encoded)
    assert torch.equal(again, padded)
    assert backbone.model.config.text_config._attn_implementation == "sdpa"  # what a saved copy would name


def test_packed_posts_equal_transformers_own_packing(router, encoded):
    """Its mask over the whole row needs text positions as a first row, and no cache."""
    backbone = router.backbone
    backbone.pack(True)
    batch = backbone.collate(encoded)
    ours = backbone(batch)
    backbone.pack(False)
    restarting = torch.cat([torch.arange(post.n_tokens) for post in encoded])[None, None]
    joined = join(encoded)
    hidden = backbone.model(
        input_ids=joined.input_ids[None],
        position_ids=torch.cat([restarting, joined.position_ids[:, None]]),
        **backbone.image_inputs(joined.frames),
        use_cache=False,
    ).last_hidden_state
    assert torch.allclose(hidden[0, batch["segments"].cumsum(0) - 1], ours, atol=1e-5)
