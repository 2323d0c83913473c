"""How the gaps of mask, size and distillation move with the number of training posts, at the chain's own dials.

Frozen heads at 1, 4 and 16 times the chain's training posts, LoRA at 1 (the chain's own runs) and 4; one seed, the same
test posts at every size. The built-in corpus of 16 times as many posts is drawn once, and smaller ones are parts of it
with the same shares of pipelines and labels. Experts are trained on as many posts as their students.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Int8
from matplotlib.figure import Figure

from radar_lib.errors import RadarError
from radar_lib.evidence import AREA, AVERAGE, Evidence
from radar_lib.files import digest_json
from radar_lib.intervals import Groups
from radar_lib.sources import digest_sources
from radar_lib.training.lab import Lab
from radar_lib.training.parallel import train_all
from radar_lib.training.scores import logits_for
from radar_lib.training.specs import Run, SoftLabels
from radar_lib.training.teachers import soft_labels
from radar_suite.report.claims import scope
from radar_suite.report.drawing import place_legend
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.report.style import BLACK, look
from radar_suite.studies.cells import OBJECTIVES, REPLICATES, difference_columns, places_of
from radar_suite.studies.frozen import Place, frozen_features
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.studies.pool import BLIND, OWN
from radar_suite.studies.stage import Stage
from radar_suite.world.dials import plan_corpus
from radar_suite.world.policies import CATEGORIES

STUDY = "scale"
TINY, SMALL = "Qwen3-VL-2B", LAMBDA_STUDY_BACKBONE
FROZEN, TUNED = (1, 4, 16), (1, 4)  # times the chain's training posts
MASKED, UNMASKED = (f"{TINY}, {objective}" for objective in OBJECTIVES)
LARGER, DISTILLED = f"{SMALL}, masked", f"{SMALL}, distilled"
GAPS = {"mask": (MASKED, UNMASKED), "size": (LARGER, MASKED), "distillation": (DISTILLED, LARGER)}
SPLITS = {BLIND: "test", OWN: "test_own"}
Logits = Float[np.ndarray, "post category"]
Labels = Int8[np.ndarray, "post category"]


def study(stage: Stage) -> None:
    """Train at every size; leaves `scale.csv`, a figure, and lines of the record.

    Raises:
        RadarError: the chain was run on other posts than the built-in corpus.
    """
    if stage.posts.kind != "built-in":
        raise RadarError("scale: imported posts cannot be made more; run it on a chain of the built-in corpus.")
    lines = pd.concat([frozen_gaps(stage), *(tuned_gaps(stage, times) for times in TUNED)], ignore_index=True)
    record_gaps(stage, lines)
    what = (f"the chain's own dials, 1x: {stage.corpus.train_posts:,} training posts; seed {stage.settings.seed}; 95 % "
            f"intervals over {scope(1)}; {stage.workspace.about}")  # fmt: skip
    gaps = (f"{TINY} masked minus unmasked (at 1x by construction), {SMALL} minus {TINY}, both masked, and {SMALL} "
            "distilled minus masked")  # fmt: skip
    text = lines.drop(columns=["run", "seconds", "posts"]).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    stage.workspace.save_table(text, STUDY, caption=f"Gaps of mask, size and distillation by training size: {what}.")
    stage.workspace.save_figure(gap_figure(lines), f"{STUDY}_gaps",
                                caption=f"Average {AREA}, points, over training posts: {gaps}; {what}.")  # fmt: skip


def frozen_gaps(stage: Stage) -> pd.DataFrame:
    """Gaps of heads on frozen features, at every size in `FROZEN`."""
    corpus, most = stage.corpus, max(FROZEN)
    config = replace(corpus, train_posts=most * corpus.train_posts, validation_posts=0, calibration_posts=0,
                     unlabelled_posts=0, audit_posts=0)  # fmt: skip
    plan = {selection.split: selection for selection in plan_corpus(config)}
    features: dict[str, dict[str, np.ndarray]] = {}
    places = [Place(stage.lab.cache, name, stage.lab.checkpoints, stage.lab.device)
              for name in (TINY, SMALL, EXPERT_BACKBONE)]  # fmt: skip
    for place in places:
        (vectors,) = frozen_features(place, [(config, list(plan.values()))], workers=stage.workers)
        ends = np.cumsum([len(selection) for selection in plan.values()])[:-1]
        features[place.backbone] = dict(zip(plan, np.split(vectors, ends), strict=True))
    inputs = [place.inputs(config) for place in places]
    made = {"inputs": inputs, "lam": stage.lam, "recipe": asdict(HeadRecipe()), "code": digest_sources(__name__)}
    about = {"run": digest_json(made), "seconds": 0.0, "posts": inputs[0]["posts"]}
    frames = []
    for times in FROZEN:
        rows = part_of_all(plan["train"].labels, times / most)
        heads = train_rows({name: splits["train"] for name, splits in features.items()}, rows, plan["train"].labels,
                           lam=stage.lam, seed=stage.settings.seed)  # fmt: skip
        for population, split in SPLITS.items():
            if split in plan:
                logits = {row: head_logits(features[row.split(",")[0]][split], head) for row, head in heads.items()}
                found = gap_lines(plan[split].labels, logits, seed=stage.settings.seed)
                frames.append(_described(found, "frozen", times, len(rows), population, **about))
    return pd.concat(frames, ignore_index=True)


def part_of_all(labels: Labels, share: float) -> Int[np.ndarray, " post"]:
    """The first posts of each pipeline and label, this share of them; smaller parts lie in larger ones."""
    strata = [np.flatnonzero(labels[:, k] == y) for k in range(labels.shape[1]) for y in (0, 1)]
    return np.sort(np.concatenate([rows[: round(share * len(rows))] for rows in strata]))


def train_rows(
    features: Mapping[str, Float[np.ndarray, "post hidden"]], rows: Int[np.ndarray, " some"], labels: Labels, *,
    lam: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Heads of the four rows that `GAPS` compares, on these training posts; the teacher's experts are heads too."""
    recipe, given = HeadRecipe(), labels[rows]
    taught = np.empty(given.shape, np.float32)
    for k in range(given.shape[1]):  # an expert: one risk, its own pipeline's posts
        mine = given[:, k] >= 0
        expert = Member.of(rows[mine], given[mine][:, [k]], "masked", seed)
        (head,) = train_heads(features[EXPERT_BACKBONE], [expert], recipe)
        taught[:, k] = head_logits(features[EXPERT_BACKBONE][rows], head)[:, 0]
    tiny = [Member.of(rows, given, objective, seed) for objective in OBJECTIVES]
    small = [Member.of(rows, given, "masked", seed), Member.distilled(rows, given, taught, lam=lam, seed=seed)]
    trained = [*train_heads(features[TINY], tiny, recipe), *train_heads(features[SMALL], small, recipe)]
    return dict(zip((MASKED, UNMASKED, LARGER, DISTILLED), trained, strict=True))


