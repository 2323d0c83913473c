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
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.special import expit

from radar_lib.data.posts import valid_mask
from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.metrics import score_table
from radar_lib.partial_losses import CSL_ETA, FLOOR, OBJECTIVES
from radar_lib.training.lab import Run, SideFiles
from radar_lib.training.scores import logits_for
from radar_suite.report.audit_truth import truth_of
from radar_suite.report.claims import LEVEL, about, holm, sampled
from radar_suite.report.experiments import checkpoint_note, train_seeds
from radar_suite.report.plots import MARKERS
from radar_suite.report.stated import to_text
from radar_suite.report.style import BLUE, category_colour, use
from radar_suite.report.tables import METRICS, over_seeds, plain_markdown
from radar_suite.studies.propensities import kept_estimated, kept_known, unverified_shares
from radar_suite.studies.shown import listed
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
    """Train and compare; saves tables `losses` and `losses_side`, figure `losses_differences`, lines of the record."""
    side = side_files(stage)
    runs = trained(stage, side)
    for row, ones in runs.items():
        stage.keep(STUDY, row, ones, side=side_of(row))
    frame = compared(stage, runs)
    about = checkpoint_note(stage.posts, stage.lab.checkpoints)
    seeds = f"seed {stage.settings.seed}" if stage.seeds == 1 else f"mean over {stage.seeds} seeds"
    _, truth = stage.test()
    n = ", ".join(f"{c} {int((truth[:, k] == 1).sum())} of {int((truth[:, k] >= 0).sum()):,}"
                  for k, c in enumerate(stage.posts.categories))  # fmt: skip
    what = f"{BACKBONE}, {about}; {seeds}; violating test posts: {n}"
    save = stage.workspace
    use()
    save.save_table(
        STUDY, {"csv": to_text(frame), "md": plain_markdown(table(frame))},
        caption=f"Treatments of unverified cells, in %, and in brackets the paired difference from the mask in points "
                f"with its 95 % interval over {sampled(stage.seeds)}. Doubly robust rows also read the experts' soft "
                f"labels, so they are a kind of distillation. {what}.",
    )  # fmt: skip
    save.save_figure(
        differences(frame), "losses_differences",
        caption=f"Difference from the mask in points, by treatment of unverified cells: averages over risks with 95 % "
                f"intervals over {sampled(stage.seeds)}, not corrected for their number (filled), and each risk "
                f"(hollow). {what}.",
    )  # fmt: skip
    facts = side_facts(stage, side)
    save.save_table(
        "losses_side", {"csv": to_text(facts), "md": plain_markdown(facts.round(3))},
        caption=f"What the objectives are told of the training posts' cells: priors as the experts estimate them, "
                f"propensities e from frozen {BACKBONE} features. Known: from hidden truth. {about}.",
    )  # fmt: skip


def side_files(stage: Stage) -> dict[str, SideFiles]:
    """Side information by kind: 'estimated', and 'known' where the corpus has hidden truth."""
    lab, categories = stage.lab, stage.posts.categories
    table, matrix = lab.table("train"), lab.labels("train", categories)
    pool = valid_mask(matrix).any(axis=1)
    said = expit(stage.teacher.logits(table["post_id"][pool].tolist(), categories))
    estimated = kept_estimated(lab, BACKBONE, seed=stage.settings.seed)
    found = {"estimated": SideFiles(unverified_shares(said, matrix[pool], categories), estimated, stage.teacher)}
    truth = truth_of(stage.posts, table["post_id"])
    if truth is not None:
        intake, posterior, violating = (
            truth[[f"{name}_{category}" for category in categories]].to_numpy()
            for name in ("propensity", "posterior", "true")
        )
        known = kept_known(lab, intake, posterior, truth_digest=stage.posts.info["truth_digest"])
        priors = unverified_shares(violating[pool], matrix[pool], categories)
        found["known"] = SideFiles(priors, known, stage.teacher)
    return found


