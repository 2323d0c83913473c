"""What the controls of distillation say: contrasts of their rows, two tables, one figure and one paragraph.

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
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from radar_lib.evidence import AREA, AVERAGE, Evidence
from radar_lib.intervals import Difference
from radar_suite.report.claims import about
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, SMALL
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE
from radar_suite.report.tables import METRICS, plain_markdown

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


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of rows, with what it means."""

    name: str
    meaning: str
    weights: Mapping[Hashable, float]


def teacher_of(row: str) -> tuple[str, str]:
    """Name, in the evidence, of the experts behind a row, scored by themselves."""
    return ("teacher", row)


def twin(backbone: str, *, distilled: bool) -> tuple[str, str]:
    """A small router's table row, as (loss, method)."""
    return ("Masked BCE + Distill" if distilled else "Masked BCE", backbone)


def _gain(backbone: str, weight: float = 1.0) -> dict[Hashable, float]:
    return {twin(backbone, distilled=True): weight, twin(backbone, distilled=False): -weight}


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
        for category, metric in _places(evidence):
            whose, over = about(evidence, *one.weights)
            found = evidence.contrast(one.weights, category, metric, over=over)
            place = {"contrast": one.name, "meaning": one.meaning, "category": category, "metric": metric}
            lines.append(place | _points(found) | {"p": round(found.p_value, 4), "about": whose})
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
            value = {"value": round(100 * evidence.value(row, category, metric), DIGITS)}
            runs = sd.loc[(row, category, metric)]
            line = {"row": row, "category": category, "metric": metric, "seeds": int(runs["seeds"])} | value
            line["sd"] = round(100 * runs.get("sd", np.nan), DIGITS)
            for short, reference in (("gain", NONE), ("against experts", EXPERTS)):
                over = about(evidence, row, reference)[1]
                points = _points(evidence.difference(row, reference, category, metric, over=over))
                line |= {f"{short}{'' if end == 'estimate' else f' {end}'}": number for end, number in points.items()}
            lines.append(line)
    return pd.DataFrame(lines)


def control_markdown(table: pd.DataFrame) -> str:
    """`control_table` for reading: a line per row and category, a column per metric: value, and gain with interval."""
    lines = {}
    for one in table.to_dict("records"):
        text = f"{one['value']:.2f}"
        if one["row"] != NONE:
            text += f" ({one['gain']:+.2f} [{one['gain low']:+.2f}, {one['gain high']:+.2f}])"
        lines.setdefault((one["category"], one["row"]), {"category": one["category"], "teacher": one["row"]})
        lines[one["category"], one["row"]][one["metric"]] = text
    return plain_markdown(pd.DataFrame(list(lines.values())))


def control_figure(table: pd.DataFrame) -> Figure:
    """What each row gains over no teacher, average over risks, a panel per metric; squares are the 2x2 design.

    Args:
        table: of `control_table`.
    """
    gains = table[table["category"] == AVERAGE].set_index(["row", "metric"])
    figure, axes = plt.subplots(1, len(METRICS), figsize=(12.5, 3.9), sharey=True)
    heights, colours = _heights(), dict(zip(GROUPS, (GREEN, BLUE, ORANGE), strict=True))
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.axvline(0, color=BLACK, linewidth=1, linestyle=":")
        for group, colour in colours.items():
            for row in group:
                one, marker = gains.loc[(row, metric)], "s" if row in DESIGN else "o"
                ends = [one["gain low"], one["gain high"]]
                axis.plot(ends, [heights[row]] * 2, color=colour, marker="|", linewidth=1.6)
                axis.plot(one["gain"], heights[row], color=colour, marker=marker, zorder=3)
        axis.axhspan(heights[EXPERTS] - 0.5, heights[VERIFIED] + 0.5, color="#f1f1f1", zorder=0)
        axis.set(title=metric, xlabel="gain over no teacher\n(points, average over risks)")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(list(heights.values()), list(heights))
    middle = float(np.mean([heights[row] for row in GROUPS[0]]))
    place = {"transform": axes[-1].get_yaxis_transform(), "rotation": 90, "va": "center", "fontsize": 9}
    axes[-1].text(1.02, middle, "2 x 2 design", **place)
    return figure


def findings(contrasts: pd.DataFrame, *, metric: str = AREA, where: str = "this corpus") -> str:
    """One paragraph from `contrast_table`, on averages over risks: what carries the gain, and what each control says.

    Every verdict follows from whether a 95 % interval is clear of 0; they are not corrected for their number.

    Args:
        where: what the record's posts are, for the last sentence.
    """
    lines = contrasts[(contrasts["category"] == AVERAGE) & (contrasts["metric"] == metric)].set_index("contrast")
    found = {name: Difference(*line[["estimate", "low", "high", "p"]]) for name, line in lines.iterrows()}
    what = f"(On {where}, with these checkpoints: points of {metric}, average over risks, with 95 % intervals.)"
    return " ".join([_carries(found), _matching(found), _shuffle(found), _cross_fit(found), what])


