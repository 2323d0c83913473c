"""How often do 95 % intervals hold the true value? Simulated test sets whose truth is known.

    python benchmarks/interval_coverage.py              the record: benchmarks/records/coverage.json
    python benchmarks/interval_coverage.py --groups     posts in groups: benchmarks/records/coverage_groups.json
    python benchmarks/interval_coverage.py --quick      n = 2,000 only and few repeats, to look at

Scores are binormal: N(0, 1) for cleared posts, N(d, 1) for violating ones, so average precision, R@P60 and APR@R of
infinitely many posts are known. d is set by the true R@P60. A second model, correlated with the first and a little
worse, gives differences of all metrics, since verdicts on claims rest on them. A test set draws labels at the
prevalence, then scores; an interval covers if it holds the value of infinitely many posts. The posts that the bootstrap
draws are drawn once per cell and serve all its test sets: those are independent, so which of their posts are drawn is
new each time.

With groups, posts share a part of what decides their labels and scores with the others of their group. Each post by
itself is as in the worlds above, so the true values are the same; how often intervals cover is stated for those that
know the groups and for those that take all posts for independent.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from radar_lib.intervals import (
    RELIABLE_RECALL,
    Difference,
    Interval,
    average_precision_difference,
    average_precision_interval,
    draws,
    percentile_interval,
    recall_at_precision_is_reliable,
    replicate_difference,
)
from radar_lib.metrics import table_metrics

SIZES, PREVALENCES = (2_000, 30_000), (0.03, 0.05, 0.10, 0.25)
RECALLS = (0.05, 0.1, 0.5)  # true R@P60; the first is below what is called reliable
REPLICATES = 300
CORRELATION, WORSE = 0.7, 0.85  # of the second model's scores with the first's, and its d beside the first's
GROUPS = ((4, 0.5), (10, 0.5), (10, 0.9))  # mean posts of a group (geometric); share of the variance that it shares
DRAWN = ("R@P60", "APR@R90", "APR@R95")  # metrics that are bootstrapped
BARS = {"PR-AUC": (0.93, 0.97), "PR-AUC difference": (0.93, 0.97), "R@P60": (0.92, 0.98)}


class World(NamedTuple):
    """Binormal scores: violating posts lie `shift` above cleared ones."""

    prevalence: float
    shift: float

    @classmethod
    def with_recall(cls, prevalence: float, recall: float, *, precision: float = 0.6) -> World:
        """The world whose true R@P is `recall`: at that threshold a share `recall` of violating posts is caught, and so
        many cleared ones that the precision is met."""
        alarms = recall * prevalence * (1 - precision) / ((1 - prevalence) * precision)
        return cls(prevalence, float(norm.isf(alarms) - norm.isf(recall)))

    def precision(self, threshold: float) -> float:
        """Of dispatching what scores above the threshold."""
        caught = self.prevalence * norm.sf(threshold - self.shift)
        return float(caught / (caught + (1 - self.prevalence) * norm.sf(threshold)))

    def average_precision(self) -> float:
        """Precision at a violating post's score, on average over violating posts."""
        middle = self.shift
        value, _ = quad(lambda s: self.precision(s) * norm.pdf(s - middle), middle - 9, middle + 9, points=[middle])
        return value

    def recall_at_precision(self, precision: float = 0.6) -> float:
        """Share of violating posts above the threshold from which the precision is met; inverts `with_recall`."""
        odds = np.log(precision / (1 - precision) * (1 - self.prevalence) / self.prevalence)
        threshold = brentq(lambda t: norm.logsf(t, self.shift) - norm.logsf(t) - odds, -40, 40)
        return float(norm.sf(threshold, self.shift))

    def drawn_truths(self) -> dict[str, float]:
        """What `DRAWN` are of infinitely many posts."""
        return dict(zip(DRAWN, (self.recall_at_precision(), *map(self.apr_at_recall, (0.9, 0.95))), strict=True))

    def apr_at_recall(self, recall: float) -> float:
        """Share of posts below the threshold that catches `recall` of the violating ones."""
        threshold = self.shift + norm.isf(recall)
        return float(1 - self.prevalence * recall - (1 - self.prevalence) * norm.sf(threshold))

    def sample(self, posts: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, and scores of two models."""
        labels = (generator.random(posts) < self.prevalence).astype(np.int8)
        ours = generator.normal(size=posts)
        theirs = CORRELATION * ours + np.sqrt(1 - CORRELATION**2) * generator.normal(size=posts)
        return labels, ours + self.shift * labels, theirs + WORSE * self.shift * labels

    def sample_groups(
        self, posts: int, generator: np.random.Generator, *, size: float, share: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """As `sample`, of posts in groups; and the number of each post's group."""
        groups = np.repeat(np.arange(posts), generator.geometric(1 / size, posts))[:posts]

        def normal() -> np.ndarray:
            common = generator.normal(size=groups[-1] + 1)[groups]
            return np.sqrt(share) * common + np.sqrt(1 - share) * generator.normal(size=posts)

        labels, ours = (norm.cdf(normal()) < self.prevalence).astype(np.int8), normal()
        theirs = CORRELATION * ours + np.sqrt(1 - CORRELATION**2) * normal()
        return labels, ours + self.shift * labels, theirs + WORSE * self.shift * labels, groups


def area_lines(world: World, posts: int, *, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Coverage of the closed form for average precision, and for its difference between two models."""
    generator = np.random.default_rng(seed)
    ours, theirs = world.average_precision(), World(world.prevalence, WORSE * world.shift).average_precision()
    hits = np.zeros(2)
    for _ in range(repeats):
        labels, first, second = world.sample(posts, generator)
        alone = average_precision_interval(labels, first)
        apart = average_precision_difference(labels, first, second)
        hits += [alone.low <= ours <= alone.high, apart.low <= ours - theirs <= apart.high]
    about = {"posts": posts, "prevalence": world.prevalence}
    return [_line("PR-AUC", ours, hits[0], repeats) | about,
            _line("PR-AUC difference", ours - theirs, hits[1], repeats) | about]  # fmt: skip


def drawn_lines(world: World, recall: float, posts: int, *, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Coverage of the bootstrap for R@P60, APR@R90 and APR@R95: percentiles, and for differences its standard error.

    `flagged_unreliable` of an R@P60 is how often it is called so; of its difference, how often either of the two is.
    """
    generator = np.random.default_rng(seed)
    weights = draws(generator, REPLICATES, posts)
    ours, theirs = world.drawn_truths(), World(world.prevalence, WORSE * world.shift).drawn_truths()
    truth = ours | {f"{metric} difference": ours[metric] - theirs[metric] for metric in DRAWN}
    hits, flagged = dict.fromkeys(truth, 0), np.zeros(2)
    for _ in range(repeats):
        labels, *both = world.sample(posts, generator)
        found = [table_metrics(labels, scores) for scores in both]
        drawn = [table_metrics(labels, scores, weights=weights) for scores in both]
        for metric in DRAWN:
            values, replicates = [one[metric] for one in found], [one[metric] for one in drawn]
            alone = percentile_interval(values[0], replicates[0])
            apart = replicate_difference(values[0] - values[1], replicates[0] - replicates[1])
            for name, interval in ((metric, alone), (f"{metric} difference", apart)):
                hits[name] += interval.low <= truth[name] <= interval.high
        small = [not recall_at_precision_is_reliable(one["R@P60"]) for one in found]
        flagged += [small[0], any(small)]
    about = {"posts": posts, "prevalence": world.prevalence, "true_r_at_p60": recall}
    lines = {metric: _line(metric, value, hits[metric], repeats) | about for metric, value in truth.items()}
    for name, count in zip(("R@P60", "R@P60 difference"), flagged, strict=True):
        lines[name]["flagged_unreliable"] = float(count) / repeats
    return list(lines.values())


def all_intervals(
    labels: np.ndarray, both: Sequence[np.ndarray], groups: np.ndarray | None, weights: np.ndarray
) -> dict[str, Interval | Difference]:
    """Intervals of the first model's metrics, and of its differences from the second's."""
    found = {"PR-AUC": average_precision_interval(labels, both[0], groups=groups),
             "PR-AUC difference": average_precision_difference(labels, *both, groups=groups)}  # fmt: skip
    ours, theirs = (table_metrics(labels, scores) for scores in both)
    drawn = [table_metrics(labels, scores, weights=weights) for scores in both]
    for metric in DRAWN:
        replicates = [one[metric] for one in drawn]
        found[metric] = percentile_interval(ours[metric], replicates[0])
        apart = replicates[0] - replicates[1]
        found[f"{metric} difference"] = replicate_difference(ours[metric] - theirs[metric], apart)
    return found


def group_lines(
    world: World, posts: int, *, size: float, share: float, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """Coverage of all intervals on posts in groups, `clustered` by them and not."""
    generator, other = np.random.default_rng(seed), World(world.prevalence, WORSE * world.shift)
    alone = draws(generator, REPLICATES, posts)
    ours, theirs = ({"PR-AUC": one.average_precision()} | one.drawn_truths() for one in (world, other))
    truth = ours | {f"{metric} difference": ours[metric] - theirs[metric] for metric in ours}
    hits = {(name, clustered): 0 for name in truth for clustered in (True, False)}
    for _ in range(repeats):
        labels, *both, groups = world.sample_groups(posts, generator, size=size, share=share)
        together = draws(generator, REPLICATES, groups[-1] + 1)[:, groups]
        for clustered, known, weights in ((True, groups, together), (False, None, alone)):
            for name, interval in all_intervals(labels, both, known, weights).items():
                hits[name, clustered] += interval.low <= truth[name] <= interval.high
    about = {"posts": posts, "prevalence": world.prevalence, "group_size": size, "shared": share}
    return [_line(name, truth[name], count, repeats) | about | {"clustered": clustered}
            for (name, clustered), count in hits.items()]  # fmt: skip


def group_record(*, repeats: int, posts: int = SIZES[0], seed: int = 1) -> dict[str, Any]:
    """All lines of posts in groups, and the clustered ones outside their bar."""
    began, lines = process_time(), []
    for prevalence in PREVALENCES[1::2]:
        world = World.with_recall(prevalence, RECALLS[-1])
        for size, share in GROUPS:
            lines += group_lines(world, posts, size=size, share=share, repeats=repeats, seed=seed)
    outside = [line for line in lines if line["clustered"] and not within(line)]
    return {"what": "coverage of nominal 95 % intervals, posts in groups", "bootstrap_replicates": REPLICATES,
            "bars": BARS, "cpu_minutes": round((process_time() - began) / 60, 1), "outside_their_bar": outside,
            "lines": lines}  # fmt: skip


def _line(metric: str, truth: float, hits: float, repeats: int) -> dict[str, Any]:
    """Coverage and its Monte-Carlo standard error, which is that of one miss where there is none."""
    coverage = float(hits) / repeats
    inside = min(coverage, 1 - 1 / repeats)
    error = (inside * (1 - inside) / repeats) ** 0.5
    return {"metric": metric, "truth": round(truth, 4), "coverage": round(coverage, 4),
            "standard_error": round(error, 4), "repeats": repeats}  # fmt: skip


def within(line: dict[str, Any], *, errors: float = 0.0) -> bool:
    """Whether a line meets its bar, widened by so many Monte-Carlo standard errors; true if it has none."""
    if line["metric"] not in BARS or line.get("true_r_at_p60", 1) < RELIABLE_RECALL:
        return True
    low, high = BARS[line["metric"]]
    slack = errors * line["standard_error"]
    return low - slack <= line["coverage"] <= high + slack


def coverage_record(*, repeats: int, sizes: Sequence[int] = SIZES, seed: int = 1) -> dict[str, Any]:
    """All lines, and those outside their bar. Closed forms are repeated four times as often as the bootstrap."""
    began, lines = process_time(), []
    for posts in sizes:
        for prevalence in PREVALENCES:
            for recall in RECALLS:
                world = World.with_recall(prevalence, recall)
                lines += drawn_lines(world, recall, posts, repeats=repeats, seed=seed)
            lines += area_lines(world, posts, repeats=4 * repeats, seed=seed)
    outside = [line for line in lines if not within(line)]
    return {"what": "coverage of nominal 95 % intervals", "bootstrap_replicates": REPLICATES, "bars": BARS,
            "cpu_minutes": round((process_time() - began) / 60, 1), "outside_their_bar": outside, "lines": lines,
            }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    from bench import RECORDS, provenance, save

    parser = argparse.ArgumentParser(
        "interval_coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300, help="test sets per bootstrap cell; four times for PR-AUC")
    parser.add_argument("--groups", action="store_true", help="posts in groups, clustered by them and not")
    parser.add_argument("--quick", action="store_true", help="n = 2,000 only, 50 repeats; writes no record")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the record")
    args = parser.parse_args(argv)
    if args.quick:
        for line in coverage_record(repeats=50, sizes=SIZES[:1])["lines"]:
            print("  ".join(f"{name} {value}" for name, value in line.items()))
        return
    if args.groups:
        save(args.out / "coverage_groups.json", provenance("cpu") | group_record(repeats=args.repeats))
        return
    save(args.out / "coverage.json", provenance("cpu") | coverage_record(repeats=args.repeats))


if __name__ == "__main__":
    main()
