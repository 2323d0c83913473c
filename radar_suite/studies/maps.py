"""Figures of the mask's gain over the world's dials, and what they are drawn from: verdicts, the paper's region.

Every cell of a map carries its number and sign, and lines differ in marker and stroke, so that nothing is told by
colour alone; a star marks 95 % intervals without 0. All cells share their test posts, so their verdicts are not
independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from radar_suite.report.drawing import place_legend
from radar_suite.report.experiments import TINY
from radar_suite.report.style import BLACK, BLUE, ORANGE, look
from radar_suite.report.tables import paper_results
from radar_suite.studies.cells import OBJECTIVES
from radar_suite.studies.pool import BLIND, POPULATIONS

COLOURS = "PuOr"  # violet where the mask gains, brown where it loses, white between
QUEUES = ["focus", "overlap"]  # across, and upwards
DIALS = ["beta", *QUEUES, "co_violation"]
CELL = [*DIALS, "training_posts", "population"]
GAIN = "gain of the mask (points)"


def cells_of(lines: pd.DataFrame, category: str = AVERAGE, metric: str = AREA, **where: Any) -> pd.DataFrame:
    """Lines in one risk (or Average) and metric; `where` names columns and their values."""
    found = lines[(lines["category"] == category) & (lines["metric"] == metric)]
    for name, value in where.items():
        found = found[found[name] == value]
    return found


def map_of(lines: pd.DataFrame, population: str = BLIND) -> pd.DataFrame:
    """Average gain over focus x overlap on one test population, at the chain's own intake bias (column `own`; where no
    cell is its own, at the weakest), co-violation and the fewest training posts."""
    cells = cells_of(lines, population=population)
    for name in ("beta", "co_violation"):
        own = cells.loc[cells["own"], name] if "own" in cells and cells["own"].any() else cells[name]
        cells = cells[cells[name] == own.min()]
    return cells[cells["training_posts"] == cells["training_posts"].min()] if "training_posts" in cells else cells


def lines_over(lines: pd.DataFrame, dial: str) -> dict[str, pd.DataFrame]:
    """Average gain over one of `CELL`'s columns, by setting of the dials that stay: those that vary in it, with both
    test populations; at the fewest training posts where these do not vary."""
    cells = cells_of(lines)
    if dial != "training_posts" and "training_posts" in cells:
        cells = cells[cells["training_posts"] == cells["training_posts"].min()]
    fixed = [name for name in DIALS if name != dial]
    parts = {}
    for place, part in cells.groupby(fixed, sort=True):
        if part[dial].nunique() > 2:
            parts[setting_name(dict(zip(fixed, place, strict=True)), dial)] = part.sort_values(dial)
    return parts


def setting_name(dials: Mapping[str, float], dial: str = "") -> str:
    """The dials of a queue that stay, such as 'beta 6, focus 0, overlap 0'."""
    return ", ".join(f"{name} {dials[name]:g}" for name in DIALS[:3] if name in dials and name != dial)


def paper_gaps() -> pd.DataFrame:
    """The paper's masked minus unmasked of each tiny backbone: method, category, metric, gap (a fraction)."""
    tiny = paper_results().query(f"method in {TINY}")
    wide = tiny.pivot(index=["method", "category", "metric"], columns="loss", values="value")
    return (wide["Masked BCE"] - wide["BCE w/o Mask"]).rename("gap").reset_index()


def paper_fits(lines: pd.DataFrame) -> pd.DataFrame:
    """Cells whose average interval holds the paper's gap of a tiny backbone.

    Returns:
        A line per cell: its `CELL` columns, gain, low, high, `fits` (0 to 3 backbones) and `methods`, their names.
    """
    gaps = cells_of(paper_gaps())
    cells = cells_of(lines)[[*CELL, "gain", "low", "high"]].reset_index(drop=True)
    inside = [gaps.loc[gaps["gap"].between(low, high), "method"].tolist()
              for low, high in zip(cells["low"], cells["high"], strict=True)]  # fmt: skip
    return cells.assign(fits=list(map(len, inside)), methods=list(map(", ".join, inside)))


