"""Controls of distillation: their rows, contrasts of rows, two tables and a figure.

The paper gives two reasons for its gain: the experts are better targets where a label exists (decision-boundary
alignment), and they speak where none exists (label-sparsity relief). Teaching verified cells, or unverified ones, both
or neither is a 2x2 design. With PR-AUC m00 of no teacher, m10 of verified cells only, m01 of unverified ones only and
m11 of both, the gain m11 - m00 is the sum of two effects, each the mean of what its cells bring alone and on top of the
others (the Shapley values of the two):

    targets      = ((m10 - m00) + (m11 - m01)) / 2
    supervision  = ((m01 - m00) + (m11 - m10)) / 2
    interaction  =   m11 - m10 - m01 + m00
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_lib.evidence import AVERAGE, Evidence
from radar_lib.intervals import Difference
from radar_suite.report.claims import about
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, SMALL
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE
from radar_suite.report.tables import METRICS

NONE, EXPERTS = "no teacher", "experts"
VERIFIED, UNVERIFIED = "experts, verified cells only", "experts, unverified cells only"
SAME_SIZE, OTHER_FAMILY, SELF = "same-size experts", "same-size experts, other family", "its own twin"
CROSS_FITTED, HARD, SHUFFLED = "experts, cross-fitted", "experts, hard labels", "experts, shuffled"
OTHER_BACKBONE = "Gemma3-4B"

ROWS: Mapping[str, str] = {
    NONE: "masked labels alone (a row of the tables)",
    EXPERTS: f"one {EXPERT_BACKBONE} expert per risk, as in the paper (a row of the tables)",
    VERIFIED: "they teach the verified cells; unverified cells teach nothing",
    UNVERIFIED: "they teach the unverified cells; verified cells have their labels alone",
    SAME_SIZE: f"one {LAMBDA_STUDY_BACKBONE} expert per risk: the student's own family and size",
    OTHER_FAMILY: f"one {OTHER_BACKBONE} expert per risk",
    SELF: "the student's own row without a teacher, at the same seed",
    CROSS_FITTED: "two experts per risk, each trained on half of its posts; a verified cell is judged by the one that "
    "did not see it, other cells by the mean of both logits",
    HARD: "the experts' t set to 1 where it is above 1/2, else to 0",
    SHUFFLED: "the experts' logits dealt to the posts at random, risk by risk",
}
DESIGN = (NONE, VERIFIED, UNVERIFIED, EXPERTS)
GROUPS = (DESIGN[1:], (SAME_SIZE, OTHER_FAMILY, SELF), (CROSS_FITTED, HARD, SHUFFLED))
DIGITS = 2  # of points


class Contrast(NamedTuple):
    """A weighted sum of rows, with what it means."""

    name: str
    meaning: str
    weights: Mapping[Hashable, float]


def teacher_of(row: str) -> tuple[str, str]:
    """Name, in the evidence, of the experts behind a row, scored by themselves."""
    return ("teacher", row)


def table_row(backbone: str, *, distilled: bool) -> tuple[str, str]:
    """A small router's table row, as (loss, method)."""
    return ("Masked BCE + Distill" if distilled else "Masked BCE", backbone)


def _gain(backbone: str, weight: float = 1.0) -> dict[Hashable, float]:
    return {table_row(backbone, distilled=True): weight, table_row(backbone, distilled=False): -weight}


def _minus(row: Hashable, other: Hashable) -> dict[Hashable, float]:
    return {row: 1.0, other: -1.0}


_OTHERS = [name for name in SMALL if name != LAMBDA_STUDY_BACKBONE]
_MATCH = _gain(LAMBDA_STUDY_BACKBONE) | {
    row: weight for name in _OTHERS for row, weight in _gain(name, -1 / len(_OTHERS)).items()
}
CONTRASTS = (
    Contrast("gain", "experts minus no teacher", _minus(EXPERTS, NONE)),
    Contrast("targets", "main effect of teaching verified cells",
             {VERIFIED: 0.5, NONE: -0.5, EXPERTS: 0.5, UNVERIFIED: -0.5}),
    Contrast("supervision", "main effect of teaching unverified cells",
             {UNVERIFIED: 0.5, NONE: -0.5, EXPERTS: 0.5, VERIFIED: -0.5}),
    Contrast("interaction", "what teaching both brings beyond the sum of each alone",
             {EXPERTS: 1.0, VERIFIED: -1.0, UNVERIFIED: -1.0, NONE: 1.0}),
    Contrast("supervision - targets", "which of the two is larger", _minus(UNVERIFIED, VERIFIED)),
    Contrast("shuffled", "shuffled experts minus no teacher", _minus(SHUFFLED, NONE)),
    Contrast("information", "experts minus shuffled experts", _minus(EXPERTS, SHUFFLED)),
    Contrast("self", "its own twin minus no teacher", _minus(SELF, NONE)),
    Contrast("beyond self", "experts minus its own twin", _minus(EXPERTS, SELF)),
    Contrast("size", "experts minus same-size experts of the student's family", _minus(EXPERTS, SAME_SIZE)),
    Contrast("family", "same-size experts: the student's family minus another", _minus(SAME_SIZE, OTHER_FAMILY)),
    Contrast("family of the teacher", "the same for those experts' own scores",
             _minus(teacher_of(SAME_SIZE), teacher_of(OTHER_FAMILY))),
    Contrast("cross-fitting", "cross-fitted experts minus experts", _minus(CROSS_FITTED, EXPERTS)),
    Contrast("hardening", "hard labels minus experts", _minus(HARD, EXPERTS)),
    *(Contrast(f"gain of {name}", f"table row distilled from {EXPERT_BACKBONE} minus its twin", _gain(name))
      for name in SMALL),
    Contrast("match", f"gain of {LAMBDA_STUDY_BACKBONE} minus the mean gain of {' and '.join(_OTHERS)}", _MATCH),
)  # fmt: skip


