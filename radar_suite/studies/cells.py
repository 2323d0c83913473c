"""One cell of the map: routers trained with and without the mask on the same posts, and what the mask gained.

A cell is a setting of the world's dials (`pool.Cell`). At each seed a training set is drawn from the level's pool and
two heads are trained on its frozen features, with the same posts, order and initial weights; they differ in the mask.
Both are scored on blind traffic and on the pipelines' own stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from tqdm import tqdm

from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.files import digest_json
from radar_lib.intervals import Groups
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.workers import side_by_side
from radar_suite.studies.frozen import Place, frozen_features
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.studies.pool import (
    BLIND,
    OWN,
    Cell,
    Pool,
    TrainingSet,
    draw_own_stream,
    draw_training_set,
    missing_cells,
    plan_pool,
)
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.policies import CATEGORIES

OBJECTIVES = ("masked", "unmasked")
REPLICATES = 500  # of the bootstrap over test posts, per cell
METHOD_SEEDS = 3  # seeds from which a gain is the method's, as for all verdicts (radar_suite.report.claims)


@dataclass(frozen=True)
class MapSettings:
    """What all cells share; the heads' recipe was fixed beforehand on training posts (`phase.compare_recipes`)."""

    posts: int  # training posts of a cell, over the three pipelines
    pool_posts: int  # posts that a level's training sets, and the own streams, are drawn from
    test_posts: int  # of blind traffic, per level
    own_posts: int  # of each pipeline's own stream, per risk
    seed: int  # of the world, and the first seed of the cells
    seeds: int  # training sets and initial weights per cell, at `seed` and the next ones
    frame_px: int = CorpusConfig.frame_px
    recipe: HeadRecipe = field(default_factory=HeadRecipe)

    def corpus(self, co_violation: float) -> CorpusConfig:
        """Settings of a level's pool and test posts."""
        return CorpusConfig(seed=self.seed, train_posts=self.pool_posts, test_posts=self.test_posts,
                            frame_px=self.frame_px, co_violation=co_violation, duplicate_rate=0.0)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A pool with the frozen features of its posts and test posts; the posts themselves are forgotten."""

    co_violation: float
    pool: Pool
    features: Float[np.ndarray, "post hidden"]
    digest: str

    @property
    def test_features(self) -> Float[np.ndarray, "test hidden"]:
        return self.features[len(self.pool) :]


Job = tuple[Level, Cell, MapSettings]


def open_levels(place: Place, settings: MapSettings, levels: Sequence[float], *, workers: int) -> list[Level]:
    """Plan the pools of these levels of co-violation, and draw and encode their posts unless the cache has them."""
    configs = [settings.corpus(level) for level in levels]
    pools = list(side_by_side(plan_pool, [(config,) for config in configs], workers=workers))
    features = frozen_features(place, [(c, p.selections) for c, p in zip(configs, pools, strict=True)], workers=workers)
    return [Level(level, replace(pool, selections=()), vectors, digest_json(place.inputs(config)))
            for level, pool, vectors, config in zip(levels, pools, features, configs, strict=True)]  # fmt: skip


def fit_cells(cache: Cache, jobs: Sequence[Job], *, workers: int) -> pd.DataFrame:
    """Every cell, kept in the cache: its `gain_lines` by test population, with what unverified cells hide
    (`missing_cells`), its dials, `training_posts`, `seconds`, `run` (the cell's hash) and `posts` (its features').

    Raises:
        RadarError: as `draw_training_set` and `draw_own_stream`.
    """
    return kept_lines(cache, "phase", fit_cell, jobs, inputs={"code": digest_sources(__name__)}, workers=workers)


def kept_lines(
    cache: Cache, kind: str, fit: Callable[..., None], jobs: Sequence[Job], *, inputs: Mapping[str, Any], workers: int
) -> pd.DataFrame:
    """Lines of each job, several fitted at a time, those in the cache not again.

    Args:
        fit: of a module; `fit(entry, *job)` keeps a record with `lines` and `seconds` in the entry.
        inputs: what decides the lines beside pool, dials and settings.
    """
    every = []
    for level, cell, settings in jobs:
        about = {"pool": level.digest, "intake": asdict(cell.intake), "settings": asdict(settings)}
        every.append((cache.entry(kind, about | dict(inputs)), level, cell, settings))
    missing = [job for job in every if not job[0].complete]
    with tqdm(total=len(missing), desc="cells of the map", unit="cell", disable=not missing, mininterval=2) as bar:
        for _ in side_by_side(fit, missing, workers=workers):
            bar.update()
    frames = []
    for entry, level, cell, settings in every:
        kept = entry.record()
        about = {**cell.dials, "training_posts": settings.posts, "seconds": kept["seconds"], "run": entry.digest}
        frames.append(pd.DataFrame(kept["lines"]).assign(**about, posts=level.digest))
    return pd.concat(frames, ignore_index=True)


def fit_cell(entry: Entry, level: Level, cell: Cell, settings: MapSettings) -> None:
    """Train and score one cell at every seed, and keep its lines."""
    entry.make(lambda _: cell_lines(level, cell, settings))


def cell_lines(level: Level, cell: Cell, settings: MapSettings) -> dict[str, Any]:
    """The record of one cell, trained and scored at every seed: its lines, and the seconds that they took."""
    begun = time.monotonic()
    drawn = draw_seeds(level, cell, settings)
    members = [Member.of(one.rows, one.labels, objective, seed)
               for objective in OBJECTIVES for seed, one in drawn.items()]  # fmt: skip
    heads = train_heads(level.features, members, settings.recipe)
    lines = []
    for population, (truth, features) in test_sets(level, cell, settings).items():
        logits = [head_logits(features, head) for head in heads]
        gains = gain_lines(truth, logits[: len(drawn)], logits[len(drawn) :], seed=settings.seed)
        lines += [{"population": population, **line} for line in gains]
    hidden = [missing_cells(level.pool, one) for one in drawn.values()]
    for line in lines:
        risks = CATEGORIES if line["category"] == AVERAGE else [line["category"]]
        for name in hidden[0][CATEGORIES[0]]:
            line[name] = for_json(np.mean([[one[risk][name] for one in hidden] for risk in risks]))
    return {"lines": lines, "seconds": time.monotonic() - begun}


def draw_seeds(level: Level, cell: Cell, settings: MapSettings) -> dict[int, TrainingSet]:
    """A cell's training set at each seed."""
    sizes = sizes_of(settings.posts)
    return {seed: draw_training_set(level.pool, intake=cell.intake, sizes=sizes, seed=seed)
            for seed in range(settings.seed, settings.seed + settings.seeds)}  # fmt: skip