def verdicts(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines that have an interval, and whether the mask helps or hurts there.

    `helps` and `hurts`: the 95 % interval lies above or below 0, cell by cell. `... after Holm`: at 5 %, corrected over
    the cells of the line's test population, risk and metric.
    """
    cells = lines.dropna(subset=["low", "high"])
    corrected = cells.groupby(["population", "category", "metric"], sort=False)["p"].transform(lambda p: holm(p))
    sure = corrected.astype(float) < LEVEL
    return cells.assign(**{"helps": cells["low"] > 0, "hurts": cells["high"] < 0,
                           "helps after Holm": sure & (cells["gain"] > 0),
                           "hurts after Holm": sure & (cells["gain"] < 0)})  # fmt: skip


def over_queues(lines: pd.DataFrame) -> Figure:
    """The map on each test population; hatched where the paper's gap fits."""
    panels = {f"tested on {population}": map_of(lines, population) for population in POPULATIONS}
    return _panels(panels, fits=paper_fits(lines))


def beside_limit(lines: pd.DataFrame, limit: pd.DataFrame) -> Figure:
    """Gain without learning, and gain of trained heads, on traffic and one colour scale."""
    return _panels({"in the limit, all facts known": map_of(limit), "learned, frozen features": map_of(lines)})


def lines(cells: pd.DataFrame, limit: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Gain over intake bias, with the fine-tunes, and over training posts, with the limit; a row per test population.

    Args:
        tuned: gains of LoRA fine-tunes, with the dials of their corpora.
    """
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 6.8), sharey="row")
    for row, population in zip(axes, POPULATIONS, strict=True):
        over = {name: part[part["population"] == population] for name, part in lines_over(cells, "beta").items()}
        without = lines_over(limit[limit["population"] == population], "beta")
        for n, (name, part) in enumerate(over.items()):
            style = look(n)
            _line(row[0], part, "beta", style, name)
            if name in without:
                own = without[name]
                dotted = style | {"linestyle": ":", "linewidth": 1.2, "markersize": 3}
                row[0].plot(own["beta"], 100 * own["gain"], label=f"{name}, in the limit", **dotted)
            mine = cells_of(tuned, population=population)
            mine = mine[[setting_name(line, "beta") == name for line in mine.to_dict("records")]]
            if len(mine):
                _line(row[0], mine, "beta", style | {"marker": "D", "linestyle": "", "markerfacecolor": "white",
                                                     "markersize": 9}, f"{name}, LoRA")  # fmt: skip
        levels = cells_of(limit, population=population)
        for n, (name, part) in enumerate(lines_over(cells, "training_posts").items()):
            _line(row[1], part[part["population"] == population], "training_posts", look(n + 2), name)
            for gain in levels.merge(part[DIALS].drop_duplicates(), on=DIALS)["gain"]:
                row[1].axhline(100 * gain, color=look(n + 2)["color"], linestyle=":", linewidth=1.2, marker="",
                               label=f"{name}, in the limit")  # fmt: skip
        row[0].set(title=f"over intake bias, tested on {population}", ylabel=GAIN)
        row[1].set(title=f"over training posts, tested on {population}")
        sizes = sorted(set(cells["training_posts"]))
        row[1].set_xscale("log", base=2)
        row[1].set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        row[1].minorticks_off()
        for axis in row:
            axis.axhline(0, color=BLACK, linewidth=0.8)
    axes[1, 0].set_xlabel("intake bias beta")
    axes[1, 1].set_xlabel("training posts")
    for axis in axes[1]:
        axis.legend(*axis.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0, -0.2), fontsize=8.5)
    return figure


def over_levels(limit: pd.DataFrame) -> Figure:
    """The limit's gain on traffic over co-violation."""
    figure, axis = plt.subplots(figsize=(5.6, 3.4))
    for n, (name, part) in enumerate(lines_over(limit[limit["population"] == BLIND], "co_violation").items()):
        axis.plot(part["co_violation"], 100 * part["gain"], label=name, **look(n))
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.set(xlabel="co-violation", ylabel=f"{GAIN},\nin the limit")
    axis.legend()
    return figure


def mended(lines: pd.DataFrame) -> Figure:
    """What each intervention gains over the head without mask as it was; a panel per test population."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.0), sharey=True)
    for axis, population in zip(axes, POPULATIONS, strict=True):
        _interventions(axis, cells_of(lines, population=population))
        axis.set_title(f"tested on {population}")
    axes[0].set_ylabel("gain over the head\nwithout mask (points)")
    place_legend(figure, *axes[0].get_legend_handles_labels(), loc="lower center", most=4)
    return figure


def summary(cells: pd.DataFrame, lines: pd.DataFrame) -> Figure:
    """Three panels: where the mask matters (the map), where it hurts (over intake bias), and what mends it there.

    Args:
        cells: of the map, and of the line over intake bias.
        lines: of the interventions.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14.0, 4.4), width_ratios=(1.15, 1, 1))
    own = map_of(cells)
    _map(left, own, _scale([own]))
    left.set_title("Where it matters: gain on traffic")
    first = next(iter(lines_over(cells, "beta").values()))
    for n, population in enumerate(POPULATIONS):
        _line(middle, first[first["population"] == population], "beta", look(n), f"tested on {population}")
    middle.set(title="Where it hurts: strong intake on own cues", xlabel="intake bias beta", ylabel=GAIN)
    _interventions(right, cells_of(lines, population=BLIND))
    right.set(title=f"What mends it, at beta {lines['beta'].iloc[0]:g}, on traffic",
              ylabel="gain over the head\nwithout mask (points)")  # fmt: skip
    for axis in (middle, right):
        axis.axhline(0, color=BLACK, linewidth=0.8)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3))
    return figure


