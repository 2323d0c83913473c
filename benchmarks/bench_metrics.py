"""Speed of the metrics and their intervals beside a scikit-learn loop, on one core.

The loop is what one writes at first: draw rows, sort them in `precision_recall_curve`, find the threshold. Both sides
are timed in turns in one process, and a ratio is that of their medians.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from radar_lib.intervals import average_precision_difference, average_precision_interval, bootstrap_interval
from radar_lib.metrics import apr_at_recall, recall_at_precision

PREVALENCE, SHIFT = 0.05, 2.0  # of the violating posts, and how far their normal scores lie above the others'


def metrics_record(*, posts: int = 30_000, replicates: int = 1000, repeats: int = 3, seed: int = 1) -> dict[str, Any]:
    """Seconds of each line, and how many times slower the loop is than ours at APR@R."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(posts) < PREVALENCE).astype(np.int8)
    ours = (generator.normal(size=posts) + SHIFT * labels).astype(np.float32)
    theirs = (ours + generator.normal(size=posts)).astype(np.float32)
    apr, recall = partial(apr_at_recall, recall=0.9), partial(recall_at_precision, precision=0.6)
    lines = {
        "PR-AUC interval": lambda: average_precision_interval(labels, ours),
        "PR-AUC difference": lambda: average_precision_difference(labels, ours, theirs),
        "APR@R90 bootstrap": lambda: bootstrap_interval(apr, labels, ours, replicates=replicates, seed=seed),
        "R@P60 bootstrap": lambda: bootstrap_interval(recall, labels, ours, replicates=replicates, seed=seed),
        "APR@R90, scikit-learn loop": lambda: sklearn_loop(labels, ours, replicates, seed),
    }
    spent: dict[str, list[float]] = {name: [] for name in lines}
    for call in list(lines.values())[:2]:
        call()  # imports and caches
    for _ in range(repeats):
        for name, call in lines.items():
            began = perf_counter()
            call()
            spent[name].append(perf_counter() - began)
    seconds = {name: median(values) for name, values in spent.items()}
    return {
        "what": f"intervals at {posts:,} posts; bootstraps of {replicates:,} replicates",
        "repeats": repeats,
        "times_faster_than_the_loop": round(seconds["APR@R90, scikit-learn loop"] / seconds["APR@R90 bootstrap"], 1),
        "lines": [{"line": name, "median_ms": round(1000 * value, 2), "least_ms": round(1000 * min(spent[name]), 2)}
                  for name, value in seconds.items()],
    }  # fmt: skip


def sklearn_loop(labels: np.ndarray, scores: np.ndarray, replicates: int, seed: int) -> list[float]:
    """APR@R90 of each replicate; the draws are those of `bootstrap_interval` with this seed."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(replicates):
        drawn = generator.integers(0, len(labels), len(labels), dtype=np.int32)
        y, s = labels[drawn], scores[drawn]
        _, recall, thresholds = precision_recall_curve(y, s)
        values.append(float((s < thresholds[recall[:-1] >= 0.9].max()).mean()))
    return values
