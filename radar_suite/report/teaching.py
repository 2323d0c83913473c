"""Pictures and sliders of the primer: the cells of a label matrix, and what tau costs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from radar_suite.report import style
from radar_suite.report.drawing import draw_matrix


def draw_cells(
    ax: Axes, values: Float[np.ndarray, "post category"], *, valid: Bool[np.ndarray, "post category"], title: str,
    columns: Sequence[str], limits: tuple[float, float], colours: str = "Blues",
) -> None:  # fmt: skip
    """One number per cell of a posts x categories matrix; unverified cells (not `valid`) are hatched.

    Args:
        limits: the values of the lightest and the darkest colour.
        colours: a matplotlib colour map; a diverging one if the limits are symmetric.
    """
    frame = pd.DataFrame(values, [f"post {i + 1}" for i in range(len(values))], columns)
    draw_matrix(ax, frame, title=title, shades=values, limits=limits, colours=colours, text=_two_decimals)
    for row, column in np.argwhere(~valid):
        box = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(box, 1, 1, fill=False, hatch="///", ec="#999999", lw=0, alpha=0.55))


def draw_threshold(
    pair: Sequence[Axes], labels: Int[np.ndarray, " post"], scores: Float[np.ndarray, " post"], *, tau: float
) -> None:
    """Where tau cuts the scores (`pair[0]`), and recall and auto-pass rate at every tau (`pair[1]`).

    A post is dispatched where score > tau (Eq. 2); both shares are in percent.
    """
    violating, cleared = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    bins = np.linspace(scores.min(), scores.max(), 50)
    for name, part, look in (("cleared", cleared, {"color": style.SKY, "alpha": 0.8}),
                             ("violating", violating, {"color": style.ORANGE})):  # fmt: skip
        pair[0].hist(part, bins, histtype="stepfilled", label=f"{name}, n = {len(part):,}", **look)
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


def slider(draw: Callable[..., Any], **ranges: tuple[float, float, float, float]) -> None:
    """Call `draw` whenever a slider moves; `ranges` gives (lowest, highest, step, start) for each of its arguments.

    A slider moves in steps from its lowest value; both ends are moved outwards to the grid that `start` lies on, or it
    would show another number than its start.

    In a run of the whole chain nobody can move anything, so only a line is printed there: the static figure above it
    is what readers of the report see.
    """
    if "RADAR_NOTEBOOK_DIGEST" in os.environ:
        print(f"(open this notebook in JupyterLab to move {', '.join(ranges)})")
        return
    import ipywidgets

    controls = {}
    for name, (low, high, step, start) in ranges.items():
        below, above = math.ceil((start - low) / step - 1e-9), math.ceil((high - start) / step - 1e-9)
        low, high = start - below * step, start + above * step
        controls[name] = ipywidgets.FloatSlider(min=low, max=high, step=step, value=start, continuous_update=False)
    ipywidgets.interact(draw, **controls)


def _two_decimals(value: float) -> str:
    return "0" if value == 0 else f"{value:.2f}"
