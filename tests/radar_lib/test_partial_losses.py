"""Objectives beyond the mask: by hand on a 3 x 4 table, closed gradients against autograd, means by enumeration."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from radar_lib.losses import masked_bce, valid_mask
from radar_lib.partial_losses import (
    CSL_ETA,
    CSL_GAMMA,
    CSL_TOP_SHARE,
    FLOOR,
    OBJECTIVES,
    SideInformation,
    doubly_robust,
    inverse_propensity,
    nonnegative_pu,
)  # fmt: skip

LOG2 = math.log(2)
LABELS = torch.tensor([[1, -1, 0, -1], [0, 1, -1, -1], [-1, -1, -1, 1]])
LOGITS = torch.tensor([[0.0, math.log(3), 0.0, 0.0], [0.0] * 4, [0.0] * 4], dtype=torch.float64)
PROPENSITY = torch.tensor([[0.5, 0.1, 0.25, 0.1], [1.0, 0.5, 0.1, 0.1], [0.1, 0.1, 0.1, 0.01]], dtype=torch.float64)


def batch(seed: int, posts: int, categories: int):
    """Random logits and labels (about half unverified) in double precision, and side information."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(2, posts, categories, generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(posts, categories, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 2, (posts, categories), generator=generator)
    prior = torch.rand(categories, generator=generator, dtype=torch.float64) * 2 * CSL_ETA
    return logits, labels, SideInformation(prior, uniform[0] + 1e-3 * (1 - uniform[0]), torch.logit(uniform[1]))


batches = st.builds(batch, st.integers(0, 2**31), st.integers(1, 24), st.sampled_from([1, 3, 7]))
everything = pytest.mark.parametrize("name", list(OBJECTIVES))


def gradient(name, logits, labels, side):
    logits = logits.clone().requires_grad_(True)
    loss = OBJECTIVES[name](logits, labels, side)
    (grad,) = torch.autograd.grad(loss, logits)
    return loss.detach(), grad


@pytest.mark.parametrize(
    ("name", "side", "nats"),
    [
        ("unmasked", {}, 13 * LOG2),  # the cell at p = 3/4 has l- = 2 log 2
        ("masked", {}, 5 * LOG2),
        # the third category's prior is above eta, the cell at p = 3/4 the likeliest; four remain, weight 1/4
        ("csl", {"prior": torch.tensor([0.05, 0.05, 0.2, 0.05])}, 6 * LOG2),
        # 1 (1/2 + 1/2), 2 (1/2 + 3/2 - 1/2), no violation, 2 (1/2 + 1/2)
        ("nnpu", {"prior": torch.tensor([0.5, 0.5, 0.2, 0.5])}, (5 + 1 + 3 + 2) * LOG2),
        ("ipw", {"propensity": PROPENSITY}, (2 + 4 + 1 + 2 + 1 / FLOOR) * LOG2),
        # every cell at z = 0 costs log 2 whatever its target; the other log 4 - q log 3
        ("dr", {"propensity": PROPENSITY, "imputed": torch.zeros(3, 4)}, 13 * LOG2 - 0.5 * math.log(3)),
    ],
)
def test_by_hand(name, side, nats):
    loss = OBJECTIVES[name](LOGITS, LABELS, SideInformation(**side))
    assert_close(loss, torch.tensor(nats / 3, dtype=torch.float64), atol=1e-7, rtol=0)


def expected_gradient(name, z, y, side):
    """The gradients that the docstrings state, cell by cell."""
    p, m, grad = torch.sigmoid(z), y != -1, torch.zeros_like(z)
    if name == "unmasked":
        return p - (y == 1).double()
    if name == "dr":
        q = torch.sigmoid(side.imputed)
        return p - torch.where(m, q + (y - q) / side.propensity.clamp_min(FLOOR), q)
    grad[m] = (p - y)[m]
    if name == "ipw":
        grad /= side.propensity.clamp_min(FLOOR)
    if name == "csl":
        cells = [(z[i, k].item(), i, k) for i, k in (~m).nonzero().tolist() if side.prior[k] <= CSL_ETA]
        for _, i, k in sorted(cells, reverse=True)[math.ceil(CSL_TOP_SHARE * len(cells)) :]:
            grad[i, k] = p[i, k] ** (CSL_GAMMA + 1)
    if name == "nnpu":
        for k, pi in enumerate(side.prior):
            found, unseen = y[:, k] == 1, ~m[:, k]
            if found.any() and unseen.any():
                minus = -torch.log1p(-p[:, k])
                weight = unseen.sum() * pi / found.sum()
                if minus[unseen].mean() > pi * minus[found].mean():
                    grad[unseen, k] += p[unseen, k]
                    grad[found, k] -= weight
                else:
                    grad[found, k] += weight * (p[found, k] - 1)
    return grad


