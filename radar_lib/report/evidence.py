"""Every metric of every row with its uncertainty: intervals, and differences of any two rows on the same posts.

A row is one run, or several of the same kind at different seeds, and then its number is their mean. The uncertainty is
that of the test posts: PR-AUC by influence functions, the other metrics by one bootstrap whose replicates are shared by
all rows, so that any two rows are compared on the same draws. How far the runs of a row lie apart is a different matter
and not in these intervals. An average over risks is treated as one number: posts that several risks share
count once, posts of one risk only move that risk's part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int8

from radar_lib.intervals import (
    Difference,
    Interval,
    average_precision_influence,
    drawn_difference,
    drawn_interval,
    draws,
    logit_interval,
    normal_difference,
)
from radar_lib.metrics import score_table, table_metrics

AREA, AVERAGE = "PR-AUC", "Average"
REPLICATES = 2000
POSTS_AT_ONCE = 1_500_000  # replicates x posts of one risk held in memory together


class Evidence:
    """Rows scored on one test set.

    Args:
        truth: labels (1, 0, -1) of the test posts.
        rows: by row name the logits of its runs; a cell that was not verified may hold anything.
        categories: the risks, in the order of the columns.
        replicates: of the bootstrap.

    Raises:
        ValueError: as `score_table`.
    """

    def __init__(
        self,
        truth: Int8[np.ndarray, "post category"],
        rows: Mapping[Hashable, Sequence[Float[np.ndarray, "post category"]]],
        categories: Sequence[str],
        *,
        replicates: int = REPLICATES,
        seed: int,
    ):
        self.categories, self.rows = tuple(categories), tuple(rows)
        self._value = {row: _mean([score_table(truth, one, categories) for one in runs]) for row, runs in rows.items()}
        self._influence: dict[tuple[Hashable, str], np.ndarray] = {}
        for k, category in enumerate(categories):
            known = truth[:, k] >= 0
            for row, runs in rows.items():
                parts = [average_precision_influence(truth[known, k], one[known, k]) for one in runs]
                self._influence[row, category] = np.zeros(len(truth))
                self._influence[row, category][known] = np.mean(parts, axis=0) / known.sum()
        self._drawn = self._bootstrap(truth, rows, replicates, seed)
        for row in rows:
            self._influence[row, AVERAGE] = np.mean([self._influence[row, c] for c in categories], axis=0)
            for metric in self.metrics:
                if metric != AREA:
                    drawn = [self._drawn[row, category, metric] for category in categories]
                    self._drawn[row, AVERAGE, metric] = np.mean(drawn, axis=0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the tables."""
        return tuple(self._value[self.rows[0]][AVERAGE])

    def value(self, row: Hashable, category: str, metric: str) -> float:
        """The metric on the posts as they are, a fraction."""
        return self._value[row][category][metric]

    def interval(self, row: Hashable, category: str, metric: str, *, level: float = 0.95) -> Interval:
        """The metric with its interval over test posts."""
        estimate = self.value(row, category, metric)
        if metric == AREA:
            return logit_interval(estimate, self._influence[row, category], level=level)
        return drawn_interval(estimate, self._drawn[row, category, metric], level=level)

    def difference(
        self, row: Hashable, other: Hashable, category: str, metric: str, *, level: float = 0.95
    ) -> Difference:
        """`row` minus `other`, paired by post."""
        weights = {row: 1.0}
        weights[other] = weights.get(other, 0.0) - 1.0
        return self.contrast(weights, category, metric, level=level)

    def contrast(
        self, weights: Mapping[Hashable, float], category: str, metric: str, *, level: float = 0.95
    ) -> Difference:
        """The rows' weighted sum, such as a difference of two differences, paired by post; its null value is 0."""

        def summed(of: Mapping[tuple, np.ndarray], *place: str) -> np.ndarray:
            return sum(weight * of[row, *place] for row, weight in weights.items())

        estimate = sum(weight * self.value(row, category, metric) for row, weight in weights.items())
        if metric == AREA:
            return normal_difference(estimate, summed(self._influence, category), level=level)
        return drawn_difference(estimate, summed(self._drawn, category, metric), level=level)

    def _bootstrap(
        self, truth: np.ndarray, rows: Mapping[Hashable, Sequence[np.ndarray]], replicates: int, seed: int
    ) -> dict[tuple[Hashable, str, str], np.ndarray]:
        """Replicates of the metrics without a closed form; posts are drawn once for all rows and risks."""
        generator = np.random.default_rng(seed)
        parts: dict[tuple[Hashable, str, str], list[np.ndarray]] = {}
        at_once = max(1, POSTS_AT_ONCE // len(truth))
        for start in range(0, replicates, at_once):
            weights = draws(generator, min(at_once, replicates - start), len(truth))
            for k, category in enumerate(self.categories):
                known = truth[:, k] >= 0
                labels, times = truth[known, k], weights[:, known]
                for row, runs in rows.items():
                    found = [table_metrics(labels, one[known, k], weights=times) for one in runs]
                    for metric in found[0]:
                        if metric != AREA:
                            mean = np.mean([one[metric] for one in found], axis=0)
                            parts.setdefault((row, category, metric), []).append(mean)
        return {key: np.concatenate(values) for key, values in parts.items()}


def _mean(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Score tables of one row's runs, averaged."""
    return {c: {name: float(np.mean([table[c][name] for table in tables])) for name in numbers}
            for c, numbers in tables[0].items()}  # fmt: skip
