"""The figures of the audit, as functions of its tidy tables; each returns a matplotlib Figure and saves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from radar_lib.data.schema import TEXT_COLUMNS
from radar_suite.report.plots import LINE_STYLES, MARKERS
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE, PINK, category_colour

_GREY = "#9a9a9a"
_KINDS = {"exact": (ORANGE, "s"), "near": (BLUE, "o")}


def counts_matrix(counts: pd.DataFrame, axes: Axes, *, title: str, x: str, y: str) -> None:
    """Table of counts as a heat map into `axes`; zero cells are white."""
    values = counts.to_numpy(float)
    shown = np.ma.masked_where(values == 0, np.log1p(values))
    image = axes.imshow(shown, cmap="cividis_r", aspect="auto", vmin=0, vmax=max(1.0, float(np.log1p(values.max()))))
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(np.log1p(value))) if value else (1, 1, 1, 1)
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        ink = "white" if dark else "black"
        axes.text(column, row, f"{value:,.0f}", ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(counts.shape[1]), counts.columns, rotation=30 if counts.shape[1] > 4 else 0)
    axes.set_yticks(range(counts.shape[0]), counts.index)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set(title=title, xlabel=x, ylabel=y)


def who_labelled_what(validity: pd.DataFrame, both: pd.DataFrame) -> Figure:
    """Verified labels by pipeline and risk (left), posts verified for two risks at once (right)."""
    width = 2.4 + 0.95 * len(both)
    figure, (left, right) = plt.subplots(1, 2, figsize=(2 * width, 1.5 + 0.5 * max(len(validity), len(both), 2)))
    counts_matrix(validity, left, title="verified labels", x="risk", y="pipeline")
    counts_matrix(both, right, title="verified for both", x="risk", y="risk")
    return figure


def prevalence_panels(rates: Mapping[str, pd.DataFrame], categories: Sequence[str], *, most: int = 14) -> Figure:
    """Prevalence with its 95 % binomial interval, a panel per grouping: groups down, risks side by side.

    Args:
        rates: by name of the grouping, `audit.prevalence` tables. The `most` groups with most verified labels are
            drawn, in their order.
    """
    panels = {name: _largest(frame[frame["verified"] > 0], most) for name, frame in rates.items()}
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


def _largest(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    verified = frame.groupby("group", sort=False)["verified"].sum()
    return frame[frame["group"].isin(verified.nlargest(most).index)]


def copies(pairs: pd.DataFrame, by_split: pd.DataFrame, *, limit: float) -> Figure:
    """Where the copies lie (posts of the row's split with a copy in the column's) and how alike near copies are.

    Args:
        by_split: `duplicates.between_splits`.
        limit: largest frame distance of a copy, drawn as a line.
    """
    names = list(dict.fromkeys([*by_split["split"], *by_split["other"]]))
    posts = by_split.groupby(["split", "other"])["posts"].sum().unstack(fill_value=0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 1.9 + 0.42 * max(len(names), 4)))
    counts_matrix(posts.reindex(index=names, columns=names, fill_value=0), left, x="split of the other",
                  title="posts with a copy", y="split of the post")  # fmt: skip
    for kind, (colour, marker) in _KINDS.items():
        part = pairs[(pairs["kind"] == kind) & pairs["frame_distance"].notna()]
        right.plot(part["text_similarity"], part["frame_distance"], marker, color=colour, alpha=0.6, markersize=4,
                   linestyle="", label=f"{kind} ({int((pairs['kind'] == kind).sum()):,})")  # fmt: skip
    right.axhline(limit, color=_GREY, linestyle=":", marker="", linewidth=1)
    right.set(title="pairs of copies", xlabel="shared text (Jaccard of 4-letter runs)", ylim=(-0.5, limit + 1.5),
              ylabel="frames apart (bits of 64)", xlim=(None, 1.03))  # fmt: skip
    right.legend(loc="center left")
    return figure


def agreement_of_copies(pairs: int, conflicts: pd.DataFrame, agreeing: Mapping[str, int]) -> Figure:
    """Pairs of copies that both carry a label of a risk: do the two labels agree?"""
    names = list(agreeing)
    opposite = [int((conflicts["category"] == name).sum()) for name in names]
    same = [agreeing[name] for name in names]
    figure, axes = plt.subplots(figsize=(6.4, 1.3 + 0.42 * len(names)))
    axes.barh(names, same, color=BLUE, label="same label")
    axes.barh(names, opposite, left=same, color=ORANGE, hatch="///", edgecolor="white", label="opposite labels")
    for row, (left, extra) in enumerate(zip(same, opposite, strict=True)):
        axes.text(left + extra, row, f"  {extra} of {left + extra} opposite", va="center", fontsize=9)
    axes.set(title=f"labels of copies ({pairs:,} pairs in all)", xlabel="pairs with two verified labels of the risk",
             xlim=(0, 1.35 * max([a + b for a, b in zip(same, opposite, strict=True)] + [1])))  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.legend(loc="lower right")
    return figure


def doubt(panels: Mapping[str, tuple[np.ndarray, np.ndarray, int]]) -> Figure:
    """Out-of-sample probability of a violation, by the label given; suspected errors are the tails that cross over.

    Args:
        panels: by risk: labels, probability of 1, number of suspects.
    """
    figure, grid = _panels(len(panels))
    for axes, (category, (labels, probs, n)) in zip(grid, panels.items(), strict=True):
        bins = np.linspace(0, 1, 26)
        for value, colour, style, name in ((0, BLUE, "-", "cleared"), (1, ORANGE, "--", "violating")):
            axes.hist(probs[labels == value], bins, histtype="step", color=colour, linestyle=style, linewidth=1.8,
                      label=f"labelled {name} ({(labels == value).sum():,})")  # fmt: skip
        axes.set(title=f"{category}: {n} suspects", xlabel="probability of a violation (probe)", yscale="log")
        axes.legend(loc="upper right", fontsize=8)
    grid[0].set_ylabel("posts")
    return figure


def precision_of_suspects(panels: Mapping[str, tuple[np.ndarray, np.ndarray | None, float, int]]) -> Figure:
    """Share of really wrong labels among the first n suspects: the audit, the ceiling, and picking at random.

    Args:
        panels: by risk: precision among the first 1, 2, ... of the probe and of the Bayes posterior (or None), the
            noise rate, and the number of wrong labels (where precision@n is read off).
    """
    figure, grid = _panels(len(panels))
    for axes, (category, (ours, bayes, noise, n)) in zip(grid, panels.items(), strict=True):
        shown = max(10, min(4 * n, len(ours)))
        n_axis = np.arange(1, shown + 1)
        if bayes is not None:
            axes.plot(n_axis, 100 * bayes[:shown], color=GREEN, linestyle="--", marker="", label="Bayes posterior")
        axes.plot(n_axis, 100 * ours[:shown], color=BLUE, marker="", label="audit")
        axes.axhline(100 * noise, color=BLACK, linestyle=":", marker="", linewidth=1, label="at random")
        axes.axvline(n, color=_GREY, linewidth=0.8)
        axes.set(title=f"{category}: {n} wrong labels", xlabel="labels looked at again", ylim=(0, 104))
    grid[0].set_ylabel("really wrong (%)")
    grid[-1].legend(loc="upper right")
    return figure


def aucs(probe: pd.DataFrame) -> Figure:
    """AUC of guessing the pipeline: pipelines down, one mark per probe."""
    pipelines, names = list(dict.fromkeys(probe["pipeline"])), list(dict.fromkeys(probe["probe"]))
    figure, axes = plt.subplots(figsize=(6.4, 1.4 + 0.4 * len(pipelines)))
    for k, name in enumerate(names):
        part = probe[probe["probe"] == name].set_index("pipeline").reindex(pipelines)
        axes.plot(part["auc"], range(len(pipelines)), MARKERS[k], color=category_colour(k), linestyle="", label=name)
    axes.axvline(0.5, color=BLACK, linestyle=":", marker="", linewidth=1)
    axes.text(0.5, -0.55, " chance", fontsize=8, va="center")
    axes.set_yticks(range(len(pipelines)), pipelines)
    axes.set(title="which pipeline labelled the post?", xlabel="AUC on posts not seen", xlim=(0.38, 1.02),
             ylim=(len(pipelines) - 0.5, -0.8))  # fmt: skip
    axes.grid(False, axis="y")
    axes.legend(loc="lower right")
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


def missing(absent: pd.DataFrame) -> Figure:
    """Share of posts without each modality, one mark per split."""
    names = [name for name in absent.columns if name not in ("group", "posts")]
    figure, axes = plt.subplots(figsize=(6.8, 1.3 + 0.36 * len(names)))
    for k, row in enumerate(absent.itertuples(index=False)):
        values = [100 * getattr(row, name) for name in names]
        axes.plot(values, np.arange(len(names)) + 0.09 * (k - len(absent) / 2), MARKERS[k % 7], markersize=4.5,
                  color=category_colour(k), linestyle="", label=f"{row.group} ({row.posts:,})")  # fmt: skip
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set(title="posts without ...", xlabel="share of posts (%)", xlim=(-2, 102), ylim=(len(names) - 0.5, -0.6))
    axes.grid(False, axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def hidden_cells(hidden: pd.DataFrame) -> Figure:
    """Violating share of the verified and of the unverified training cells, by risk.

    Args:
        hidden: index category, columns verified, unverified (violating shares by the truth).
    """
    figure, axes = plt.subplots(figsize=(6.4, 1.3 + 0.5 * len(hidden)))
    place = np.arange(len(hidden))
    for shift, name, colour, hatch in ((-0.19, "verified", BLUE, ""), (0.19, "unverified", ORANGE, "///")):
        axes.barh(place + shift, 100 * hidden[name], 0.36, color=colour, hatch=hatch, edgecolor="white", label=name)
        for row, value in enumerate(hidden[name]):
            axes.text(100 * value, row + shift, f" {value:.1%}", va="center", fontsize=8.5)
    axes.set_yticks(place, hidden.index)
    widest = hidden[["verified", "unverified"]].to_numpy().max()
    axes.set(title="truly violating training cells", xlabel="share of cells (%)", xlim=(0, max(1.0, 118 * widest)))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.legend(loc="lower right")
    return figure


def _panels(n: int) -> tuple[Figure, np.ndarray]:
    """Up to four panels side by side, then further rows; a flat array of the first `n` axes."""
    rows, columns = -(-n // 4), min(n, 4)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 3.0 * rows), squeeze=False)
    for axes in grid.flat[n:]:
        axes.axis("off")
    return figure, grid.flat[:n]
