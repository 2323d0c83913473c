"""Notebook 06: reading Tables 1 and 2: average precision with ties, R@P, normalised APR, averages, marks."""

import numpy as np

from radar_suite.exercises.exercise import Exercise

AP_WITH_TIES = Exercise(
    name="ap_with_ties",
    task="""Five posts have labels 1, 0, 1, 1, 0 and scores 3, 2, 2, 2, 1. What is the average precision? Work it out by
    hand, with the three posts of score 2 as one block. Give a number between 0 and 1, to three decimals.""",
    hints=("There are three blocks. After each: how many posts, how many of them violating?",
           "Precision is 1/1, 3/4, 3/5; the blocks add 1/3, 2/3 and 0 of recall."),
    answer=round(1 / 3 + 2 / 3 * 3 / 4, 4),
    why="1/3 * 1 + 2/3 * 3/4 = 5/6. No threshold can separate equal scores, so no credit may depend on their order in "
    "the file.",
    mistakes=(
        (1.0, "you put the violating posts first within the tie: no threshold can"),
        ((1 + 2 / 3 + 3 / 4) / 3, "you put the cleared post first within the tie: its block has one precision, 3/4"),
        (1 / 3 + 2 / 3 * 0.875, "that is the trapezoid, straight lines between blocks; average precision is a sum"),
        (0.75, "that is the precision after the second block, not its average"),
    ),
    tolerance=1e-3,
)  # fmt: skip


def recall_at_precision(labels, scores, precision):
    best = 0.0
    for tau in np.unique(scores):
        sent = scores >= tau
        if labels[sent].mean() >= precision:
            best = max(best, labels[sent].sum() / labels.sum())
    return best


def _stops_early(labels, scores, precision):
    best = 0.0
    for tau in np.unique(scores)[::-1]:
        sent = scores >= tau
        if labels[sent].mean() < precision:
            break
        best = labels[sent].sum() / labels.sum()
    return best


def _at_nearest_precision(labels, scores, precision):
    taus = np.unique(scores)
    gaps = [abs(labels[scores >= tau].mean() - precision) for tau in taus]
    sent = scores >= taus[int(np.argmin(gaps))]
    return labels[sent].sum() / labels.sum()


def _post_by_post(labels, scores, precision):
    ordered = labels[np.argsort(-scores, kind="stable")]
    found = np.cumsum(ordered)
    good = found / np.arange(1, len(found) + 1) >= precision
    return float(found[good].max() / labels.sum()) if good.any() else 0.0