def tuned_gaps(stage: Stage, times: int) -> pd.DataFrame:
    """Gaps of LoRA fine-tunes on as many times the chain's training posts; at 1 they are the chain's own runs."""
    if times == 1:
        lab, teacher = stage.lab, stage.teacher
    else:
        config = replace(stage.corpus, train_posts=times * stage.corpus.train_posts, calibration_posts=0,
                         unlabelled_posts=0, audit_posts=0)  # fmt: skip
        lab = stage.lab_on(config)
        teacher = teach(stage, lab, f"{STUDY}-{times}")
    runs = train_routers(stage, lab, teacher)
    about = {"run": " ".join(run.digest for run in runs.values()), "posts": lab.posts.digest,
             "seconds": sum(run.record["history"]["seconds"] for run in runs.values())}  # fmt: skip
    frames = []
    for population, split in SPLITS.items():
        if split in lab.score_splits:
            ids, truth, groups = labelled_test_posts(lab.posts, split)
            logits = {row: logits_for(run.scores(split), ids, lab.posts.categories) for row, run in runs.items()}
            found = gap_lines(truth, logits, seed=stage.settings.seed, groups=groups)
            frames.append(_described(found, "LoRA", times, lab.posts.splits["train"], population, **about))
    return pd.concat(frames, ignore_index=True)


