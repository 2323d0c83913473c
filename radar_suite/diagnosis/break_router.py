"""Break the router: choose a fault or let one be hidden, see its signature, choose a test, apply a fix, be graded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from radar_suite.diagnosis.bench import Bench
from radar_suite.diagnosis.card import draw_signature, strongest
from radar_suite.diagnosis.diagnose import Band, Vector
from radar_suite.diagnosis.faults import FAULTS, harmless
from radar_suite.diagnosis.fixes import FIXES, record
from radar_suite.diagnosis.runs import RunFolder
from radar_suite.diagnosis.setups import Setup, harms, learn, score
from radar_suite.diagnosis.signals import SIGNALS, Values, compute
from radar_suite.diagnosis.taxonomy import read_taxonomy

RERUNS = 8  # healthy, for the band
SEEDS = 3  # of a fix that is tried
HALF = 0.5  # of what was lost, that a fix must bring back
HIDDEN = "(hidden)"
SHOWN = 8  # signals


@dataclass(frozen=True)
class Patient:
    """A router that was broken."""

    fault: str
    healthy: Setup
    setup: Setup
    run: RunFolder
    signals: dict[str, Values]
    band: Band

    @property
    def deviations(self) -> Vector:
        return self.band.deviations(self.signals)

    def test(self, name: str) -> Vector:
        """Deviations of the signals that a test reads, a second look among them."""
        return self.band.deviations(compute(self.run, read_taxonomy().tests[name].reads)[0])

    def treat(self, fix: str) -> pd.DataFrame:
        """Harm by the fault's own measure as it is, with a fix, and without the fault; one row per seed."""
        harm, treated = read_taxonomy().cause(self.fault).harm, FIXES[fix](self.setup.copy(), self.run)
        arms = {"broken": self.setup, fix: treated, "healthy": self.healthy}
        found = {arm: [harms(s, score(s, w))[harm] for w in learn(s, list(range(SEEDS)))[0]] for arm, s in arms.items()}
        return pd.DataFrame(found)

    def grade(self, cause: str, test: str, fix: str) -> pd.DataFrame:
        """A point each for the cause, for a test that tells it from a look-alike, and for a fix that brings back half
        of what was lost in every seed (or is one of the cause's own, where nothing was lost)."""
        taxonomy = read_taxonomy()
        truth, outcome = taxonomy.cause(self.fault), self.treat(fix)
        lost = outcome["broken"] - outcome["healthy"]
        works = bool((outcome["broken"] - outcome[fix] > HALF * lost).all() and (lost > 0).all())
        if not (lost > 0).all():
            works = fix in {step.runs for step in truth.interventions}
        others = {other for other in FAULTS if taxonomy.separating_test(self.fault, other) == test}
        return pd.DataFrame({
            "chosen": [cause, test, fix], "point": [int(cause == self.fault), int(bool(others)), int(works)],
            "truth": [self.fault, ", ".join(sorted(set(truth.look_alikes.values()))),
                      ", ".join(step.runs for step in truth.interventions if step.runs)],
        }, index=["cause", "test", "fix"])  # fmt: skip


class Lab:
    """A healthy router, the band of its reruns with harmless changes, and faults for it."""

    def __init__(self, bench: Bench, *, reruns: int = RERUNS):
        self.healthy = Setup.of(bench)
        again = [self.healthy.copy() for _ in range(reruns)]
        for seed, setup in enumerate(again):
            harmless(setup, np.random.default_rng(seed))
        self.band = Band.of([compute(record(setup, seed=seed), SIGNALS)[0] for seed, setup in enumerate(again)])

    def break_it(self, fault: str = HIDDEN, severity: float = 0.8, *, seed: int = 0) -> Patient:
        """Plant a fault, train, and record.

        Args:
            fault: of the taxonomy; `HIDDEN` for one that the seed draws.
            severity: in [0, 1].
        """
        random, setup = np.random.default_rng(seed), self.healthy.copy()
        if fault == HIDDEN:
            fault = str(random.choice(list(FAULTS)))
        FAULTS[fault](setup, severity, random)
        run = record(setup, seed=100 + seed)
        return Patient(fault, self.healthy, setup, run, compute(run)[0], self.band)


def play(lab: Lab) -> None:
    """The lab's controls; in a run of the whole chain, where nobody can press a button, one line."""
    if "RADAR_NOTEBOOK_DIGEST" in os.environ:
        print("(open this notebook in JupyterLab to break the router)")
        return
    import ipywidgets as widgets
    from IPython.display import clear_output, display

    def choice(name: str, values: Any) -> Any:
        return widgets.Dropdown(description=name, options=list(values))

    fault, severity = choice("fault", [HIDDEN, *FAULTS]), widgets.FloatSlider(0.8, min=0, max=1, description="severity")
    test, fix, cause = choice("test", read_taxonomy().tests), choice("fix", FIXES), choice("cause", FAULTS)
    state: dict[str, Any] = {"seed": 0}

    def show(title: str, deviations: Vector) -> None:
        shown = {name: deviations[name] for name in strongest(deviations, SHOWN)}
        figure, axes = plt.subplots(figsize=(7, 0.5 + 0.3 * max(len(shown), 1)), layout="constrained")
        draw_signature(axes, shown)
        axes.set_title(title)
        display(figure)
        plt.close(figure)

    def broken() -> None:
        state["seed"] += 1
        state["patient"] = patient = lab.break_it(fault.value, severity.value, seed=state["seed"])
        show("signature", patient.deviations)

    actions = {
        "break": broken,
        "run test": lambda: show(f"test: {test.value}", state["patient"].test(test.value)),
        "apply fix": lambda: display(state["patient"].treat(fix.value).mean().to_frame("harm")),
        "grade": lambda: display(state["patient"].grade(cause.value, test.value, fix.value)),
    }
    buttons = {name: widgets.Button(description=name) for name in actions}
    outputs, busy = {name: widgets.Output() for name in actions}, widgets.Label()

    def pressed(button: Any) -> None:
        name = button.description
        if name != "break" and "patient" not in state:
            busy.value = "break it first"
            return
        busy.value = f"{name}: at work, some seconds ..."
        for one in buttons.values():
            one.disabled = True
        try:
            for one in outputs if name == "break" else [name]:  # what was found of the last patient goes with it
                with outputs[one]:
                    clear_output()
            with outputs[name]:
                actions[name]()
        finally:
            busy.value = ""
            for one in buttons.values():
                one.disabled = False

    for one in buttons.values():
        one.on_click(pressed)
    rows = ([fault, severity, buttons["break"]], [test, buttons["run test"]], [fix, buttons["apply fix"]],
            [cause, buttons["grade"]])  # fmt: skip
    display(widgets.VBox([*map(widgets.HBox, rows), busy, *outputs.values()]))
