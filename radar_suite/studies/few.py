"""A few cells of the map without its pool's features: the study's own training sets, from a pool of the study's size.

A small pool will not do: where a queue hunts strongly, it runs out of the posts that the cell's dials ask for. So the
pool is planned as large as the study's, which takes facts alone, and only posts that some cell trains on or is tested
on are drawn and encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from radar_lib.files import digest_bytes, digest_json
from radar_suite.studies.cells import Level, MapSettings, draw_seeds
from radar_suite.studies.frozen import Place, frozen_features
from radar_suite.studies.interventions import SHARES
from radar_suite.studies.pool import Cell, Pool, draw_own_stream, draw_traffic, plan_pool
from radar_suite.world.dials import CorpusConfig
from radar_suite.world.pipelines import Selection

Work = Sequence[tuple[Cell, MapSettings]]


@dataclass(frozen=True)
class Chosen(Place):
    """A place for the features of some posts of a pool, which are not those of all its posts."""

    rows: str  # digest of which

    def inputs(self, config: CorpusConfig) -> dict[str, Any]:
        return super().inputs(config) | {"rows": self.rows}


def open_few(place: Place, cells: Work, mended: Work, *, workers: int) -> Level:
    """The level that these cells share; features of posts that none of them needs are NaN.

    Args:
        cells: for `cells.fit_cells`, with the same pool, test posts and co-violation.
        mended: for `interventions.fit_interventions`, likewise.

    Raises:
        RadarError: as `draw_training_set`, `draw_own_stream` and `draw_traffic`.
    """
    (cell, settings), *_ = cells
    config = settings.corpus(cell.co_violation)
    pool = plan_pool(config)
    level = Level(cell.co_violation, pool, np.empty((0, 0), np.float32), "")
    parts = [*needed_rows(level, cells), *needed_rows(level, mended, ordinary=max(SHARES))]
    test = np.arange(len(pool), len(pool) + len(pool.test_labels))
    rows = np.unique(np.concatenate([*parts, test]))
    chosen = Chosen(place.cache, place.backbone, place.checkpoints, place.device, digest_bytes(rows.tobytes()))
    (vectors,) = frozen_features(chosen, [(config, take_rows(pool, rows))], workers=workers)
    features = np.full((test.max() + 1, vectors.shape[1]), np.nan, np.float32)
    features[rows] = vectors
    return replace(level, pool=replace(pool, selections=()), features=features,
                   digest=digest_json(chosen.inputs(config)))  # fmt: skip


def needed_rows(level: Level, work: Work, *, ordinary: float = 0) -> Iterator[Int[np.ndarray, " post"]]:
    """Rows of the pool that cells train on at each seed or are tested on.

    Args:
        ordinary: posts of traffic that join the training posts, as a share of them.
    """
    for cell, settings in work:
        yield draw_own_stream(level.pool, intake=cell.intake, posts=settings.own_posts, seed=settings.seed).rows
        for seed, drawn in draw_seeds(level, cell, settings).items():
            yield drawn.rows
            posts = round(ordinary * settings.posts)
            yield draw_traffic(level.pool, posts=posts, seed=seed, without=drawn.rows)


def take_rows(pool: Pool, rows: Int[np.ndarray, " post"]) -> list[Selection]:
    """These posts of a pool's selections (ascending; counted over all of them, the test posts last)."""
    ends = np.cumsum([len(one) for one in pool.selections])
    parts = np.split(rows, np.searchsorted(rows, ends[:-1]))
    return [one.take(part - end + len(one)) for one, part, end in zip(pool.selections, parts, ends, strict=True)]
