"""What does a model look at? The ranking quality lost when a modality is emptied or taken from its pipeline's posts.

An emptied modality also looks unlike anything in training; one from another post looks ordinary but belongs to nobody,
so the two answer slightly different questions. Losses are paired: the same posts, scored by the same model twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Int, Int8
from matplotlib.figure import Figure

from radar_lib.intervals import (
    Difference,
    average_precision_difference,
    average_precision_influence,
    normal_difference,
)
from radar_lib.metrics import average_precision
from radar_lib.training.lab import Lab, Run
from radar_lib.training.scores import logits_for
from radar_suite.report.ablations import Ablation, ablated_scores, modalities_of
from radar_suite.report.style import category_colour

LOOKS = {  # marker, height within its line, and what it is called
    "blank": ("o", 0.12, "left empty"),
    "permute": ("s", -0.12, "from another post"),
    "replay": ("D", 0.0, "same, as JPEG"),
}


def ablations_for(lab: Lab, split: str) -> list[Ablation]:
    """Each modality of the split's posts left empty and taken from others; and, for the noise, frames as JPEG again."""
    there = modalities_of(lab.posts, split)
    found = [Ablation(kind, what) for kind in ("blank", "permute") for what in there]
    return found + ([Ablation("replay", "jpeg60")] if "frames" in there else [])


def sampled(labels: Int8[np.ndarray, " post"], *, cleared: int, seed: int) -> Int[np.ndarray, " sample"]:
    """Positions, ascending, of all violating posts and at most `cleared` cleared ones, drawn at random."""
    negatives = np.flatnonzero(labels == 0)
    drawn = np.random.default_rng(seed).permutation(negatives)[:cleared]
    return np.sort(np.concatenate([np.flatnonzero(labels == 1), drawn]))


def reliance(
    lab: Lab, run: Run, ablations: Sequence[Ablation], *, split: str = "test", cleared: int = 200, seed: int = 1
) -> pd.DataFrame:
    """What a run loses to each ablation, one line per category and ablation.

    Args:
        cleared: cleared posts per category; all violating ones are taken. The share of violations is therefore higher
            than in the split, and so is PR-AUC.

    Returns:
        Columns category, kind, what, posts, PR-AUC (as the posts are), loss, low, high (fractions).
    """
    ids = lab.table(split)["post_id"].to_numpy()
    labels = lab.labels(split, run.spec.categories)
    samples = [sampled(column, cleared=cleared, seed=seed) for column in labels.T]
    union = np.unique(np.concatenate(samples))
    changed = ablated_scores(lab, run, ablations, splits=[split], post_ids=ids[union])
    own, lines = run.scores(), []
    for k, (category, sample) in enumerate(zip(run.spec.categories, samples, strict=True)):
        truth = labels[sample, k]
        if len(np.unique(truth)) < 2:
            continue
        clean = logits_for(own, ids[sample], [category])[:, 0]
        about = {"category": category, "posts": len(sample), "PR-AUC": average_precision(truth, clean)}
        for ablation in ablations:
            ablated = logits_for(changed[ablation.name], ids[sample], [category])[:, 0]
            loss = lost(truth, clean, ablated)
            line = {"kind": ablation.kind, "what": ablation.what, "loss": loss.estimate}
            lines.append(about | line | {"low": loss.low, "high": loss.high})
    return pd.DataFrame(lines)


def lost(truth: np.ndarray, clean: np.ndarray, ablated: np.ndarray) -> Difference:
    """PR-AUC lost; where the ablated posts all look alike (their only modality is empty), what is left is chance."""
    if np.ptp(ablated) > 0:
        return average_precision_difference(truth, clean, ablated)
    centred = truth - truth.mean()
    parts = (average_precision_influence(truth, clean) - centred) / len(truth)
    return normal_difference(average_precision(truth, clean) - truth.mean(), parts)


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Losses in points with their intervals, as text: one line per modality and kind, one column per category."""
    percent = 100 * table[["loss", "low", "high"]]
    text = ["-" if np.isnan(loss) else f"{loss:.1f} [{low:.1f}, {high:.1f}]" for loss, low, high in percent.to_numpy()]
    wide = table.assign(lost=text).pivot(index=["what", "kind"], columns="category", values="lost")
    return wide.loc[table[["what", "kind"]].drop_duplicates().agg(tuple, axis=1).tolist(), table["category"].unique()]


def most_borrowed(table: pd.DataFrame) -> str:
    """For each category the borrowed modality that costs most, with its interval; named only where that is above 0."""
    borrowed, parts = table[table["kind"] == "permute"], []
    for category, part in borrowed.groupby("category", sort=False):
        part = part.dropna(subset="loss")
        if part.empty:
            parts.append(f"Expert {category} orders no posts, so it has nothing to lose.")
            continue
        shown = part[part["low"] > 0]
        x = (part if shown.empty else shown).sort_values("loss").iloc[-1]
        lost = f"{100 * x['loss']:.1f} [{100 * x['low']:.1f}, {100 * x['high']:.1f}] of {100 * x['PR-AUC']:.1f} points"
        if shown.empty:
            parts.append(f"Expert {category}: none can be shown; the largest loss is by {x['what']}, {lost}.")
        else:
            parts.append(f"Expert {category} loses most to another post's {x['what']}: {lost}.")
    return " ".join(parts)


def figure(table: pd.DataFrame) -> Figure:
    """Losses with their intervals, one panel per category, one line per modality; right is worse."""
    categories, rows = list(dict.fromkeys(table["category"])), list(dict.fromkeys(table["what"]))[::-1]
    size = (3.6 * len(categories), 0.5 * len(rows) + 1.6)
    drawn, axes = plt.subplots(1, len(categories), figsize=size, squeeze=False, sharey=True)
    for axis, category in zip(axes[0], categories, strict=True):
        axis.axvline(0, color="#999999", linewidth=0.9, linestyle=":")
        for position, (kind, part) in enumerate(table[table["category"] == category].groupby("kind", sort=False)):
            marker, offset, label = LOOKS[kind]
            height = np.array([rows.index(what) for what in part["what"]]) + offset
            ends = 100 * np.stack([part["loss"] - part["low"], part["high"] - part["loss"]])
            axis.errorbar(100 * part["loss"], height, xerr=np.maximum(ends, 0), fmt=marker, markersize=5,
                          linestyle="", color=category_colour(position), label=label)  # fmt: skip
        axis.set(title=f"expert {category}", xlabel="PR-AUC lost (points)", yticks=range(len(rows)), yticklabels=rows)
    drawn.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn
