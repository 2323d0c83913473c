"""The study `controls`: one student, taught by nobody, by the experts, and by teachers that each lack one thing.

The student is Qwen3-VL-4B with the settings of the tables, so the rows 'no teacher' and 'experts' are table rows at the
first seed, and are not trained again. Every teacher is made once, at the first seed, except a router's own twin.

The paper gives two reasons for its gain: the experts are better targets where a label exists (decision-boundary
alignment), and they speak where none exists (label-sparsity relief). Teaching verified cells, or unverified ones, both
or neither is a 2x2 design. With PR-AUC m00 of no teacher, m10 of verified cells only, m01 of unverified ones only and
m11 of both, the gain m11 - m00 is the sum of two effects, each the mean of what its cells bring alone and on top of the
others (the Shapley values of the two):

    targets      = ((m10 - m00) + (m11 - m01)) / 2
    supervision  = ((m01 - m00) + (m11 - m10)) / 2
    interaction  =   m11 - m10 - m01 + m00
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_lib.data.posts import valid_mask
from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import Difference
from radar_lib.training.batches import part_of
from radar_lib.training.parallel import train_all
from radar_lib.training.scores import logits_for, read_scores
from radar_lib.training.specs import SCORES, Run, RunSpec, SoftLabels
from radar_lib.training.teachers import soft_labels
from radar_suite.report.claims import about, scope
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, SMALL, by_seed, train_seeds
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE, PINK
from radar_suite.report.tables import METRICS, group_rows, row_logits, slug
from radar_suite.studies.other_teachers import cross_fit, harden, keep_teacher, shuffle
from radar_suite.studies.stage import Stage

NONE, EXPERTS = "no teacher", "experts"
VERIFIED, UNVERIFIED = "experts, verified cells only", "experts, unverified cells only"
SAME_SIZE, OTHER_FAMILY, SELF = "same-size experts", "same-size experts, other family", "its own twin"
CROSS_FITTED, HARD, SHUFFLED = "experts, cross-fitted", "experts, hard labels", "experts, shuffled"
MULTITASK = f"{EXPERT_BACKBONE} for all risks"
OTHER_BACKBONE = "Gemma3-4B"

ROWS: Mapping[str, str] = {
    NONE: "masked labels alone (a row of the tables)",
    EXPERTS: f"one {EXPERT_BACKBONE} expert per risk, as in the paper (a row of the tables)",
    VERIFIED: "they teach the verified cells; unverified cells teach nothing",
    UNVERIFIED: "they teach the unverified cells; verified cells have their labels alone",
    SAME_SIZE: f"one {LAMBDA_STUDY_BACKBONE} expert per risk: the student's own family and size",
    OTHER_FAMILY: f"one {OTHER_BACKBONE} expert per risk",
    SELF: "the student's own row without a teacher, at the same seed",
    CROSS_FITTED: "two experts per risk, each trained on half of its posts; a verified cell is judged by the one that "
    "did not see it, other cells by the mean of both logits",
    HARD: "the experts' t set to 1 where it is above 1/2, else to 0",
    SHUFFLED: "the experts' logits dealt to the posts at random, risk by risk",
    MULTITASK: "no student: one multi-task model of the experts' size, masked labels alone",
}
DESIGN = (NONE, VERIFIED, UNVERIFIED, EXPERTS)
GROUPS = (DESIGN[1:], (SAME_SIZE, OTHER_FAMILY, SELF), (CROSS_FITTED, HARD, SHUFFLED), (MULTITASK,))
DIGITS = 2  # of points


class Contrast(NamedTuple):
    """A weighted sum of rows, with what it means."""

    name: str
    meaning: str
    weights: Mapping[Hashable, float]


def teacher_of(row: str) -> tuple[str, str]:
    """Name, in the evidence, of the experts behind a row, scored by themselves."""
    return ("teacher", row)


def table_row(backbone: str, *, distilled: bool) -> tuple[str, str]:
    """A small router's table row, as (loss, method)."""
    return ("Masked BCE + Distill" if distilled else "Masked BCE", backbone)


def _gain(backbone: str, weight: float = 1.0) -> dict[Hashable, float]:
    return {table_row(backbone, distilled=True): weight, table_row(backbone, distilled=False): -weight}


def _minus(row: Hashable, other: Hashable) -> dict[Hashable, float]:
    return {row: 1.0, other: -1.0}


