"""Eq. 4-7 against torch's own losses, torch.distributions, autograd and hand-worked numbers."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, kl_divergence
from torch.testing import assert_close

from radar_lib.losses import bernoulli_kl, distillation_loss, masked_bce, radar_loss, unmasked_bce, valid_mask

POISONS = (math.nan, math.inf, -math.inf)


def batch(seed: int, posts: int = 16, categories: int = 3, dtype=torch.float32):
    """Random logits, labels (about half unverified) and teacher logits."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(posts, categories, generator=generator, dtype=dtype)
    teacher = 3 * torch.randn(posts, categories, generator=generator, dtype=dtype)
    labels = torch.randint(-1, 2, (posts, categories), generator=generator).to(torch.int8)
    return logits, labels, teacher


batches = st.builds(batch, st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([1, 3, 7]))


def gradient(loss_of, logits):
    logits = logits.clone().requires_grad_(True)
    loss = loss_of(logits)
    (grad,) = torch.autograd.grad(loss, logits)
    return loss.detach(), grad


def test_valid_mask_by_hand():
    y = torch.tensor([[1, -1, 0, -1], [-1, -1, -1, -1]], dtype=torch.int8)
    assert valid_mask(y).tolist() == [[True, False, True, False], [False] * 4]
    assert valid_mask(y).dtype == torch.bool and (valid_mask(y.numpy()) == valid_mask(y).numpy()).all()
    assert valid_mask(torch.tensor([math.nan, -1.0])).tolist() == [True, False]  # a hole shows up as a NaN loss


@settings(max_examples=60)
@given(batches)
def test_masked_bce_is_torchs_sum_over_kept_cells_per_post(data):
    logits, labels, _ = data
    valid = valid_mask(labels)
    oracle = F.binary_cross_entropy_with_logits(logits[valid], labels[valid].float(), reduction="sum") / logits.shape[0]
    assert_close(masked_bce(logits, labels, valid), oracle)


@settings(max_examples=40)
@given(batches, st.sampled_from(POISONS), st.sampled_from(POISONS))
def test_poison_in_masked_cells_changes_neither_loss_nor_gradient(data, in_logits, in_targets):
    logits, labels, _ = data
    valid = valid_mask(labels)
    targets = labels.float()
    clean_loss, clean_grad = gradient(lambda z: masked_bce(z, targets, valid), logits)
    poisoned = logits.masked_fill(~valid, in_logits)
    bad_targets = targets.masked_fill(~valid, in_targets)
    loss, grad = gradient(lambda z: masked_bce(z, bad_targets, valid), poisoned)
    assert torch.equal(loss, clean_loss) and torch.equal(grad, clean_grad)
    assert torch.equal(grad[~valid], torch.zeros_like(grad[~valid]))


@pytest.mark.parametrize("categories", [1, 3, 7])
def test_a_batch_without_a_verified_cell(categories):
    logits, labels, _ = batch(0, 8, categories)
    labels[:] = -1
    loss, grad = gradient(lambda z: masked_bce(z, labels, valid_mask(labels)), logits)
    assert loss == 0 and grad.eq(0).all()
    assert masked_bce(logits[:0], labels[:0], valid_mask(labels[:0])) == 0


@settings(max_examples=40)
@given(batches)
def test_unmasked_bce_reads_unverified_as_cleared(data):
    logits, labels, _ = data
    oracle = F.binary_cross_entropy_with_logits(logits, labels.clamp_min(0).float(), reduction="sum")
    assert_close(unmasked_bce(logits, labels), oracle / logits.shape[0])
    verified = labels.clamp_min(0)
    assert_close(unmasked_bce(logits, verified), masked_bce(logits, verified, valid_mask(verified)))


@settings(max_examples=60)
@given(batches)
def test_kl_is_torchs(data):
    student, _, teacher = (x.double() if x.is_floating_point() else x for x in data)
    oracle = kl_divergence(Bernoulli(logits=teacher), Bernoulli(logits=student))
    assert_close(bernoulli_kl(teacher, student), oracle)
    assert_close(distillation_loss(teacher, student), oracle.sum() / len(oracle))
    assert bernoulli_kl(teacher, teacher).eq(0).all()


@settings(max_examples=40)
@given(batches)
def test_kl_gradient_is_p_minus_t_and_stays_off_the_teacher(data):
    student, _, teacher = data
    teacher.requires_grad_(True)
    _, grad = gradient(lambda z: bernoulli_kl(teacher, z).sum(), student)
    assert_close(grad, torch.sigmoid(student) - torch.sigmoid(teacher), atol=2e-7, rtol=1e-5)
    assert not bernoulli_kl(teacher, student).requires_grad


@given(st.floats(-1e4, 1e4, width=32))
def test_kl_is_zero_at_the_teacher_and_never_below(value):
    logits = torch.tensor(value)
    assert bernoulli_kl(logits, logits) == 0
    assert bernoulli_kl(logits, logits + 0.1) >= -1e-37 or abs(value) > 1e3  # below that, floats have no full precision