def _interventions(axis: Axes, lines: pd.DataFrame) -> None:
    """Both objectives over the number of ordinary posts added, and the weights beside them."""
    added, ways = sorted(lines["negatives"].unique()), sorted(set(lines["weighed_to"].fillna("")) - {""})
    for objective, colour, marker, stroke in zip(OBJECTIVES, (BLUE, ORANGE), "os", ("-", "--"), strict=True):
        own = lines[(lines["objective"] == objective) & (lines["weighed_to"].fillna("") == "")]
        places = own["negatives"].map(added.index)
        style = {"color": colour, "marker": marker, "linestyle": stroke}
        _line(axis, own.assign(at=places), "at", style, f"{objective}, more ordinary posts")
    weighed = lines[lines["weighed_to"].isin(ways)]
    places = len(added) + weighed["weighed_to"].map(ways.index)
    style = {"color": BLUE, "marker": "^", "linestyle": "", "markerfacecolor": "white", "markersize": 7}
    _line(axis, weighed.assign(at=places), "at", style, "masked, weighed")
    names = [f"+{count:,}" if count else "none" for count in added]
    axis.set_xticks(range(len(added) + len(ways)), [*names, *(f"to\n{way.replace(' ', chr(10))}" for way in ways)])
    axis.set_xlabel("ordinary posts added, as negatives; cells weighed")
    axis.axhline(0, color=BLACK, linewidth=0.8)
    axis.margins(x=0.06)


def _line(axis: Axes, cells: pd.DataFrame, dial: str, style: Mapping[str, Any], name: str) -> None:
    """Gains in points with the bars of their intervals."""
    cells = cells.sort_values(dial)
    gain, low, high = (100 * cells[name].to_numpy(float) for name in ("gain", "low", "high"))
    axis.errorbar(cells[dial], gain, yerr=np.maximum([gain - low, high - gain], 0), label=name, capsize=3,
                  elinewidth=1.0, **style)  # fmt: skip


def _panels(panels: Mapping[str, pd.DataFrame], *, fits: pd.DataFrame | None = None) -> Figure:
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels) + 0.8, 4.0), sharex=True, sharey=True)
    scale = _scale(list(panels.values()))
    for axis, (title, cells) in zip(axes, panels.items(), strict=True):
        image = _map(axis, cells, scale, fits=fits)
        axis.set_title(title)
    axes[1].set_ylabel("")
    figure.colorbar(image, ax=axes, label=GAIN, shrink=0.85)
    return figure


def _scale(panels: Sequence[pd.DataFrame]) -> TwoSlopeNorm:
    most = max(100 * float(cells["gain"].abs().max()) for cells in panels) or 1.0
    return TwoSlopeNorm(0.0, -most, most)


def _map(axis: Axes, cells: pd.DataFrame, scale: TwoSlopeNorm, *, fits: pd.DataFrame | None = None) -> Any:
    """One heat map with its numbers, the chain's own cell framed, cells with `fits` hatched; returns the image."""
    across, up = (sorted(cells[name].unique()) for name in QUEUES)
    gains = 100 * cells.pivot(index="overlap", columns="focus", values="gain").loc[up, across].to_numpy()
    image = axis.imshow(gains, origin="lower", aspect="auto", cmap=COLOURS, norm=scale)
    if fits is not None:
        cells = cells.merge(fits[[*CELL, "fits"]], on=CELL)
    for line in cells.to_dict("records"):
        x, y = across.index(line["focus"]), up.index(line["overlap"])
        red, green, blue, _ = image.cmap(image.norm(100 * line["gain"]))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axis.text(x, y, _points(line), ha="center", va="center", fontsize=9, color="white" if dark else BLACK)
        if line.get("fits"):
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="//", edgecolor=BLACK, linewidth=0,
                                     alpha=0.3))  # fmt: skip
        if line.get("own"):
            axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=BLACK, linewidth=2.2))
    axis.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    axis.set_yticks(range(len(up)), [f"{value:g}" for value in up])
    axis.set(xlabel="stream focus", ylabel="queue overlap")
    axis.grid(False)
    return image


def _points(line: Mapping[str, Any]) -> str:
    """Points with sign, and a star where the interval does not hold 0; a limit has no interval."""
    star = "*" if "low" in line and (line["low"] > 0 or line["high"] < 0) else ""
    return f"{100 * line['gain']:+.1f}{star}"