def trained(stage: Stage, side: Mapping[str, SideFiles]) -> dict[str, list[Run]]:
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


def compared(stage: Stage, runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """One line per row, risk (and Average) and metric, as fractions: mean over seeds, and difference from the mask.

    Columns: row, category, metric, value, sd over seeds where there are several, posts, positives, difference, low,
    high, p_value (paired by test post, of the mean over seeds), about (`claims.about`); of rows with known propensities
    also their difference from the row with estimated ones, with its interval and p-value (names in `KNOWN`).
    """
    ids, truth = stage.test()
    categories = stage.posts.categories
    logits = {row: [logits_for(run.scores(), ids, categories) for run in ones] for row, ones in runs.items()}
    return lines_of(truth, logits, categories, seed=stage.settings.seed)


def lines_of(
    truth: np.ndarray,
    logits: Mapping[str, Sequence[Float[np.ndarray, "post category"]]],
    categories: Sequence[str],
    *,
    seed: int,
) -> pd.DataFrame:
    """The lines of `compared`, from labels and each row's logits by seed."""
    evidence = Evidence(truth, logits, categories, seed=seed)
    lines = []
    for row, ones in logits.items():
        for line in over_seeds([score_table(truth, one, categories) for one in ones]):
            whose, over = about(evidence, row, MASKED)
            place = line["category"], line["metric"]
            found = evidence.difference(row, MASKED, *place, over=over)
            gain = {"difference": found.estimate, "low": found.low, "high": found.high, "p_value": found.p_value}
            lines.append({"row": row, **{key: value for key, value in line.items() if key != "prevalence"}, **gain,
                          "about": whose})  # fmt: skip
            if (twin := estimated_twin(row)) in logits:
                over = about(evidence, row, twin)[1]
                lines[-1] |= zip(KNOWN, evidence.difference(row, twin, *place, over=over), strict=True)
    return pd.DataFrame(lines)


def estimated_twin(row: str) -> str | None:
    """The row with estimated propensities that a row with known ones is held against; None for other rows."""
    return row.replace(", known ", ", estimated ") if side_of(row) == "known" else None


def table(frame: pd.DataFrame, categories: Sequence[str] | None = None) -> pd.DataFrame:
    """Percent by row and risk, one column per metric: 'value (difference [low, high])'. All risks, or those named."""
    kept = frame if categories is None else frame[frame["category"].isin(categories)]
    lines = []
    for (category, row), part in kept.groupby(["category", "row"], sort=False):
        numbers = part.set_index("metric")
        cells = {metric: _cell(numbers.loc[metric], row == MASKED) for metric in METRICS}
        lines.append({"risk": category, "unverified cells": row, **cells})
    return pd.DataFrame(lines)


def _cell(line: pd.Series, reference: bool) -> str:
    value, gain, low, high = (100 * line[name] for name in ("value", "difference", "low", "high"))
    return f"{value:.1f}" if reference else f"{value:.1f} ({gain:+.1f} [{low:+.1f}, {high:+.1f}])"


def differences(frame: pd.DataFrame) -> Figure:
    """Difference from the mask in points, one panel per metric, one line per row: average filled, risks hollow."""
    rows = [row for row in dict.fromkeys(frame["row"]) if row != MASKED]
    categories = [category for category in dict.fromkeys(frame["category"]) if category != AVERAGE]
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 0.8 + 0.45 * len(rows)), sharey=True)
    heights = np.arange(len(rows))[::-1]
    lines = frame.set_index(["row", "category", "metric"])
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.axvline(0, color="#555555", linewidth=1)
        for height, row in zip(heights, rows, strict=True):
            for k, category in enumerate(categories):
                place = 100 * lines.loc[(row, category, metric), "difference"]
                axis.plot(place, height - 0.22, marker=MARKERS[(k + 1) % 7], color=category_colour(k + 1), markersize=5,
                          markerfacecolor="white", linestyle="", label=category if height == 0 else None)  # fmt: skip
            mean = 100 * lines.loc[(row, AVERAGE, metric), ["difference", "low", "high"]].astype(float)
            axis.plot(mean[["low", "high"]], [height + 0.1] * 2, color=BLUE, marker="|")
            axis.plot(mean["difference"], height + 0.1, color=BLUE, marker=MARKERS[0], linestyle="",
                      label="average" if height == 0 else None)  # fmt: skip
        axis.set(title=metric, xlabel="difference (points)")
    axes[0].set_yticks(heights, rows)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(categories) + 1)
    return figure


