"""What a map of the mask's gain says: tables and sentences, from the lines of `cells.fit_map` or of the record.

Intervals are the lines' own, 95 % cell by cell; where a verdict is called corrected, Holm's correction runs over the
cells of one risk and metric. Cells of one level share their test posts, so their verdicts are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.claims import LEVEL, holm
from radar_suite.report.experiments import TINY
from radar_suite.report.tables import METRICS, paper_results
from radar_suite.studies.cells import OBJECTIVES
from radar_suite.studies.shown import listed

STUDY = "phase"  # name of the map's cells in the record of runs
VERDICTS = ("helps", "hurts", "helps after Holm", "hurts after Holm")
NUMBERS = ("masked", "unmasked", "gain", "low", "high")
TOGETHER = 0.5  # rank correlation from which two things are said to move together
SUSPECTS = {"violating": "the share of hidden violations", "cue_gap": "the cue gap"}  # what may move with the gain


def row_name(objective: str, beta: float, level: float, *, kind: str = "") -> str:
    """Name of a cell's router in the record of runs."""
    return f"{kind}{objective}, beta {beta:g}, co-violation {level:g}"


def paper_gaps() -> pd.DataFrame:
    """The paper's masked minus unmasked of each tiny backbone: method, category, metric, gap (a fraction)."""
    wide = paper_results().query("method in @TINY").pivot(index=["method", "category", "metric"], columns="loss",
                                                          values="value")  # fmt: skip
    return (wide["Masked BCE"] - wide["BCE w/o Mask"]).rename("gap").reset_index()


