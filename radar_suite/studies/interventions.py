"""What mends a mask where it loses, by intervention: the same posts and seeds, with one thing changed.

A masked head sees the posts of its own queue only. If that is why it loses, ordinary posts must help it: posts of
traffic that nobody reviewed, all their cells taken for 0 (most are), or its own verified cells, weighed so that they
stand for more than the queue. The head without the mask gets the same ordinary posts, as a control.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from radar_lib.evidence import Evidence
from radar_lib.labels import valid_mask
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_suite.studies.cells import (
    OBJECTIVES,
    REPLICATES,
    Job,
    Level,
    MapSettings,
    difference_columns,
    draw_seeds,
    for_json,
    kept_lines,
    places_of,
    test_sets,
)
from radar_suite.studies.heads import Member, head_logits, train_heads
from radar_suite.studies.pool import Cell, TrainingSet, draw_traffic
from radar_suite.studies.propensities import known_propensities
from radar_suite.world.policies import CATEGORIES

SHARES = (0.0, 0.05, 0.25, 1.0)  # ordinary posts added, as a share of the training posts
QUEUES, TRAFFIC = "all queues", "traffic"  # what a queue's verified cells are weighed to stand for
MASKED, UNMASKED = OBJECTIVES


class Variant(NamedTuple):
    """One way to train a head."""

    objective: str
    negatives: int = 0  # ordinary posts added
    weighed_to: str = ""

    @property
    def name(self) -> str:
        """As in tables and the record of runs."""
        way = f"weighed to {self.weighed_to}" if self.weighed_to else f"{self.negatives} ordinary posts"
        return f"{self.objective}, {way}"


def variants(posts: int) -> list[Variant]:
    """Both objectives with more and more ordinary posts, and the masked one with weights."""
    added = [Variant(objective, round(share * posts)) for share in SHARES for objective in OBJECTIVES]
    return [*added, *(Variant(MASKED, weighed_to=population) for population in (QUEUES, TRAFFIC))]


def fit_interventions(cache: Cache, jobs: Sequence[Job], *, workers: int) -> pd.DataFrame:
    """Lines of `intervention_lines` for each job, kept in the cache, with the columns that `cells.kept_lines` adds."""
    inputs = {"code": digest_sources(__name__)}
    return kept_lines(cache, "interventions", fit_intervention, jobs, inputs=inputs, workers=workers)


def fit_intervention(entry: Entry, level: Level, cell: Cell, settings: MapSettings) -> None:
    """Train and score every variant at every seed, and keep its lines."""

    def work(_: Any) -> dict[str, Any]:
        begun = time.monotonic()
        return {"lines": intervention_lines(level, cell, settings), "seconds": time.monotonic() - begun}

    entry.make(work)


def intervention_lines(level: Level, cell: Cell, settings: MapSettings) -> list[dict[str, Any]]:
    """Each variant by test population, risk (and Average) and metric: `value`, its `gain` over the head without mask
    and `moved` from the masked head, both as trained without any intervention, with their intervals; fractions."""
    drawn = draw_seeds(level, cell, settings)
    members = {variant: [member_of(level, cell, variant, one, seed) for seed, one in drawn.items()]
               for variant in variants(settings.posts)}  # fmt: skip
    heads: dict[Variant, list] = {}
    for added in sorted({variant.negatives for variant in members}):  # members of one size are trained together
        some = [variant for variant in members if variant.negatives == added]
        trained = iter(train_heads(level.features, [m for v in some for m in members[v]], settings.recipe))
        heads |= {variant: [next(trained) for _ in drawn] for variant in some}
    lines = []
    for population, (truth, features) in test_sets(level, cell, settings).items():
        rows = {variant: [head_logits(features, head) for head in heads[variant]] for variant in members}
        evidence = Evidence(truth, rows, CATEGORIES, replicates=REPLICATES, seed=settings.seed)
        for variant in members:
            for place in places_of(evidence):
                gain = difference_columns(evidence, variant, Variant(UNMASKED), *place)
                moved = difference_columns(evidence, variant, Variant(MASKED), *place)
                line = {
                    "row": variant.name,
                    **variant._asdict(),
                    "population": population,
                    "category": place[0],
                    "metric": place[1],
                }
                line |= {"value": evidence.value(variant, *place)} | gain
                line |= {"moved": moved["gain"], "moved_low": moved["low"], "moved_high": moved["high"]}
                line = {name: for_json(value) for name, value in line.items()}
                lines.append(line | {"by_seed": [*map(for_json, evidence.runs(variant, *place))]})
    return lines


def member_of(level: Level, cell: Cell, variant: Variant, drawn: TrainingSet, seed: int) -> Member:
    """A variant's posts and cells at one seed; more ordinary posts hold those of fewer."""
    member = Member.of(drawn.rows, drawn.labels, variant.objective, seed)
    if variant.weighed_to:
        member = member.weighted(inverse_weights(level, cell, drawn, variant.weighed_to))
    if variant.negatives:
        more = draw_traffic(level.pool, posts=variant.negatives, seed=seed, without=drawn.rows)
        member = member.with_negatives(more)
    return member


def inverse_weights(
    level: Level, cell: Cell, drawn: TrainingSet, population: str
) -> Float[np.ndarray, "post category"]:
    """Inverse propensities, normalised to mean 1 over each risk's verified cells.

    The propensity is that of being verified for k among the training posts (`known_propensities`), so that the cells
    stand for all queues' posts, or that of entering queue k at all, so that they stand for traffic.
    """
    signals = level.pool.signals.take(drawn.rows)
    chance = cell.intake.chance(signals)
    if population == QUEUES:
        chance = known_propensities(chance, signals.posteriors, drawn.labels)
    inverse = np.where(valid_mask(drawn.labels), 1 / np.maximum(chance, np.finfo(float).tiny), 0.0)
    return inverse / (inverse.sum(axis=0) / valid_mask(drawn.labels).sum(axis=0))