_OTHERS = [name for name in SMALL if name != LAMBDA_STUDY_BACKBONE]
_MATCH = _gain(LAMBDA_STUDY_BACKBONE) | {
    row: weight for name in _OTHERS for row, weight in _gain(name, -1 / len(_OTHERS)).items()
}
CONTRASTS = (
    Contrast("gain", "experts minus no teacher", _minus(EXPERTS, NONE)),
    Contrast("targets", "main effect of teaching verified cells",
             {VERIFIED: 0.5, NONE: -0.5, EXPERTS: 0.5, UNVERIFIED: -0.5}),
    Contrast("supervision", "main effect of teaching unverified cells",
             {UNVERIFIED: 0.5, NONE: -0.5, EXPERTS: 0.5, VERIFIED: -0.5}),
    Contrast("interaction", "what teaching both brings beyond the sum of each alone",
             {EXPERTS: 1.0, VERIFIED: -1.0, UNVERIFIED: -1.0, NONE: 1.0}),
    Contrast("supervision - targets", "which of the two is larger", _minus(UNVERIFIED, VERIFIED)),
    Contrast("shuffled", "shuffled experts minus no teacher", _minus(SHUFFLED, NONE)),
    Contrast("information", "experts minus shuffled experts", _minus(EXPERTS, SHUFFLED)),
    Contrast("self", "its own twin minus no teacher", _minus(SELF, NONE)),
    Contrast("beyond self", "experts minus its own twin", _minus(EXPERTS, SELF)),
    Contrast("size", "experts minus same-size experts of the student's family", _minus(EXPERTS, SAME_SIZE)),
    Contrast("family", "same-size experts: the student's family minus another", _minus(SAME_SIZE, OTHER_FAMILY)),
    Contrast("family of the teacher", "the same for those experts' own scores",
             _minus(teacher_of(SAME_SIZE), teacher_of(OTHER_FAMILY))),
    Contrast("cross-fitting", "cross-fitted experts minus experts", _minus(CROSS_FITTED, EXPERTS)),
    Contrast("hardening", "hard labels minus experts", _minus(HARD, EXPERTS)),
    *(Contrast(f"gain of {name}", f"table row distilled from {EXPERT_BACKBONE} minus its twin", _gain(name))
      for name in SMALL),
    Contrast("match", f"gain of {LAMBDA_STUDY_BACKBONE} minus the mean gain of {' and '.join(_OTHERS)}", _MATCH),
)  # fmt: skip

FOLDS = 2
Experts = Mapping[str, Mapping[str, Run]]  # by teacher and category
TEACHERS = {  # experts trained for this study: backbone, and the fold of its posts that each is trained on
    SAME_SIZE: (LAMBDA_STUDY_BACKBONE, None),
    OTHER_FAMILY: (OTHER_BACKBONE, None),
    **{f"{CROSS_FITTED}, half {i}": (EXPERT_BACKBONE, (i, FOLDS)) for i in range(FOLDS)},
}


def study(stage: Stage) -> None:
    """Train every row of `ROWS`; leave controls.csv, contrasts.csv, a figure, and lines of the record."""
    experts = train_experts(stage)
    rows = train_students(stage, experts)
    for row, runs in rows.items():
        recipe = asdict(runs[0].spec.recipe)
        lambdas = {name: recipe[name] for name in ("lam", "lam_verified", "lam_unverified")}
        stage.record_row("controls", row, runs, teacher=ROWS[row], **lambdas)
    save_results(stage, rows, experts)


def train_experts(stage: Stage) -> Experts:
    """The experts of each teacher in `TEACHERS`; trained together, so that all cores are busy."""
    specs = {(name, category): replace(stage.expert_settings.spec(backbone, [category]), fold=fold)
             for name, (backbone, fold) in TEACHERS.items() for category in stage.posts.categories}  # fmt: skip
    titles = [f"{name}, {category}" for name, category in specs]
    runs = train_all(stage.lab, list(specs.values()), titles=titles, workers=stage.workers, desc="other experts")
    experts: dict[str, dict[str, Run]] = {}
    for (name, category), run in zip(specs, runs, strict=True):
        experts.setdefault(name, {})[category] = run
    return experts


def train_students(stage: Stage, experts: Experts) -> dict[str, list[Run]]:
    """The runs of every row, one per seed."""
    none, lam = stage.settings.lambda_point(0.0, stage.posts.categories), stage.lam
    taught = none.with_recipe(lam=lam)
    rows = _train_rows(stage, {
        NONE: none,
        EXPERTS: taught,
        VERIFIED: none.with_recipe(lam_verified=lam, lam_unverified=0.0),
        UNVERIFIED: none.with_recipe(lam_verified=0.0, lam_unverified=lam),
        MULTITASK: stage.settings.spec(EXPERT_BACKBONE, stage.posts.categories),
    }, stage.teacher)  # fmt: skip
    for name, teacher in make_teachers(stage, experts).items():
        rows |= _train_rows(stage, {name: taught}, teacher)
    rows[SELF] = [_taught_by_its_twin(stage, taught, run) for run in rows[NONE]]
    return {name: rows[name] for name in ROWS}


def _train_rows(stage: Stage, specs: Mapping[str, RunSpec], teacher: SoftLabels) -> dict[str, list[Run]]:
    runs = train_seeds(stage.lab, list(specs.values()), titles=list(specs), seeds=stage.seeds, teacher=teacher,
                       workers=stage.workers, desc="students")  # fmt: skip
    return dict(zip(specs, runs, strict=True))


def _taught_by_its_twin(stage: Stage, taught: RunSpec, own: Run) -> Run:
    seed = own.spec.recipe.seed
    path = _teacher_path(stage, f"{SELF} {seed}")
    soft_labels(stage.lab, dict.fromkeys(stage.posts.categories, own), splits=["train"], path=path)
    return train_all(stage.lab, [taught.with_recipe(seed=seed)], titles=[f"{SELF}, seed {seed}"],
                     teacher=SoftLabels.open(path), workers=stage.workers)[0]  # fmt: skip


def make_teachers(stage: Stage, experts: Experts) -> dict[str, SoftLabels]:
    """The teacher of each row that has its own: what other experts say, and the experts' soft labels changed."""
    said = {name: soft_labels(stage.lab, own, splits=["train"], path=_teacher_path(stage, name))
            for name, own in experts.items()}  # fmt: skip
    table = read_scores(stage.teacher.path, digest=stage.teacher.digest)
    table = table[table["split"] == "train"].reset_index(drop=True)
    halves = [said[name] for name in said if name.startswith(CROSS_FITTED)]
    own = valid_mask(stage.lab.labels("train", stage.posts.categories))
    made = {
        CROSS_FITTED: cross_fit(halves, own=own, fold=part_of(halves[0]["post_id"].tolist(), FOLDS)),
        HARD: harden(table),
        SHUFFLED: shuffle(table, seed=stage.settings.seed),
    }
    kept = {name: keep_teacher(frame, _teacher_path(stage, name)) for name, frame in made.items()}
    return {name: SoftLabels.open(_teacher_path(stage, name)) for name in (SAME_SIZE, OTHER_FAMILY)} | kept


def _teacher_path(stage: Stage, name: str) -> Path:
    return stage.workspace.path(f"teachers/{slug(name)}.parquet")


def save_results(stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Experts) -> None:
    """The tables and the figure of finished rows."""
    evidence, ws = compare(stage, rows, experts), stage.workspace
    table = control_table(evidence)
    seeds = f"{stage.seeds} seed{'s' if stage.seeds > 1 else ''} from {stage.settings.seed} on"
    note = (f"{LAMBDA_STUDY_BACKBONE} at lambda {stage.lam:g}, {seeds}, teachers of the first seed; violating of all "
             f"test posts: {stage.test_counts()}; {ws.about}.")  # fmt: skip
    intervals = f"95 % intervals over {scope(stage.seeds)}, paired, not corrected for their number"
    ws.save_table(table, "controls",
                  caption=f"Controls for distillation, in points: value, and gain over no teacher; {intervals}. "
                          f"{note}")  # fmt: skip
    ws.save_table(contrast_table(evidence), "contrasts",
                  caption="Effects of the 2x2 design (verified cells taught or not, unverified cells taught or not) "
                          f"and other contrasts of the controls, in points; {intervals}. {note}")  # fmt: skip
    ws.save_figure(control_figure(table), "controls_gain",
                   caption="What each teacher, and last a larger model without one, gains over no teacher, average "
                           f"over risks; {intervals}. Squares on grey: the 2x2 design, whose fourth corner is the "
                           f"dotted line. {note}")  # fmt: skip


