"""When masking matters: the gain of the mask over the world's dials and the training size, and what mends it.

All heads are on frozen features of one stand-in (`cells`), at one level of co-violation, so that one pool serves all:

    map            stream focus x queue overlap, at the chain's intake bias
    intake         a line over the bias, without the two other dials and at the chain's
    size           a line over training posts, without any dial, at the chain's dials, and at strong intake
    interventions  where the mask loses: ordinary posts as negatives, or weights (`interventions`)

Beside them stand the limit that needs no learning (`limit`), the paper's own gaps, and LoRA fine-tunes on corpora that
were built at the cell's dials. The chain's own setting is always one cell. All of it is about the built-in world,
whatever posts the chain was run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.evidence import AREA
from radar_lib.metrics import average_precision
from radar_lib.training.lab import Lab
from radar_lib.training.scores import logits_for
from radar_suite.report.claims import scope
from radar_suite.report.experiments import train_seeds
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.studies import maps
from radar_suite.studies.cells import OBJECTIVES, Level, MapSettings, fit_cells, gain_lines, open_levels
from radar_suite.studies.frozen import Place
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.studies.interventions import fit_interventions
from radar_suite.studies.limit import limit_map
from radar_suite.studies.pool import BLIND, OWN, Cell, draw_training_set
from radar_suite.studies.stage import Stage
from radar_suite.world.dials import CorpusConfig, sizes_of
from radar_suite.world.facts import BLOCK
from radar_suite.world.pipelines import Intake
from radar_suite.world.standins import WORD, locate_checkpoints
from radar_suite.world.targets import weighted_to

STUDY = "phase"  # name of the heads in the record of runs
FOCUS = (0.0, 0.25, 0.5, 0.7, 0.9)
OVERLAP = (0.0, 0.5, 1.0, 1.5, 2.5)
BETAS = (0.0, 1.5, 3.0, 4.5, 6.0)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of co-violation, in the limit alone
TIMES = (1, 2, 4, 8, 16)  # training posts
STRONG = Intake(beta=6.0)
CONFIRMED = (Intake(), STRONG)  # fine-tuned, beside the chain's own
SEEDS = 5
MOST_POSTS, MOST_TEST_POSTS = 4_250, 12_000  # of a cell and of its test set: the default chain's, or fewer if it has
POOL_TIMES = 40  # posts of the pool for each training post of a cell, so that 16 times as many can be drawn
OWN_SHARE = 4  # test posts of blind traffic for each of a risk's own stream
LIMIT_BLOCKS = 24
RECIPES = tuple(HeadRecipe(learning_rate=rate, epochs=epochs) for rate in (5e-4, 2e-3, 5e-3) for epochs in (5, 15))
NOTEBOOK = "08_when_masking_matters"


def settings_of(corpus: CorpusConfig) -> MapSettings:
    """Sizes of the study's cells."""
    posts, test = min(corpus.train_posts, MOST_POSTS), min(corpus.test_posts, MOST_TEST_POSTS)
    return MapSettings(posts, POOL_TIMES * posts, test, test // OWN_SHARE, seed=corpus.seed, seeds=SEEDS,
                       frame_px=corpus.frame_px)  # fmt: skip


def map_cells(own: Cell) -> list[Cell]:
    """Stream focus x queue overlap at the chain's intake bias, its own setting among them."""
    axes = sorted({*FOCUS, own.intake.focus}), sorted({*OVERLAP, own.intake.overlap})
    return [Cell(Intake(own.intake.beta, *place), own.co_violation) for place in product(*axes)]


def intake_cells(own: Cell) -> list[Cell]:
    """A line over intake bias without the two other dials, and one at the chain's."""
    others = dict.fromkeys([(0.0, 0.0), (own.intake.focus, own.intake.overlap)])
    return [Cell(Intake(beta, *place), own.co_violation)
            for place in others for beta in sorted({*BETAS, own.intake.beta})]  # fmt: skip


