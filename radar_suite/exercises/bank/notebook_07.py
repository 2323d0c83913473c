"""Notebook 07: what lambda weighs, what is left at lambda = 1, where a curve is stable, and what carries a gain."""

import numpy as np
import torch
import torch.nn.functional as F

from radar_suite.exercises.bank.random_cases import label_matrix, two_logits
from radar_suite.exercises.exercise import Exercise


def cell_weights(labels, lam):
    return np.where(labels == -1, lam, 1.0)


CELL_WEIGHTS = Exercise(
    name="cell_weights",
    task="""Up to a constant Eq. 7 is a weighted cross-entropy towards mixed targets. Write
    `cell_weights(labels, lam) -> weights`, one for each cell; `labels` is posts x categories with 1, 0 and -1.""",
    hints=("On a verified cell: (1 - lambda) from the label and lambda from the teacher.",
           "On an unverified cell the first of the two is masked."),
    answer=cell_weights,
    why="At lambda = 0.5 an unverified cell weighs half as much as a verified one. So the lambda study moves two "
    "things at once: what the targets are, and how much the unverified cells count.",
    mistakes=(
        (lambda y, lam: np.where(y == -1, lam, 1 - lam),
         "a verified cell hears the teacher as well: 1 - lambda + lambda"),
        (lambda y, lam: np.ones(y.shape), "unverified cells weigh less: their masked half is gone"),
        (lambda y, lam: np.where(y == -1, 0.0, 1.0), "that is the mask; the teacher speaks in unverified cells too"),
        (lambda y, lam: np.where(y == -1, 1 - lam, 1.0), "at lambda = 0 unverified cells weigh nothing; you have 1"),
    ),
    case=lambda generator: (label_matrix(generator), float(generator.choice([0.1, 0.3, 0.7]))),
)  # fmt: skip


def unverified_share(categories, lam):
    return (categories - 1) * lam / (1 + (categories - 1) * lam)


UNVERIFIED_SHARE = Exercise(
    name="unverified_share",
    task="""Every post is verified for exactly one of K categories. Write `unverified_share(categories, lam) -> share`
    of the total cell weight of Eq. 7 that lies on unverified cells.""",
    hints=("One post: one cell of weight 1, and K - 1 cells of weight lambda.",
           "(K - 1) lambda / (1 + (K - 1) lambda)"),
    answer=unverified_share,
    why="With K = 3 and lambda = 0.5 it is one half already, and with ten categories 0.82. The same lambda means "
    "something else for another number of pipelines.",
    mistakes=(
        (lambda k, lam: lam, "each post has K - 1 unverified cells of weight lambda, and one verified cell"),
        (lambda k, lam: (k - 1) / k, "that is their share in number; each of them weighs lambda"),
        (lambda k, lam: (k - 1) * lam / ((k - 1) * lam + 1 - lam), "the verified cell weighs 1, not 1 - lambda"),
        (lambda k, lam: lam / (1 + lam), "there are K - 1 unverified cells in a post, not one"),
    ),
    case=lambda generator: (int(generator.integers(2, 11)), float(generator.uniform(0.05, 0.95))),
)  # fmt: skip


def loss_at_one(logits, teacher_logits):
    t = torch.sigmoid(teacher_logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, t, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(teacher_logits, t, reduction="sum")
    return (cross_entropy - entropy) / len(logits)


def _two_matrices(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = zip(two_logits(generator), two_logits(generator), strict=True)
    return torch.stack(first), torch.stack(second)


def _cross_entropy(logits, teacher_logits):
    return F.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher_logits), reduction="sum") / len(logits)


