"""Notebook 10: a signal that separates look-alikes, and when a fix is proven."""

import numpy as np

from radar_suite.exercises.exercise import Exercise


def gap(student, teacher, own):
    distance = student - teacher
    return distance[~own].mean() - distance[own].mean()


def _logits(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    own = generator.permutation(np.repeat([True, False], (8, 22)))
    return generator.normal(0, 2, 30) - ~own, generator.normal(1, 2, 30), own


PIPELINE_GAP = Exercise(
    name="gap",
    task="""On posts that the teacher finds worst for a category, write `gap(student, teacher, own) -> gap`: the mean of
    student minus teacher logit on other pipelines' posts, minus the same on those that the category's own pipeline
    verified (`own` is True). Negative where the student is too low on other pipelines' posts.""",
    hints=("Student minus teacher is the distance of each post. It is wanted for two groups.",
           "The mean over `~own`, minus the mean over `own`."),
    answer=gap,
    why="Noise in labels, few steps or a small model lower both groups. Only unverified cells that were read as "
    "negatives lower the others alone, so the difference tells that cause from its look-alikes.",
    mistakes=(
        (lambda s, t, own: (s - t)[own].mean() - (s - t)[~own].mean(), "the other way round: others minus own"),
        (lambda s, t, own: s[~own].mean() - s[own].mean(), "the teacher is needed: the groups differ in content, too"),
        (lambda s, t, own: (s - t).mean(), "that is low for many causes; the difference of the groups separates them"),
    ),
    case=_logits,
)  # fmt: skip


def proven(none, fix, placebo):
    return bool(((fix < none) & (fix < placebo)).all())


def _harms(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    none, fix, placebo = generator.integers(0, 4, 5) + 6.0, generator.integers(0, 4, 5) + 3.0, np.full(5, 7.0)
    kind = generator.integers(4)
    if kind == 0:
        placebo[int(generator.integers(5))] = fix[0]
        placebo[0] = fix[0]
    if kind == 1:
        none = fix.copy()
    return none, fix - (kind == 2) * 3, placebo


PROVEN = Exercise(
    name="proven",
    task="""`none`, `fix` and `placebo` are the harm of five runs each, with the same five seeds; more is worse. Write
    `proven(none, fix, placebo) -> bool`: True if the fix is better than the placebo *and* than doing nothing in every
    seed. A tie is no win.""",
    hints=("Compare seed by seed, not means: the seeds are matched.", "`<`, twice, and `.all()`."),
    answer=proven,
    why="A fix that any retraining would match says nothing about the cause. That all of five signs agree by chance "
    "has probability 1/32, and a placebo that does harm must not make a fix look good: hence none is compared, too.",
    mistakes=(
        (lambda n, f, p: bool((f < p).all()), "a placebo that does harm would prove any fix: compare with none, too"),
        (lambda n, f, p: bool((f < n).all()), "that is what a placebo is for: retraining alone may have helped"),
        (lambda n, f, p: bool(f.mean() < min(n.mean(), p.mean())), "the seeds are matched: every one must agree"),
        (lambda n, f, p: bool(((f <= n) & (f <= p)).all()), "a tie is no win"),
    ),
    case=_harms,
)  # fmt: skip

LOOK_ALIKE = Exercise(
    name="look_alike",
    task="""A student learned little in one category, and its soft labels have an AUC near 0.5 on the training posts.
    Were they joined to other posts, or is the expert weak? Which test decides? (a) fit the teacher's temperature; (b)
    let the expert score 200 training posts again and compare; (c) train with a lower lambda. Answer with a letter,
    such as `"a"`.""",
    hints=("Only one of the three gives different results under the two causes.",),
    answer="b",
    why="Joined to other posts, the new scores differ from the stored ones and are good. A weak expert repeats itself. "
    "Temperature keeps the ranking, and a lower lambda helps in either case: it would treat both and separate neither.",
    mistakes=(("a", "a temperature changes no ranking, so the AUC stays near 0.5 under either cause"),
              ("c", "less of a bad teacher helps whatever made it bad: a fix is no test of which")),
)  # fmt: skip

EXERCISES = (PIPELINE_GAP, PROVEN, LOOK_ALIKE)
