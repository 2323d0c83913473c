"""Pieces that figures of several notebooks are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def panels(n: int) -> tuple[Figure, np.ndarray]:
    """Up to four panels side by side, then further rows; a flat array of the first `n` axes."""
    rows, columns = -(-n // 4), min(n, 4)
    figure, grid = plt.subplots(rows, columns, figsize=(3.5 * columns, 3.0 * rows), squeeze=False)
    for axes in grid.flat[n:]:
        axes.axis("off")
    return figure, grid.flat[:n]


def draw_matrix(
    axes: Axes, values: pd.DataFrame, *, title: str, shades: np.ndarray, limits: tuple[float, float], colours: str,
    text: Callable[[Any], str],
) -> None:  # fmt: skip
    """A heat map with a number in each cell, in ink that can be read on its colour.

    Args:
        values: a line and a column for each of the matrix; what the cells say.
        shades: what the colours say; masked cells are white.
        limits: shades of the first and the last colour.
        colours: a matplotlib colour map; a diverging one if the limits are symmetric.
        text: of a value.
    """
    image = axes.imshow(shades, vmin=limits[0], vmax=limits[1], cmap=colours, aspect="auto")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        masked = np.ma.is_masked(shades[row, column])
        red, green, blue, _ = (1, 1, 1, 1) if masked else image.cmap(image.norm(shades[row, column]))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(column, row, text(value), ha="center", va="center", color="white" if dark else "black", fontsize=9)
    axes.set_xticks(range(values.shape[1]), values.columns, rotation=30 if values.shape[1] > 4 else 0)
    axes.set_yticks(range(len(values)), values.index)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title)


def draw_counts(axes: Axes, counts: pd.DataFrame, *, title: str, x: str, y: str) -> None:
    """A table of counts as a heat map with a logarithmic scale of colours; zero cells are white."""
    values = counts.to_numpy(float)
    shades = np.ma.masked_where(values == 0, np.log1p(values))
    limits = (0.0, max(1.0, float(np.log1p(values.max()))))
    draw_matrix(axes, counts, title=title, shades=shades, limits=limits, colours="cividis_r", text="{:,.0f}".format)
    axes.set(xlabel=x, ylabel=y)
