"""Figure style and colours: the Okabe-Ito palette, which colour-blind readers can tell apart."""

from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)
CATEGORY_COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LOSS_COLOURS = {"BCE": BLACK, "BCE w/o Mask": ORANGE, "Masked BCE": BLUE, "Masked BCE + Distill": GREEN}


def use() -> None:
    """Apply the project's matplotlib style to the figures drawn from here on."""
    plt.style.use(str(files("radar_suite.report") / "radar.mplstyle"))


def category_colour(index: int) -> str:
    """Colour of the `index`-th risk category; repeats after seven."""
    return CATEGORY_COLOURS[index % len(CATEGORY_COLOURS)]


def look(index: int) -> dict[str, Any]:
    """Colour, marker and line style of the `index`-th risk: no two of the first 49 share both colour and marker."""
    turn = (index + index // 7) % 7
    return {"color": category_colour(index), "marker": MARKERS[turn], "linestyle": LINE_STYLES[turn]}
