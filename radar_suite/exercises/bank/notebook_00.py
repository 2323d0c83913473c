"""Notebook 00: masking, distillation, lambda and tau on small tensors."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from radar_suite.exercises.bank.random_cases import two_logits
from radar_suite.exercises.exercise import Exercise


def _labelled_logits(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Five posts, three risks, some cells unverified, and a NaN in one of those."""
    labels = torch.tensor(generator.integers(-1, 2, (5, 3)))
    labels[0], labels[1, 0] = torch.tensor([1, 0, -1]), -1
    logits = torch.tensor(generator.normal(size=(5, 3)), dtype=torch.float32)
    logits[0, 2] = math.nan
    return logits, labels


def _loss_and_gradient(function, logits, labels):
    logits = logits.clone().requires_grad_(True)
    loss = function(logits, labels)
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        raise TypeError("the loss is to be a tensor computed from the logits, so that it has a gradient")
    return loss, torch.autograd.grad(loss, logits)[0]


def _cells(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")


def my_masked_bce(logits, labels):
    valid = labels != -1
    kept = F.binary_cross_entropy_with_logits(logits[valid], labels[valid].float(), reduction="sum")
    return kept / len(logits)


MASKED_BCE = Exercise(
    name="masked_bce",
    task="""Write `my_masked_bce(logits, labels) -> loss`: Eq. 5, averaged over posts. `labels` holds 1, 0 and -1 (not
    verified). Masked cells may hold NaN, and must change neither the loss nor its gradient.""",
    hints=("Choose the verified cells first, then compute the loss of those alone.",
           '`F.binary_cross_entropy_with_logits(logits[valid], ..., reduction="sum")`; divide by the number of posts.'),
    answer=my_masked_bce,
    why="Indexing never shows the masked cells to the loss, so nothing that they hold can come back, forwards or "
    "backwards. `radar_lib.losses.masked_bce` does the same with two `where`, which keeps the shape.",
    mistakes=(
        (lambda z, y: (_cells(z, y) * (y != -1)).sum() / len(z),
         "your loss is NaN because a masked cell holds NaN, and 0 * NaN is NaN; choose the cells before the loss"),
        (lambda z, y: torch.where(y != -1, _cells(z, y), 0.0).sum() / len(z),
         "your loss is finite but its gradient is NaN in masked cells: `where` on the output still sends "
         "0 * NaN backwards; replace the inputs as well, or index"),
        (lambda z, y: _cells(z[y != -1], y[y != -1]).mean(),
         "you divide by the number of verified cells; Eq. 5 is a sum per post, averaged over posts"),
        (lambda z, y: _cells(z[y != -1], y[y != -1]).sum(), "you sum over posts; divide by their number"),
        (lambda z, y: _cells(z, y.clamp_min(0)).sum() / len(z),
         "you take -1 for 0: that is the baseline 'BCE w/o Mask', and here it also meets a NaN"),
    ),
    case=_labelled_logits,
    observe=_loss_and_gradient,
)  # fmt: skip


def my_kl_gradient(teacher_logits, student_logits):
    return torch.sigmoid(student_logits) - torch.sigmoid(teacher_logits)


def _kl_by_probability(a, z):
    p = torch.sigmoid(z)
    return (p - torch.sigmoid(a)) / (p * (1 - p))


KL_GRADIENT = Exercise(
    name="kl_gradient",
    task="""Write `my_kl_gradient(teacher_logits, student_logits) -> gradient`: the derivative of KL(t || p) (Eq. 6)
    with respect to the student's *logit*, cell by cell, without autograd.""",
    hints=("KL(t || p) = constant - t log p - (1 - t) log(1 - p), and d log p / dz = 1 - p.",
           "Everything but p and t cancels."),
    answer=my_kl_gradient,
    why="p - t, the gradient of cross-entropy with t in the label's place. It is bounded by 1, and zero exactly at the "
    "teacher: distillation pulls towards the teacher's value, never beyond.",
    mistakes=(
        (lambda a, z: my_kl_gradient(z, a), "the sign is turned round: this one would push away from the teacher"),
        (_kl_by_probability, "that is the derivative by p; the chain rule multiplies it by dp/dz = p (1 - p)"),
    ),
    case=two_logits,
)  # fmt: skip


def my_mixed_target(label, teacher_prob, lam):
    if label == -1:
        return teacher_prob, lam
    return (1 - lam) * label + lam * teacher_prob, 1.0


MIXED_TARGET = Exercise(
    name="mixed_target",
    task=r"""Up to a constant, each cell of Eq. 7 is `weight * bce(p, target)`. Write
    `my_mixed_target(label, teacher_prob, lam) -> (target, weight)` for one cell; `label` is 1, 0 or -1.""",
    hints=("On a verified cell the two cross-entropies have weights 1 - lambda and lambda; add their targets.",
           "An unverified cell has no masked loss at all: only lambda times the teacher's is left."),
    answer=my_mixed_target,
    why="lambda does two things: it moves the targets of verified cells towards the teacher, and it sets how much "
    "the unverified cells count beside them.",
    mistakes=(
        (lambda y, t, lam: (t, 1.0) if y == -1 else my_mixed_target(y, t, lam),
         "the target is right, but an unverified cell weighs lambda, not 1: its masked loss is gone"),
        (lambda y, t, lam: ((1 - lam) * y + lam * t, 1.0),
         "an unverified cell has no label to mix: -1 is a mark, not a number"),
        (lambda y, t, lam: my_mixed_target(y, t, lam) if y == -1 else (lam * y + (1 - lam) * t, 1.0),
         "lambda is the teacher's share in Eq. 7, not the label's"),
    ),
    case=lambda generator: (int(generator.integers(-1, 2)), float(generator.random()),
                            float(generator.choice([0.1, 0.3, 0.7]))),
)  # fmt: skip


def my_auto_pass_rate(labels, scores, recall):
    violating = np.sort(scores[labels == 1])[::-1]
    needed = math.ceil(recall * len(violating) - 1e-9)
    return (scores < violating[needed - 1]).mean()


def _scored_posts(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    labels = (generator.random(30) < 0.3).astype(int)
    labels[:2] = 1
    scores = np.round(generator.normal(size=30) + labels, 1)
    return labels, scores, float(generator.choice([0.5, 0.7, 0.9]))


AUTO_PASS_RATE = Exercise(
    name="auto_pass_rate",
    task="""Write `my_auto_pass_rate(labels, scores, recall) -> APR@R`: the largest share of posts that can be released
    (score <= tau) while the dispatched ones (score > tau) still hold at least `recall` of the violating posts. Mind
    equal scores.""",
    hints=("How many violating posts must be dispatched? Which is the lowest-scored of those?",
           "Everything strictly below that score may go; whatever ties with it must be dispatched too."),
    answer=my_auto_pass_rate,
    why="Ties are a block: tau cannot pass between two equal scores, so all of them are dispatched.",
    mistakes=(
        (lambda y, s, r: (s <= np.sort(s[y == 1])[::-1][math.ceil(r * y.sum() - 1e-9) - 1]).mean(),
         "you release the posts that tie with the last needed violation, and that violation with them"),
        (lambda y, s, r: 1 - my_auto_pass_rate(y, s, r),
         "that is the share dispatched; the auto-pass rate is the share released"),
        (lambda y, s, r: (s <= np.quantile(s[y == 1], 1 - r)).mean(),
         "an interpolated quantile lies between two posts, where recall may already be below the target"),
        (lambda y, s, r: (s[y == 0] < np.sort(s[y == 1])[::-1][math.ceil(r * y.sum() - 1e-9) - 1]).mean(),
         "you count cleared posts only; Eq. 3 averages over all N posts"),
    ),
    case=_scored_posts,
)  # fmt: skip

NET_SAVING = Exercise(
    name="net_saving",
    task="""Say a post costs 8 units in each of K = 3 vertical modules and 4 units in the router (in proportion to 8B
    and 4B parameters). Each module is skipped for 88.71 % of posts, the paper's best average APR@R90. Which fraction
    of the cost of running all three modules on everything is saved? Give a number between 0 and 1.""",
    hints=("Before: 24 units a post. After: the router, plus what is still dispatched.",
           "The router runs once per post, whatever K is."),
    answer=round(0.8871 - 4 / 24, 4),
    why="1 - (4 + 24 (1 - 0.8871)) / 24 = 0.8871 - 4/24. An auto-pass rate is an upper bound of the saving: the router "
    "itself takes its share, and takes less of it the more modules it stands before.",
    mistakes=(
        (0.8871, "that is the auto-pass rate; the router is not free"),
        (0.8871 - 12 / 24, "the router runs once per post, not once per module"),
        (1 - (0.8871 - 4 / 24), "that is what is still spent"),
    ),
    tolerance=2e-3,
)  # fmt: skip

EXERCISES = (MASKED_BCE, KL_GRADIENT, MIXED_TARGET, AUTO_PASS_RATE, NET_SAVING)
