"""Small pictures and sliders of the primer: cells of a label matrix, what lambda does, what tau costs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes

from radar_suite.report import style


def draw_cells(
    ax: Axes,
    values: Float[np.ndarray, "post category"],
    *,
    valid: Bool[np.ndarray, "post category"],
    title: str,
    columns: Sequence[str],
    limits: tuple[float, float],
    colours: str = "Blues",
) -> None:
    """One number per cell of a posts x categories matrix; unverified cells are hatched.

    Args:
        valid: True where the label was verified.
        limits: the values of the lightest and the darkest colour.
        colours: a matplotlib colour map; a diverging one if the limits are symmetric.
    """
    image = ax.imshow(values, vmin=limits[0], vmax=limits[1], cmap=colours, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        text = "0" if value == 0 else f"{value:.2f}"
        ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        if not valid[row, column]:
            box = (column - 0.5, row - 0.5)
            ax.add_patch(plt.Rectangle(box, 1, 1, fill=False, hatch="///", ec="#999999", lw=0, alpha=0.55))
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(values)), [f"post {i + 1}" for i in range(len(values))])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)


def draw_lambda(
    pair: Sequence[Axes],
    labels: Int[np.ndarray, "post category"],
    teacher_probs: Float[np.ndarray, "post category"],
    *,
    lam: float,
    columns: Sequence[str],
) -> None:
    """Eq. 7 as one weighted cross-entropy: the target of each cell in `pair[0]`, its weight in `pair[1]`."""
    valid = labels != -1
    targets = np.where(valid, (1 - lam) * labels + lam * teacher_probs, teacher_probs)
    weights = np.where(valid, 1.0, lam)
    options = {"valid": valid, "columns": columns, "limits": (0.0, 1.2)}
    draw_cells(pair[0], targets, title=f"target, λ = {lam:g}", **options)
    draw_cells(pair[1], weights, title=f"weight, λ = {lam:g}", colours="Greens", **options)


def draw_threshold(
    pair: Sequence[Axes], labels: Int[np.ndarray, " post"], scores: Float[np.ndarray, " post"], *, tau: float
) -> None:
    """Where tau cuts the scores (`pair[0]`), and recall and auto-pass rate at every tau (`pair[1]`).

    A post is dispatched where score > tau (Eq. 2); both shares are in percent.
    """
    violating, cleared = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    bins = np.linspace(scores.min(), scores.max(), 50)
    pair[0].hist(
        cleared, bins, histtype="stepfilled", color=style.SKY, alpha=0.8, label=f"cleared, n = {len(cleared):,}"
    )
    pair[0].hist(violating, bins, histtype="stepfilled", color=style.ORANGE, label=f"violating, n = {len(violating):,}")
    pair[0].set(yscale="log", ylabel="posts")
    pair[0].yaxis.set_major_formatter("{x:g}")
    pair[0].yaxis.set_minor_formatter("")
    grid = np.linspace(bins[0], bins[-1], 400)
    curves = (
        ("recall: violating posts dispatched", style.ORANGE, "-", lambda x: 100 * (violating > x).mean()),
        ("auto-pass rate: posts released", style.BLUE, "--", lambda x: 100 * (scores <= x).mean()),
    )
    for name, colour, line, share in curves:
        pair[1].plot(grid, [share(x) for x in grid], color=colour, ls=line, marker="")
        pair[1].plot(tau, share(tau), color=colour, marker="o", ls=line, label=f"{name}, {share(tau):.1f} % at tau")
    pair[1].set(xlabel="logit", ylabel="% of posts", ylim=(0, 103))
    for ax in pair:
        ax.axvline(tau, color=style.BLACK, lw=1.2, ls=":")
        ax.set_xlim(bins[0], bins[-1])
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    pair[0].set_title(f"τ = {tau:.2f}: released to the left, dispatched to the right")


def simulate_scores(
    generator: np.random.Generator, *, posts: int, prevalence: float, separation: float
) -> tuple[Int[np.ndarray, " post"], Float[np.ndarray, " post"]]:
    """Labels and logits of a made-up router: two normal distributions, `separation` standard deviations apart.

    >>> labels, logits = simulate_scores(np.random.default_rng(0), posts=1000, prevalence=0.1, separation=2.0)
    >>> int(labels.sum())
    100
    """
    labels = np.zeros(posts, dtype=int)
    labels[: round(prevalence * posts)] = 1
    return labels, generator.normal(size=posts) + separation * labels - 3.0


def range_over(values: Float[np.ndarray, " n"], *, start: float, step: float) -> tuple[float, float, float, float]:
    """A range for `slider` that holds all `values`, on a grid that `start` (one between them) lies on.

    A slider moves in steps from its lowest value: off the grid, it would show another number than its start.

    >>> range_over(np.array([-1.1, 0.4, 2.0]), start=0.25, step=0.5)
    (-1.25, 2.25, 0.5, 0.25)
    """
    below, above = math.ceil((start - values.min()) / step), math.ceil((values.max() - start) / step)
    return start - below * step, start + above * step, step, start


def slider(draw: Callable[..., Any], **ranges: tuple[float, float, float, float]) -> None:
    """Call `draw` whenever a slider moves; `ranges` gives (lowest, highest, step, start) for each of its arguments.

    In a run of the whole chain nobody can move anything, so only a line is printed there: the static figure above it
    is what readers of the report see.
    """
    if "RADAR_NOTEBOOK_DIGEST" in os.environ:
        print(f"(open this notebook in JupyterLab to move {', '.join(ranges)})")
        return
    import ipywidgets

    controls = {
        name: ipywidgets.FloatSlider(min=low, max=high, step=step, value=start, continuous_update=False)
        for name, (low, high, step, start) in ranges.items()
    }
    ipywidgets.interact(draw, **controls)
