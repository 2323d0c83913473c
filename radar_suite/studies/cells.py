"""One cell of the map: routers trained with and without the mask on the same posts, and what the mask gained.

A cell is an intake bias beta at a level of co-violation. At each seed a training set is drawn from the level's pool and
two heads are trained on its frozen features, with the same posts, order and initial weights; they differ in the mask.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from radar_lib.training.cache import Entry
from radar_lib.training.workers import side_by_side
from radar_suite.studies.frozen import Place, frozen_features
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.studies.pool import Pool, draw_training_set, missing_cells, plan_pool
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.policies import CATEGORIES

OBJECTIVES = ("masked", "unmasked")
REPLICATES = 500  # of the bootstrap over test posts, per cell
METHOD_SEEDS = 3  # seeds from which a gain is the method's, as for all verdicts (radar_suite.report.claims)


@dataclass(frozen=True)
class MapSettings:
    """What all cells share; the heads' recipe was fixed beforehand on training posts (`phase.compare_recipes`)."""

    posts: int  # training posts of a cell, over the three pipelines
    pool_posts: int  # posts that a level's training sets are drawn from
    test_positives: int  # violating test posts per risk; their number follows from the test prevalences
    seed: int  # of the world, and the first seed of the cells
    seeds: int  # training sets and initial weights per cell, at `seed` and the next ones
    frame_px: int = CorpusConfig.frame_px
    recipe: HeadRecipe = field(default_factory=HeadRecipe)

    def corpus(self, co_violation: float) -> CorpusConfig:
        """Settings of a level's pool and test posts."""
        return CorpusConfig(seed=self.seed, train_posts=self.pool_posts, test_positives=self.test_positives,
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


def open_levels(place: Place, settings: MapSettings, levels: Sequence[float], *, workers: int) -> list[Level]:
    """Plan the pools of these levels of co-violation, and draw and encode their posts unless the cache has them."""
    configs = [settings.corpus(level) for level in levels]
    pools = list(side_by_side(plan_pool, [(config,) for config in configs], workers=workers))
    features = frozen_features(place, [(c, p.selections) for c, p in zip(configs, pools, strict=True)], workers=workers)
    return [Level(level, replace(pool, selections=()), vectors, digest_json(place.inputs(config)))
            for level, pool, vectors, config in zip(levels, pools, features, configs, strict=True)]  # fmt: skip


def fit_map(
    place: Place, settings: MapSettings, betas: Sequence[float], levels: Sequence[float], *, workers: int
) -> pd.DataFrame:
    """Every cell of betas x levels, kept in the cache: its `gain_lines`, with what unverified cells hide
    (`missing_cells`), `beta`, `co_violation`, `seconds`, `run` (the cell's hash) and `posts` (its features').

    Raises:
        RadarError: as `draw_training_set` and `frozen_features`.
    """
    jobs = []
    for level in open_levels(place, settings, levels, workers=workers):
        for beta in map(float, betas):
            inputs = {"pool": level.digest, "beta": beta, "settings": asdict(settings)}
            entry = place.cache.entry("phase", inputs | {"code": digest_sources(__name__)})
            jobs.append((entry, level, beta, settings))
    missing = [job for job in jobs if not job[0].complete]
    with tqdm(total=len(missing), desc="cells of the map", unit="cell", disable=not missing, mininterval=2) as bar:
        for _ in side_by_side(fit_cell, missing, workers=workers):
            bar.update()
    frames = []
    for entry, level, beta, _ in jobs:
        kept = entry.record()
        frames.append(pd.DataFrame(kept["lines"]).assign(beta=beta, co_violation=level.co_violation,
                      seconds=kept["seconds"], run=entry.digest, posts=level.digest))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def fit_cell(entry: Entry, level: Level, beta: float, settings: MapSettings) -> None:
    """Train and score one cell at every seed, and keep its lines."""
    entry.make(lambda _: cell_lines(level, beta, settings))


def cell_lines(level: Level, beta: float, settings: MapSettings) -> dict[str, Any]:
    """The record of one cell, trained and scored at every seed: its lines, and the seconds that they took."""
    begun = time.monotonic()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    drawn = [draw_training_set(level.pool, beta=beta, sizes=sizes_of(settings.posts), seed=seed) for seed in seeds]
    members = [Member(one.rows, one.labels, objective, seed)
               for objective in OBJECTIVES for seed, one in zip(seeds, drawn, strict=True)]  # fmt: skip
    logits = [head_logits(level.test_features, w) for w in train_heads(level.features, members, settings.recipe)]
    lines = gain_lines(level.pool.test_labels, logits[: len(seeds)], logits[len(seeds) :], seed=settings.seed)
    hidden = [missing_cells(level.pool, one) for one in drawn]
    for line in lines:
        risks = CATEGORIES if line["category"] == AVERAGE else [line["category"]]
        for name in hidden[0][CATEGORIES[0]]:
            line[name] = _for_json(np.mean([[one[risk][name] for one in hidden] for risk in risks]))
    return {"lines": lines, "seconds": time.monotonic() - begun}


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

    `low`, `high` and `p` are over test posts and seeds together from `METHOD_SEEDS` seeds on, over test posts alone
    below that. `test_low` and `test_high` are over test posts, paired by post, for the mean of these very routers;
    `seed_low` and `seed_high` over seeds, paired, missing (None) for one seed.

    Args:
        truth: labels of the test posts, 1, 0 or -1.
        masked, unmasked: logits of each seed's router, in the same order of seeds.
        seed: of the bootstrap.
        groups: of the test posts, where they are not independent.
    """
    rows = {"masked": masked, "unmasked": unmasked}
    evidence = Evidence(truth, rows, categories, groups=groups, replicates=REPLICATES, seed=seed)
    lines = []
    for place in [(category, metric) for category in (*categories, AVERAGE) for metric in evidence.metrics]:
        gains = {over: evidence.difference(*OBJECTIVES, *place, over=over)
                 for over in ("posts", "seeds", "both") if over == "posts" or len(masked) > 1}  # fmt: skip
        gain, seeds = gains["both" if len(masked) >= METHOD_SEEDS else "posts"], gains.get("seeds")
        line = {"category": place[0], "metric": place[1], "gain": gain.estimate,
                "masked": evidence.value("masked", *place), "unmasked": evidence.value("unmasked", *place),
                "low": gain.low, "high": gain.high, "p": gain.p_value,
                "test_low": gains["posts"].low, "test_high": gains["posts"].high,
                "seed_low": seeds and seeds.low, "seed_high": seeds and seeds.high,
                "by_seed": {name: [*map(_for_json, evidence.runs(name, *place))] for name in OBJECTIVES}}  # fmt: skip
        lines.append({name: _for_json(value) for name, value in line.items()})
    return lines


def _for_json(value: Any) -> Any:
    """For JSON, which has no NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value