@pytest.mark.parametrize("student", [-80.0, -3.0, 0.0, 2.5, 80.0])
def test_kl_is_exact_at_certain_teachers(student):
    z = torch.tensor([student, student], dtype=torch.float64)
    teacher = torch.tensor([math.inf, -math.inf], dtype=torch.float64)
    loss, grad = gradient(lambda z: bernoulli_kl(teacher, z).sum(), z)
    oracle = F.binary_cross_entropy_with_logits(z, torch.tensor([1.0, 0.0]).double(), reduction="sum")
    assert_close(loss, oracle)
    assert_close(grad, torch.sigmoid(z) - torch.tensor([1.0, 0.0]).double())
    probs = torch.tensor([0.0, 0.3, 1.0])
    assert_close(torch.sigmoid(torch.logit(probs)), probs)  # the documented way in for probabilities


def test_kl_keeps_its_digits_in_both_tails():
    teacher, student = torch.tensor([15.0, -15.0]), torch.tensor([14.0, -14.0])
    exact = bernoulli_kl(teacher.double(), student.double())
    assert_close(bernoulli_kl(teacher, student).double(), exact, rtol=1e-5, atol=0)


@settings(max_examples=40)
@given(batches, st.floats(0, 1), st.floats(0, 1))
def test_eq_7_is_mixed_targets_on_verified_and_weighted_teacher_elsewhere(data, on_verified, on_unverified):
    logits, labels, teacher = (x.double() if x.is_floating_point() else x for x in data)
    valid, t = valid_mask(labels), torch.sigmoid(teacher)
    soft = torch.where(valid, (1 - on_verified) * labels + on_verified * t, t)
    weight = torch.where(valid, torch.ones_like(t), torch.full_like(t, on_unverified))
    bce = F.binary_cross_entropy_with_logits(logits, soft, weight=weight, reduction="sum") / len(logits)
    entropy = Bernoulli(logits=teacher).entropy()
    cell_lambda = torch.where(valid, torch.full_like(t, on_verified), torch.full_like(t, on_unverified))
    constant = (cell_lambda * entropy).sum() / len(logits)
    ours = radar_loss(logits, labels, teacher, lam=0.5, lam_verified=on_verified, lam_unverified=on_unverified)
    assert_close(ours, bce - constant)


@settings(max_examples=30)
@given(batches, st.floats(0, 1))
def test_eq_7_as_the_paper_writes_it(data, lam):
    logits, labels, teacher = data
    paper = (1 - lam) * masked_bce(logits, labels, valid_mask(labels)) + lam * distillation_loss(teacher, logits)
    assert_close(radar_loss(logits, labels, teacher, lam=lam), paper, atol=1e-5, rtol=1e-5)


def test_the_ends_of_lambda():
    logits, labels, teacher = batch(4)
    assert torch.equal(radar_loss(logits, labels, lam=0.0), masked_bce(logits, labels, valid_mask(labels)))
    assert torch.equal(radar_loss(logits, labels, teacher, lam=1.0), distillation_loss(teacher, logits))
    with pytest.raises(ValueError, match="needs teacher_logits"):
        radar_loss(logits, labels, lam=0.1)
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            radar_loss(logits, labels, teacher, lam=bad)


def test_cells_of_weight_zero_never_read_the_teacher():
    logits, labels, teacher = batch(5)
    valid = valid_mask(labels)
    poisoned = teacher.masked_fill(~valid, math.nan)
    clean, clean_grad = gradient(lambda z: radar_loss(z, labels, teacher, lam=0.3, lam_unverified=0.0), logits)
    loss, grad = gradient(lambda z: radar_loss(z, labels, poisoned, lam=0.3, lam_unverified=0.0), logits)
    assert torch.equal(loss, clean) and torch.equal(grad, clean_grad)
    assert grad[~valid].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, labels, teacher = batch(6)
    half = logits.to(dtype)
    loss = radar_loss(half, labels, teacher.to(dtype), lam=0.4)
    assert loss.dtype == torch.float32
    assert_close(loss, radar_loss(half.float(), labels, teacher.to(dtype).float(), lam=0.4))
    assert radar_loss(logits.double(), labels, teacher, lam=0.4).dtype == torch.float64


def test_shapes_must_agree():
    logits, labels, teacher = batch(7)
    with pytest.raises((ValueError, TypeError), match="shapes differ|category"):
        masked_bce(logits, labels[:, :1], valid_mask(labels))
    with pytest.raises((ValueError, TypeError), match="shapes differ|category"):
        radar_loss(logits, labels, teacher[:, :1], lam=0.5)


def test_the_maths_is_importable_without_transformers():
    names = ("losses", "partial_losses", "metrics", "intervals", "evidence", "thresholds", "economics")
    heavy = "{'transformers', 'datasets', 'peft', 'accelerate'}"
    code = f"import sys; from radar_lib import {', '.join(names)}; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
