"""What to do with the cells that nobody verified: objectives beyond the mask, behind one interface.

Units are those of `radar_lib.losses`: logits in, labels 1 / 0 / -1 (not verified), a sum over categories averaged
over posts, in nats. A cell that an objective does not count adds exactly zero loss and exactly zero gradient,
whatever it holds. With m = 1 on verified cells, p = sigmoid(z), l+ = -log p, l- = -log(1 - p):

    unmasked   assume negative            m bce(p, y) + (1 - m) l-
    masked     ignore (Eq. 5)             m bce(p, y)
    csl        class-aware selective      m bce(p, y) + (1 - m) w p^gamma l-, w = 0 where a violation is likely
    nnpu       non-negative PU            m bce(p, y) + unverified cells' risk from the verified violations and pi
    ipw        inverse propensity         (m / e) bce(p, y)
    dr         doubly robust              bce(p, q + (m / e) (y - q))

Some need more than labels, `SideInformation`. `OBJECTIVES` has them all by name, and says which needs what.

>>> labels, side = torch.tensor([[1, -1]]), SideInformation(propensity=torch.tensor([[0.5, 0.5]]))
>>> OBJECTIVES["ipw"](torch.zeros(1, 2), labels, side)   # one verified cell of log 2, counted twice
tensor(1.3863)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from radar_lib.losses import (
    Labels,
    Logits,
    Loss,
    at_least_float32,
    bce_cells,
    labels_and_mask,
    per_post,
    radar_loss,
    same_shape,
    unmasked_bce,
)  # fmt: skip

# CSL: gamma and alpha are the defaults of the authors' code (Alibaba-MIIL/PartialLabelingCSL, train.py), the share is
# their 5 likeliest of COCO's 80 labels per image. Their eta of 0.05 leaves out the commonest of many categories; a
# moderation queue's categories all lie above it, and nothing would remain. Ours takes unverified cells for negatives
# where nine in ten are. Set before any run, with the training pool's priors in view.
CSL_ALPHA, CSL_GAMMA, CSL_TOP_SHARE, CSL_ETA = 1.0, 2.0, 5 / 80, 0.10
FLOOR = 0.05  # smallest propensity divided by: no cell counts more than 20 times. Ours, set before any run.


@dataclass(frozen=True)
class SideInformation:
    """What an objective may need beyond logits and labels; tensors on the logits' device.

    Attributes:
        prior: share of violations among the unverified cells of each category.
        propensity: P(verified for k | post) of each cell, in (0, 1]; read where a cell was verified.
        imputed: logits of an outcome model (the experts, for one) of each cell.
    """

    prior: Float[Tensor, " category"] | None = None
    propensity: Float[Tensor, "post category"] | None = None
    imputed: Float[Tensor, "post category"] | None = None

    def of(self, posts: Int[Tensor, " some"] | Sequence[int], device: str | torch.device = "cpu") -> SideInformation:
        """That of some posts, on a device."""
        return SideInformation(*(
            None if (value := getattr(self, name.name)) is None
            else (value if name.name == "prior" else value[posts]).to(device)
            for name in fields(self)
        ))  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """A loss of logits, labels and what it `needs` of `SideInformation`, in nats per post."""

    loss: Callable[..., Loss]
    needs: tuple[str, ...] = ()

    def __call__(self, logits: Logits, labels: Labels, side: SideInformation | None = None) -> Loss:
        """The loss.

        Raises:
            ValueError: side information is missing, its shape is another, or it is out of range.
        """
        given = {name: getattr(side, name, None) for name in self.needs}
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise ValueError(f"this objective needs {' and '.join(missing)}: pass SideInformation with it")
        return self.loss(logits, labels, **given)


def class_aware_selective(
    logits: Logits, labels: Labels, prior: Float[Tensor, " category"], *, alpha: float = CSL_ALPHA,
    gamma: float = CSL_GAMMA, eta: float = CSL_ETA, top_share: float = CSL_TOP_SHARE,
) -> Loss:  # fmt: skip
    """Class-aware selective loss: unverified cells are negatives, unless a violation is likely there.

    An unverified cell adds alpha p^gamma l-. It adds nothing where its category's prior exceeds `eta`, or where it is
    among the likeliest `top_share` (rounded up) of the batch's remaining unverified cells. Verified cells are as in
    `masked_bce`; the paper puts focal weights on them too, which would mix two changes in one comparison.

    The focal weight is a constant in the gradient, as in the authors' code: p - y on verified cells, alpha
    p^(gamma + 1) on the unverified ones that count. Which cells those are depends on the (micro-)batch.

    Source: Ben-Baruch et al., Multi-label Classification with Partial Annotations using Class-aware Selective Loss,
    CVPR 2022. There the likeliest are chosen before the categories are left out.

    Raises:
        ValueError: shapes that differ, a label that is none of 1, 0 and -1, or a prior outside [0, 1].
    """
    same_shape(logits=logits, labels=labels)
    _check_prior(prior, logits)
    logits, (labels, valid) = at_least_float32(logits), labels_and_mask(logits, labels)
    used = ~valid & (prior <= eta)
    count = int(used.sum())
    if count:
        likeliest = torch.where(used, logits.detach(), -math.inf).flatten().topk(math.ceil(top_share * count)).indices
        used = used.flatten().index_fill(0, likeliest, False).view_as(used)
    safe = torch.where(used, logits, 0.0)
    negatives = alpha * torch.sigmoid(safe.detach()) ** gamma * F.softplus(safe)
    return per_post(bce_cells(logits, labels, valid) + torch.where(used, negatives, 0.0))


def nonnegative_pu(logits: Logits, labels: Labels, prior: Float[Tensor, " category"]) -> Loss:
    """Non-negative PU learning for the unverified cells, beside the verified ones of both signs.

    Of each category k, with pi its prior, P the batch's verified violations and U its unverified cells:

        sum over verified cells of bce(p, y)  +  |U| [ pi E_P[l+]  +  max(0, E_U[l-] - pi E_P[l-]) ]

    If a share pi of U are violations and look like P, the bracket without its max has the mean of U's cross-entropy
    towards its unknown labels (uPU). That is E_U[l-] - pi E_P[z], without a lower bound; the max says that the
    negatives' part of a risk is not below 0.

    Kiryo et al. have P and U only. A PN risk beside a PU risk is PNU learning (Sakai et al.), whose weight between
    the two is free; here each counts its own cells, and pi is the share within U. A category without a verified
    violation in the (micro-)batch leaves its unverified cells out, since E_P is unknown. Violations that a targeted
    intake found look different from those it did not see: then the bracket is biased.

    Gradient, times posts: p - y on verified cells. Where the max is active, p on U and a further -|U| pi / |P| on P;
    where it is not, 0 on U and (|U| pi / |P|) (p - 1) on P. There Kiryo et al. step against the gradient of the
    negative part instead, to undo the overfit (their Algorithm 1); the plain max merely waits, and keeps this the
    gradient of a loss.

    Sources: Kiryo et al., Positive-Unlabeled Learning with Non-Negative Risk Estimator, NeurIPS 2017; Sakai et al.,
    Semi-Supervised Classification Based on Classification from Positive and Unlabeled Data, ICML 2017.

    Raises:
        ValueError: shapes that differ, a label that is none of 1, 0 and -1, or a prior outside [0, 1].
    """
    same_shape(logits=logits, labels=labels)
    _check_prior(prior, logits)
    logits, (labels, valid) = at_least_float32(logits), labels_and_mask(logits, labels)
    violating = valid & (labels == 1)
    unverified = ~valid & violating.any(dim=0)
    safe = torch.where(violating | unverified, logits, 0.0)
    minus, plus = F.softplus(safe), F.softplus(-safe)
    count = unverified.sum(dim=0)
    share = violating.to(logits.dtype) / violating.sum(dim=0).clamp_min(1)  # a mean over P, as weights
    negative_part = (minus * unverified).sum(dim=0) / count.clamp_min(1) - prior * (minus * share).sum(dim=0)
    risk = count * (prior * (plus * share).sum(dim=0) + negative_part.clamp_min(0.0))
    return per_post(bce_cells(logits, labels, valid)) + risk.sum() / max(len(logits), 1)


def inverse_propensity(
    logits: Logits, labels: Labels, propensity: Float[Tensor, "post category"], *, floor: float = FLOOR
) -> Loss:
    """Verified cells weighted by 1 / P(verified for k | post): sum_k (m_k / max(e_k, floor)) bce(p_k, y_k).

    Where e is right and at least `floor`, and verification does not depend on the label given the post, the mean over
    m is the loss of a fully verified batch: posts that intake favours stop counting more. Below the floor a cell
    counts e / floor of what it should: the floor buys variance (a weight is at most 1 / floor) with bias towards what
    intake favours. With e = 1 this is `masked_bce`. Gradient, times posts: (m / max(e, floor)) (p - y).

    Source: Horvitz and Thompson, JASA 1952; for learning, Schnabel et al., Recommendations as Treatments, ICML 2016.

    Args:
        propensity: read on verified cells only.

    Raises:
        ValueError: shapes that differ, a label that is none of 1, 0 and -1, or a verified cell's propensity outside
            (0, 1].
    """
    same_shape(logits=logits, labels=labels, propensity=propensity)
    labels, valid = labels_and_mask(logits, labels)
    weight = _inverse(propensity, valid, floor)
    return per_post(weight * bce_cells(at_least_float32(logits), labels, valid))


def doubly_robust(
    logits: Logits, labels: Labels, propensity: Float[Tensor, "post category"], imputed: Logits, *,
    floor: float = FLOOR,
) -> Loss:  # fmt: skip
    """Cross-entropy of every cell towards y_DR = q + (m / e) (y - q), with q = sigmoid(imputed).

    Cross-entropy is linear in its target, bce(p, y) = l-(z) - y z, so this is the doubly robust estimate of the fully
    verified loss: imputed loss everywhere plus, on verified cells, 1 / e times its error. Its mean over m is right if e
    is (then E[m / e] = 1), or if q is (then y - q has mean 0); e is taken no smaller than `floor`. y_DR may lie outside
    [0, 1], and then a single cell's loss has no lower bound: only its mean has. Gradient, times posts: p - y_DR.
    With q = y it is the loss of a fully verified batch, with e = 1 on verified cells it imputes the others.

    Source: Robins, Rotnitzky and Zhao, JASA 1994; for learning from partly observed cells, Wang et al., Doubly Robust
    Joint Learning for Recommendation on Data Missing Not at Random, ICML 2019.

    Args:
        propensity: read on verified cells only.
        imputed: logits of an outcome model for every cell; no gradient flows to it.

    Raises:
        ValueError: shapes that differ, a label that is none of 1, 0 and -1, or a verified cell's propensity outside
            (0, 1].
    """
    same_shape(logits=logits, labels=labels, propensity=propensity, imputed=imputed)
    logits, (labels, valid) = at_least_float32(logits), labels_and_mask(logits, labels)
    q = torch.sigmoid(imputed.detach().to(logits.dtype))
    known = torch.where(valid, labels.to(logits.dtype), q)
    target = q + _inverse(propensity, valid, floor) * (known - q)
    return per_post(F.softplus(logits) - target * logits)


OBJECTIVES = {
    "unmasked": Objective(unmasked_bce),
    "masked": Objective(partial(radar_loss, lam=0.0)),
    "csl": Objective(class_aware_selective, ("prior",)),
    "nnpu": Objective(nonnegative_pu, ("prior",)),
    "ipw": Objective(inverse_propensity, ("propensity",)),
    "dr": Objective(doubly_robust, ("propensity", "imputed")),
}


def _inverse(propensity: Tensor, valid: Tensor, floor: float) -> Float[Tensor, "post category"]:
    """1 / max(propensity, floor) on verified cells, 0 elsewhere."""
    safe = torch.where(valid, propensity, 1.0)
    if not bool(((safe > 0) & (safe <= 1)).all()):
        raise ValueError("a verified cell's propensity is outside (0, 1]; it is the probability that it was verified")
    return torch.where(valid, 1.0 / safe.clamp_min(floor), 0.0)


def _check_prior(prior: Tensor, logits: Tensor) -> None:
    if prior.shape != logits.shape[1:]:
        raise ValueError(f"prior has the shape {tuple(prior.shape)}; it is one share for each of {logits.shape[1]}")
    if not bool(((prior >= 0) & (prior <= 1)).all()):
        raise ValueError(f"prior is {prior.tolist()}; shares of violations lie in [0, 1]")
