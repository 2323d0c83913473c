"""Every metric of every row with its uncertainty: intervals, and differences of any two rows on the same posts.

A row is one run, or several of the same kind at different seeds, and then its number is their mean. There are three
intervals, chosen by `over`. "posts" is that of the test posts: PR-AUC by influence functions, the other metrics by one
bootstrap whose replicates are shared by all rows, so that any two rows are compared on the same draws. "seeds" is that
of training, on these posts: Student's t over the runs. "both" joins them, by the model of `combined_interval`.
The last two need two runs or more. Distilled routers of all seeds had one teacher, so their spread leaves out its own.

An average over risks is treated as one number: posts that several risks share count once, posts of one risk only move
that risk's part. Posts of one group, of which all are drawn or none, count as one as well.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int8

from radar_lib.intervals import (
    Difference,
    Groups,
    Interval,
    average_precision_influence,
    bootstrap,
    count_groups,
    logit_interval,
    percentile_interval,
    replicate_difference,
    standard_error,
    student_difference,
    sum_within,
)
from radar_lib.labels import valid_mask
from radar_lib.metrics import score_table, table_metrics
from radar_lib.seed_intervals import combined_difference, combined_interval, seed_difference, seed_interval

Over = Literal["posts", "seeds", "both"]
AREA, AVERAGE = "PR-AUC", "Average"
REPLICATES = 2000


class Evidence:
    """Rows scored on one test set.

    Args:
        truth: labels (1, 0, -1) of the test posts.
        rows: by row name the logits of its runs, ordered by seed: of two rows with equally many runs the n-th ones have
            the same seed. A cell that was not verified may hold anything.
        categories: the risks, in the order of the columns.
        groups: number of each post's group, where posts are not independent (`data.schema.group_numbers`).
        replicates: of the bootstrap.

    Raises:
        ValueError: as `score_table`.
    """

    def __init__(
        self, truth: Int8[np.ndarray, "post category"],
        rows: Mapping[Hashable, Sequence[Float[np.ndarray, "post category"]]], categories: Sequence[str], *,
        groups: Groups = None, replicates: int = REPLICATES, seed: int,
    ):  # fmt: skip
        self.categories, self.rows = tuple(categories), tuple(rows)
        self._tables = {row: [score_table(truth, one, categories) for one in runs] for row, runs in rows.items()}
        self._logits, self._known = rows, valid_mask(truth)
        self._influence: dict[tuple[Hashable, str], np.ndarray] = {}
        self._groups = {AVERAGE: count_groups(groups, among=self._known.any(axis=1))}
        for k, category in enumerate(categories):
            known = self._known[:, k]
            self._groups[category] = count_groups(groups, among=known)
            for row, runs in rows.items():
                parts = [average_precision_influence(truth[known, k], one[known, k]) for one in runs]
                influence = np.zeros(len(truth))
                influence[known] = np.mean(parts, axis=0) / known.sum()
                self._influence[row, category] = sum_within(influence, groups)
        self._drawn = self._bootstrap(truth, rows, groups, replicates, seed)
        for row in rows:
            self._influence[row, AVERAGE] = np.mean([self._influence[row, c] for c in categories], axis=0)
            for metric in self.metrics:
                if metric != AREA:
                    drawn = [self._drawn[row, category, metric] for category in categories]
                    self._drawn[row, AVERAGE, metric] = np.mean(drawn, axis=0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the tables."""
        return tuple(self._tables[self.rows[0]][0][AVERAGE])

    def seeds(self, row: Hashable) -> int:
        """How many runs the row has."""
        return len(self._tables[row])

    def same(self, row: Hashable, other: Hashable) -> bool:
        """Whether two rows are one: the same logits in every verified cell, at every seed, and not the same in all."""
        ours, theirs = ([one[self._known] for one in self._logits[name]] for name in (row, other))
        return len(ours) == len(theirs) and all(
            np.array_equal(a, b) and np.ptp(a) > 0 for a, b in zip(ours, theirs, strict=True)
        )

    def runs(self, row: Hashable, category: str, metric: str) -> list[float]:
        """The metric of each of the row's runs on the posts as they are, fractions, ordered by seed."""
        return [table[category][metric] for table in self._tables[row]]

    def value(self, row: Hashable, category: str, metric: str) -> float:
        """The metric on the posts as they are, the mean of the row's runs, a fraction."""
        return float(np.mean(self.runs(row, category, metric)))

    def interval(
        self, row: Hashable, category: str, metric: str, *, level: float = 0.95, over: Over = "posts"
    ) -> Interval:
        """The metric with its interval over test posts, seeds or both, cut to what a fraction can be.

        Raises:
            ValueError: seeds are asked for and the row has one run; unknown `over`.
        """
        estimate, *ends = self._interval(row, category, metric, level, _known(over))
        return Interval(estimate, *(float(end) for end in np.clip(ends, 0, 1)))

    def _interval(self, row: Hashable, category: str, metric: str, level: float, over: Over) -> Interval:
        runs = self.runs(row, category, metric)
        if over == "seeds":
            return seed_interval(runs, level=level)
        if metric == AREA:
            error = standard_error(self._influence[row, category], self._groups[category])
            posts = logit_interval(float(np.mean(runs)), error, level=level)
        else:
            posts = percentile_interval(float(np.mean(runs)), self._drawn[row, category, metric], level=level)
        return posts if over == "posts" else combined_interval(posts, runs, level=level)

    def difference(
        self, row: Hashable, other: Hashable, category: str, metric: str, *, level: float = 0.95, over: Over = "posts"
    ) -> Difference:
        """`row` minus `other`, paired by post, and by seed where both rows have equally many runs.

        Raises:
            ValueError: seeds are asked for and a row has one run; unknown `over`.
        """
        if _known(over) == "posts":
            return self._over_posts(_pair(row, other), category, metric, level)
        ours, theirs = self.runs(row, category, metric), self.runs(other, category, metric)
        if over == "seeds":
            return seed_difference(ours, theirs, level=level)
        posts = self._over_posts(_pair(row, other), category, metric, level)
        return combined_difference(posts, ours, theirs, level=level)

    def contrast(
        self, weights: Mapping[Hashable, float], category: str, metric: str, *, level: float = 0.95,
        over: Over = "posts",
    ) -> Difference:
        """The rows' weighted sum, such as a difference of two differences, paired by post; its null value is 0.

        Raises:
            ValueError: seeds are asked for and the rows do not have equally many runs, two or more; unknown `over`.
        """
        posts = self._over_posts(weights, category, metric, level)
        if _known(over) == "posts":
            return posts
        if len({self.seeds(row) for row in weights}) > 1:
            raise ValueError("a contrast over seeds takes rows with equally many runs")
        runs = sum(weight * np.array(self.runs(row, category, metric)) for row, weight in weights.items())
        none = np.zeros(len(runs))
        if over == "seeds":
            return seed_difference(runs, none, level=level)
        return combined_difference(posts, runs, none, level=level)

    def _over_posts(self, weights: Mapping[Hashable, float], category: str, metric: str, level: float) -> Difference:
        def summed(of: Mapping[tuple, np.ndarray], *place: str) -> np.ndarray:
            return sum(weight * of[row, *place] for row, weight in weights.items())

        estimate = float(sum(weight * self.value(row, category, metric) for row, weight in weights.items()))
        if metric == AREA:
            error = standard_error(summed(self._influence, category), self._groups[category])
            return student_difference(estimate, error, level=level)
        return replicate_difference(estimate, summed(self._drawn, category, metric), level=level)

    def _bootstrap(
        self, truth: np.ndarray, rows: Mapping[Hashable, Sequence[np.ndarray]], groups: Groups, replicates: int,
        seed: int,
    ) -> dict[tuple[Hashable, str, str], np.ndarray]:  # fmt: skip
        """Replicates of the metrics without a closed form; posts are drawn once for all rows and risks."""
        metrics = [metric for metric in self.metrics if metric != AREA]

        def values(weights: np.ndarray) -> np.ndarray:
            parts = []
            for k in range(len(self.categories)):
                known = np.flatnonzero(valid_mask(truth[:, k]))
                labels, times = truth[known, k], np.take(weights, known, axis=1)
                for runs in rows.values():
                    tables = [table_metrics(labels, one[known, k], weights=times) for one in runs]
                    parts += [np.mean([table[metric] for table in tables], axis=0) for metric in metrics]
            return np.stack(parts)

        drawn = bootstrap(values, posts=len(truth), groups=groups, replicates=replicates, seed=seed)
        places = ((row, category, metric) for category in self.categories for row in rows for metric in metrics)
        return dict(zip(places, drawn, strict=True))


def _pair(row: Hashable, other: Hashable) -> dict[Hashable, float]:
    """Weights of a difference; of a row and itself they are 0."""
    weights = {row: 1.0}
    weights[other] = weights.get(other, 0.0) - 1.0
    return weights


def _known(over: Over) -> Over:
    if over not in get_args(Over):
        raise ValueError(f"over is {over!r}; it must be one of {', '.join(get_args(Over))}")
    return over