@everything
@settings(max_examples=60)
@given(data=batches)
def test_gradients_are_the_stated_ones(name, data):
    logits, labels, side = data
    _, grad = gradient(name, logits, labels, side)
    assert_close(grad * len(logits), expected_gradient(name, logits, labels, side), atol=1e-12, rtol=1e-9)


def test_the_clamp_of_nnpu_is_met():
    logits = torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64)
    labels, prior = torch.tensor([[1], [-1]]), torch.tensor([0.8])
    loss, grad = gradient("nnpu", logits, labels, SideInformation(prior))  # log 2 - 0.8 log 4 < 0
    assert_close(loss, torch.tensor(1.8 * math.log(4 / 3) / 2, dtype=torch.float64), atol=1e-7, rtol=0)
    assert grad[1] == 0 and grad[0] < 0


@everything
@settings(max_examples=30)
@given(data=batches, poison=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_cells_that_do_not_count_hold_changes_nothing(name, data, poison):
    logits, labels, side = data
    clean, clean_grad = gradient(name, logits, labels, side)
    valid, counted = valid_mask(labels), clean_grad != 0
    unread = {"masked": ~valid, "ipw": ~valid, "csl": ~valid & (side.prior > CSL_ETA),
              "nnpu": ~valid & ~(labels == 1).any(dim=0)}.get(name, torch.zeros_like(valid))  # fmt: skip
    bad = SideInformation(side.prior, side.propensity.masked_fill(~valid, poison), side.imputed)
    loss, grad = gradient(name, logits.masked_fill(unread, poison), labels, bad)
    assert torch.equal(loss, clean) and torch.equal(grad, clean_grad)
    assert not (counted & unread).any()


@everything
@settings(max_examples=30)
@given(data=batches)
def test_on_a_fully_verified_batch_all_are_the_masked_loss(name, data):
    logits, labels, side = data
    labels = labels.clamp_min(0)
    side = SideInformation(side.prior, torch.ones_like(logits), side.imputed)
    assert_close(OBJECTIVES[name](logits, labels, side), masked_bce(logits, labels, valid_mask(labels)))


@settings(max_examples=30)
@given(batches)
def test_ipw_is_masked_where_verification_is_certain_and_dr_is_complete_where_the_model_is_right(data):
    logits, labels, side = data
    assert_close(inverse_propensity(logits, labels, torch.ones_like(logits)),
                 masked_bce(logits, labels, valid_mask(labels)))  # fmt: skip
    truth = torch.where(valid_mask(labels), labels, torch.arange(len(labels))[:, None] % 2)
    certain = torch.where(truth == 1, math.inf, -math.inf)
    assert_close(doubly_robust(logits, labels, side.propensity, certain),
                 masked_bce(logits, truth, torch.ones_like(truth, dtype=torch.bool)))  # fmt: skip


def mean_loss(loss_of, logits, violation, propensity):
    """Mean over all labels (independent, with these probabilities) and all masks (likewise), by enumeration."""
    cells, total = logits.numel(), 0.0
    for truth in itertools.product((0, 1), repeat=cells):
        for mask in itertools.product((0, 1), repeat=cells):
            y, m = torch.tensor(truth).view_as(logits), torch.tensor(mask).view_as(logits).bool()
            chance = torch.where(y == 1, violation, 1 - violation) * torch.where(m, propensity, 1 - propensity)
            total += chance.prod() * loss_of(torch.where(m, y, -1))
    return total


def test_ipw_and_dr_are_unbiased_where_they_say_so_and_biased_where_not():
    logits = torch.tensor([[0.4, -1.3, 2.0]], dtype=torch.float64)
    violation = torch.tensor([[0.3, 0.6, 0.1]], dtype=torch.float64)
    right, wrong = torch.tensor([[0.2, 0.7, 0.5]]).double(), torch.tensor([[0.9, 0.3, 0.6]]).double()
    outcome, other = torch.logit(violation), torch.tensor([[1.0, 1.0, -2.0]]).double()
    complete = masked_bce(logits, violation, torch.ones(1, 3, dtype=torch.bool))

    def of(loss, *side):
        return mean_loss(lambda y: loss(logits, y, *side), logits, violation, right)

    assert_close(of(inverse_propensity, right), complete)
    assert_close(of(doubly_robust, right, other), complete)
    assert_close(of(doubly_robust, wrong, outcome), complete)
    for biased in (of(inverse_propensity, wrong), of(doubly_robust, wrong, other)):
        assert abs(biased - complete) > 0.1


def test_below_the_floor_a_cell_counts_propensity_over_floor():
    logits, violation = torch.tensor([[0.7]]).double(), torch.tensor([[0.25]]).double()
    rare = torch.tensor([[FLOOR / 4]]).double()
    complete = masked_bce(logits, violation, torch.ones(1, 1, dtype=torch.bool))
    clipped = mean_loss(lambda y: inverse_propensity(logits, y, rare), logits, violation, rare)
    assert_close(clipped, complete / 4)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_nnpu_is_the_complete_loss_where_unseen_violations_look_like_the_found_ones(share):
    found, cleared, unseen_cleared = torch.tensor([1.2, -0.4]), torch.tensor([-1.0, 0.3]), torch.tensor([-2.0, 0.9])
    unseen = torch.cat([found, unseen_cleared.repeat(round((1 - share) / share))])
    logits = torch.cat([found, cleared, unseen])[:, None].double()
    truth = torch.tensor([1, 1, 0, 0, 1, 1] + [0] * (len(unseen) - 2))[:, None]
    labels = torch.where(torch.arange(len(truth))[:, None] < 4, truth, -1)
    loss = nonnegative_pu(logits, labels, torch.tensor([share], dtype=torch.float64))
    assert_close(loss, masked_bce(logits, truth, torch.ones_like(truth, dtype=torch.bool)))


@everything
def test_batches_without_posts_verified_cells_or_unverified_ones(name):
    logits, labels, side = batch(3, 6, 3)
    assert OBJECTIVES[name](logits[:0], labels[:0], side.of([])) == 0
    for one in (torch.full_like(labels, -1), torch.zeros_like(labels), torch.ones_like(labels)):
        loss, grad = gradient(name, logits, one, side)
        assert loss.isfinite() and grad.isfinite().all()
    assert OBJECTIVES[name](logits.half(), labels, side).dtype in (torch.float32, torch.float64)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dr", {"propensity": None, "imputed": None}, "propensity and imputed"),
        ("csl", {"prior": None}, "needs prior"),
        ("ipw", {"propensity": torch.zeros(5, 3)}, r"outside \(0, 1\]"),
        ("ipw", {"propensity": torch.full((5, 3), 1.1)}, r"outside \(0, 1\]"),
        ("dr", {"propensity": torch.full((5, 3), math.nan)}, r"outside \(0, 1\]"),
        ("ipw", {"propensity": torch.ones(5, 1)}, "shapes differ"),
        ("nnpu", {"prior": torch.tensor([0.1, 1.2, 0.3])}, r"in \[0, 1\]"),
        ("nnpu", {"prior": torch.tensor([0.1, 0.2])}, "for each of 3"),
    ],
)
def test_what_is_missing_or_out_of_range_is_named(name, change, message):
    logits, labels, side = batch(4, 5, 3)
    with pytest.raises(ValueError, match=message):
        OBJECTIVES[name](logits, labels, replace(side, **change))


def test_side_information_of_some_posts():
    _, _, side = batch(5, 4, 2)
    some = side.of([2, 0])
    assert torch.equal(some.prior, side.prior) and torch.equal(some.propensity, side.propensity[[2, 0]])
    assert SideInformation(side.prior).of([1]).imputed is None
