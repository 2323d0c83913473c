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
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, SMALL, by_seed, train_seeds
from radar_suite.report.tables import group_rows, over_seeds, row_logits, slug
from radar_suite.studies import contrasts as c
from radar_suite.studies.other_teachers import cross_fit, harden, keep_teacher, shuffle
from radar_suite.studies.stage import Stage

FOLDS = 2
Experts = Mapping[str, Mapping[str, Run]]  # by teacher and category
TEACHERS = {  # experts trained for this study: backbone, and the fold of its posts that each is trained on
    c.SAME_SIZE: (LAMBDA_STUDY_BACKBONE, None),
    c.OTHER_FAMILY: (c.OTHER_BACKBONE, None),
    **{f"{c.CROSS_FITTED}, half {i}": (EXPERT_BACKBONE, (i, FOLDS)) for i in range(FOLDS)},
}


def study(stage: Stage) -> None:
    """Train every row of `contrasts.ROWS`; leave controls.csv, contrasts.csv, a figure, and lines of the record."""
    experts = train_experts(stage)
    rows = train_students(stage, experts)
    for row, runs in rows.items():
        recipe = asdict(runs[0].spec.recipe)
        lambdas = {name: recipe[name] for name in ("lam", "lam_verified", "lam_unverified")}
        stage.record_row("controls", row, runs, teacher=c.ROWS[row], **lambdas)
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
        c.NONE: none,
        c.EXPERTS: taught,
        c.VERIFIED: none.with_recipe(lam_verified=lam, lam_unverified=0.0),
        c.UNVERIFIED: none.with_recipe(lam_verified=0.0, lam_unverified=lam),
    }, stage.teacher)  # fmt: skip
    for name, teacher in make_teachers(stage, experts).items():
        rows |= _train_rows(stage, {name: taught}, teacher)
    rows[c.SELF] = [_taught_by_its_twin(stage, taught, run) for run in rows[c.NONE]]
    return {name: rows[name] for name in c.ROWS}


def _train_rows(stage: Stage, specs: Mapping[str, RunSpec], teacher: SoftLabels) -> dict[str, list[Run]]:
    runs = train_seeds(stage.lab, list(specs.values()), titles=list(specs), seeds=stage.seeds, teacher=teacher,
                       workers=stage.workers, desc="students")  # fmt: skip
    return dict(zip(specs, runs, strict=True))


def _taught_by_its_twin(stage: Stage, taught: RunSpec, own: Run) -> Run:
    seed = own.spec.recipe.seed
    path = _teacher_path(stage, f"{c.SELF} {seed}")
    soft_labels(stage.lab, dict.fromkeys(stage.posts.categories, own), splits=["train"], path=path)
    return train_all(stage.lab, [taught.with_recipe(seed=seed)], titles=[f"{c.SELF}, seed {seed}"],
                     teacher=SoftLabels.open(path), workers=stage.workers)[0]  # fmt: skip


def make_teachers(stage: Stage, experts: Experts) -> dict[str, SoftLabels]:
    """The teacher of each row that has its own: what other experts say, and the experts' soft labels changed."""
    said = {name: soft_labels(stage.lab, own, splits=["train"], path=_teacher_path(stage, name))
            for name, own in experts.items()}  # fmt: skip
    table = read_scores(stage.teacher.path)
    table = table[table["split"] == "train"].reset_index(drop=True)
    halves = [said[name] for name in said if name.startswith(c.CROSS_FITTED)]
    own = valid_mask(stage.lab.labels("train", stage.posts.categories))
    made = {
        c.CROSS_FITTED: cross_fit(halves, own=own, fold=part_of(halves[0]["post_id"].tolist(), FOLDS)),
        c.HARD: harden(table),
        c.SHUFFLED: shuffle(table, seed=stage.settings.seed),
    }
    kept = {name: keep_teacher(frame, _teacher_path(stage, name)) for name, frame in made.items()}
    return {name: SoftLabels.open(_teacher_path(stage, name)) for name in (c.SAME_SIZE, c.OTHER_FAMILY)} | kept


def _teacher_path(stage: Stage, name: str) -> Path:
    return stage.workspace.path(f"teachers/{slug(name)}.parquet")


def save_results(stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Experts) -> None:
    """The tables and the figure of finished rows."""
    evidence, spread = compare(stage, rows, experts)
    table, ws = c.control_table(evidence, spread), stage.workspace
    seeds = f"{stage.seeds} seed{'s' if stage.seeds > 1 else ''} from {stage.settings.seed} on"
    about = (f"{LAMBDA_STUDY_BACKBONE} at lambda {stage.lam:g}, {seeds}, teachers of the first seed; violating of all "
             f"test posts: {stage.test_counts()}; {ws.about}.")  # fmt: skip
    intervals = f"95 % intervals over {sampled(stage.seeds)}, paired, not corrected for their number"
    ws.save_table(table, "controls",
                  caption=f"Controls for distillation, in points: value, and gain over no teacher; {intervals}. "
                          f"{about}")  # fmt: skip
    ws.save_table(c.contrast_table(evidence), "contrasts",
                  caption="Effects of the 2x2 design (verified cells taught or not, unverified cells taught or not) "
                          f"and other contrasts of the controls, in points; {intervals}. {about}")  # fmt: skip
    ws.save_figure(c.control_figure(table), "controls_gain",
                   caption=f"What each teacher gains over none, average over risks; {intervals}. Squares on grey: the "
                           f"2x2 design, whose fourth corner is the dotted line. {about}")  # fmt: skip


def compare(
    stage: Stage, rows: Mapping[str, Sequence[Run]], experts: Experts
) -> tuple[Evidence, pd.DataFrame]:
    """All rows on the test posts, with the experts behind some of them and the table rows of the small routers; and
    the rows' spread over seeds."""
    (ids, truth), categories, ws = stage.test(), stage.posts.categories, stage.workspace
    logits = {row: [logits_for(run.scores(), ids, categories) for run in runs] for row, runs in rows.items()}
    spread = [{"row": row, "seeds": len(runs), **line} for row, runs in logits.items()
              for line in over_seeds([score_table(truth, one, categories) for one in runs])]  # fmt: skip
    trained = group_rows([*ws.read("03_expert_training/experts.json"), *ws.read("05_router_training/routers.json")])
    entries = {row: by_seed(trained[row]) for name in SMALL for distilled in (False, True)
               for row in [c.table_row(name, distilled=distilled)]}  # fmt: skip
    entries |= {c.teacher_of(name): [[{"scores_path": run.scores_path} for run in experts[name].values()]]
                for name in (c.SAME_SIZE, c.OTHER_FAMILY)}  # fmt: skip
    logits |= {row: [row_logits(one, ids, truth, categories, runs_dir=ws.runs_dir) for one in seeds]
               for row, seeds in entries.items()}  # fmt: skip
    return Evidence(truth, logits, categories, seed=stage.settings.seed), pd.DataFrame(spread)