LOSS_AT_ONE = Exercise(
    name="loss_at_one",
    task="""Write `loss_at_one(logits, teacher_logits) -> loss`: Eq. 7 at lambda = 1, averaged over posts. No labels are
    needed: say to yourself why.""",
    hints=(
        "The convex combination leaves only Eq. 6.",
        "KL(t || p) is the cross-entropy towards t minus the entropy of t; sum over categories, average over posts.",
    ),
    answer=loss_at_one,
    why="At lambda = 1 human labels reach the student through the experts alone. Whatever the experts got wrong, "
    "nothing can correct any more; and whatever they got right, it also says of posts that nobody labelled.",
    mistakes=(
        (_cross_entropy,
         "that is the cross-entropy: same gradient, but not 0 at p = t; subtract the teacher's entropy"),
        (lambda z, a: loss_at_one(a, z), "KL is not symmetric: Eq. 6 is KL(t || p), with the teacher first"),
        (lambda z, a: loss_at_one(z, a) / z.shape[1], "Eq. 6 sums over categories; divide by posts, not by cells"),
        (lambda z, a: loss_at_one(z, a) * len(z), "divide by the number of posts"),
    ),
    case=_two_matrices,
)  # fmt: skip


def stabilises_at(lambdas, values, tolerance):
    good = [value >= max(values) - tolerance for value in values]
    for i, lam in enumerate(lambdas):
        if all(good[i:]):
            return lam
    return None


def _first_good(lambdas, values, tolerance):
    return next(lam for lam, value in zip(lambdas, values, strict=True) if value >= max(values) - tolerance)


STABILISES_AT = Exercise(
    name="stabilises_at",
    task="""'Performance stabilizes when lambda >= 0.3' needs a rule. Write
    `stabilises_at(lambdas, values, tolerance) -> lambda`: the smallest lambda of the (ascending) grid from which on
    *every* value lies within `tolerance` of the best of the curve; `None` if even the last does not.""",
    hints=("Mark the values that are good enough; from which position on are all marked?", "`all(good[i:])`"),
    answer=stabilises_at,
    why="A curve that touches its best once and falls again has not stabilised. And with a tolerance below the noise "
    "of the test set, the rule reads noise.",
    mistakes=(
        (_first_good, "you stop at the first good value; a later one may fall out again"),
        (lambda x, v, tolerance: x[int(np.argmax(v))], "that is the best lambda; the curve may be stable long before"),
        (lambda x, v, tolerance: x[0], "the first lambda of the grid is not yet good enough"),
    ),
    case=lambda generator: (
        [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
        [float(v) for v in (np.minimum(np.arange(7), 3) + 0.8 * generator.normal(size=7)).round(2)],
        1.5,
    ),
)  # fmt: skip


def two_by_two(neither, verified, unverified, both):
    targets = ((verified - neither) + (both - unverified)) / 2
    supervision = ((unverified - neither) + (both - verified)) / 2
    return targets, supervision, both - verified - unverified + neither


TWO_BY_TWO = Exercise(
    name="two_by_two",
    task="""Four runs: the experts teach no cell, the verified cells only, the unverified cells only, or both. Write
    `two_by_two(neither, verified, unverified, both) -> (targets, supervision, interaction)` of a metric: the main
    effect of teaching verified cells, that of teaching unverified cells, and their interaction. The two main effects
    add up to `both - neither`.""",
    hints=("A main effect is the mean of what a factor changes where the other one is off and where it is on.",
           "The interaction is what teaching both brings beyond the sum of what each brings alone."),
    answer=two_by_two,
    why="What each brings alone need not add up to the gain: where both repair the same mistakes, the second one finds "
    "less to do, and the interaction is negative. The mean over both orders shares it out fairly (Shapley 1953).",
    mistakes=(
        (lambda n, v, u, b: (v - n, u - n, b - v - u + n),
         "that is what each brings alone; the two need not add up to both - neither"),
        (lambda n, v, u, b: (b - u, b - v, b - v - u + n), "that is what each brings on top of the other"),
        (lambda n, v, u, b: two_by_two(n, u, v, b), "you have exchanged the two effects"),
        (lambda n, v, u, b: (*two_by_two(n, v, u, b)[:2], b - v - u), "with four equal runs the interaction is 0"),
    ),
    case=lambda generator: tuple(float(value) for value in generator.uniform(30, 60, 4).round(2)),
)  # fmt: skip

EXERCISES = (CELL_WEIGHTS, UNVERIFIED_SHARE, LOSS_AT_ONE, STABILISES_AT, TWO_BY_TWO)
