"""Notebook 08: what training without a mask converges to, and what unverified cells hide."""

import numpy as np

from radar_suite.exercises.exercise import Exercise


def assume_negative(posterior, propensity):
    return propensity * posterior


def _posterior_and_propensity(generator: np.random.Generator) -> tuple[np.ndarray, float]:
    return generator.uniform(0.01, 0.99, 8), float(generator.uniform(0.05, 0.6))


ASSUME_NEGATIVE = Exercise(
    name="assume_negative",
    task="""A post is reviewed with the same probability `propensity` whatever it shows; all others count as 0. Write
    `assume_negative(posterior, propensity) -> limit`: the probability that cross-entropy on such labels converges to.
    `posterior` is P(y = 1 | x) of some posts.""",
    hints=("Cross-entropy converges to the probability that the label *in the table* is 1.",
           "The label is 1 where the post is a violation *and* was reviewed; here the two are independent."),
    answer=assume_negative,
    why="Every score shrinks by one factor, so the order of the posts, and with it PR-AUC, R@P and APR, stay as they "
    "were (Elkan and Noto 2008). The probabilities are wrong, the ranking is not.",
    mistakes=(
        (lambda p, c: p, "that is what the mask converges to; here reviewed and violating must come together"),
        (lambda p, c: np.full_like(p, c), "that forgets the post: a violation is still likelier to be labelled 1"),
        (lambda p, c: c * p / (c * p + 1 - p), "unreviewed violations count as 0 too, they are not left out"),
        (lambda p, c: p / c, "unreviewed posts lower the score, they do not raise it"),
    ),
    case=_posterior_and_propensity,
)  # fmt: skip


def unmasked_limit(density, verified):
    return density / density.sum(axis=1, keepdims=True) * verified


def _densities(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return generator.exponential(size=(6, 3)), generator.uniform(0.01, 0.99, (6, 3))


UNMASKED_LIMIT = Exercise(
    name="unmasked_limit",
    task="""Now pipelines choose. `density` (posts x categories) says how many posts like this one pipeline k reviews,
    `verified` is P(label_k = 1 | x, reviewed by k), what the mask converges to. Every post is reviewed by exactly one
    pipeline. Write `unmasked_limit(density, verified) -> limit` of training without the mask, for each cell.""",
    hints=("Which share of the training posts that look like x came through pipeline k?",
           "`density / density.sum(axis=1, keepdims=True)`, and only those posts can carry label_k = 1."),
    answer=unmasked_limit,
    why="The mask's limit is multiplied by the share of the pipeline that owns the risk. A share "
    "that rises with the post's own cues does little harm; where other pipelines take such posts for violations of "
    "their own, it buries true ones.",
    mistakes=(
        (lambda d, v: v, "that is the mask's limit: posts of other pipelines left out instead of counted as 0"),
        (lambda d, v: d * v, "divide by all pipelines' posts: a limit is a probability"),
        (lambda d, v: d / d.sum(axis=0) * v, "share among pipelines for one post, not among posts for one pipeline"),
        (lambda d, v: d / d.sum(axis=1, keepdims=True), "of the pipeline's own posts only some carry label 1"),
    ),
    case=_densities,
)  # fmt: skip


def hidden_violations(labels, truth):
    return np.array([truth[labels[:, k] == -1, k].mean() for k in range(labels.shape[1])])


def _labels_and_truth(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = (generator.random((60, 3)) < 0.3).astype(int)
    labels = np.full((60, 3), -1)
    owner = generator.permutation(np.repeat(np.arange(3), (10, 20, 30)))
    labels[np.arange(60), owner] = truth[np.arange(60), owner]
    return labels, truth


HIDDEN_VIOLATIONS = Exercise(
    name="hidden_violations",
    task="""Taking -1 for 0 is wrong only where a violation is hidden. Write
    `hidden_violations(labels, truth) -> shares`, one per category: the share of unverified cells that are violations.
    `labels` holds 1, 0 and -1, `truth` 1 and 0.""",
    hints=("Column by column: which cells are -1?", "`truth[labels[:, k] == -1, k].mean()`"),
    answer=hidden_violations,
    why="With every share at 0, taking -1 for 0 adds correct labels for free. Only in a built-in world can the "
    "shares be known; with your own posts it takes an audit that labels some posts for all risks.",
    mistakes=(
        (lambda y, t: (t * (y == -1)).mean(axis=0), "divide by the number of unverified cells, not of posts"),
        (lambda y, t: t.mean(axis=0), "verified cells are not hidden; leave them out"),
        (lambda y, t: (t * (y == -1)).sum(axis=0) / t.sum(axis=0), "share of the violations that hide; asked is the "
         "share of the unverified cells"),
        (lambda y, t: t[y == -1].mean(), "one share per category, not one for all"),
    ),
    case=_labels_and_truth,
)  # fmt: skip

EXERCISES = (ASSUME_NEGATIVE, UNMASKED_LIMIT, HIDDEN_VIOLATIONS)