def contrast_table(evidence: Evidence, contrasts: Sequence[Contrast] = CONTRASTS) -> pd.DataFrame:
    """One line per contrast, category (Average first) and metric: estimate, 95 % interval in points, p-value and scope.

    From three seeds of each row on, intervals are over test posts and seeds, and about the method (`claims.about`).
    """
    lines = []
    for one in contrasts:
        whose, over = about(evidence, *one.weights)
        for category, metric in _places(evidence):
            result = evidence.contrast(one.weights, category, metric, over=over)
            place = {"contrast": one.name, "meaning": one.meaning, "category": category, "metric": metric}
            lines.append(place | _points(result) | {"p": round(result.p_value, 4), "about": whose})
    return pd.DataFrame(lines)


def control_table(evidence: Evidence, spread: pd.DataFrame) -> pd.DataFrame:
    """One line per row, category (Average first) and metric, in points: the value, and what it gains.

    Columns: row, category, metric, seeds, value (mean over seeds), sd (over seeds, missing for one), then `gain` over
    'no teacher' and the difference `against experts`, each paired, with the ends of its 95 % interval
    over test posts and, from three seeds on, over seeds.

    Args:
        evidence: with the rows of `ROWS`.
        spread: columns row, category, metric, seeds and, where there are several, sd (a fraction).
    """
    sd = spread.set_index(["row", "category", "metric"])
    lines = []
    for row in ROWS:
        for category, metric in _places(evidence):
            runs = sd.loc[(row, category, metric)]
            line = {"row": row, "category": category, "metric": metric, "seeds": int(runs["seeds"]),
                    "value": round(100 * evidence.value(row, category, metric), DIGITS),
                    "sd": round(100 * runs.get("sd", np.nan), DIGITS)}  # fmt: skip
            for short, reference in (("gain", NONE), ("against experts", EXPERTS)):
                over = about(evidence, row, reference)[1]
                points = _points(evidence.difference(row, reference, category, metric, over=over))
                line |= {f"{short}{'' if end == 'estimate' else f' {end}'}": number for end, number in points.items()}
            lines.append(line)
    return pd.DataFrame(lines)


def control_figure(table: pd.DataFrame) -> Figure:
    """What each row gains over no teacher, average over risks, a panel per metric; squares are the 2x2 design.

    Args:
        table: of `control_table`.
    """
    gains = table[table["category"] == AVERAGE].set_index(["row", "metric"])
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 3.9), sharey=True)
    heights = {row: -(i + 3.6 * number) for number, group in enumerate(GROUPS) for i, row in enumerate(group)}
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.axvline(0, color=BLACK, linewidth=1, linestyle=":")
        for group, colour in zip(GROUPS, (GREEN, BLUE, ORANGE), strict=True):
            for row in group:
                one, marker = gains.loc[(row, metric)], "s" if row in DESIGN else "o"
                ends = [one["gain low"], one["gain high"]]
                axis.plot(ends, [heights[row]] * 2, color=colour, marker="|", linewidth=1.6)
                axis.plot(one["gain"], heights[row], color=colour, marker=marker, zorder=3)
        axis.axhspan(heights[EXPERTS] - 0.5, heights[VERIFIED] + 0.5, color="#f1f1f1", zorder=0)
        axis.set(title=metric, xlabel="gain over no teacher\n(points, average over risks)")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(list(heights.values()), list(heights))
    place = {"transform": axes[-1].get_yaxis_transform(), "rotation": 90, "va": "center", "fontsize": 9}
    axes[-1].text(1.02, float(np.mean([heights[row] for row in GROUPS[0]])), "2 x 2 design", **place)
    return figure


def _places(evidence: Evidence) -> list[tuple[str, str]]:
    return [(category, metric) for category in (AVERAGE, *evidence.categories) for metric in evidence.metrics]


def _points(one: Difference) -> dict[str, float]:
    return {end: round(100 * getattr(one, end), DIGITS) for end in ("estimate", "low", "high")}
