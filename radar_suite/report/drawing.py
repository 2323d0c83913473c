"""Pieces that figures of several notebooks are drawn from: legible for 1 to 10 risks with names of 20 letters.

The report's page is `WIDEST` inches wide, so a figure that is no wider is shown with its letters as large as they are.
"""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDEST = 15.25  # inches


def panels(n: int, *, size: tuple[float, float] = (3.5, 3.0), sharey: bool = False) -> tuple[Figure, np.ndarray]:
    """Up to four panels side by side, then further rows; a flat array of the first `n` axes.

    Args:
        size: of each, in inches.
        sharey: one scale for all.
    """
    rows, columns = -(-n // 4), min(n, 4)
    figsize = (size[0] * columns, size[1] * rows)
    figure, grid = plt.subplots(rows, columns, figsize=figsize, squeeze=False, sharey=sharey)
    for axes in grid.flat[n:]:
        axes.axis("off")
    return figure, grid.flat[:n]


def fold(name: str, letters: int) -> str:
    """A text in lines of at most `letters`, broken after spaces, hyphens and underscores where it has them.

    >>> fold("misleading_headlines", 12)
    'misleading_\\nheadlines'
    """
    return "\n".join(textwrap.wrap(name.replace("_", "_ "), letters)).replace("_ ", "_")


def shorten(name: str, letters: int) -> str:
    """A name without its middle where it has more than `letters`.

    >>> shorten("spam", 7), shorten("spam+scam+bait", 7)
    ('spam', 'spa…ait')
    """
    half = letters // 2
    return name if len(name) <= letters else f"{name[:half]}…{name[-half:]}"


def place_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], *, loc: str, most: int, **looks: Any
) -> None:
    """A legend outside the panels, in as many columns, at most `most`, as the figure's width holds."""
    for columns in range(min(most, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc=f"outside {loc}", ncols=columns, **looks)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def draw_matrix(
    axes: Axes, values: pd.DataFrame, *, title: str, shades: np.ndarray, limits: tuple[float, float], colours: str,
    text: Callable[[Any], str], slant: float = 0,
) -> None:  # fmt: skip
    """A heat map with a number in each cell, in ink that can be read on its colour.

    Args:
        values: a line and a column for each of the matrix; what the cells say.
        shades: what the colours say; masked cells are white.
        limits: shades of the first and the last colour.
        colours: a matplotlib colour map; a diverging one if the limits are symmetric.
        text: of a value.
        slant: of the columns' names, in degrees; long names are folded.
    """
    image = axes.imshow(shades, vmin=limits[0], vmax=limits[1], cmap=colours, aspect="auto")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        masked = np.ma.is_masked(shades[row, column])
        red, green, blue, _ = (1, 1, 1, 1) if masked else image.cmap(image.norm(shades[row, column]))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(column, row, text(value), ha="center", va="center", color="white" if dark else "black", fontsize=9)
    axes.set_xticks(range(values.shape[1]), [fold(str(name), 13) for name in values], rotation=slant)
    axes.set_yticks(range(len(values)), [shorten(str(name), 26) for name in values.index])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title)


def draw_counts(axes: Axes, counts: pd.DataFrame, *, title: str, x: str, y: str, slant: float = 0) -> None:
    """A table of counts as a heat map with a logarithmic scale of colours; zero cells are white."""
    values = counts.to_numpy(float)
    shades = np.ma.masked_where(values == 0, np.log1p(values))
    limits = (0.0, max(1.0, float(np.log1p(values.max()))))
    draw_matrix(axes, counts, title=title, shades=shades, limits=limits, colours="cividis_r", text="{:,.0f}".format,
                slant=slant)  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
