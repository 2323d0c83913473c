"""When masking matters: the gain of the mask over intake bias x co-violation, some cells fine-tuned for real.

Cells are heads on frozen features of one stand-in (`cells`); beside them stand the limit that needs no learning
(`limit`), the paper's own gaps, and LoRA fine-tunes on corpora that were built at the cell's dials. The map is about
the built-in world, whatever posts the chain was run on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.evidence import AREA
from radar_lib.metrics import average_precision
from radar_lib.training.lab import Lab
from radar_lib.training.scores import logits_for
from radar_suite.report import record
from radar_suite.report.claims import scope
from radar_suite.report.experiments import text_limit, train_seeds
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.report.workspace import Workspace
from radar_suite.studies import maps
from radar_suite.studies.cells import OBJECTIVES, Level, MapSettings, fit_map, gain_lines, open_levels
from radar_suite.studies.frozen import Place
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.studies.limit import limit_map
from radar_suite.studies.pool import draw_training_set
from radar_suite.studies.stage import Stage
from radar_suite.world.build import CorpusConfig, build_corpus, corpus_digest
from radar_suite.world.facts import BLOCK
from radar_suite.world.standins import WORD, locate_checkpoints
from radar_suite.world.targets import weighted_to

STUDY = "phase"  # name of the map's cells in the record of runs
BETAS = (0.0, 1.5, 3.0, 4.5, 6.0)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = 5
LIMIT_SHARE = 400  # posts of a pool for each 4,096 posts of traffic that the limit is computed on
CONFIRMED = ((0.0, 0.0), (6.0, 1.0))  # cells (beta, co-violation) that are fine-tuned, beside the chain's own
RECIPES = tuple(HeadRecipe(learning_rate=rate, epochs=epochs) for rate in (5e-4, 2e-3, 5e-3) for epochs in (5, 15))
NOTEBOOK = "08_when_masking_matters"


def star_note(seeds: int) -> str:
    """For captions: what a star on a map means."""
    return (f"* 95 % interval over {scope(seeds)}, given the pool, without 0, not corrected for the number of cells; "
            "cells of one level share their test posts")  # fmt: skip


def limit_blocks(settings: MapSettings) -> int:
    """Blocks of simulated posts per level that the limit beside a map with these settings is computed on."""
    return max(2, settings.pool_posts // LIMIT_SHARE)


def row_name(objective: str, beta: float, level: float) -> str:
    """Name of a cell's router in the record of runs."""
    return f"{objective}, beta {beta:g}, co-violation {level:g}"


def map_note(place: Place, settings: MapSettings) -> str:
    """For captions: what a map was made from."""
    models = "a small stand-in" if locate_checkpoints(place.checkpoints) == locate_checkpoints(WORD) else "a checkpoint"
    return (f"frozen {place.backbone}, {models}; {settings.posts:,} training posts a cell, seeds: {settings.seeds}, "
            f"{settings.test_positives} violating test posts a risk; the built-in world")  # fmt: skip


def study(stage: Stage) -> None:
    """Fit the whole map, confirm some of it, and leave `phase.csv`, `phase_limit.csv`, `phase_lora.csv`,
    `phase_recipe.csv` and figures."""
    values, ws = stage.parameters[NOTEBOOK], stage.workspace
    place = Place(stage.lab.cache, values["phase_backbone"], stage.lab.checkpoints, stage.lab.device)
    sizes = (values[f"phase_{name}"] for name in ("posts", "pool", "test_positives"))
    settings = MapSettings(*sizes, seed=values["seed"], seeds=SEEDS, frame_px=values["frame_px"])
    cells = fit_map(place, settings, BETAS, LEVELS, workers=stage.workers)
    record_cells(stage, STUDY, cells, place.backbone, seed=settings.seed, training_posts=settings.posts,
                 features="frozen")  # fmt: skip
    limit = limit_map(BETAS, LEVELS, seed=settings.seed, blocks=limit_blocks(settings))
    tuned = fine_tune_cells(stage, place.backbone)
    middle = open_levels(place, settings, [LEVELS[-2]], workers=1)[0]
    recipes = compare_recipes(middle, settings, RECIPES, beta=BETAS[2])
    what = map_note(place, settings)
    how = (f"LoRA fine-tunes of {place.backbone}, each on a corpus built at its own dials, seeds: {stage.seeds}, "
           f"{stage.parameters['01_data_audit']['test_positives']} violating test posts a risk, intervals over "
           f"{scope(stage.seeds)}")  # fmt: skip
    tables = {
        "phase": (cells.drop(columns="by_seed"), f"Gain of the mask by cell, risk and metric: {what}."),
        "phase_limit": (limit, "The same gain in the limit of endless posts and all facts known, without learning; "
                               f"gain_se: standard error, of {AREA} alone. {BLOCK * limit_blocks(settings):,} "
                               "simulated posts a level."),
        "phase_lora": (tuned, f"Gain of the mask in {how}."),
        "phase_recipe": (recipes, f"PR-AUC of head recipes on training posts that no head saw: {what}."),
    }  # fmt: skip
    for name, (frame, caption) in tables.items():
        text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        ws.save_table(text, name, caption=caption)
    save_maps(ws, cells, limit, tuned, what=what, how=how, seeds=settings.seeds)