def _scored(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    labels = (generator.random(25) < 0.4).astype(int)
    labels[0] = 1
    return labels, np.round(generator.normal(size=25) + labels, 1), 0.6


RECALL_AT_PRECISION = Exercise(
    name="recall_at_precision",
    task="""Write `recall_at_precision(labels, scores, precision) -> R@P`: the largest recall of any threshold whose
    precision is at least `precision`, and 0 if there is none. Equal scores go together.""",
    hints=("Try every distinct score as a threshold.",
           "Precision does not fall steadily as the threshold falls: do not stop at the first failure."),
    answer=recall_at_precision,
    why="The precision-recall curve is a saw. Its first dip below 60 % may be followed by a long stretch above.",
    mistakes=(
        (_stops_early, "you stop when precision first falls below the target; it may rise again further down"),
        (_post_by_post, "you take the posts one by one; equal scores cannot be separated"),
        (_at_nearest_precision, "the precision nearest to the target may lie below it, or leave recall unused"),
        (lambda y, s, p: 1.0, "dispatching everything has recall 1, but its precision is the prevalence"),
    ),
    case=_scored,
)  # fmt: skip


def normalised_apr(apr, recall, prevalence):
    return (apr - (1 - recall)) / (recall * (1 - prevalence))


NORMALISED_APR = Exercise(
    name="normalised_apr",
    task="""Scores that know nothing still release 1 - R of all posts. Perfect scores release every cleared post and
    1 - R of the violating ones. Write `normalised_apr(apr, recall, prevalence) -> value`: APR@R rescaled linearly so
    that the first is 0 and the second is 1.""",
    hints=("(apr - worst) / (best - worst).",
           "best = (1 - prevalence) + (1 - recall) * prevalence; simplify best - (1 - recall)."),
    answer=normalised_apr,
    why="best - worst = R (1 - prevalence). APR@R90 of 62 sounds like most of the traffic, and is 0.6 of what could "
    "be had; the first 10 points came for nothing.",
    mistakes=(
        (lambda a, r, p: (a - (1 - r)) / r,
         "perfect scores still dispatch the violating posts: the best APR is below 1"),
        (lambda a, r, p: a / (1 - p), "scores that know nothing would not be at 0: they release 1 - R"),
        (lambda a, r, p: (a - (1 - r)) / (1 - p), "divide by the distance from worst to best, R (1 - prevalence)"),
    ),
    case=lambda generator: (float(generator.uniform(0.2, 0.95)), float(generator.choice([0.9, 0.95])),
                            float(generator.uniform(0.02, 0.3))),
)  # fmt: skip


def macro_average(values, posts):
    return float(np.mean(values))


MACRO_AVERAGE = Exercise(
    name="macro_average",
    task="""Write `macro_average(values, posts) -> average` for the 'Average' columns of the tables. `values` holds one
    metric for each category, `posts` the size of each category's test set. More than one rule is thinkable: write the
    one that gives the paper's 71.52 from the experts' 82.57, 70.90 and 61.10 (15k, 30k and 30k posts).""",
    hints=("Try both rules with the paper's three numbers.", "(82.57 + 70.90 + 61.10) / 3"),
    answer=macro_average,
    why="Each risk counts the same, however many test posts it has: a macro average. Weighted by posts it would "
    "be 69.31.",
    mistakes=(
        (lambda v, n: float(np.average(v, weights=n)), "weighted by posts the experts would have 69.31, not 71.52"),
        (lambda v, n: float(np.median(v)), "that is the median: 70.90 for the experts"),
    ),
    case=lambda generator: (generator.uniform(40, 90, 3).round(2), generator.choice([15_000, 30_000], 3) * [1, 2, 3]),
)


def marks(values):
    printed = [f"{value:.2f}" for value in values]
    ranks = sorted(set(printed), key=float, reverse=True)
    return ["bold" if p == ranks[0] else "underline" if p == ranks[1] else "" for p in printed]


def _unrounded(values):
    ranks = sorted(set(values), reverse=True)
    return ["bold" if v == ranks[0] else "underline" if v == ranks[1] else "" for v in values]


def _first_only(values):
    order = np.argsort([-float(f"{v:.2f}") for v in values], kind="stable")
    return ["bold" if i == order[0] else "underline" if i == order[1] else "" for i in range(len(values))]


MARKS = Exercise(
    name="marks",
    task="""Write `marks(values) -> marks`: for one column of a table, a list of "bold" (best), "underline" (second
    best) and "" for the rest. What counts is the number as printed, with two decimals; equal numbers get equal
    marks.""",
    hints=("Round first, rank afterwards.", "Rank the *distinct* printed numbers."),
    answer=marks,
    why="A reader who sees 79.18 twice and one of them in bold has been told something that the table does not show. "
    "(Nor does it show whether the difference exceeds the noise: that needs intervals.)",
    mistakes=(
        (_unrounded, "you rank digits that nobody sees: round to two decimals first"),
        (_first_only, "equal numbers must get equal marks"),
        (lambda values: marks([-v for v in values]), "the best is the highest"),
    ),
    case=lambda generator: (
        [float(v) for v in generator.choice([70.111, 70.114, 70.12, 70.121, 69.5, 68.0], 6)] + [60.0, 61.0],
    ),
)

EXERCISES = (AP_WITH_TIES, RECALL_AT_PRECISION, NORMALISED_APR, MACRO_AVERAGE, MARKS)
