"""Maps of the mask's gain over intake bias (across) and co-violation (upwards): verdicts, the paper's region, figures.

Every cell of a figure carries its number and sign, so that nothing is told by colour alone; a star marks 95 % intervals
without 0. Cells of one level share their test posts, so their verdicts are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.claims import LEVEL, holm
from radar_suite.report.experiments import TINY
from radar_suite.report.style import BLACK
from radar_suite.report.tables import paper_results

COLOURS = "PuOr"  # violet where the mask gains, brown where it loses, white between


def cells_of(lines: pd.DataFrame, category: str = AVERAGE, metric: str = AREA) -> pd.DataFrame:
    """A map's cells in one risk (or Average) and metric."""
    return lines[(lines["category"] == category) & (lines["metric"] == metric)]


def paper_gaps() -> pd.DataFrame:
    """The paper's masked minus unmasked of each tiny backbone: method, category, metric, gap (a fraction)."""
    tiny = paper_results().query(f"method in {TINY}")
    wide = tiny.pivot(index=["method", "category", "metric"], columns="loss", values="value")
    return (wide["Masked BCE"] - wide["BCE w/o Mask"]).rename("gap").reset_index()


def paper_fits(lines: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> pd.DataFrame:
    """Cells whose interval holds the paper's gap of a tiny backbone.

    Returns:
        A line per cell: beta, co_violation, gain, low, high, `fits` (0 to 3 backbones) and `methods`, their names.
    """
    gaps = cells_of(paper_gaps(), category, metric)
    cells = cells_of(lines, category, metric)[["beta", "co_violation", "gain", "low", "high"]].reset_index(drop=True)
    inside = [gaps.loc[gaps["gap"].between(low, high), "method"].tolist()
              for low, high in zip(cells["low"], cells["high"], strict=True)]  # fmt: skip
    return cells.assign(fits=list(map(len, inside)), methods=list(map(", ".join, inside)))


def verdicts(lines: pd.DataFrame) -> pd.DataFrame:
    """A map's lines that have an interval, and whether the mask helps or hurts there.

    `helps` and `hurts`: the 95 % interval lies above or below 0, cell by cell. `... after Holm`: at 5 %, corrected over
    the cells of the line's risk and metric.
    """
    cells = lines.dropna(subset=["low", "high"])
    corrected = cells.groupby(["category", "metric"], sort=False)["p"].transform(lambda p: holm(p))
    sure = corrected.astype(float) < LEVEL
    return cells.assign(**{"helps": cells["low"] > 0, "hurts": cells["high"] < 0,
                           "helps after Holm": sure & (cells["gain"] > 0),
                           "hurts after Holm": sure & (cells["gain"] < 0)})  # fmt: skip


def by_metric(lines: pd.DataFrame) -> Figure:
    """Average gain, one panel per metric."""
    return _panels({metric: cells_of(lines, metric=metric) for metric in dict.fromkeys(lines["metric"])})


def by_risk(lines: pd.DataFrame, *, metric: str = AREA) -> Figure:
    """Gain in one metric, one panel per risk."""
    risks = [category for category in dict.fromkeys(lines["category"]) if category != AVERAGE]
    return _panels({f"{risk}, {metric}": cells_of(lines, risk, metric) for risk in risks})


def beside_limit(lines: pd.DataFrame, limit: pd.DataFrame) -> Figure:
    """Gain without learning, and gain of trained heads, on one colour scale."""
    return _panels({"in the limit, all facts known": cells_of(limit), "learned, frozen features": cells_of(lines)})


def with_paper(lines: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """The average map with cells that the paper's gaps fit hatched, and LoRA fine-tunes as boxes at their dials.

    A box at a level of co-violation that is no row of the map lies between two rows and names its level.

    Args:
        tuned: gains of fine-tunes, with the `beta` and `co_violation` of their corpora.
    """
    cells, fits = cells_of(lines), paper_fits(lines)
    figure, axis = plt.subplots(figsize=(5.4, 4.3))
    image = _map(axis, cells, _scale([cells]))
    betas, levels = _axes_of(cells)
    for line in fits[fits["fits"] > 0].to_dict("records"):
        corner = (betas.index(line["beta"]) - 0.5, levels.index(line["co_violation"]) - 0.5)
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="//", edgecolor=BLACK, linewidth=1.6, alpha=0.45))
    for line in cells_of(tuned).to_dict("records"):
        x = np.interp(line["beta"], betas, np.arange(len(betas)))
        y = np.interp(line["co_violation"], levels, np.arange(len(levels)))
        row = line["co_violation"] in levels  # then below the cell's own number, else where it lies between two rows
        name = "LoRA" if row else f"LoRA at {line['co_violation']:g}:"
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": BLACK}
        axis.annotate(f"{name} {_points(line)}", (x, y), (0, -16 if row else 0), textcoords="offset points",
                      ha="center", va="center", fontsize=7, bbox=box)  # fmt: skip
    figure.colorbar(image, ax=axis, label=f"gain in {AREA} (points)", shrink=0.85)
    return figure


def _panels(panels: Mapping[str, pd.DataFrame]) -> Figure:
    across = min(len(panels), 3) if len(panels) != 4 else 2
    down = -(-len(panels) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.6 * across + 0.8, 3.1 * down), squeeze=False,
                                sharex=True, sharey=True)  # fmt: skip
    scale = _scale(list(panels.values()))
    for axis, (title, cells) in zip(axes.flat, panels.items(), strict=False):
        image = _map(axis, cells, scale)
        axis.set_title(title)
    for axis in axes[:-1].flat:
        axis.set_xlabel("")
    for axis in axes[:, 1:].flat:
        axis.set_ylabel("")
    for axis in axes.flat[len(panels) :]:  # where the last line of panels is not full
        axis.axis("off")
    for axis in axes[:-1].flat[len(panels) - across :]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(axes[-1, 0].get_xlabel())
    figure.colorbar(image, ax=axes, label="gain of the mask (points)", shrink=0.85)
    return figure


def _axes_of(cells: pd.DataFrame) -> tuple[list[float], list[float]]:
    return sorted(cells["beta"].unique()), sorted(cells["co_violation"].unique())


def _scale(panels: list[pd.DataFrame]) -> TwoSlopeNorm:
    most = max(100 * float(cells["gain"].abs().max()) for cells in panels) or 1.0
    return TwoSlopeNorm(0.0, -most, most)


def _map(axis: Axes, cells: pd.DataFrame, scale: TwoSlopeNorm) -> Any:
    """One heat map with its numbers; returns the image."""
    betas, levels = _axes_of(cells)
    gains = 100 * cells.pivot(index="co_violation", columns="beta", values="gain").loc[levels, betas].to_numpy()
    image = axis.imshow(gains, origin="lower", aspect="auto", cmap=COLOURS, norm=scale)
    for line in cells.to_dict("records"):
        at = betas.index(line["beta"]), levels.index(line["co_violation"])
        dark = abs(100 * line["gain"]) > 0.65 * scale.vmax
        axis.text(*at, _points(line), ha="center", va="center", fontsize=8, color="white" if dark else BLACK)
    axis.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axis.set_yticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set(xlabel="intake bias beta", ylabel="co-violation")
    axis.grid(False)
    return image


def _points(line: Mapping[str, Any]) -> str:
    """Points with sign, and a star where the interval does not hold 0; a limit has no interval."""
    star = "*" if "low" in line and (line["low"] > 0 or line["high"] < 0) else ""
    return f"{100 * line['gain']:+.1f}{star}"
