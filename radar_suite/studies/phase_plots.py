"""Figures of the phase study: maps over intake bias (across) and co-violation (upwards).

Every cell carries its number and sign, so that nothing is told by colour alone; a star marks intervals without 0.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.style import BLACK

COLOURS = "PuOr"  # violet where the mask gains, brown where it loses, white between
X, Y = "intake bias beta", "co-violation"


def by_metric(found: pd.DataFrame) -> Figure:
    """Average gain, one panel per metric."""
    metrics = list(dict.fromkeys(found["metric"]))
    return _panels([(metric, _cells(found, AVERAGE, metric)) for metric in metrics])


def by_risk(found: pd.DataFrame, *, metric: str = AREA) -> Figure:
    """Gain in one metric, one panel per risk."""
    risks = [category for category in dict.fromkeys(found["category"]) if category != AVERAGE]
    return _panels([(f"{risk}, {metric}", _cells(found, risk, metric)) for risk in risks])


def beside_limit(found: pd.DataFrame, limit: pd.DataFrame, *, metric: str = AREA) -> Figure:
    """Gain without learning, and gain of trained heads, on one colour scale."""
    return _panels([("in the limit, all facts known", _cells(limit, AVERAGE, metric)),
                    ("learned, frozen features", _cells(found, AVERAGE, metric))])  # fmt: skip


def with_paper(found: pd.DataFrame, fits: pd.DataFrame, confirmed: pd.DataFrame, *, metric: str = AREA) -> Figure:
    """The average map with cells that the paper's gaps fit hatched, and LoRA fine-tunes as boxes at their dials.

    A box at a level of co-violation that is no row of the map lies between two rows and names its level.

    Args:
        fits: of `phase_findings.compatible`.
        confirmed: gains of fine-tunes, with the `beta` and `co_violation` of their corpora.
    """
    cells = _cells(found, AVERAGE, metric)
    figure, axis = plt.subplots(figsize=(5.4, 4.3))
    image = _map(axis, cells, _scale([cells]))
    betas, levels = _axes_of(cells)
    for line in fits[fits["fits"] > 0].to_dict("records"):
        corner = (betas.index(line["beta"]) - 0.5, levels.index(line["co_violation"]) - 0.5)
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="//", edgecolor=BLACK, linewidth=1.6, alpha=0.45))
    points = confirmed[(confirmed["category"] == AVERAGE) & (confirmed["metric"] == metric)]
    for line in points.to_dict("records"):
        x = np.interp(line["beta"], betas, np.arange(len(betas)))
        y = np.interp(line["co_violation"], levels, np.arange(len(levels)))
        row = line["co_violation"] in levels  # then below the cell's own number, else where it lies between two rows
        name = "LoRA" if row else f"LoRA at {line['co_violation']:g}:"
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": BLACK}
        axis.annotate(f"{name} {_number(line)}", (x, y), (0, -16 if row else 0), textcoords="offset points",
                      ha="center", va="center", fontsize=7, bbox=box)  # fmt: skip
    figure.colorbar(image, ax=axis, label=f"gain in {metric} (points)", shrink=0.85)
    return figure


def _panels(panels: list[tuple[str, pd.DataFrame]]) -> Figure:
    across = min(len(panels), 3) if len(panels) != 4 else 2
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.6 * across + 0.8, 3.1 * down), squeeze=False,
                                sharex=True, sharey=True)  # fmt: skip
    scale = _scale([cells for _, cells in panels])
    for axis, (title, cells) in zip(axes.flat, panels, strict=False):
        image = _map(axis, cells, scale)
        axis.set_title(title)
    for axis in axes[:-1].flat:
        axis.set_xlabel("")
    for axis in axes[:, 1:].flat:
        axis.set_ylabel("")
    figure.colorbar(image, ax=axes, label="gain of the mask (points)", shrink=0.85)
    return figure


def _cells(frame: pd.DataFrame, category: str, metric: str) -> pd.DataFrame:
    return frame[(frame["category"] == category) & (frame["metric"] == metric)]


def _axes_of(cells: pd.DataFrame) -> tuple[list[float], list[float]]:
    return sorted(cells["beta"].unique()), sorted(cells["co_violation"].unique())


def _scale(all_cells: list[pd.DataFrame]) -> TwoSlopeNorm:
    most = max(100 * float(cells["gain"].abs().max()) for cells in all_cells) or 1.0
    return TwoSlopeNorm(0.0, -most, most)


def _map(axis: Axes, cells: pd.DataFrame, scale: TwoSlopeNorm):
    """One heat map with its numbers; returns the image."""
    betas, levels = _axes_of(cells)
    gains = 100 * cells.pivot(index="co_violation", columns="beta", values="gain").loc[levels, betas].to_numpy()
    image = axis.imshow(gains, origin="lower", aspect="auto", cmap=COLOURS, norm=scale)
    for line in cells.to_dict("records"):
        at = betas.index(line["beta"]), levels.index(line["co_violation"])
        dark = abs(100 * line["gain"]) > 0.65 * scale.vmax
        axis.text(*at, _number(line), ha="center", va="center", fontsize=8, color="white" if dark else BLACK)
    axis.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axis.set_yticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set(xlabel=X, ylabel=Y)
    axis.grid(False)
    return image


def _number(line: dict) -> str:
    """Points with sign, and a star where the interval does not hold 0; a limit has no interval."""
    star = "*" if "low" in line and (line["low"] > 0 or line["high"] < 0) else ""
    return f"{100 * line['gain']:+.1f}{star}"