def compatible(found: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> pd.DataFrame:
    """Cells, and how many of the paper's tiny backbones have a gap within the cell's combined interval.

    Returns:
        A line per cell: beta, co_violation, gain, low, high, `fits` (0 to 3) and `methods`, their names.
    """
    gaps = paper_gaps().query("category == @category and metric == @metric")
    cells = found[(found["category"] == category) & (found["metric"] == metric)]
    cells = cells[["beta", "co_violation", "gain", "low", "high"]].reset_index(drop=True)
    inside = [[m for m, gap in zip(gaps["method"], gaps["gap"], strict=True) if low <= gap <= high]
              for low, high in zip(cells["low"], cells["high"], strict=True)]  # fmt: skip
    return cells.assign(fits=[len(one) for one in inside], methods=[", ".join(one) for one in inside])


def compatible_sentence(found: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> str:
    """The region in one computed sentence."""
    fits, gaps = compatible(found, category=category, metric=metric), paper_gaps()
    theirs = gaps.query("category == @category and metric == @metric")["gap"]
    span = f"{100 * theirs.min():+.1f} to {100 * theirs.max():+.1f} points of {category} {metric}"
    best = fits.loc[fits["gain"].idxmax()]
    most = (f"The largest gain is {100 * best['gain']:+.1f} points ({100 * best['low']:+.1f} to "
            f"{100 * best['high']:+.1f}) at beta {best['beta']:g} and co-violation "
            f"{best['co_violation']:g}.")  # fmt: skip
    if not (fits["fits"] > 0).any():
        return f"The paper's gaps ({span}) lie outside the interval of all {len(fits)} cells. {most}"
    some = fits[fits["fits"] > 0]
    return (f"The paper's gaps are {span}; {len(some)} of {len(fits)} cells have at least one of them within their "
            f"interval, {int((fits['fits'] == len(TINY)).sum())} all {len(TINY)}; their beta is "
            f"{some['beta'].min():g} to {some['beta'].max():g}, their co-violation {some['co_violation'].min():g} to "
            f"{some['co_violation'].max():g}. {most}")  # fmt: skip


def map_sentence(found: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> str:
    """Where the mask wins and loses, in one computed sentence."""
    cells = decided(found[(found["category"] == category) & (found["metric"] == metric)])

    def named(verdict: str) -> str:
        some = cells[cells[verdict]]
        return f"{len(some)} ({cell_names(some)})" if len(some) else "none"

    return (f"{category} {metric}: of {len(cells)} cells the mask helps in {named('helps')} and hurts in "
            f"{named('hurts')}; in the others the 95 % interval holds 0. After Holm's correction over these cells it "
            f"helps in {named('helps after Holm')} and hurts in {named('hurts after Holm')}.")  # fmt: skip


def decided(found: pd.DataFrame) -> pd.DataFrame:
    """A map's lines that have an interval, and whether the mask helps or hurts there.

    `helps` and `hurts`: the 95 % interval lies above or below 0, cell by cell. `... after Holm`: at 5 %, corrected over
    the cells of the line's risk and metric.
    """
    cells = found.dropna(subset=["low", "high"])
    parts = cells.groupby(["category", "metric"], sort=False)["p"]
    sure = parts.transform(lambda p: holm(p)).astype(float) < LEVEL
    return cells.assign(**{"helps": cells["low"] > 0, "hurts": cells["high"] < 0,
                           "helps after Holm": sure & (cells["gain"] > 0),
                           "hurts after Holm": sure & (cells["gain"] < 0)})  # fmt: skip


def cell_names(cells: pd.DataFrame) -> str:
    """Cells in words, such as 'beta 0, co-violation 0.25 and 0.5; beta 6, co-violation 1'."""
    return "; ".join(f"beta {beta:g}, co-violation {listed(f'{level:g}' for level in sorted(levels))}"
                     for beta, levels in cells.groupby("beta")["co_violation"])  # fmt: skip


def where(found: pd.DataFrame) -> pd.DataFrame:
    """By risk and metric of `found`: how many cells of the map, and the names of those where the mask helps or hurts.

    Uncorrected, and after Holm's correction over the cells of that line.
    """
    cells = decided(found)
    return pd.DataFrame([
        {"gain in": f"{category} {metric}", "cells": len(part)}
        | {verdict: cell_names(part[part[verdict]]) or "none" for verdict in VERDICTS}
        for (category, metric), part in cells.groupby(["category", "metric"], sort=False)],
        columns=["gain in", "cells", *VERDICTS]).set_index("gain in")  # fmt: skip


def limit_sentence(theory: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> str:
    """What the mask gains without any learning, beside the paper's gaps, in one computed sentence."""
    cells = theory[(theory["category"] == category) & (theory["metric"] == metric)]
    ends = [cells.loc[pick] for pick in (cells["gain"].idxmin(), cells["gain"].idxmax())]
    low, high = (f"{100 * one['gain']:+.1f}{_error(one)} points (beta {one['beta']:g}, co-violation "
                 f"{one['co_violation']:g})" for one in ends)  # fmt: skip
    theirs = paper_gaps().query("category == @category and metric == @metric")["gap"].min()
    enough = ends[1]["gain"] >= theirs
    reached = sorted({f"{100 * value:.1f}" for value in cells["masked"].agg(["min", "max"])})
    return (f"In the limit the mask reaches {' to '.join(reached)} % of {category} {metric} by level of co-violation, "
            f"the oracle's, at every beta. It gains between {low} and {high}. The paper's smallest gap is "
            f"{100 * theirs:+.1f}: the limit alone {'can be' if enough else 'is not'} as large.")  # fmt: skip


def _error(line: Mapping[str, Any]) -> str:
    """Standard error of a simulated gain, in points; records of older versions have none."""
    return f" ± {100 * line['gain_se']:.1f}" if "gain_se" in line and not np.isnan(line["gain_se"]) else ""


def grid_of(cells: pd.DataFrame, text: Callable[[Mapping[str, Any]], str]) -> pd.DataFrame:
    """One text per cell, laid out as the maps are: beta across, co-violation upwards."""
    told = cells.assign(text=[text(line) for line in cells.to_dict("records")])
    wide = told.pivot(index="co_violation", columns="beta", values="text").sort_index(ascending=False)
    return wide.rename(index="{:g}".format, columns="{:g}".format).rename_axis(index="co-violation", columns="beta")


def limit_grid(theory: pd.DataFrame, *, category: str = AVERAGE, metric: str = AREA) -> pd.DataFrame:
    """Gain in the limit in points, with the simulation's standard error, and in brackets the unmasked limit in %."""
    cells = theory[(theory["category"] == category) & (theory["metric"] == metric)]
    return grid_of(cells, lambda one: f"{100 * one['gain']:+.1f}{_error(one)} ({100 * one['unmasked']:.1f})")


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """Lines of a map as text: levels in %, gains in points, metrics as in the tables, cells as on the maps."""
    order = {metric: position for position, metric in enumerate(METRICS)}
    found = found.assign(order=found["metric"].map(order)).sort_values(
        ["order", "co_violation", "beta"], ascending=[True, False, True])  # fmt: skip
    lines = [{"metric": line["metric"], "co-violation": f"{line['co_violation']:g}", "beta": f"{line['beta']:g}",
              "masked (%)": f"{100 * line['masked']:.1f}", "unmasked (%)": f"{100 * line['unmasked']:.1f}",
              "gain (points)": f"{100 * line['gain']:+.1f}",
              "95 % interval": f"{100 * line['low']:+.1f} to {100 * line['high']:+.1f}"}
             for line in found.astype(dict.fromkeys(NUMBERS, float)).to_dict("records")]  # fmt: skip
    return pd.DataFrame(lines).set_index(["metric", "co-violation", "beta"])


def hidden(found: pd.DataFrame, *, metric: str = AREA) -> pd.DataFrame:
    """By risk and cell: the gain (a fraction), the `violating` share of unverified cells (and `strong`), and `cue_gap`.

    The gap is the mean cue of the cells that a risk's pipeline verified less that of the others. The cells of a risk
    come as on the maps, from the top.
    """
    cells = found[(found["metric"] == metric) & (found["category"] != AVERAGE)]
    cells = cells[["category", "co_violation", "beta", "gain", "violating", "strong", "cue_verified", "cue_unverified"]]
    cells = cells.astype(dict.fromkeys(cells.columns[3:], float))
    cells = pd.concat([part.sort_values(["co_violation", "beta"], ascending=[False, True])
                       for _, part in cells.groupby("category", sort=False)])  # fmt: skip
    return cells.assign(cue_gap=cells["cue_verified"] - cells["cue_unverified"])


def moves_with(found: pd.DataFrame, *, metric: str = AREA) -> pd.DataFrame:
    """Spearman's rank correlation of the gain with either number of `hidden`, over all cells and risks, and by risk."""
    cells = hidden(found, metric=metric)
    parts = {"all risks": cells} | dict(iter(cells.groupby("category", sort=False)))
    lines = [{"risk": risk, "cells": len(part)}
             | {column: part[["gain", column]].corr("spearman").iloc[0, 1] for column in SUSPECTS}
             for risk, part in parts.items()]  # fmt: skip
    return pd.DataFrame(lines).set_index("risk")


def moves_sentence(found: pd.DataFrame, *, metric: str = AREA) -> str:
    """Which of two numbers moves with the gain, the risks where it does not, and how far that can be told from beta."""
    table = moves_with(found, metric=metric)
    every = table.loc["all risks"]
    if every[list(SUSPECTS)].isna().any():
        return f"Over {every['cells']:.0f} cells and risks no rank correlation is defined."
    closer = max(SUSPECTS, key=lambda column: abs(every[column]))
    risks = table.drop("all risks")[closer].dropna()
    others = risks[np.sign(risks) != np.sign(every[closer])]
    cells = hidden(found, metric=metric)
    each = " and ".join(f"{every[column]:+.2f} with {name}" for column, name in SUSPECTS.items())
    said = (f"Over {every['cells']:.0f} cells and risks the rank correlation of the gain in {metric} is {each}: it "
            f"moves more closely with {SUSPECTS[closer]}")  # fmt: skip
    if len(others):
        named = []
        for risk in others.index:
            own = cells[cells["category"] == risk]
            one = own.loc[own[closer].idxmax()]
            named.append(f"{risk}: {others[risk]:+.2f}, and at its largest, {one[closer]:.2f} ({_cell(one)}), the gain "
                         f"is {100 * one['gain']:+.1f} points")  # fmt: skip
        said += f". The sign is the other one for {'; '.join(named)}"
    elif len(risks) == len(table) - 1:
        said += ", with the same sign in every risk"
    dials = {name: cells[[column, closer]].corr("spearman").iloc[0, 1]
             for name, column in (("beta", "beta"), ("co-violation", "co_violation"))}  # fmt: skip
    moved = [f"{rho:+.2f} with {name}" for name, rho in dials.items() if abs(rho) >= TOGETHER]
    if moved:
        said += (f". {SUSPECTS[closer].capitalize()} itself has a rank correlation of {' and '.join(moved)}, so this "
                 "cannot tell it from whatever else that dial changes")  # fmt: skip
    return f"{said}. Cells of one level share their test posts: this describes, it is no test."


def reproduced(grid: pd.DataFrame, recorded: pd.DataFrame, runs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The cells that both maps have: gains in points, and the largest difference of any head's number from the record.

    Args:
        grid: of `fit_map`.
        recorded: the recorded map.
        runs: the record of runs; heads are compared one by one, at the same cell, objective and seed.
        seed: the first of `grid`.
    """
    told = runs[runs["study"] == STUDY].set_index(["row", "seed", "category", "metric"])["value"]
    told = told[~told.index.duplicated()]
    lines = []
    for (beta, level), part in grid.groupby(["beta", "co_violation"], sort=False):
        theirs = _line(recorded, beta, level)
        apart = [abs(value - told.get((row_name(objective, beta, level), seed + n, line["category"], line["metric"]),
                                      np.nan))
                 for line in part.to_dict("records") for objective in OBJECTIVES
                 for n, value in enumerate(line["by_seed"][objective]) if value is not None]  # fmt: skip
        apart = [one for one in apart if not np.isnan(one)]
        if len(theirs):
            ours = _line(part, beta, level)
            lines.append({"cell": f"beta {beta:g}, co-violation {level:g}", "numbers in both": len(apart),
                          "largest difference": 100 * max(apart, default=np.nan),
                          "gain here": 100 * ours["gain"].iloc[0], "gain recorded": 100 * theirs["gain"].iloc[0],
                          "same features": set(part["posts"]) == set(theirs["posts"])})  # fmt: skip
    return pd.DataFrame(lines, columns=["cell", "numbers in both", "largest difference", "gain here", "gain recorded",
                                        "same features"]).set_index("cell")  # fmt: skip


def reproduced_sentence(beside: pd.DataFrame) -> str:
    """What `reproduced` shows, and what it cannot."""
    numbers, most = beside["numbers in both"].sum(), beside["largest difference"].max()
    if not numbers:
        return "No cell of the reduced grid is in the record head by head: there is nothing to hold it against."
    same = beside["same features"].all()
    if most < 0.005:  # the two digits that are shown
        verdict = "code and features give the recorded numbers again"
    elif same:
        verdict = "at equal settings (training posts, heads' recipe) they should agree, and do not"
    else:
        verdict = "with other features nothing follows from that"
    how = "the same features" if same else "features that other code, package versions, device or sizes gave"
    return (f"Reduced grid and record share {len(beside)} cells and their first seeds, with {how}. Of {numbers} "
            f"numbers (heads x risks x metrics) the largest difference is {most:.2f} points: {verdict}. The gains "
            "may differ by more, being means over each map's own number of seeds.")  # fmt: skip


def confirmed_sentence(confirmed: pd.DataFrame, found: pd.DataFrame) -> str:
    """Whether fine-tunes have the sign of the nearest cell of the map, in average PR-AUC."""
    lines = []
    tuned = confirmed[(confirmed["category"] == AVERAGE) & (confirmed["metric"] == AREA)]
    for line in tuned.sort_values(["beta", "co_violation"]).to_dict("records"):
        beta, level = (min(found[name].unique(), key=lambda one, name=name: abs(one - line[name]))
                       for name in ("beta", "co_violation"))  # fmt: skip
        near = _line(found, beta, level).iloc[0]
        gain, low, high = (f"{100 * line[name]:+.1f}" for name in ("gain", "low", "high"))
        lines.append((line["gain"] * near["gain"] > 0, f"{gain} [{low}, {high}] at {_cell(line)} (the map at "
                      f"{_cell(near)}: {100 * near['gain']:+.1f})"))  # fmt: skip
    return (f"{sum(same for same, _ in lines)} of {len(lines)} fine-tunes have the sign of the map's nearest cell in "
            f"average {AREA}, in points: {'; '.join(text for _, text in lines)}.")  # fmt: skip


def _line(found: pd.DataFrame, beta: float, level: float) -> pd.DataFrame:
    """The line of a cell's average PR-AUC; empty where the map has no such cell."""
    return found[(found["beta"] == beta) & (found["co_violation"] == level) & (found["category"] == AVERAGE)
                 & (found["metric"] == AREA)]  # fmt: skip


def _cell(line: Mapping[str, Any]) -> str:
    return f"beta {line['beta']:g}, co-violation {line['co_violation']:g}"


def verdicts(found: pd.DataFrame, *, category: str = AVERAGE) -> pd.DataFrame:
    """By metric: cells of a map where the mask helps, where it hurts, where the interval holds 0; and after Holm."""
    cells = decided(found[found["category"] == category])
    counts = pd.DataFrame({"cells": 1, "mask helps": cells["helps"], "mask hurts": cells["hurts"],
                           "open": ~(cells["helps"] | cells["hurts"]), "helps after Holm": cells["helps after Holm"],
                           "hurts after Holm": cells["hurts after Holm"]})  # fmt: skip
    return counts.astype(int).groupby(cells["metric"], sort=False).sum()


def verdict_sentence(found: pd.DataFrame) -> str:
    """The answer to the notebook's question, from the averages over risks."""
    total = verdicts(found).sum()
    area = found[(found["category"] == AVERAGE) & (found["metric"] == AREA)]
    best, worst = (f"{100 * area['gain'][pick]:+.1f} points ({_cell(area.loc[pick])})"
                   for pick in (area["gain"].idxmax(), area["gain"].idxmin()))  # fmt: skip
    return (f"Of {total['cells']} comparisons (cells x metrics, averages over risks) the mask helps in "
            f"{total['mask helps']} and hurts in {total['mask hurts']}, cell by cell; corrected over the cells of a "
            f"metric it helps in {total['helps after Holm']} and hurts in {total['hurts after Holm']}, and the others "
            f"stay open. In average {AREA} its gain goes from {worst} to {best}.")  # fmt: skip
