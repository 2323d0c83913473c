"""The training objective of RADAR (paper section 3.4, Eq. 4-7) as pure functions of tensors.

A batch has N posts and K risk categories. `labels` is the label matrix of Eq. 4: 1 violating, 0 cleared,
-1 not verified. Every function takes *logits*, never probabilities, because log(sigmoid(z)) is exact where
log(p) is not. Every scalar loss is the sum over categories averaged over posts: the number of verified cells
never enters the denominator, so a post verified for two risks weighs twice as much as one verified for one.

    Eq. 4   valid_mask         m_k = 1 where y_k != -1 (in `radar_lib.labels`)
    Eq. 5   masked_bce         sum_k m_k bce(p_k, y_k)
            unmasked_bce       the baseline 'BCE w/o Mask': -1 is taken for 0
    Eq. 6   distillation_loss  sum_k KL(t_k || p_k), cell by cell in bernoulli_kl
    Eq. 7   radar_loss         (1 - lambda) Eq. 5 + lambda Eq. 6

Half-precision logits are taken to float32 first; float64 stays float64. Other treatments of the unverified cells are
in `radar_lib.partial_losses`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor

from radar_lib.labels import valid_mask

Logits = Float[Tensor, "post category"]
Labels = Num[Tensor, "post category"]  # 1, 0, or -1 where not verified
Mask = Bool[Tensor, "post category"]
Loss = Float[Tensor, ""]  # nats per post


def masked_bce(logits: Logits, targets: Labels, valid: Mask) -> Loss:
    """Binary cross-entropy summed over the valid cells, divided by the number of posts (Eq. 5).

    Cells where `valid` is False add exactly zero to the loss and to every gradient, whatever they hold, NaN
    and infinity included: both inputs are replaced before the loss, and the loss is replaced after it. (A
    product with the mask gives NaN; a `where` on the loss alone gives the right loss and a NaN gradient.)

    Args:
        logits: student logits.
        targets: labels 0/1, or soft targets in [0, 1]; not read where `valid` is False.
        valid: True where the cell counts, usually `valid_mask(labels)`.

    Returns:
        The loss in nats per post; 0 for a batch without posts or without valid cells.

    Raises:
        ValueError: the shapes differ (broadcasting a column over K heads is always a mistake here), or a valid cell's
            target lies outside [0, 1].

    >>> y = torch.tensor([[1, -1], [0, -1]])
    >>> z = torch.tensor([[0.0, 5.0], [0.0, float("nan")]])
    >>> masked_bce(z, y, valid_mask(y))   # two cells of log 2, two posts
    tensor(0.6931)
    """
    same_shape(logits=logits, targets=targets, valid=valid)
    outside = valid & ((targets < 0) | (targets > 1))
    if outside.any():
        raise ValueError(f"a valid cell's target is {targets[outside][0].item()}; targets lie in [0, 1]")
    return per_post(bce_cells(at_least_float32(logits), targets, valid))


def unmasked_bce(logits: Logits, labels: Labels) -> Loss:
    """The baseline 'BCE w/o Mask': unverified labels are taken for 0 and every cell counts (section 3.4).

    Same units and denominator as `masked_bce`, so that the two are equal on a fully verified batch.

    Raises:
        ValueError: the shapes differ, or a label is none of 1, 0 and -1.

    >>> unmasked_bce(torch.zeros(1, 3), torch.tensor([[1, -1, -1]])) / torch.log(torch.tensor(2.0))
    tensor(3.)
    """
    same_shape(logits=logits, labels=labels)
    labels, valid = labels_and_mask(logits, labels)
    return per_post(bce_cells(at_least_float32(logits), torch.where(valid, labels, 0), torch.ones_like(valid)))


def bernoulli_kl(
    teacher_logits: Float[Tensor, "*shape"], student_logits: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """KL(t || p) of two Bernoulli variables, cell by cell, in nats (Eq. 6).

    With t = sigmoid(teacher) and p = sigmoid(student) it is t (log t - log p) + (1 - t) (log(1 - t) - log(1 - p)),
    each logarithm a logsigmoid of a logit. Hence it is exactly 0 where the logits are equal, and exact at t in
    {0, 1} (teacher logits of -inf and inf), where it is the cross-entropy. The gradient with respect to the
    student's logits is p - t. None flows to the teacher. A teacher known by probabilities enters as
    `torch.logit(probs)`.

    Args:
        teacher_logits: any shape; infinite values allowed.
        student_logits: same shape; finite.

    Raises:
        ValueError: the shapes differ.

    >>> bernoulli_kl(torch.tensor([0.0, 2.0, float("inf")]), torch.tensor([0.0, 0.0, 0.0]))
    tensor([0.0000, 0.3278, 0.6931])
    """
    same_shape(teacher_logits=teacher_logits, student_logits=student_logits)
    student = at_least_float32(student_logits)
    teacher = teacher_logits.detach().to(student.dtype)
    # 0 * -inf would be NaN at t in {0, 1}; the lowest finite number keeps 0 * log(0) = 0.
    lowest = torch.finfo(student.dtype).min
    log_t, log_not_t = F.logsigmoid(teacher).clamp_min(lowest), F.logsigmoid(-teacher).clamp_min(lowest)
    return torch.sigmoid(teacher) * (log_t - F.logsigmoid(student)) + torch.sigmoid(-teacher) * (
        log_not_t - F.logsigmoid(-student)
    )


def distillation_loss(teacher_logits: Logits, student_logits: Logits) -> Loss:
    """KL(t || p) summed over all K categories, verified or not, averaged over posts (Eq. 6).

    Raises:
        ValueError: the shapes differ.

    >>> distillation_loss(torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 2.0]]))
    tensor(0.3278)
    """
    return per_post(bernoulli_kl(teacher_logits, student_logits))


def radar_loss(
    logits: Logits, labels: Labels, teacher_logits: Logits | None = None, *, lam: float,
    lam_verified: float | None = None, lam_unverified: float | None = None,
) -> Loss:  # fmt: skip
    """(1 - lambda) masked BCE + lambda distillation, per post (Eq. 7).

    Up to the teacher's entropy, which has no gradient, this is BCE towards (1 - lambda) y + lambda t on verified
    cells and lambda BCE towards t on the others: lambda mixes the targets, and it also sets the weight of the
    unverified cells against the verified ones. The two roles can be taken apart with the last two options.

    Args:
        teacher_logits: the experts' logits for every cell; not needed, and not read, where its weight is 0.
        lam: lambda of Eq. 7, in [0, 1]; 0 is `masked_bce`, 1 is `distillation_loss`.
        lam_verified: lambda on verified cells, if other than `lam`.
        lam_unverified: weight of the distillation on unverified cells, if other than `lam`.

    Raises:
        ValueError: a lambda outside [0, 1], shapes that differ, a label that is none of 1, 0 and -1, or lambda > 0
            without a teacher.

    >>> z, y, t = torch.zeros(1, 2), torch.tensor([[1, -1]]), torch.tensor([[0.0, 2.0]])
    >>> radar_loss(z, y, t, lam=0.5)   # 0.5 log 2 + 0.5 (0 + 0.3278)
    tensor(0.5105)
    >>> radar_loss(z, y, lam=0.0)
    tensor(0.6931)
    """
    same_shape(logits=logits, labels=labels)
    on_verified = lam if lam_verified is None else lam_verified
    on_unverified = lam if lam_unverified is None else lam_unverified
    for name, value in {"lam": lam, "lam_verified": on_verified, "lam_unverified": on_unverified}.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1] (Eq. 7 is a convex combination)")

    logits = at_least_float32(logits)
    labels, valid = labels_and_mask(logits, labels)
    cells = torch.zeros_like(logits)
    if on_verified < 1.0:
        cells = cells + (1.0 - on_verified) * bce_cells(logits, labels, valid)
    if on_verified > 0.0 or on_unverified > 0.0:
        if teacher_logits is None:
            raise ValueError("lambda > 0 needs teacher_logits: the experts' logits for every post")
        same_shape(logits=logits, teacher_logits=teacher_logits)
        weight = torch.full_like(logits, on_unverified).masked_fill(valid, on_verified)
        used = weight > 0.0
        kl = bernoulli_kl(torch.where(used, teacher_logits, 0.0), torch.where(used, logits, 0.0))
        cells = cells + torch.where(used, weight * kl, 0.0)
    return per_post(cells)


def labels_and_mask(logits: Logits, labels: Labels) -> tuple[Labels, Mask]:
    """Labels and their mask beside the logits. They are checked where they come from: in main memory no GPU waits."""
    valid = valid_mask(labels)
    return labels.to(logits.device), valid.to(logits.device)


def bce_cells(logits: Logits, targets: Labels, valid: Mask) -> Float[Tensor, "post category"]:
    """Cross-entropy of each valid cell and exactly 0, with gradient exactly 0, in the others."""
    safe_logits = torch.where(valid, logits, 0.0)
    safe_targets = torch.where(valid, targets.to(logits.dtype), 0.0)
    cells = F.binary_cross_entropy_with_logits(safe_logits, safe_targets, reduction="none")
    return torch.where(valid, cells, 0.0)


def per_post(cells: Float[Tensor, "post category"]) -> Loss:
    """Sum over categories, mean over posts; an empty batch gives 0, not 0/0."""
    return cells.sum() / max(cells.shape[0], 1)


def at_least_float32(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half precision as float32, anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def same_shape(**tensors: Tensor) -> None:
    """Raise ValueError, with names and shapes, where shapes differ: nothing here broadcasts."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("shapes differ: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
