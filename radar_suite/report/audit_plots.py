"""The larger figures of the audit, as functions of its tidy tables; each returns a Figure and saves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_lib.data.schema import TEXT_COLUMNS
from radar_suite.report.drawing import draw_counts
from radar_suite.report.plots import LINE_STYLES, MARKERS
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE, PINK, category_colour


def prevalence_panels(rates: Mapping[str, pd.DataFrame], categories: Sequence[str], *, most: int = 14) -> Figure:
    """Prevalence with its 95 % binomial interval, a panel per grouping: groups down, risks side by side.

    Args:
        rates: by name of the grouping, `audit.prevalence` tables. The `most` groups with most verified labels are
            drawn, in their order.
    """
    panels = {}
    for name, frame in rates.items():
        largest = frame.groupby("group", sort=False)["verified"].sum().nlargest(most).index
        panels[name] = frame[frame["group"].isin(largest) & (frame["verified"] > 0)]
    columns, groups_of = min(3, len(panels)), [frame["group"].nunique() for frame in panels.values()]
    heights = [max(groups_of[start : start + columns]) + 3 for start in range(0, len(panels), columns)]
    size = (3.9 * columns, 1.0 + 0.27 * sum(heights))
    figure, grid = plt.subplots(len(heights), columns, squeeze=False, height_ratios=heights, figsize=size)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (name, frame) in zip(grid.flat, panels.items(), strict=False):
        groups = list(dict.fromkeys(frame["group"]))
        for k, category in enumerate(categories):
            part = frame[frame["category"] == category]
            height = np.array([groups.index(group) for group in part["group"]]) + 0.22 * (k - (len(categories) - 1) / 2)
            mid = 100 * part["prevalence"].to_numpy()
            ends = np.abs(100 * part[["low", "high"]].to_numpy().T - mid)
            axes.errorbar(mid, height, xerr=ends, color=category_colour(k), marker=MARKERS[k % 7], markersize=4.5,
                          linestyle="", elinewidth=1.1, label=category)  # fmt: skip
        axes.set_yticks(range(len(groups)), [str(group) for group in groups])
        axes.set(title=f"by {name}", ylim=(len(groups) - 0.4, -0.6), xlim=(0, None), xlabel="violating (%)")
        axes.grid(False, axis="y")
    handles = [plt.Line2D([], [], color=category_colour(k), marker=MARKERS[k % 7], linestyle="", label=c)
               for k, c in enumerate(categories)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=min(7, len(categories)))
    return figure


def copies(pairs: pd.DataFrame, by_split: pd.DataFrame, *, limit: float) -> Figure:
    """Where the copies lie (posts of the row's split with a copy in the column's) and how alike near copies are.

    Args:
        by_split: `duplicates.between_splits`.
        limit: largest frame distance of a copy, drawn as a line.
    """
    names = list(dict.fromkeys([*by_split["split"], *by_split["other"]]))
    posts = by_split.groupby(["split", "other"])["posts"].sum().unstack(fill_value=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 1.9 + 0.42 * max(len(names), 4)))
    draw_counts(left, posts.reindex(index=names, columns=names, fill_value=0), x="split of the other",
                title="posts with a copy", y="split of the post")  # fmt: skip
    for kind, colour, marker in (("exact", ORANGE, "s"), ("near", BLUE, "o")):
        part = pairs[(pairs["kind"] == kind) & pairs["frame_distance"].notna()]
        right.plot(part["text_similarity"], part["frame_distance"], marker, color=colour, alpha=0.6, markersize=4,
                   linestyle="", label=f"{kind} ({int((pairs['kind'] == kind).sum()):,})")  # fmt: skip
    right.axhline(limit, color="#9a9a9a", linestyle=":", marker="", linewidth=1)
    right.set(title="pairs of copies", xlabel="shared text (Jaccard of 4-letter runs)", ylim=(-0.5, limit + 1.5),
              ylabel="frames apart (bits of 64)", xlim=(None, 1.03))  # fmt: skip
    right.legend(loc="center left")
    return figure


def modality_gains(scores: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """PR-AUC of the three probes (left), and what the joint one gains over each with 95 % intervals (right).

    Args:
        scores: columns category, probe, ap, prevalence.
        gains: columns category, over, gain, low, high.
    """
    categories = list(dict.fromkeys(scores["category"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 1.9 + 0.45 * len(categories)), sharey=True)
    looks = {"text": (BLUE, "o"), "frames": (ORANGE, "s"), "joint": (GREEN, "D")}
    for name, (colour, marker) in looks.items():
        part = scores[scores["probe"] == name].set_index("category").reindex(categories)
        left.plot(100 * part["ap"], range(len(categories)), marker, color=colour, linestyle="", label=name)
    chance = scores.groupby("category", sort=False)["prevalence"].first().reindex(categories)
    left.plot(100 * chance, range(len(categories)), "|", color=BLACK, markersize=11, linestyle="", label="chance")
    left.set_yticks(range(len(categories)), categories)
    left.set(title="probes on posts not seen", xlabel="PR-AUC (%)", xlim=(0, None), ylim=(len(categories) - 0.4, -0.6))
    for shift, name in ((-0.1, "text"), (0.1, "frames")):
        part = gains[gains["over"] == name].set_index("category").reindex(categories)
        mid, ends = 100 * part["gain"], 100 * part[["low", "high"]].to_numpy().T
        right.errorbar(mid, np.arange(len(categories)) + shift, xerr=np.abs(ends - mid.to_numpy()), linestyle="",
                       color=looks[name][0], marker=looks[name][1], label=f"joint over {name}")  # fmt: skip
    right.axvline(0, color=BLACK, linestyle=":", marker="", linewidth=1)
    right.set(title="gain of the joint probe", xlabel="PR-AUC points (95 % interval)")
    handles = [pair for axes in (left, right) for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=6, fontsize=8.5)
    return figure


def texts_and_frames(table: pd.DataFrame, frames: pd.DataFrame) -> Figure:
    """Characters per post by text column, frames per post, brightness and sharpness of frames."""
    figure, grid = plt.subplots(1, 4, figsize=(13, 2.8))
    for k, name in enumerate(TEXT_COLUMNS):
        lengths = table[name].str.len()
        grid[0].hist(lengths[lengths > 0].clip(upper=300), bins=40, histtype="step", color=category_colour(k),
                     linestyle=LINE_STYLES[k], linewidth=1.6, label=f"{name} ({(lengths > 0).mean():.0%})")  # fmt: skip
    grid[0].set(title="text length", xlabel="characters (cut at 300)", ylabel="posts")
    grid[0].legend(fontsize=8)
    per_post = frames.groupby("post_id")["frames"].first().reindex(table["post_id"], fill_value=0)
    grid[1].hist(per_post, bins=np.arange(0, int(per_post.max()) + 2) - 0.5, color=BLUE, rwidth=0.85)
    grid[1].set(title="frames per post", xlabel="frames", ylabel="posts")
    grid[2].hist(frames["brightness"], bins=40, color=PINK)
    grid[2].set(title="brightness", xlabel="mean grey level (0 to 255)", ylabel="frames")
    if len(frames):
        grid[3].hist(np.log10(frames["sharpness"].clip(lower=1)), bins=40, color=GREEN)
    grid[3].set(title="sharpness", xlabel="variance of the Laplacian (log10)", ylabel="frames")
    return figure
