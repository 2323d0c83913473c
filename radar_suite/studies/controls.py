"""The study `controls`: one student, taught by nobody, by the experts, and by teachers that each lack one thing.

The student is Qwen3-VL-4B with the settings of the tables, so the rows 'no teacher' and 'experts' are table rows at the
first seed, and are not trained again. Every teacher is made once, at the first seed, except a router's own twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from radar_lib.data.posts import valid_mask
from radar_lib.evidence import Evidence
from radar_lib.metrics import score_table
from radar_lib.training.folds import part_of
from radar_lib.training.parallel import train_all
from radar_lib.training.scores import logits_for, read_scores
from radar_lib.training.specs import Run, RunSpec, SoftLabels
from radar_lib.training.teachers import soft_labels
from radar_suite.report.claims import sampled
from radar_suite.report.experiments import (
    EXPERT_BACKBONE,
    LAMBDA_STUDY_BACKBONE,
    SMALL,
    by_seed,
    checkpoint_note,
    train_seeds,
)
from radar_suite.report.stated import to_text
from radar_suite.report.tables import group_rows, over_seeds, plain_markdown, row_logits, slug
from radar_suite.studies.control_findings import (
    CROSS_FITTED,
    EXPERTS,
    HARD,
    NONE,
    OTHER_BACKBONE,
    OTHER_FAMILY,
    ROWS,
    SAME_SIZE,
    SELF,
    SHUFFLED,
    UNVERIFIED,
    VERIFIED,
    contrast_table,
    control_figure,
    control_markdown,
    control_table,
    findings,
    teacher_of,
    twin,
)
from radar_suite.studies.other_teachers import cross_fitted, hardened, keep_teacher, shuffled
from radar_suite.studies.stage import Stage

FOLDS = 2
TEACHERS = {  # experts trained for this study: backbone, and the fold of its posts that each is trained on
    SAME_SIZE: (LAMBDA_STUDY_BACKBONE, None),
    OTHER_FAMILY: (OTHER_BACKBONE, None),
    **{f"{CROSS_FITTED}, half {i}": (EXPERT_BACKBONE, (i, FOLDS)) for i in range(FOLDS)},
}


def study(stage: Stage) -> None:
    """Train every row of `ROWS`, and write controls.csv, contrasts.csv, the figure and the record of runs."""
    experts = train_experts(stage)
    rows = train_students(stage, experts)
    for row, runs in rows.items():
        recipe = asdict(runs[0].spec.recipe)
        lambdas = {name: recipe[name] for name in ("lam", "lam_verified", "lam_unverified")}
        stage.keep("controls", row, runs, teacher=ROWS[row], **lambdas)
    write_results(stage, rows, experts)


def train_experts(stage: Stage) -> dict[str, dict[str, Run]]:
    """The experts of each teacher in `TEACHERS`, by category; trained together, so that all cores are busy."""
    specs = {
        (name, category): replace(stage.expert_settings.spec(backbone, [category]), fold=fold)
        for name, (backbone, fold) in TEACHERS.items()
        for category in stage.posts.categories
    }
    titles = [f"{name}, {category}" for name, category in specs]
    runs = train_all(stage.lab, list(specs.values()), titles=titles, workers=stage.workers, desc="other experts")
    experts: dict[str, dict[str, Run]] = {}
    for (name, category), run in zip(specs, runs, strict=True):
        experts.setdefault(name, {})[category] = run
    return experts


def train_students(stage: Stage, experts: Mapping[str, Mapping[str, Run]]) -> dict[str, list[Run]]:
    """The runs of every row, one per seed."""
    none = stage.settings.lambda_point(0.0, stage.posts.categories)
    taught = none.with_recipe(lam=float(stage.lam))
    split = {
        VERIFIED: none.with_recipe(lam_verified=float(stage.lam), lam_unverified=0.0),
        UNVERIFIED: none.with_recipe(lam_verified=0.0, lam_unverified=float(stage.lam)),
    }
    rows = _students(stage, {NONE: none, EXPERTS: taught} | split, stage.teacher)
    for name, teacher in _other_teachers(stage, experts).items():
        rows |= _students(stage, {name: taught}, teacher)
    rows[SELF] = [_taught_by_its_twin(stage, taught, run) for run in rows[NONE]]
    return {name: rows[name] for name in ROWS}


def _students(stage: Stage, specs: Mapping[str, RunSpec], teacher: SoftLabels) -> dict[str, list[Run]]:
    found = train_seeds(
        stage.lab, list(specs.values()), titles=list(specs), seeds=stage.seeds, teacher=teacher,
        workers=stage.workers, desc="students",
    )  # fmt: skip
    return dict(zip(specs, found, strict=True))


def _taught_by_its_twin(stage: Stage, taught: RunSpec, own: Run) -> Run:
    seed, path = own.spec.recipe.seed, _teacher_path(stage, f"{SELF} {own.spec.recipe.seed}")
    soft_labels(stage.lab, dict.fromkeys(stage.posts.categories, own), splits=["train"], path=path)
    specs, title = [taught.with_recipe(seed=seed)], f"{SELF}, seed {seed}"
    return train_all(stage.lab, specs, titles=[title], teacher=SoftLabels.open(path), workers=stage.workers)[0]


def _other_teachers(stage: Stage, experts: Mapping[str, Mapping[str, Run]]) -> dict[str, SoftLabels]:
    """The teacher of each row that has its own: what other experts say, and the experts' soft labels changed."""
    paths = {name: _teacher_path(stage, name) for name in experts}
    said = {name: soft_labels(stage.lab, experts[name], splits=["train"], path=paths[name]) for name in experts}
    table = read_scores(stage.teacher.path)
    table = table[table["split"] == "train"].reset_index(drop=True)
    halves = [said[name] for name in said if name.startswith(CROSS_FITTED)]
    own = valid_mask(stage.lab.labels("train", stage.posts.categories))
    made = {
        CROSS_FITTED: cross_fitted(halves, own=own, fold=part_of(halves[0]["post_id"].tolist(), FOLDS)),
        HARD: hardened(table),
        SHUFFLED: shuffled(table, seed=stage.settings.seed),
    }
    kept = {name: keep_teacher(frame, _teacher_path(stage, name)) for name, frame in made.items()}
    return {name: SoftLabels.open(paths[name]) for name in (SAME_SIZE, OTHER_FAMILY)} | kept


def _teacher_path(stage: Stage, name: str) -> Path:
    return stage.workspace.path(f"teachers/{slug(name)}.parquet")


def write_results(stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Mapping[str, Mapping[str, Run]]) -> None:
    """The tables, the figure and the paragraph of finished rows."""
    evidence, spread = _evidence(stage, rows, experts)
    table, contrasts = control_table(evidence, spread), contrast_table(evidence)
    ws, counts = stage.workspace, stage.lab.labels("test", stage.posts.categories)
    n = ", ".join(
        f"{category} {int((column == 1).sum()):,} of {int((column >= 0).sum()):,}"
        for category, column in zip(stage.posts.categories, counts.T, strict=True)
    )
    seeds = f"{stage.seeds} seed{'s' if stage.seeds > 1 else ''} from {stage.settings.seed} on"
    about = (
        f"{LAMBDA_STUDY_BACKBONE} at lambda {stage.lam:g}, {seeds}, teachers of the first seed; violating of all test "
        f"posts: {n}; {checkpoint_note(stage.posts, stage.lab.checkpoints)}."
    )
    intervals = f"95 % intervals over {sampled(stage.seeds)}, paired, not corrected for their number"
    ws.save_table(
        "controls", {"csv": to_text(table), "md": control_markdown(table)},
        caption=f"Controls for distillation, in points: value, and gain over no teacher; {intervals}. {about}",
    )  # fmt: skip
    ws.save_table(
        "contrasts", {"csv": to_text(contrasts), "md": plain_markdown(contrasts)},
        caption=f"Effects of the 2x2 design (verified cells taught or not, unverified cells taught or not) and other "
        f"contrasts of the controls, in points; {intervals}. {about}",
    )  # fmt: skip
    ws.save_figure(
        control_figure(table), "controls_gain",
        caption=f"What each teacher gains over none, average over risks; {intervals}. Squares on grey: the 2x2 design, "
        f"whose fourth corner is the dotted line. {about}",
    )  # fmt: skip
    print(findings(contrasts))


def _evidence(
    stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Mapping[str, Mapping[str, Run]]
) -> tuple[Evidence, pd.DataFrame]:
    """All rows on the test posts, with the experts behind some of them and the table rows of the small routers."""
    (ids, truth), categories = stage.test(), stage.posts.categories
    logits = {row: [logits_for(run.scores(), ids, categories) for run in runs] for row, runs in rows.items()}
    spread = [
        {"row": row, "seeds": len(runs), **line}
        for row, runs in logits.items()
        for line in over_seeds([score_table(truth, one, categories) for one in runs])
    ]
    index = group_rows(
        [
            *stage.workspace.read("03_expert_training/experts.json"),
            *stage.workspace.read("05_router_training/routers.json"),
        ]
    )
    where = {"runs_dir": stage.workspace.runs_dir}
    twins = [twin(name, distilled=distilled) for name in SMALL for distilled in (False, True)]
    logits |= {row: [row_logits(one, ids, truth, categories, **where) for one in by_seed(index[row])] for row in twins}
    for name in (SAME_SIZE, OTHER_FAMILY):
        entries = [{"scores_path": run.scores_path} for run in experts[name].values()]
        logits[teacher_of(name)] = [row_logits(entries, ids, truth, categories, **where)]
    return Evidence(truth, logits, categories, seed=stage.settings.seed), pd.DataFrame(spread)