def save_maps(
    ws: Workspace, cells: pd.DataFrame, limit: pd.DataFrame, tuned: pd.DataFrame, *, what: str, how: str, seeds: int
) -> None:
    """The map by metric and by risk, the limit beside it, and the cells that the paper's gaps fit.

    Args:
        what, how: for captions: what the map, and the fine-tunes, were made from.
    """
    star, error = star_note(seeds), 100 * maps.cells_of(limit)["gain_se"].max()
    ws.save_figure(maps.by_metric(cells), "phase_map",
                   caption=f"Masked minus unmasked, average over risks, points; {star}; {what}.")  # fmt: skip
    ws.save_figure(maps.by_risk(cells), "phase_risks",
                   caption=f"Masked minus unmasked in {AREA}, by risk, points; {star}; {what}.")  # fmt: skip
    ws.save_figure(maps.beside_limit(cells, limit), "phase_limit_map",
                   caption=f"Average {AREA}, masked minus unmasked, points: left without learning (simulated, standard "
                           f"error at most {error:.1f}), right learned; {star}; {what}.")  # fmt: skip
    ws.save_figure(maps.with_paper(cells, tuned), "phase_paper",
                   caption=f"Average {AREA}, masked minus unmasked, points. Map: {what}; hatched: cells whose interval "
                           "holds the paper's gap of at least one tiny backbone. Boxes, with their level of "
                           f"co-violation where it is no row of the map: {how}. {star}; of a box, its own interval "
                           "without 0.")  # fmt: skip


def record_cells(
    stage: Stage, study: str, cells: pd.DataFrame, backbone: str, *, seed: int, prefix: str = "", **config: Any
) -> None:
    """Enter every cell's routers in the record of runs, as rows like 'masked, beta 3, co-violation 0.5'.

    Args:
        study: name in the record; entering a study's lines drops its lines on other posts.
        cells: lines with `by_seed`, `run` (the cell's hash, or its runs'), `seconds` (of the whole cell) and `posts`
            (digest of the pool or corpus).
        seed: first seed.
        prefix: of the rows' names.
        config: more of the configuration.
    """
    lines = []
    for (beta, level), cell in cells.groupby(["beta", "co_violation"], sort=False):
        run, seconds, posts = cell.iloc[0][["run", "seconds", "posts"]]
        number = len(cell.iloc[0]["by_seed"]["masked"])
        for objective in OBJECTIVES:
            about = {"backbone": backbone, "objective": objective, "beta": beta, "co_violation": level} | config
            for n in range(number):
                scores: dict[str, dict[str, float]] = {}
                for line in cell.to_dict("records"):
                    scores.setdefault(line["category"], {})[line["metric"]] = line["by_seed"][objective][n]
                one = record.run_lines(
                    study, prefix + row_name(objective, beta, level), seed + n, scores, run=run, config=about,
                    seconds=seconds / (number * len(OBJECTIVES)), workspace=stage.workspace,
                )  # fmt: skip
                lines.append(one.assign(posts_digest=posts))
    record.record(stage.record_path, pd.concat(lines, ignore_index=True))