def teach(stage: Stage, lab: Lab, name: str) -> SoftLabels:
    """What experts trained on a lab's posts, as notebook 03 does, say of every training post, as notebook 04 does."""
    settings, risks = stage.expert_settings, lab.posts.categories
    specs = [settings.expert(risk) for risk in risks]
    experts = train_all(lab, specs, titles=[f"expert {risk}" for risk in risks], workers=stage.workers, desc="experts")
    path = stage.workspace.path(f"teachers/{name}.parquet")
    soft_labels(lab, dict(zip(risks, experts, strict=True)), splits=["train"], path=path)
    return SoftLabels.open(path)


def train_routers(stage: Stage, lab: Lab, teacher: SoftLabels) -> dict[str, Run]:
    """The LoRA runs of the four rows."""
    risks, settings = lab.posts.categories, stage.settings
    specs = {
        MASKED: settings.spec(TINY, risks), UNMASKED: settings.spec(TINY, risks, objective="unmasked"),
        LARGER: settings.spec(SMALL, risks), DISTILLED: settings.spec(SMALL, risks, lam=stage.lam),
    }  # fmt: skip
    runs = train_all(lab, list(specs.values()), titles=list(specs), teacher=teacher, workers=stage.workers,
                     desc="routers")  # fmt: skip
    return dict(zip(specs, runs, strict=True))


def gap_lines(truth: Labels, logits: Mapping[str, Logits], *, seed: int, groups: Groups = None) -> list[dict[str, Any]]:
    """Each gap by risk (and Average) and metric, with its 95 % interval over test posts; fractions."""
    rows = {row: [one] for row, one in logits.items()}
    evidence = Evidence(truth, rows, CATEGORIES, groups=groups, replicates=REPLICATES, seed=seed)
    return [{"gap": gap, "row": row, "against": other, "category": place[0], "metric": place[1],
             "value": evidence.value(row, *place), "other": evidence.value(other, *place),
             **difference_columns(evidence, row, other, *place)}
            for gap, (row, other) in GAPS.items() for place in places_of(evidence)]  # fmt: skip


def _described(
    lines: list[dict[str, Any]], how: str, times: int, count: int, population: str, **about: Any
) -> pd.DataFrame:
    return pd.DataFrame(lines).assign(setting=f"{how}, {times}x, {population}", how=how, times=times,
                                      training_posts=count, population=population, **about)  # fmt: skip


def record_gaps(stage: Stage, lines: pd.DataFrame) -> None:
    """Enter every row at every size in the record of runs, as 'Qwen3-VL-2B, masked, frozen, 4x, traffic'."""
    parts = [lines.assign(row=lines[name], by_seed=[[value] for value in lines[number]])
             for name, number in (("row", "value"), ("against", "other"))]  # fmt: skip
    rows = pd.concat(parts).drop_duplicates(["row", "setting", "category", "metric"])
    rows = rows.assign(row=rows["row"] + ", " + rows["setting"], share=1 / 4, posts=stage.posts.digest)
    stage.record_lines(STUDY, rows, seed=stage.settings.seed, about=("how", "times", "training_posts"))


def gap_figure(lines: pd.DataFrame) -> Figure:
    """A panel per gap: average PR-AUC over training size, frozen heads filled and LoRA hollow, by test population."""
    average = lines[(lines["category"] == AVERAGE) & (lines["metric"] == AREA)]
    figure, axes = plt.subplots(1, len(GAPS), figsize=(12.0, 3.8), sharey=True)
    for axis, gap in zip(axes, GAPS, strict=True):
        for n, ((how, population), part) in enumerate(average[average["gap"] == gap].groupby(["how", "population"])):
            gains, low, high = (100 * part[name].to_numpy(float) for name in ("gain", "low", "high"))
            style = look(n) | ({"markerfacecolor": "white"} if how == "LoRA" else {})
            at = part["times"] * (0.82 + 0.12 * n)  # side by side
            axis.errorbar(at, gains, yerr=np.maximum([gains - low, high - gains], 0), capsize=3, elinewidth=1.0,
                          label=f"{how}, tested on {population}", **style)  # fmt: skip
        axis.axhline(0, color=BLACK, linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_xticks(FROZEN, [f"{times}x" for times in FROZEN])
        axis.minorticks_off()
        axis.set(title=gap, xlabel="training posts")
    axes[0].set_ylabel("gap (points)")
    place_legend(figure, *axes[0].get_legend_handles_labels(), loc="lower center", most=4)
    return figure
