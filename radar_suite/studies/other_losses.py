"""Beyond the mask: what to do with unverified cells, all objectives of `partial_losses` on one backbone.

The outcome model of the doubly robust loss, and the priors of CSL and non-negative PU, are the experts: what they say
of unverified cells is out of sample, what they say of verified ones is not. Where the corpus has hidden truth, both
weighted losses also run with the propensities that it was drawn with. Constants are those of `partial_losses`, set
before any run; every row has the settings of the table rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from matplotlib.figure import Figure
from scipy.special import expit

from radar_lib.data.posts import valid_mask
from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import Groups
from radar_lib.metrics import score_table
from radar_lib.partial_losses import CSL_ETA, FLOOR, OBJECTIVES
from radar_lib.training.lab import Run, SideFiles
from radar_lib.training.scores import logits_for
from radar_suite.report.audit_truth import truth_of
from radar_suite.report.claims import about, scope
from radar_suite.report.drawing import place_legend
from radar_suite.report.experiments import train_seeds
from radar_suite.report.style import BLUE, MARKERS, look
from radar_suite.report.tables import METRICS, over_seeds
from radar_suite.studies.propensities import kept_estimated, kept_known, unverified_shares
from radar_suite.studies.stage import Stage

STUDY = "losses"
BACKBONE = "Qwen3-VL-2B"  # the largest one that the paper trains with and without the mask
MASKED = "Mask"
KNOWN = ("known_estimated", "known_estimated_low", "known_estimated_high", "known_estimated_p")  # columns
NAMES = {
    "unmasked": "Assume negative",
    "masked": MASKED,
    "csl": "Class-aware selective",
    "nnpu": "Non-negative PU",
    "ipw": "Inverse propensity",
    "dr": "Doubly robust",
}


def study(stage: Stage) -> None:
    """Train and compare; leaves tables `losses` and `losses_side`, figure `losses_differences`, lines of the record."""
    ws, side = stage.workspace, side_files(stage)
    runs = train_rows(stage, side)
    for row, ones in runs.items():
        stage.record_row(STUDY, row, ones, side=side_of(row))
    (ids, truth, groups), risks = stage.test(), stage.posts.categories
    logits = {row: [logits_for(run.scores("test"), ids, risks) for run in ones] for row, ones in runs.items()}
    lines = compare(truth, logits, risks, groups=groups, seed=stage.settings.seed)
    seeds = f"seed {stage.settings.seed}" if stage.seeds == 1 else f"mean over {stage.seeds} seeds"
    what = f"{BACKBONE}, {ws.about}; {seeds}; violating test posts: {stage.test_counts()}"
    ws.save_table(lines, STUDY,
                  caption=f"Treatments of unverified cells: value, and paired difference from the mask with "
                          f"its 95 % interval over {scope(stage.seeds)}. Doubly robust rows also read the experts' "
                          f"soft labels, so they are a kind of distillation. {what}.")  # fmt: skip
    ws.save_figure(difference_figure(lines), "losses_differences",
                   caption=f"Difference from the mask in points, by treatment of unverified cells: averages over risks "
                           f"with 95 % intervals over {scope(stage.seeds)}, not corrected for their number (filled), "
                           f"and each risk (hollow). {what}.")  # fmt: skip
    ws.save_table(side_table(stage, side), "losses_side",
                  caption="What the objectives are told of the training posts' cells: priors as the experts estimate "
                          f"them, propensities e from frozen {BACKBONE} features. Known: from hidden truth. "
                          f"{ws.about}.")  # fmt: skip


def side_files(stage: Stage) -> dict[str, SideFiles]:
    """Side information by kind: 'estimated', and 'known' where the corpus has hidden truth."""
    lab, risks = stage.lab, stage.posts.categories
    table, matrix = lab.table("train"), lab.labels("train", risks)
    pool = valid_mask(matrix).any(axis=1)
    said = expit(stage.teacher.logits(table["post_id"][pool].tolist(), risks))
    estimated = kept_estimated(lab, BACKBONE, seed=stage.settings.seed)
    side = {"estimated": SideFiles(unverified_shares(said, matrix[pool], risks), estimated, stage.teacher)}
    truth = truth_of(stage.posts, table["post_id"])
    if truth is not None:
        intake, posterior, violating = (truth[[f"{name}_{risk}" for risk in risks]].to_numpy()
                                        for name in ("propensity", "posterior", "true"))  # fmt: skip
        known = kept_known(lab, intake, posterior, truth_digest=stage.posts.info["truth_digest"])
        side["known"] = SideFiles(unverified_shares(violating[pool], matrix[pool], risks), known, stage.teacher)
    return side


def train_rows(stage: Stage, side: Mapping[str, SideFiles]) -> dict[str, list[Run]]:
    """Runs by row, one per seed: all objectives with what is estimated, the weighted ones with what is known."""
    rows = {}
    for kind, files in side.items():
        weighted = [name for name in OBJECTIVES if "propensity" in OBJECTIVES[name].needs]
        names = list(OBJECTIVES) if kind == "estimated" else weighted
        titles = [f"{NAMES[name]}, {kind} propensities" if name in weighted else NAMES[name] for name in names]
        specs = [stage.settings.spec(BACKBONE, stage.posts.categories, objective=name) for name in names]
        runs = train_seeds(stage.lab, specs, titles=titles, seeds=stage.seeds, side=files, workers=stage.workers,
                           desc=f"losses, {kind}")  # fmt: skip
        rows |= dict(zip(titles, runs, strict=True))
    return rows


def side_of(row: str) -> str:
    """Which side information a row's name says."""
    return next((kind for kind in ("known", "estimated") if f", {kind} " in row), "")


