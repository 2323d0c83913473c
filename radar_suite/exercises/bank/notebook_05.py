"""Notebook 05: one router on fragmented labels: counting cells, gradients, the baseline's bias."""

import numpy as np
import torch

from radar_suite.exercises.bank.random_cases import label_matrix
from radar_suite.exercises.exercise import Exercise


def valid_cells(labels):
    return (labels != -1).sum(axis=0)


VALID_CELLS = Exercise(
    name="valid_cells",
    task="""Write `valid_cells(labels) -> counts`: for each category, on how many posts the masked loss trains its head.
    `labels` is an array of posts x categories with 1, 0 and -1.""",
    hints=("Count cells, not violations.", "`(labels != -1).sum(axis=0)`"),
    answer=valid_cells,
    why="With disjoint pipelines the counts add up to the number of posts, and only 1/K of the label matrix is filled. "
    "The shared backbone sees every post; a head sees its own column.",
    mistakes=(
        (lambda y: (y == 1).sum(axis=0), "these are the violating posts; cleared ones train the head as well"),
        (lambda y: (y != -1).sum(axis=1), "you counted along the categories: one number per post"),
        (lambda y: (y != -1).sum(), "one number per category, please: sum over the posts only"),
        (lambda y: y.sum(axis=0), "-1 is a mark, not a number to be summed"),
    ),
    case=lambda generator: (label_matrix(generator),),
)


def bce_gradient(logits, labels):
    error = torch.sigmoid(logits) - labels
    return torch.where(labels == -1, 0.0, error) / len(logits)


def _logits_and_labels(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(generator.normal(size=(12, 3)), dtype=torch.float32), torch.tensor(label_matrix(generator))


def _error(logits, labels):
    return torch.sigmoid(logits) - labels


BCE_GRADIENT = Exercise(
    name="bce_gradient",
    task="""Write `bce_gradient(logits, labels) -> gradient` of Eq. 5 (averaged over posts) with respect to the logits,
    without autograd. Same shape as the logits.""",
    hints=("For one cell the derivative of the cross-entropy by the logit is p - y.",
           "Nothing comes from masked cells, and the loss was divided by the number of posts."),
    answer=bce_gradient,
    why="A head is pushed by its own errors on its own posts. Through the shared layers every category moves the "
    "others, which is where a router can gain over K experts, or lose.",
    mistakes=(
        (lambda z, y: torch.where(y == -1, 0.0, _error(z, y)), "divide by the number of posts, as the loss does"),
        (lambda z, y: _error(z, y) / len(z), "in masked cells you have p + 1: the gradient there is exactly 0"),
        (lambda z, y: _error(z, y.clamp_min(0)) / len(z),
         "in masked cells you have p: that is the baseline without mask"),
        (lambda z, y: torch.where(y == -1, 0.0, _error(z, y)) / (y != -1).sum(),
         "you divide by verified cells; Eq. 5 is averaged over posts"),
        (lambda z, y: -bce_gradient(z, y), "that is the step, minus the gradient"),
    ),
    case=_logits_and_labels,
)  # fmt: skip


def assumed_prevalence(verified_share, verified_prevalence, hidden_prevalence):
    return verified_share * verified_prevalence


ASSUMED_PREVALENCE = Exercise(
    name="assumed_prevalence",
    task="""A fraction `verified_share` of all posts is verified for a risk, and `verified_prevalence` of those are
    violating. Of the others `hidden_prevalence` are violating too, but nobody looked. Write
    `assumed_prevalence(verified_share, verified_prevalence, hidden_prevalence) -> p`: the constant prediction with the
    lowest loss when training *without* the mask.""",
    hints=("A constant that minimises cross-entropy is the mean of the targets.",
           "Without the mask, every unverified post has the target 0, whatever it is."),
    answer=assumed_prevalence,
    why="What the other pipelines hide never enters: the model is taught that 0 of it is violating. The truth is "
    "higher by (1 - share) * hidden. If pipelines choose posts by their looks, the error depends on those looks, and "
    "then the ranking suffers as well as the level.",
    mistakes=(
        (lambda c, v, h: c * v + (1 - c) * h,
         "that is the true prevalence; an unmasked loss never hears of the hidden"),
        (lambda c, v, h: v, "that is what the *masked* loss would learn"),
        (lambda c, v, h: (1 - c) * v, "the posts with real labels are the verified share, not the rest"),
    ),
    case=lambda generator: tuple(float(x) for x in generator.uniform(0.05, 0.6, 3)),
)  # fmt: skip


EXERCISES = (VALID_CELLS, BCE_GRADIENT, ASSUMED_PREVALENCE)
