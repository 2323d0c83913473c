"""Heads on frozen features: the router's own layers, each member as if alone, the mask exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from radar_lib.metrics import average_precision
from radar_suite.studies.heads import HeadRecipe, Member, apply_heads, head_logits, initial_weights, train_heads

RECIPE = HeadRecipe(epochs=3, batch_size=16)


def some(posts=60, hidden=6, categories=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(posts, hidden)).astype(np.float32), rng.integers(-1, 2, (posts, categories)).astype(np.int8)


def test_layers_are_those_of_the_router():
    features, _ = some()
    weights = initial_weights(6, 3, seed=4)
    weights["shift"], weights["head_bias"] = torch.randn(6), torch.randn(3)
    mlp = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU())
    heads = nn.Linear(6, 3)
    with torch.no_grad():
        mlp[0].bias.copy_(weights["shift"])
        mlp[1].weight.copy_(weights["weight"].T)
        mlp[1].bias.copy_(weights["bias"])
        heads.weight.copy_(weights["heads"].T)
        heads.bias.copy_(weights["head_bias"])
        expected = heads(mlp(torch.from_numpy(features)))
    torch.testing.assert_close(apply_heads(weights, torch.from_numpy(features)), expected)


@pytest.mark.parametrize("categories", [1, 3, 7])
def test_a_member_trains_as_if_it_were_alone(categories):
    features, labels = some(posts=100, categories=categories)
    members = [Member(np.arange(start, start + 50), labels[start : start + 50], objective, seed)
               for start in (0, 50) for objective in ("masked", "unmasked") for seed in (1, 2)]  # fmt: skip
    together = train_heads(features, members, RECIPE)
    for member, found in zip(members, together, strict=True):
        (alone,) = train_heads(features, [member], RECIPE)
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_unverified_posts_reach_only_the_router_without_mask():
    features, labels = some()
    labels[:30] = -1
    other = features.copy()
    other[:30] += 3.0
    for objective, same in (("masked", True), ("unmasked", False)):
        member = Member(np.arange(60), labels, objective, 1)
        (first,), (second,) = (train_heads(x, [member], RECIPE) for x in (features, other))
        assert all(torch.equal(first[name], second[name]) for name in first) is same


def test_heads_learn_what_the_features_show():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(800, 8)).astype(np.float32)
    normal = (features - features.mean(1, keepdims=True)) / features.std(1, keepdims=True)  # as LayerNorm shows them
    labels = (normal[:, :3] > 0.8).astype(np.int8)
    member = Member(np.arange(600), labels[:600], "masked", 1)
    (weights,) = train_heads(features, [member], HeadRecipe(epochs=10, batch_size=16, learning_rate=0.01))
    logits = head_logits(features[600:], weights)
    assert all(average_precision(labels[600:, k], logits[:, k]) > 0.9 for k in range(3))


@pytest.mark.parametrize(
    ("sizes", "objective", "word"),
    [((), "masked", "at least one"), ((20, 30), "masked", "as many posts"), ((60,), "half", "'unmasked'")],
)
def test_what_cannot_be_trained_together_is_refused(sizes, objective, word):
    features, labels = some()
    with pytest.raises(ValueError, match=word):
        train_heads(features, [Member(np.arange(n), labels[:n], objective, 1) for n in sizes], RECIPE)