def _carries(found: Mapping[str, Difference]) -> str:
    names = {"targets": "better targets on verified cells", "supervision": "supervision of unverified cells"}
    up = [names[one] for one in names if _sign(found[one]) > 0]
    down = [names[one] for one in names if _sign(found[one]) < 0]
    apart = _sign(found["supervision - targets"])
    if len(up) == 2:
        more = f", {names['supervision' if apart > 0 else 'targets']} clearly more" if apart else ""
        verdict = f"**both explanations carry the gain**{more}"
    elif up:
        own = 1 if _sign(found["supervision"]) > 0 else -1
        more = {own: "and clearly more than the other", -own: "though the other is the larger, less sure of its sign",
                0: "though not clearly more than the other"}[apart]  # fmt: skip
        verdict = f"**only one explanation is shown to bring something: {up[0]}**, {more}"
    else:
        verdict = "**neither explanation is shown to carry a gain**"
    if down:
        verdict += f"; {' and '.join(down)} cost more than they bring"
    total = {1: "clearly help", 0: "neither clearly help nor harm", -1: "harm"}[_sign(found["gain"])]
    return (
        f"The experts {total}: {_say(found['gain'])} against no teacher. That is the sum of {names['targets']}, "
        f"{_say(found['targets'])}, and {names['supervision']}, {_say(found['supervision'])} (their interaction is "
        f"{_say(found['interaction'])}): {verdict}."
    )


def _matching(found: Mapping[str, Difference]) -> str:
    signs = sorted(_sign(found[one]) for one in ("family", "match"))
    verdict = {
        (1, 1): "both speak for a match of teacher and student",
        (0, 1): "one of the two speaks for a match of teacher and student, the other shows nothing",
        (0, 0): "neither shows that teacher and student have to match",
        (-1, 0): "one of the two speaks against a match of teacher and student, the other shows nothing",
        (-1, -1): "both speak against a match of teacher and student",
        (-1, 1): "the two contradict each other on a match of teacher and student",
    }[tuple(signs)]
    alike = _sign(found["family"]) == _sign(found["family of the teacher"]) != 0
    why = ", which may be why" if alike else ""
    return (
        f"Same-size experts of the student's own family rather than another change it by {_say(found['family'])} "
        f"(their own scores differ by {_say(found['family of the teacher'])}{why}), and the {EXPERT_BACKBONE} experts "
        f"bring {LAMBDA_STUDY_BACKBONE} {_say(found['match'])} against {' and '.join(_OTHERS)}: {verdict} (students "
        "also differ in what is left to gain)."
    )


def _shuffle(found: Mapping[str, Difference]) -> str:
    verdict = {
        1: "it helps, so regularisation alone brings something",
        0: "it neither clearly helps nor harms, so there is no sign of regularisation",
        -1: "it harms, so the gain is not regularisation",
    }[_sign(found["shuffled"])]
    known = {1: "is clear of 0", 0: "is not clear of 0", -1: "is clear of 0, the wrong way"}[
        _sign(found["information"])
    ]
    return (
        f"A shuffled teacher changes {_say(found['shuffled'])}: {verdict}; what the true experts add to it, "
        f"{_say(found['information'])}, {known}."
    )


def _cross_fit(found: Mapping[str, Difference]) -> str:
    verdict = {
        1: "judging only posts they have not seen makes the experts better teachers",
        0: "no clear change",
        -1: "experts of half the posts teach worse, and not having seen the post does not make up for it",
    }[_sign(found["cross-fitting"])]
    return f"Cross-fitting changes {_say(found['cross-fitting'])}: {verdict}."


def _sign(one: Difference) -> int:
    """1 or -1 where the interval is clear of 0, else 0."""
    return 1 if one.low > 0 else -1 if one.high < 0 else 0


def _say(one: Difference) -> str:
    return f"{one.estimate:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def _places(evidence: Evidence) -> list[tuple[str, str]]:
    return [(category, metric) for category in (AVERAGE, *evidence.categories) for metric in evidence.metrics]


def _points(one: Difference) -> dict[str, float]:
    return {end: round(100 * getattr(one, end), DIGITS) for end in ("estimate", "low", "high")}


def _heights() -> dict[str, float]:
    """Place of each row of the figure, from the top, with a gap between groups."""
    return {row: -(i + 3.6 * number) for number, group in enumerate(GROUPS) for i, row in enumerate(group)}
