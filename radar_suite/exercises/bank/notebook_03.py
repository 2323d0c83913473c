"""Notebook 03: one expert per risk, what it is trained on, where it starts, what it costs, when to stop."""

import math

import numpy as np

from radar_suite.exercises.bank.random_cases import label_matrix
from radar_suite.exercises.exercise import Exercise


def expert_rows(labels, k):
    return np.flatnonzero(labels[:, k] != -1)


EXPERT_ROWS = Exercise(
    name="expert_rows",
    task="""An expert is a router with K = 1. Write `expert_rows(labels, k) -> rows`: the indices of the posts on which
    the expert of category `k` can be trained; `labels` is posts x categories with 1, 0 and -1.""",
    hints=("Eq. 4, one column of it.", "`np.flatnonzero(...)` of the cells that were verified, cleared ones too."),
    answer=expert_rows,
    why="An expert sees its own pipeline's posts and nothing else: with disjoint pipelines, the K experts' training "
    "sets are disjoint as well.",
    mistakes=(
        (lambda y, k: np.flatnonzero(y[:, k] == 1),
         "an expert of violations alone learns to say yes; keep cleared posts"),
        (lambda y, k: np.flatnonzero(y[:, k]),
         "-1 is not zero, so you kept the unverified posts and dropped the cleared"),
        (lambda y, k: np.arange(len(y)), "these are all posts, also those that nobody verified for this category"),
    ),
    case=lambda generator: (label_matrix(generator), int(generator.integers(3))),
)  # fmt: skip


def baseline_ap(labels):
    verified = labels[labels != -1]
    return (verified == 1).mean()


BASELINE_AP = Exercise(
    name="baseline_ap",
    task="""Write `baseline_ap(labels) -> AP`: the average precision to expect of scores that know nothing, for one
    category's labels (1, 0, and -1 for posts that are not scored).""",
    hints=("Shuffle the posts. What is the precision among the first n, for any n?",
           "It is the share of violating posts among those that count."),
    answer=baseline_ap,
    why="Precision is the prevalence at every depth, so its average is too (up to a small-sample term). Hence PR-AUC "
    "of 10 means little at 25 % prevalence and much at 3 %, and categories cannot be compared by it.",
    mistakes=(
        (lambda y: 0.5, "0.5 is the area under the ROC curve; average precision depends on the prevalence"),
        (lambda y: (y == 1).mean(), "posts that were never verified are not scored; leave them out of the denominator"),
        (lambda y: (y[y != -1] == 0).mean(), "that is the share of cleared posts"),
    ),
    case=lambda generator: (label_matrix(generator)[:, 0],),
)  # fmt: skip


def head_bias(prevalence):
    return math.log(prevalence / (1 - prevalence))


HEAD_BIAS = Exercise(
    name="head_bias",
    task="""Before the first step a head's logit is about its bias. Write `head_bias(prevalence) -> bias` so that the
    head starts by predicting the training prevalence.""",
    hints=("Solve sigmoid(b) = prevalence for b.", "The inverse of the sigmoid is the log-odds."),
    answer=head_bias,
    why="With a bias of 0 the first steps only learn that violations are rare. At 9 % the loss starts at 0.69 instead "
    "of the 0.30 that the prevalence alone reaches. (The suite's own runs start at 0; "
    "`RadarRouter(prior=...)` does this.)",
    mistakes=(
        (lambda p: p, "the bias is a logit, not a probability"),
        (lambda p: math.log(p), "log p is not the inverse of the sigmoid: divide by 1 - p first"),
        (lambda p: math.log((1 - p) / p), "the sign is turned round: this head starts by calling nearly all violating"),
    ),
    case=lambda generator: (float(generator.uniform(0.01, 0.6)),),
)


def lora_parameters(shapes, rank):
    return sum(rank * (inputs + outputs) for outputs, inputs in shapes)


LORA_PARAMETERS = Exercise(
    name="lora_parameters",
    task="""LoRA adds B A to each chosen weight, A of shape (rank, in) and B of shape (out, rank). Write
    `lora_parameters(shapes, rank) -> count` of trainable parameters, `shapes` being a list of (out, in).""",
    hints=("Count A and B of one layer.", "rank * (in + out), summed over the layers."),
    answer=lora_parameters,
    why="The count grows linearly with the rank, and so does the capacity of the update. At rank 128 a square layer of "
    "width 256 trains as many numbers as the full weight holds: on narrow stand-ins LoRA saves little.",
    mistakes=(
        (lambda s, r: sum(o * i for o, i in s), "these are the frozen weights; only A and B are trained"),
        (lambda s, r: sum(r * o * i for o, i in s), "A has rank * in numbers, not rank * in * out"),
        (lambda s, r: sum(r * i for o, i in s), "you counted A and forgot B"),
        (lambda s, r: sum(r * o for o, i in s), "you counted B and forgot A"),
    ),
    case=lambda generator: ([tuple(int(n) for n in generator.integers(8, 300, 2)) for _ in range(4)], 16),
)


def best_epoch(train_loss, validation_ap):
    return int(np.argmax(validation_ap))


BEST_EPOCH = Exercise(
    name="best_epoch",
    task="""Suppose validation posts may choose the epoch (our recipe does not: it keeps the last). Write
    `best_epoch(train_loss, validation_ap) -> epoch` (counted from 0): the one with the highest validation average
    precision; the earliest one if several are equal.""",
    hints=("Training loss falls for ever.", "`np.argmax` returns the first maximum."),
    answer=best_epoch,
    why="Past that epoch the expert memorises its posts. Choosing it on the test split would be one more way of "
    "memorising, which is why there is a validation split. The suite keeps the last epoch instead, so that validation "
    "posts stay untouched.",
    mistakes=(
        (lambda loss, ap: int(np.argmin(loss)),
         "the lowest training loss comes last, and is the most overfitted epoch"),
        (lambda loss, ap: int(np.argmin(ap)), "average precision is better the higher it is"),
        (lambda loss, ap: int(np.argmax(ap)) + 1, "count epochs from 0"),
    ),
    case=lambda generator: (
        np.sort(generator.random(10))[::-1].copy(),
        np.round(np.sin(np.linspace(0, generator.uniform(2, 3), 10)) + 0.05 * generator.random(10), 1),
    ),
)  # fmt: skip

EXERCISES = (EXPERT_ROWS, BASELINE_AP, HEAD_BIAS, LORA_PARAMETERS, BEST_EPOCH)
