"""Heads on frozen features: the router's own layers, each member as if alone, the mask exact."""

import numpy as np
import pytest
import torch
from torch import nn

from radar_lib.losses import radar_loss, unmasked_bce
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
    members = [Member.of(np.arange(start, start + 50), labels[start : start + 50], objective, seed)
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
        member = Member.of(np.arange(60), labels, objective, 1)
        (first,), (second,) = (train_heads(x, [member], RECIPE) for x in (features, other))
        assert all(torch.equal(first[name], second[name]) for name in first) is same


def test_heads_learn_what_the_features_show():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(800, 8)).astype(np.float32)
    normal = (features - features.mean(1, keepdims=True)) / features.std(1, keepdims=True)  # as LayerNorm shows them
    labels = (normal[:, :3] > 0.8).astype(np.int8)
    member = Member.of(np.arange(600), labels[:600], "masked", 1)
    (weights,) = train_heads(features, [member], HeadRecipe(epochs=10, batch_size=16, learning_rate=0.01))
    logits = head_logits(features[600:], weights)
    assert all(average_precision(labels[600:, k], logits[:, k]) > 0.9 for k in range(3))


def test_cells_and_weights_are_the_papers_losses():
    """Gradients of the weighted cross-entropy are those of Eq. 5, the loss without a mask, and Eq. 7."""
    _, labels = some()
    logits, teacher = (torch.randn(60, 3, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    logits.requires_grad_()
    known, rows = torch.from_numpy(labels), np.arange(60)
    pairs = [
        (Member.of(rows, labels, "masked", 1), radar_loss(logits, known, lam=0.0)),
        (Member.of(rows, labels, "unmasked", 1), unmasked_bce(logits, known)),
        (Member.distilled(rows, labels, teacher.numpy(), lam=0.3, seed=1), radar_loss(logits, known, teacher, lam=0.3)),
    ]
    for member, loss in pairs:
        targets, weights = torch.from_numpy(member.targets), torch.from_numpy(member.weights)
        ours = nn.functional.binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum") / 60
        found, expected = (torch.autograd.grad(one, logits)[0] for one in (ours, loss))
        torch.testing.assert_close(found, expected)


def test_a_weight_of_two_is_a_post_that_comes_twice():
    features, labels = some()
    whole = HeadRecipe(epochs=4, batch_size=120)
    twice = Member.of(np.arange(60).repeat(2), labels.repeat(2, axis=0), "masked", 1)
    weighted = Member.of(np.arange(60), labels, "masked", 1).weighted(np.full((60, 3), 2.0))
    (one,), (other,) = (train_heads(features, [member], whole) for member in (twice, weighted))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_more_negatives_pull_down_what_they_look_like():
    features, labels = some(posts=200)
    member = Member.of(np.arange(100), labels[:100], "masked", 1)
    plain, more = (
        train_heads(features, [one], RECIPE)[0] for one in (member, member.with_negatives(np.arange(100, 200)))
    )
    assert head_logits(features[100:], more).mean() < head_logits(features[100:], plain).mean()


@pytest.mark.parametrize(("sizes", "word"), [((), "at least one"), ((20, 30), "as many posts")])
def test_what_cannot_be_trained_together_is_refused(sizes, word):
    features, labels = some()
    with pytest.raises(ValueError, match=word):
        train_heads(features, [Member.of(np.arange(n), labels[:n], "masked", 1) for n in sizes], RECIPE)
    with pytest.raises(ValueError, match="'unmasked'"):
        Member.of(np.arange(60), labels, "half", 1)


def test_seeds_give_other_weights_and_the_same_seed_the_same():
    a, b, c = (initial_weights(5, 2, seed=seed)["weight"] for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
