"""Is the profile's recipe long enough? Learning rates and epochs, judged on training posts that a run did not see.

    python benchmarks/recipes.py --profile cpu             # after `make reproduce`: uses its posts and its cache

Each recipe trains the masked router on either half of the training posts and is scored on the labels that the other
half has; no validation or test post is read. Beside the recipes stands the linear probe on the same frozen backbone,
fitted and scored alike. A half has half the steps of the table's run. Writes benchmarks/records/recipes.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.preprocessing import StandardScaler
from standins import finished, said_of

from radar_lib.files import write_json
from radar_lib.intervals import average_precision_influence, standard_error, student_difference
from radar_lib.metrics import average_precision
from radar_lib.training.batches import part_of
from radar_lib.training.cache import Cache
from radar_lib.training.encoder import pooled_features
from radar_lib.training.lab import Lab
from radar_lib.training.parallel import train_all
from radar_lib.training.scores import logits_for
from radar_suite.intake.texts import text_limit
from radar_suite.report.experiments import LAMBDA_STUDY_BACKBONE, Settings
from radar_suite.report.references import fit_regressions
from radar_suite.report.workspace import device_name, versions
from radar_suite.world.standins import locate_checkpoints

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "benchmarks" / "records" / "recipes.json"
HALVES = 2
GRID = [(rate, epochs) for epochs in (2, 4) for rate in (1e-3, 2e-3, 4e-3)] + [(2e-3, 8)]  # learning rate, epochs
PROBE = "linear probe"


def held_out(lab: Lab, settings: Settings, backbone: str) -> dict[str, Float[np.ndarray, "post category"]]:
    """Logits of the training posts by the run that did not train on them, for each recipe and for the probe."""
    ids, categories = lab.table("train")["post_id"].tolist(), lab.posts.categories
    half, base = part_of(ids, HALVES), settings.spec(backbone, categories)
    own = (settings.learning_rate, settings.epochs)
    recipes = dict.fromkeys([*GRID, own])
    specs = {name_of(*one): base.with_recipe(learning_rate=one[0], epochs=one[1]) for one in recipes}
    jobs = [(name, fold) for name in specs for fold in range(HALVES)]
    runs = train_all(
        lab, [replace(specs[name], fold=(fold, HALVES)) for name, fold in jobs],
        titles=[f"{name}, half {fold + 1}" for name, fold in jobs], desc="recipes",
    )  # fmt: skip
    found = {name: np.zeros((len(ids), len(categories)), np.float32) for name in (*specs, PROBE)}
    for (name, fold), run in zip(jobs, runs, strict=True):
        found[name][half != fold] = logits_for(run.scores(), ids, categories)[half != fold]
    features, known = pooled_features(lab, backbone, "train"), lab.labels("train", categories)
    for fold in range(HALVES):
        inside = half == fold
        scale = StandardScaler().fit(features[inside])
        parts = (scale.transform(features[inside]), known[inside], scale.transform(features[~inside]))
        found[PROBE][~inside] = fit_regressions(*parts, seed=settings.seed)[0]
    return found


def name_of(rate: float, epochs: int) -> str:
    """What a recipe is called in the record."""
    return f"rate {rate:g}, {epochs} epochs"


def judged(lab: Lab, logits: Mapping[str, np.ndarray], against: str) -> list[dict[str, Any]]:
    """Average PR-AUC of each line over risks and halves, in percent, and its paired difference to `against`."""
    half = part_of(lab.table("train")["post_id"].tolist(), HALVES)
    known = lab.labels("train", lab.posts.categories)
    cells = [(np.flatnonzero((half == fold) & (known[:, k] >= 0)), k)
             for fold in range(HALVES) for k in range(known.shape[1])]  # fmt: skip
    areas, parts = {}, {}
    for name, one in logits.items():
        areas[name] = [average_precision(known[rows, k], one[rows, k]) for rows, k in cells]
        parts[name] = np.zeros(len(known))
        for rows, k in cells:
            influence = average_precision_influence(known[rows, k], one[rows, k])
            parts[name][rows] += influence / len(rows) / len(cells)
    lines = []
    for name in logits:
        error = standard_error(parts[name] - parts[against])
        gain = student_difference(float(np.mean(areas[name]) - np.mean(areas[against])), error)
        by_risk = np.reshape(areas[name], (HALVES, -1)).mean(axis=0)
        percent = dict(zip(lab.posts.categories, (100 * by_risk).round(2).tolist(), strict=True))
        ends = {key: round(100 * value, 2) for key, value in zip(("difference", "low", "high"), gain[:3], strict=True)}
        lines.append({"recipe": name, "average": round(100 * float(np.mean(areas[name])), 2), **percent, **ends})
    return lines


def compare(profile: str, runs: Path, backbone: str) -> dict[str, Any]:
    """The grid and the probe on held-out training posts."""
    settings, posts = finished(profile, runs)
    lab = Lab(posts, Cache(runs / "cache"), checkpoints=locate_checkpoints("standins"), score_splits=["train"],
              text=text_limit(posts))  # fmt: skip
    used = name_of(settings.learning_rate, settings.epochs)
    lines = judged(lab, held_out(lab, settings, backbone), used)
    about = {"backbone": backbone, "settings": said_of(settings), "posts": posts.digest}
    return about | {"used": used, "lines": lines}


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser("recipes", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="cpu", help="a profile that was run")
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs", help="where it was run")
    parser.add_argument("--backbone", default=LAMBDA_STUDY_BACKBONE)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    found = compare(options.profile, options.runs, options.backbone)
    about = {"date": date.today().isoformat(), "device": device_name("cpu"), "versions": versions()}
    write_json(options.out, about | {"profile": options.profile} | found)
    for line in found["lines"]:
        print(line)


if __name__ == "__main__":
    main()