def size_cells(own: Cell) -> list[Cell]:
    """Settings whose gain is followed over the training size: no dial, the chain's own, strong intake."""
    return [Cell(intake, own.co_violation) for intake in dict.fromkeys([Intake(), own.intake, STRONG])]


def star_note(seeds: int) -> str:
    """For captions: what a star on a map means."""
    return (f"* 95 % interval over {scope(seeds)}, given the pool, without 0, not corrected for the number of cells, "
            "which share their test posts")  # fmt: skip


def row_name(objective: str, line: dict[str, Any]) -> str:
    """Name of a cell's router in the record of runs."""
    dials = ", ".join(f"{name} {line[name]:g}" for name in ("beta", "focus", "overlap"))
    return f"{objective}, {dials}, {line['training_posts']} posts, {line['population']}"


def map_note(place: Place, settings: MapSettings) -> str:
    """For captions: what a map was made from."""
    models = "a small stand-in" if locate_checkpoints(place.checkpoints) == locate_checkpoints(WORD) else "a checkpoint"
    return (f"frozen {place.backbone}, {models}; {settings.posts:,} training posts a cell unless said, seeds: "
            f"{settings.seeds}; test posts: {settings.test_posts:,} of blind traffic, {settings.own_posts:,} a risk of "
            "the pipelines' own stream; the built-in world")  # fmt: skip


def study(stage: Stage) -> None:
    """Fit all cells, confirm some of them, and leave `phase.csv`, `phase_limit.csv`, `phase_lora.csv`,
    `phase_interventions.csv`, `phase_recipe.csv` and figures."""
    values, ws, corpus = stage.parameters[NOTEBOOK], stage.workspace, stage.corpus
    place = Place(stage.lab.cache, values["phase_backbone"], stage.lab.checkpoints, stage.lab.device)
    own, settings = Cell(corpus.intake, corpus.co_violation), settings_of(corpus)
    level = open_levels(place, settings, [own.co_violation], workers=stage.workers)[0]
    here, strong = [*map_cells(own), *intake_cells(own)], Cell(STRONG, own.co_violation)
    sizes = [(cell, replace(settings, posts=times * settings.posts)) for times in TIMES for cell in size_cells(own)]
    jobs = dict.fromkeys([*((cell, settings) for cell in here), *sizes])
    cells = fit_cells(place.cache, [(level, *job) for job in jobs], workers=stage.workers)
    mended = fit_interventions(place.cache, [(level, strong, settings)], workers=1)
    limit = limit_map(list(dict.fromkeys([*here, *level_cells(own)])), seed=settings.seed, blocks=LIMIT_BLOCKS)
    tuned = fine_tune_cells(stage, corpus, place.backbone)
    cells, limit, tuned = (mark_own(lines, own) for lines in (cells, limit, tuned))
    record_cells(stage, STUDY, cells, place.backbone, seed=settings.seed, features="frozen")
    record_interventions(stage, mended, place.backbone, seed=settings.seed)
    record_cells(stage, f"{STUDY} LoRA", tuned, place.backbone, seed=stage.settings.seed)
    recipes = compare_recipes(level, settings, RECIPES, intake=own.intake)
    what = map_note(place, settings)
    how = (f"LoRA fine-tunes of {place.backbone}, each on a corpus built at its own dials, seeds: {stage.seeds}, "
           f"intervals over {scope(stage.seeds)}")  # fmt: skip
    tables = {
        "phase": (cells, f"Gain of the mask by dials, training size, test population, risk and metric: {what}."),
        "phase_limit": (limit, "The same gain in the limit of endless posts and all facts known, without learning; "
                               f"gain_se: standard error, of {AREA} alone. {BLOCK * LIMIT_BLOCKS:,} simulated posts."),
        "phase_interventions": (mended, f"What is gained over the head without mask, and moved from the masked head, "
                                        f"by ordinary posts taken for negatives or by weights, at beta {STRONG.beta:g} "
                                        f"without focus and overlap: {what}."),
        "phase_lora": (tuned, f"Gain of the mask in {how}."),
        "phase_recipe": (recipes, f"PR-AUC of head recipes on training posts that no head saw: {what}."),
    }  # fmt: skip
    for name, (frame, caption) in tables.items():
        frame = frame.drop(columns="by_seed", errors="ignore")
        text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        ws.save_table(text, name, caption=caption)
    save_figures(stage, cells, limit, mended, tuned, what=what, how=how)