def compare(
    truth: Int8[np.ndarray, "post category"],
    logits: Mapping[str, Sequence[Float[np.ndarray, "post category"]]],
    categories: Sequence[str],
    *,
    groups: Groups = None,
    seed: int,
) -> pd.DataFrame:
    """One line per row, risk (and Average) and metric, as fractions: mean over seeds, and difference from the mask.

    Columns: row, category, metric, value, sd over seeds where there are several, posts, positives, difference, low,
    high, p_value (paired by test post, of the mean over seeds), about (`claims.about`); of rows with known propensities
    also their difference from the row with estimated ones, with its interval and p-value (names in `KNOWN`).

    Args:
        truth: labels of the test posts, 1, 0 or -1.
        logits: of each row, by seed.
        groups: of the test posts, where they are not independent.
        seed: of the bootstrap.
    """
    evidence = Evidence(truth, logits, categories, groups=groups, seed=seed)
    lines = []
    for row, ones in logits.items():
        whose, over = about(evidence, row, MASKED)
        twin = row.replace(", known ", ", estimated ")
        for line in over_seeds([score_table(truth, one, categories) for one in ones]):
            place = line["category"], line["metric"]
            del line["prevalence"]
            gain = dict(zip(("difference", "low", "high", "p_value"),
                            evidence.difference(row, MASKED, *place, over=over), strict=True))  # fmt: skip
            lines.append({"row": row, **line, **gain, "about": whose})
            if twin != row and twin in logits:
                against = evidence.difference(row, twin, *place, over=about(evidence, row, twin)[1])
                lines[-1] |= zip(KNOWN, against, strict=True)
    return pd.DataFrame(lines)


def difference_figure(lines: pd.DataFrame) -> Figure:
    """Difference from the mask in points, one panel per metric, one line per row: average filled, risks hollow."""
    rows = [row for row in dict.fromkeys(lines["row"]) if row != MASKED]
    categories = [category for category in dict.fromkeys(lines["category"]) if category != AVERAGE]
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 0.8 + 0.45 * len(rows)), sharey=True)
    heights = np.arange(len(rows))[::-1]
    numbers = lines.set_index(["row", "category", "metric"])
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.axvline(0, color="#555555", linewidth=1)
        for height, row in zip(heights, rows, strict=True):
            for k, category in enumerate(categories):
                place = 100 * numbers.loc[(row, category, metric), "difference"]
                hollow = look(k + 1) | {"linestyle": "", "markersize": 5, "markerfacecolor": "white"}
                axis.plot(place, height - 0.22, label=category if height == 0 else None, **hollow)
            mean = 100 * numbers.loc[(row, AVERAGE, metric), ["difference", "low", "high"]].astype(float)
            axis.plot(mean[["low", "high"]], [height + 0.1] * 2, color=BLUE, marker="|")
            axis.plot(mean["difference"], height + 0.1, color=BLUE, marker=MARKERS[0], linestyle="",
                      label="average" if height == 0 else None)  # fmt: skip
        axis.set(title=metric, xlabel="difference (points)")
    axes[0].set_yticks(heights, rows)
    place_legend(figure, *axes[0].get_legend_handles_labels(), loc="lower center", most=len(categories) + 1)
    return figure


def side_table(stage: Stage, side: Mapping[str, SideFiles]) -> pd.DataFrame:
    """By risk: priors, how many verified cells meet the floor, how far estimated propensities are from known ones."""
    categories = stage.posts.categories
    table, matrix = stage.lab.table("train"), stage.lab.labels("train", categories)
    valid = valid_mask(matrix)
    pool = valid.any(axis=1)
    ids = table["post_id"][pool].tolist()
    chances = {kind: expit(files.propensity.logits(ids, categories)) for kind, files in side.items()}
    lines = []
    for k, category in enumerate(categories):
        line = {"risk": category, "verified": int(valid[:, k].sum())}
        line |= {f"prior, {kind}": files.prior[category] for kind, files in side.items()}
        line["negatives in CSL"] = side["estimated"].prior[category] <= CSL_ETA
        for kind, chance in chances.items():
            line[f"e below {FLOOR}, {kind}"] = float((chance[valid[pool, k], k] < FLOOR).mean())
        if "known" in chances:
            apart = np.abs(chances["estimated"] - chances["known"])[:, k]
            line["mean distance of e, estimated from known"] = float(apart.mean())
        lines.append(line)
    return pd.DataFrame(lines)
