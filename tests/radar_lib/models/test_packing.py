"""Packed posts equal separate ones, from pixels and from features; the model's own four-row form is the oracle."""

import pytest
import torch

from radar_lib.models.backbones import load_backbone
from radar_lib.models.packing import join
from radar_lib.models.router import RadarRouter, RouterConfig


@pytest.fixture(scope="module")
def router(checkpoints):
    made = RadarRouter(load_backbone(checkpoints / "qwen3-vl-8b"), RouterConfig(("A", "B"), 4, 8)).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in made.trainable_parameters():  # so that all of them have a gradient
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def logits_and_gradient(router, posts):
    logits = router(router.backbone.collate(posts))
    (logits * torch.arange(1, logits.numel() + 1).view_as(logits)).sum().backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in router.trainable_parameters()])
    router.zero_grad()
    return logits.detach(), gradient


def test_packed_posts_equal_separate_ones_and_transformers_own_packing(router, awkward_posts):
    backbone = router.backbone
    encoded = backbone.encode(awkward_posts)
    separate = torch.cat([router(backbone.collate([post])).detach() for post in encoded])
    padded, expected = logits_and_gradient(router, encoded)
    backbone.pack(True)
    try:
        for posts in (encoded, backbone.cache_features(encoded)):
            assert backbone.collate(posts)["input_ids"].shape == (1, sum(post.n_tokens for post in encoded))
            logits, gradient = logits_and_gradient(router, posts)
            assert torch.allclose(logits, separate, atol=1e-5) and torch.allclose(logits, padded, atol=1e-5)
            assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        segments = backbone.collate(encoded)["segments"]
        ours = backbone(backbone.collate(encoded))
    finally:
        backbone.pack(False)
    assert torch.equal(logits_and_gradient(router, encoded)[0], padded)
    assert backbone.model.config.text_config._attn_implementation == "sdpa"  # what a saved copy would name
    # transformers' mask over the whole row needs text positions as a first row, and no cache
    joined, restarting = join(encoded), torch.cat([torch.arange(post.n_tokens) for post in encoded])[None, None]
    hidden = backbone.model(
        input_ids=joined.input_ids[None], position_ids=torch.cat([restarting, joined.position_ids[:, None]]),
        **backbone.image_inputs(joined.frames), use_cache=False,
    ).last_hidden_state  # fmt: skip
    assert torch.allclose(hidden[0, segments.cumsum(0) - 1], ours, atol=1e-5)