def fine_tune_cells(stage: Stage, backbone: str) -> pd.DataFrame:
    """Gains of LoRA fine-tunes at `CONFIRMED` cells and, on built-in posts, at the chain's own cell; recorded.

    Corpora are built at the cell's dials, otherwise as notebook 01's parameters say.
    """
    values = stage.parameters["01_data_audit"]
    own = CorpusConfig(**{f.name: values[f.name] for f in fields(CorpusConfig) if f.name in values})
    frames = []
    for beta, level in CONFIRMED:
        config = replace(own, intake_beta=beta, co_violation=level, calibration_positives=0, unlabelled_posts=0,
                         audit_posts=0)  # fmt: skip
        folder = stage.lab.cache.root / "corpus" / corpus_digest(config)
        posts = build_corpus(config, folder, workers=stage.workers or os.cpu_count() or 1)
        lab = Lab(posts, stage.lab.cache, checkpoints=stage.lab.checkpoints, device=stage.lab.device,
                  checkpoint_seconds=stage.lab.checkpoint_seconds, execution=stage.lab.execution,
                  text=text_limit(posts, stage.parameters["05_router_training"]["text_tokens"]))  # fmt: skip
        frames.append(_fine_tune(stage, lab, backbone).assign(beta=beta, co_violation=level))
    if stage.posts.kind == "built-in":
        dials = {"beta": float(own.intake_beta), "co_violation": float(own.co_violation)}
        frames.append(_fine_tune(stage, stage.lab, backbone).assign(**dials))
    tuned = pd.concat(frames, ignore_index=True)
    record_cells(stage, f"{STUDY} LoRA", tuned, backbone, seed=stage.settings.seed, prefix="LoRA, ")
    return tuned.drop(columns="by_seed")


def _fine_tune(stage: Stage, lab: Lab, backbone: str) -> pd.DataFrame:
    """Gains of the mask on a lab's posts; runs that are table rows already come from the cache."""
    specs = [stage.settings.spec(backbone, lab.posts.categories, objective=objective) for objective in OBJECTIVES]
    runs = train_seeds(lab, specs, titles=list(OBJECTIVES), seeds=stage.seeds, workers=stage.workers, desc="LoRA")
    ids, truth, groups = labelled_test_posts(lab.posts)
    masked, unmasked = [[logits_for(run.scores(), ids, lab.posts.categories) for run in ours] for ours in runs]
    about = {"categories": lab.posts.categories, "groups": groups}
    lines = gain_lines(truth, masked, unmasked, seed=stage.settings.seed, **about)
    every = [run for ours in runs for run in ours]
    seconds = sum(run.record["history"]["seconds"] for run in every)
    return pd.DataFrame(lines).assign(run=" ".join(run.digest for run in every), seconds=seconds,
                                     posts=lab.posts.digest)  # fmt: skip


def compare_recipes(
    level: Level, settings: MapSettings, recipes: Sequence[HeadRecipe], *, beta: float
) -> pd.DataFrame:
    """Average PR-AUC of head recipes on training posts that the heads did not see; no test post is read.

    Scored are the pool's other posts, with their true labels, weighted to traffic and to the test prevalence. The
    recipe of the map was chosen by the mean of both objectives on such posts, so neither of them is favoured; `used`
    marks it, and `phase_recipe.csv` shows whether it still is the best.
    """
    drawn = draw_training_set(level.pool, beta=beta, sizes=sizes_of(settings.posts), seed=settings.seed)
    others = np.setdiff1d(np.arange(len(level.pool)), drawn.rows)
    truth, weight = level.pool.truth[others], level.pool.weight[others]
    members = [Member(drawn.rows, drawn.labels, objective, settings.seed) for objective in OBJECTIVES]
    lines = []
    for recipe in recipes:
        area = {}
        for objective, weights in zip(OBJECTIVES, train_heads(level.features, members, recipe), strict=True):
            logits = head_logits(level.features[others], weights)
            parts = []
            for y, column, prevalence in zip(truth.T, logits.T, CorpusConfig.test_prevalence, strict=True):
                inside = np.where(y, weight / weight[y].mean(), weight / weight[~y].mean())  # traffic, given the label
                parts.append(average_precision(y, column, weights=inside * weighted_to(y, prevalence)))
            area[objective] = np.mean(parts)
        lines.append({"learning_rate": recipe.learning_rate, "epochs": recipe.epochs, **area,
                      "mean": np.mean(list(area.values())), "used": recipe == settings.recipe})  # fmt: skip
    return pd.DataFrame(lines)