def compare(stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Experts) -> Evidence:
    """All rows on the test posts, with the experts behind some of them and the table rows of the small routers."""
    (ids, truth, groups), categories, ws = stage.test(), stage.posts.categories, stage.workspace
    logits = {row: [logits_for(run.scores("test"), ids, categories) for run in runs] for row, runs in rows.items()}
    trained = group_rows([*ws.read("03_expert_training/experts.json"), *ws.read("05_router_training/routers.json")])
    table_rows = [table_row(name, distilled=distilled) for name in SMALL for distilled in (False, True)]
    entries = {row: by_seed(trained[row]) for row in table_rows}
    for name in (SAME_SIZE, OTHER_FAMILY):
        tests = [run.scores_entry("test") for run in experts[name].values()]
        files = [{"scores_path": one.path(SCORES), "scores_digest": one.record()["files"][SCORES]} for one in tests]
        entries[teacher_of(name)] = [files]
    for row, seeds in entries.items():
        logits[row] = [row_logits(one, ids, truth, categories, runs_dir=ws.runs_dir) for one in seeds]
    return Evidence(truth, logits, categories, groups=groups, seed=stage.settings.seed)


def contrast_table(evidence: Evidence) -> pd.DataFrame:
    """One line per contrast, category (Average first) and metric: estimate, 95 % interval in points, p-value and scope.

    From three seeds of each row on, intervals are over test posts and seeds, and about the method (`claims.about`).
    """
    lines = []
    for one in CONTRASTS:
        whose, over = about(evidence, *one.weights)
        for category, metric in _places(evidence):
            result = evidence.contrast(one.weights, category, metric, over=over)
            place = {"contrast": one.name, "meaning": one.meaning, "category": category, "metric": metric}
            lines.append(place | _points(result) | {"p": round(result.p_value, 4), "about": whose})
    return pd.DataFrame(lines)


def control_table(evidence: Evidence) -> pd.DataFrame:
    """One line per row, category (Average first) and metric, in points: the value, and what it gains.

    Columns: row, category, metric, seeds, value (mean over seeds), sd (over seeds, missing for one), then `gain` over
    'no teacher' and the difference `against experts`, each paired, with the ends of its 95 % interval
    over test posts and, from three seeds on, over seeds.

    Args:
        evidence: with the rows of `ROWS`.
    """
    lines = []
    for row in ROWS:
        for category, metric in _places(evidence):
            runs = evidence.runs(row, category, metric)
            line = {"row": row, "category": category, "metric": metric, "seeds": len(runs),
                    "value": round(100 * evidence.value(row, category, metric), DIGITS),
                    "sd": round(100 * float(np.std(runs, ddof=1)) if len(runs) > 1 else np.nan, DIGITS)}  # fmt: skip
            for short, reference in (("gain", NONE), ("against experts", EXPERTS)):
                over = about(evidence, row, reference)[1]
                points = _points(evidence.difference(row, reference, category, metric, over=over))
                line |= {f"{short}{'' if end == 'estimate' else f' {end}'}": number for end, number in points.items()}
            lines.append(line)
    return pd.DataFrame(lines)


def control_figure(table: pd.DataFrame) -> Figure:
    """What each row gains over no teacher, average over risks, a panel per metric; squares are the 2x2 design.

    Args:
        table: of `control_table`.
    """
    gains = table[table["category"] == AVERAGE].set_index(["row", "metric"])
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 3.9), sharey=True)
    heights = {row: -(i + 3.6 * number) for number, group in enumerate(GROUPS) for i, row in enumerate(group)}
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.axvline(0, color=BLACK, linewidth=1, linestyle=":")
        for group, colour in zip(GROUPS, (GREEN, BLUE, ORANGE, PINK), strict=True):
            for row in group:
                one, marker = gains.loc[(row, metric)], "s" if row in DESIGN else "o"
                ends = [one["gain low"], one["gain high"]]
                axis.plot(ends, [heights[row]] * 2, color=colour, marker="|", linewidth=1.6)
                axis.plot(one["gain"], heights[row], color=colour, marker=marker, zorder=3)
        axis.axhspan(heights[EXPERTS] - 0.5, heights[VERIFIED] + 0.5, color="#f1f1f1", zorder=0)
        axis.set(title=metric, xlabel="gain over no teacher\n(points, average over risks)")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(list(heights.values()), list(heights))
    place = {"transform": axes[-1].get_yaxis_transform(), "rotation": 90, "va": "center", "fontsize": 9}
    axes[-1].text(1.02, float(np.mean([heights[row] for row in GROUPS[0]])), "2 x 2 design", **place)
    return figure


def _places(evidence: Evidence) -> list[tuple[str, str]]:
    return [(category, metric) for category in (AVERAGE, *evidence.categories) for metric in evidence.metrics]


def _points(one: Difference) -> dict[str, float]:
    return {end: round(100 * getattr(one, end), DIGITS) for end in ("estimate", "low", "high")}
