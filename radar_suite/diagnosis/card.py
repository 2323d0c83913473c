"""The card of a diagnosed run: one page with verdict, evidence, what was ruled out, what comes next, and proof."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from radar_suite.diagnosis.diagnose import Band, Vector
from radar_suite.diagnosis.signals import Values
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.report.style import BLACK, BLUE, GREEN, ORANGE

WITHIN = 2.0  # spreads of healthy reruns that are drawn as the band
ARMS = {"none": BLACK, "placebo": ORANGE, "random": ORANGE, "fix": BLUE, "healthy": GREEN}
LETTERS = 88  # of a line of the card


def strongest(deviations: Vector, n: int) -> list[str]:
    """The signals, each once, that lie furthest from the band."""
    found: dict[str, str] = {}
    for name in sorted(deviations, key=lambda name: -abs(deviations[name])):
        found.setdefault(name.removesuffix(", extreme"), name)
    return list(found.values())[:n]


def draw_signature(axes: Axes, deviations: Vector, signals: Mapping[str, Values] | None = None) -> None:
    """Signals as distances from the healthy band (shaded), in its spreads on a symmetric logarithmic scale.

    Args:
        deviations: as `Band.deviations`; drawn in their order, from above.
        signals: values to write beside the names; of a signal by category its mean.
    """
    z = np.array([np.sign(v) * np.expm1(abs(v)) for v in deviations.values()])
    labels = []
    for name in deviations:
        plain = name.removesuffix(", extreme")
        value = f"  {np.mean(signals[plain]):.2f}" if signals and plain in signals else ""
        labels.append(f"{plain}{value}")
    places = np.arange(len(z))
    axes.axvspan(-WITHIN, WITHIN, color=GREEN, alpha=0.15, lw=0)
    axes.axvline(0, color=GREEN, lw=1)
    axes.hlines(places, 0, z, color=BLACK, lw=1)
    axes.plot(z, places, "o", color=BLUE, ls="")
    axes.set_xscale("symlog", linthresh=WITHIN)
    most = max(10.0, 1.5 * np.abs(z).max(initial=0))
    ticks = [t for t in (-100, -10, -2, 0, 2, 10, 100) if abs(t) <= most]
    axes.set(yticks=places, yticklabels=labels, ylim=(len(z) - 0.5, -0.5), xlim=(-most, most), xticks=ticks,
             xticklabels=[f"{t:g}" for t in ticks], xlabel="spreads of healthy reruns")  # fmt: skip
    axes.minorticks_off()


def draw_posterior(axes: Axes, posterior: Vector, n: int = 5) -> None:
    """The likeliest answers."""
    first = sorted(posterior, key=lambda name: -posterior[name])[:n]
    axes.barh(range(len(first)), [posterior[name] for name in first], color=BLUE)
    axes.set(yticks=range(len(first)), yticklabels=first, ylim=(n - 0.5, -0.5), xlim=(0, 1), xlabel="probability")


def draw_proof(axes: Axes, proof: Mapping[str, Any]) -> None:
    """The harm of each arm: a mark per seed, seeds joined."""
    arms = [arm for arm in ARMS if arm in proof["arms"]]
    values = np.array([proof["arms"][arm] for arm in arms])
    axes.plot(values, np.arange(len(arms)), color="#BBBBBB", lw=0.8, marker="")
    for place, arm in enumerate(arms):
        axes.plot(values[place], np.full(values.shape[1], place), "o", ls="", color=ARMS[arm],
                  mfc=ARMS[arm] if arm != "random" else "none")  # fmt: skip
    names = [f"{arm}: {'+'.join(proof[arm])}" if arm in ("fix", "placebo") else arm for arm in arms]
    axes.set(yticks=range(len(arms)), yticklabels=names, ylim=(len(arms) - 0.5, -0.5),
             xlabel=f"harm ({proof['harm']}; left is better), {values.shape[1]} seeds")  # fmt: skip


Lines = list[tuple[str, str]]


def lines_of(found: Mapping[str, Any], proof: Mapping[str, Any] | None, expected: float | None) -> Lines:
    """Name and value of what the card says in words."""
    causes = {cause.name: cause for cause in read_taxonomy().causes}
    lines = [("verdict", f"{found['verdict']}, probability {found['posterior'][found['verdict']]:.2f}")]
    if cause := causes.get(found["verdict"]):
        alike = [f"{name} {found['posterior'].get(name, 0):.2f} ({test})" for name, test in cause.look_alikes.items()]
        lines.append(("look-alikes (test)", ", ".join(alike)))
    lines += [("contract broken", f"{name} by {value:.2f}") for name, value in found["broken"].items()]
    if out := found.get("ruled_out"):
        lines.append(("ruled out", f"{out['cause']}, by {out['test']}"))
    if test := found.get("next_test"):
        lines.append(("next test", f"{test['test']}, between {' and '.join(test['between'])} ({test['cost']})"))
    for step in found["fixes"][:2]:
        lines.append(("fix", f"{step['fix']} ({step['cost']})"))
    if expected is not None:
        lines.append(("expected gain", f"{100 * expected:.0f} % of what was lost, median of recorded runs"))
    if proof:
        gain = "{gain:+.4f} [{low:+.4f}, {high:+.4f}]".format(**proof)
        lines.append(("proof", f"better in {proof['wins']} of {proof['seeds']} seeds, {gain} over placebo and none"))
    wrapped = [(name, wrap(value, LETTERS)) for name, value in lines]
    return [(name if not at else "", part) for name, parts in wrapped for at, part in enumerate(parts)]


def draw_card(
    found: Mapping[str, Any], *, name: str, signals: Mapping[str, Values], band: Band,
    proof: Mapping[str, Any] | None = None, expected: float | None = None,
) -> Figure:  # fmt: skip
    """The card of a run.

    Args:
        found: what `Diagnoser` returned.
        signals, band: what it was computed from.
        proof: of `proof.verify`, where a fix was applied.
        expected: share of the loss that the first fix recovered in earlier runs.
    """
    lines = lines_of(found, proof, expected)
    heights = [0.24 * len(lines), 1.9] + [1.7] * bool(proof)
    figure = plt.figure(figsize=(10, 0.4 + sum(heights)), layout="constrained")
    rows = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    words = figure.add_subplot(rows[0, :])
    words.axis("off")
    figure.suptitle(name, x=0.02, ha="left", fontweight="bold")
    for place, (what, text) in enumerate(lines):
        y = 1 - (place + 0.5) / len(lines)
        words.text(0.0, y, what, va="center", color="#555555")
        words.text(0.18, y, text, va="center")
    draw_posterior(figure.add_subplot(rows[1, 0]), found["posterior"])
    deviations = band.deviations(signals)
    shown: dict[str, str] = {}  # each signal once
    for one in [e["signal"] for e in found["evidence"] if found["causes"]] + strongest(deviations, 5):
        shown.setdefault(one.removesuffix(", extreme"), one)
    draw_signature(figure.add_subplot(rows[1, 1]), {one: deviations[one] for one in list(shown.values())[:5]}, signals)
    if proof:
        draw_proof(figure.add_subplot(rows[2, :]), proof)
    return figure