def side_facts(stage: Stage, side: Mapping[str, SideFiles]) -> pd.DataFrame:
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


def findings(frame: pd.DataFrame, *, where: str = "this corpus") -> str:
    """What the recorded lines say of the averages over risks, at 5 % after Holm's correction over rows and metrics."""
    average = frame[(frame["category"] == AVERAGE) & (frame["row"] != MASKED)]
    average = average.assign(sure=holm(average["p_value"]) < LEVEL)
    said, equal = [], []
    for metric, lines in average.groupby("metric", sort=False):
        sure = lines[lines["sure"]]
        parts = [f"{word} the mask {'lie' if len(part) > 1 else 'lies'} {listed(map(_short, part['row']))}"
                 for word, part in (("above", sure[sure["difference"] > 0]), ("below", sure[sure["difference"] < 0]))
                 if len(part)]  # fmt: skip
        if parts:
            said.append(f"in {metric} {', '.join(parts)}")
        else:
            equal.append(metric)
    if equal:
        said.append(f"in {listed(equal)} no treatment is shown to differ from the mask")
    area = frame[(frame["category"] == AVERAGE) & (frame["metric"] == METRICS[0])].set_index("row")
    value = area["value"]
    return (f"Averages over risks, paired by test post, at {100 * LEVEL:.0f} % after Holm's correction over "
            f"{len(average)} comparisons: {'; '.join(said)}. Highest average {METRICS[0]}: {_short(value.idxmax())}, "
            f"{100 * value.max():.1f} %; the mask {100 * value[MASKED]:.1f} %.{_known_sentence(area)} "
            f"(On {where}; {_scope(frame)}.)")  # fmt: skip


def _known_sentence(area: pd.DataFrame) -> str:
    """What known propensities bring against estimated ones, from lines of average PR-AUC by row."""
    pairs = [row for row in area.index if estimated_twin(row) in area.index]
    if not pairs:
        return ""
    if KNOWN[0] not in area:
        return (" Whether known propensities help more than estimated ones cannot be said: this record is older than "
                "that comparison.")  # fmt: skip
    said = []
    for row in pairs:
        gain, low, high, _ = 100 * area.loc[row, list(KNOWN)].astype(float)
        said.append(f"{row.split(',')[0].lower()} by {gain:+.1f} [{low:+.1f}, {high:+.1f}]")
    p = holm(area.loc[pairs, KNOWN[3]])
    sure = [f"{row.split(',')[0].lower()} ({'better' if area.loc[row, KNOWN[0]] > 0 else 'worse'})"
            for row, one in zip(pairs, p, strict=True) if one < LEVEL]  # fmt: skip
    return (f" Known instead of estimated propensities change average {METRICS[0]} of {listed(said)} points, with "
            f"95 % intervals; corrected over these {len(pairs)}, a difference is shown for {listed(sure) or 'none'}.")


def _scope(frame: pd.DataFrame) -> str:
    """What the comparisons are about, for the last sentence; a record without the column is older than it."""
    return f"about {listed(frame['about'].unique())}" if "about" in frame else "for their intervals see the caption"


def _short(row: str) -> str:
    kind = side_of(row)
    return f"{row.split(',')[0]} ({kind})" if kind else row
