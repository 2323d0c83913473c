"""Maps of a gain: the paper's region, verdicts corrected risk by risk, and figures that say every number."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.claims import holm
from radar_suite.report.tables import METRICS
from radar_suite.studies import maps


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def a_map(gains, half=0.02):
    """A map of 2 x 2 cells, all risks and metrics alike."""
    cells = [(beta, level) for beta in (0.0, 6.0) for level in (0.0, 1.0)]
    return pd.DataFrame([
        {"beta": beta, "co_violation": level, "category": category, "metric": metric, "gain": gain, "low": gain - half,
         "high": gain + half, "p": 0.001 if abs(gain) > half else 0.5, "gain_se": 0.002}
        for (beta, level), gain in zip(cells, gains, strict=True)
        for category in ("LQC", "RCS", "FE", AVERAGE) for metric in METRICS])  # fmt: skip


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_the_papers_gaps_are_its_tables_differences():
    gaps = maps.paper_gaps().set_index(["method", "category", "metric"])["gap"]
    assert gaps["Qwen3-VL-2B", AVERAGE, AREA] == pytest.approx(0.6816 - 0.6010)
    assert gaps["SigLIP2", "FE", "R@P60"] == pytest.approx(-0.0452)
    assert len(gaps) == 3 * 4 * 4


def test_cells_that_fit_the_paper_are_those_whose_interval_holds_a_gap():
    gaps = maps.cells_of(maps.paper_gaps())["gap"]
    middle = (gaps.min() + gaps.max()) / 2
    fits = maps.paper_fits(a_map([0.0, middle, gaps.min(), -0.1]))["fits"]
    assert fits[0] == fits[3] == 0 and fits[2] >= 1
    assert maps.paper_fits(a_map([middle] * 4, half=0.5))["fits"].tolist() == [3] * 4


def test_verdicts_after_holm_are_those_of_the_cells_of_one_risk_and_metric():
    lines = a_map([0.05, 0.03, -0.05, 0.0]).assign(p=0.02)
    area = (lines["metric"] == AREA) & (lines["category"] == AVERAGE)
    lines.loc[area, "p"] = [0.001, 0.04, 0.01, 0.03]
    cells = maps.verdicts(lines)
    assert cells.loc[area, "helps"].tolist() == [True, True, False, False]
    assert cells.loc[area, "hurts"].tolist() == [False, False, True, False]
    sure = (holm([0.001, 0.04, 0.01, 0.03]) < 0.05).tolist()
    assert cells.loc[area, ["helps after Holm", "hurts after Holm"]].any(axis=1).tolist() == sure
    assert sure == [True, False, True, False] and not cells.loc[~area, "helps after Holm"].any()
    assert len(maps.verdicts(lines.assign(low=None))) == 0


def test_figures_say_every_number_and_star_those_without_zero():
    lines = a_map([0.081, 0.0, -0.05, 0.01])
    panels = [axis for axis in maps.by_metric(lines).axes if axis.texts]
    assert len(panels) == 4 and texts(panels[0]) == ["+8.1*", "+0.0", "-5.0*", "+1.0"]
    left = maps.beside_limit(lines, lines.drop(columns=["low", "high"])).axes[0]
    assert texts(left) == ["+8.1", "+0.0", "-5.0", "+1.0"]
    assert len([axis for axis in maps.by_risk(lines).axes if axis.texts]) == 3
    tuned = a_map([0.02] * 4).query("beta == 6 and co_violation == 1")
    (hatched,) = [patch for patch in maps.with_paper(lines, tuned).axes[0].patches if patch.get_hatch()]
    assert hatched.get_xy() == (-0.5, -0.5), "the paper's region"
