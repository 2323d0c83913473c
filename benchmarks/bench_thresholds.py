"""How often a threshold misses its recall target on posts to come: simulated, beside the exact probability.

    python benchmarks/bench_thresholds.py

The recall of a threshold is known here, since the population is: uniform scores, or the same rounded up to twenty
values. Each line is 2,000 calibrations. `exact` is P(Binomial(n, 1 - R) <= k - 1) of the certified rank k; `naive` the
rule that keeps recall on the calibration posts themselves, with its own exact probability.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from bench import provenance
from scipy.stats import binom

from radar_lib.files import write_json
from radar_lib.thresholds import certified_rank, naive_rank, required_positives, threshold_at_rank

SIZES, RECALLS, LEVELS, CONFIDENCE = (29, 59, 100, 1000), (0.90, 0.95), 20, 0.95


def thresholds_record(*, runs: int = 2000, seed: int = 1) -> dict[str, Any]:
    """One line per (n, R, scores)."""
    random = np.random.default_rng(seed)
    lines = [_line(random, n, recall, tied, runs) for n in SIZES for recall in RECALLS for tied in (False, True)]
    return {
        "what": f"share of {runs:,} calibrations whose threshold misses its recall target",
        "confidence": CONFIDENCE,
        "levels_of_tied_scores": LEVELS,
        "seed": seed,
        "bar_met": all(line.get("within", True) for line in lines),
        "lines": lines,
    }


def _line(random: np.random.Generator, n: int, recall: float, tied: bool, runs: int) -> dict[str, Any]:
    line = {"positives": n, "recall": recall, "scores": "tied" if tied else "continuous"}
    draws = random.random((runs, n))
    draws = np.ceil(draws * LEVELS) / LEVELS if tied else draws
    naive = naive_rank(n, recall)
    line |= {"naive": _missed(draws, naive, recall), "naive_exact": _exact(naive, n, recall)}
    rank = certified_rank(n, recall, CONFIDENCE)
    if not rank:
        return line | {"refused": True, "required": required_positives(recall, CONFIDENCE)}
    missed, exact = _missed(draws, rank, recall), _exact(rank, n, recall)
    error = math.sqrt(exact * (1 - exact) / runs)
    within = missed <= exact + 3 * error and (tied or missed >= exact - 3 * error)
    return line | {"rank": rank, "certified": missed, "exact": exact, "error": error, "within": within}


def _exact(rank: int, n: int, recall: float) -> float:
    return float(binom.cdf(rank - 1, n, 1 - recall))


def _missed(draws: np.ndarray, rank: int, recall: float) -> float:
    taus = np.array([threshold_at_rank(row, rank) for row in draws])
    if (draws * LEVELS == np.round(draws * LEVELS)).all():  # P(score > tau) of values 1/20, 2/20, ..., 1
        taus = np.floor(taus * LEVELS) / LEVELS
    return float((1 - taus < recall - 1e-9).mean())


if __name__ == "__main__":
    record = provenance("cpu") | thresholds_record()
    write_json(Path(__file__).parent / "records" / "thresholds.json", record)
    for line in record["lines"]:
        print("  ".join(f"{name} {value:.4g}" if name != "scores" else value for name, value in line.items()))