def level_cells(own: Cell) -> list[Cell]:
    """A line over co-violation, without any dial of intake and at the chain's."""
    return [Cell(intake, level) for intake in dict.fromkeys([Intake(), own.intake])
            for level in sorted({*LEVELS, own.co_violation})]  # fmt: skip


def mark_own(lines: pd.DataFrame, own: Cell) -> pd.DataFrame:
    """Lines with a column `own`: whether the dials are the chain's."""
    return lines.assign(own=np.all([np.isclose(lines[name], value) for name, value in own.dials.items()], axis=0))


def save_figures(
    stage: Stage, cells: pd.DataFrame, limit: pd.DataFrame, mended: pd.DataFrame, tuned: pd.DataFrame, *, what: str,
    how: str,
) -> None:  # fmt: skip
    """The map, the limit beside it, the lines, the interventions, and the three in one.

    Args:
        what, how: for captions: what the map, and the fine-tunes, were made from.
    """
    ws, star, points = stage.workspace, star_note(SEEDS), f"Average {AREA}, masked minus unmasked, points"
    intervals = f"bars: 95 % intervals over {scope(SEEDS)}, given the pool"
    fits = "hatched: cells whose interval holds the paper's gap of at least one tiny backbone"
    ring = "framed: the chain's own setting, where the gain is by construction"
    figures = {
        "phase_map": (maps.over_queues(cells), f"{points}; {star}; {fits}; {ring}; {what}."),
        "phase_limit_map": (maps.beside_limit(cells, limit),
                            f"{points}, on traffic: left without learning (simulated), right learned; {star}; {what}."),
        "phase_lines": (maps.lines(cells, limit, tuned),
                        f"{points}; {intervals}; diamonds: {how}; the limit is simulated without learning; {what}."),
        "phase_levels": (maps.over_levels(limit), f"{points}, in the limit, on traffic, over co-violation; simulated."),
        "phase_mended": (maps.mended(mended),
                         f"Average {AREA} over the head without mask and without more posts, points; "
                         f"{intervals}; beta {STRONG.beta:g}, no focus, no overlap; {what}."),
        "phase_summary": (maps.summary(cells, mended),
                          f"{points}. Left: {star}, {ring}; middle and right: {intervals}; {what}."),
    }  # fmt: skip
    for name, (figure, caption) in figures.items():
        ws.save_figure(figure, name, caption=caption)


def record_cells(stage: Stage, study: str, cells: pd.DataFrame, backbone: str, *, seed: int, **config: Any) -> None:
    """Enter every cell's routers in the record of runs, by `row_name`.

    Args:
        study: name in the record; entering a study's lines drops its lines on other posts.
        cells: lines with `by_seed`, `run` (the cell's hash, or its runs'), `seconds` (of the whole cell) and `posts`
            (digest of the pool or corpus).
        seed: first seed.
        config: more of the configuration.
    """
    dials = ("beta", "focus", "overlap", "co_violation", "training_posts")
    parts, share = [], 1 / (len(OBJECTIVES) * cells["population"].nunique())
    for objective in OBJECTIVES:
        own = cells.assign(by_seed=[one[objective] for one in cells["by_seed"]])
        names = [row_name(objective, line) for line in own.to_dict("records")]
        parts.append(own.assign(row=names, objective=objective, share=share))
    about = {"about": ("objective", *dials), "backbone": backbone} | config
    stage.record_lines(study, pd.concat(parts), seed=seed, **about)