def test_sets(
    level: Level, cell: Cell, settings: MapSettings
) -> dict[str, tuple[Int8[np.ndarray, "test category"], Float[np.ndarray, "test hidden"]]]:
    """Labels (1, 0, -1) and features by test population."""
    own = draw_own_stream(level.pool, intake=cell.intake, posts=settings.own_posts, seed=settings.seed)
    return {BLIND: (level.pool.test_labels, level.test_features), OWN: (own.labels, level.features[own.rows])}


def gain_lines(
    truth: Int8[np.ndarray, "post category"],
    masked: Sequence[Float[np.ndarray, "post category"]],
    unmasked: Sequence[Float[np.ndarray, "post category"]],
    *,
    seed: int,
    categories: Sequence[str] = CATEGORIES,
    groups: Groups = None,
) -> list[dict[str, Any]]:
    """What the mask gains, one line per risk (and Average) and metric; fractions, 95 % intervals.

    `low`, `high` and `p` are over test posts and seeds together, paired by both, from `METHOD_SEEDS` seeds on, and over
    test posts alone, for these very routers, below that. `half_width` is half of the interval: a smaller difference the
    cell could not have told from none.

    Args:
        truth: labels of the test posts, 1, 0 or -1.
        masked, unmasked: logits of each seed's router, in the same order of seeds.
        seed: of the bootstrap.
        groups: of the test posts, where they are not independent.
    """
    rows = {"masked": masked, "unmasked": unmasked}
    evidence = Evidence(truth, rows, categories, groups=groups, replicates=REPLICATES, seed=seed)
    lines = []
    for place in places_of(evidence):
        line = {"category": place[0], "metric": place[1]}
        line |= {name: evidence.value(name, *place) for name in OBJECTIVES}
        line |= difference_columns(evidence, *OBJECTIVES, *place)
        line["by_seed"] = {name: [*map(for_json, evidence.runs(name, *place))] for name in OBJECTIVES}
        lines.append({name: for_json(value) for name, value in line.items()})
    return lines


def places_of(evidence: Evidence) -> list[tuple[str, str]]:
    """Every category (Average last) and metric."""
    return [(category, metric) for category in (*evidence.categories, AVERAGE) for metric in evidence.metrics]


def difference_columns(evidence: Evidence, row: str, other: str, category: str, metric: str) -> dict[str, float]:
    """`gain` of one row over another, its 95 % interval, half of that, and the p-value."""
    over = "both" if evidence.seeds(row) >= METHOD_SEEDS else "posts"
    found = evidence.difference(row, other, category, metric, over=over)
    return {"gain": found.estimate, "low": found.low, "high": found.high, "half_width": (found.high - found.low) / 2,
            "p": found.p_value}  # fmt: skip


def for_json(value: Any) -> Any:
    """For JSON, which has no NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value