def record_interventions(stage: Stage, lines: pd.DataFrame, backbone: str, *, seed: int) -> None:
    """Enter every variant's heads in the record of runs, as rows like 'masked, 212 ordinary posts, traffic'."""
    rows = [f"{line['row']}, {line['population']}" for line in lines.to_dict("records")]
    about = ("objective", "negatives", "weighed_to", "beta", "training_posts")
    lines = lines.assign(row=rows, share=1 / len(set(rows)))
    stage.record_lines(f"{STUDY} interventions", lines, seed=seed, about=about, backbone=backbone, features="frozen")


def fine_tune_cells(stage: Stage, corpus: CorpusConfig, backbone: str) -> pd.DataFrame:
    """Gains of LoRA fine-tunes at `CONFIRMED` dials and, on built-in posts, at the chain's own.

    Corpora are built at the cell's dials, otherwise as the chain's.
    """
    frames = []
    for intake in CONFIRMED:
        config = replace(corpus, intake_beta=intake.beta, stream_focus=intake.focus, queue_overlap=intake.overlap,
                         calibration_posts=0, unlabelled_posts=0, audit_posts=0)  # fmt: skip
        lab = stage.lab_on(config)
        frames.append(_fine_tune(stage, lab, backbone).assign(**Cell(intake, corpus.co_violation).dials))
    if stage.posts.kind == "built-in":
        dials = Cell(corpus.intake, corpus.co_violation).dials
        frames.append(_fine_tune(stage, stage.lab, backbone).assign(**dials))
    return pd.concat(frames, ignore_index=True)


def _fine_tune(stage: Stage, lab: Lab, backbone: str) -> pd.DataFrame:
    """Gains of the mask on a lab's posts, on every test population that it scores; table rows come from the cache."""
    specs = [stage.settings.spec(backbone, lab.posts.categories, objective=objective) for objective in OBJECTIVES]
    runs = train_seeds(lab, specs, titles=list(OBJECTIVES), seeds=stage.seeds, workers=stage.workers, desc="LoRA")
    lines = []
    for population, split in ((BLIND, "test"), (OWN, "test_own")):
        if split in lab.score_splits:
            ids, truth, groups = labelled_test_posts(lab.posts, split)
            logits = [[logits_for(run.scores(split), ids, lab.posts.categories) for run in ours] for ours in runs]
            gains = gain_lines(truth, *logits, seed=stage.settings.seed, categories=lab.posts.categories, groups=groups)
            lines += [{"population": population, **line} for line in gains]
    every = [run for ours in runs for run in ours]
    seconds = sum(run.record["history"]["seconds"] for run in every)
    return pd.DataFrame(lines).assign(run=" ".join(run.digest for run in every), seconds=seconds,
                                      posts=lab.posts.digest, training_posts=lab.posts.splits["train"])  # fmt: skip


def compare_recipes(
    level: Level, settings: MapSettings, recipes: Sequence[HeadRecipe], *, intake: Intake
) -> pd.DataFrame:
    """Average PR-AUC of head recipes on training posts that the heads did not see; no test post is read.

    Scored are the pool's other posts, with their true labels, weighted to traffic and to the test prevalence. The
    recipe of the map was chosen by the mean of both objectives on such posts, so neither of them is favoured; `used`
    marks it, and `phase_recipe.csv` shows whether it still is the best.
    """
    drawn = draw_training_set(level.pool, intake=intake, sizes=sizes_of(settings.posts), seed=settings.seed)
    others = np.setdiff1d(np.flatnonzero(~level.pool.held_out), drawn.rows)
    truth, weight = level.pool.truth[others], level.pool.weight[others]
    members = [Member.of(drawn.rows, drawn.labels, objective, settings.seed) for objective in OBJECTIVES]
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
