"""Maps of a gain: the paper's region, verdicts corrected place by place, and figures that say every number."""

from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.claims import holm
from radar_suite.report.tables import METRICS
from radar_suite.studies import maps
from radar_suite.studies.pool import OWN, POPULATIONS


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def cell(gain, *, half=0.02, own=False, posts=4250, **dials):
    """A cell's lines, all populations, risks and metrics alike."""
    dials = {
        "beta": 1.5,
        "focus": 0.0,
        "overlap": 0.0,
        "co_violation": 0.9,
        "training_posts": posts,
        "own": own,
    } | dials
    numbers = {"gain": gain, "low": gain - half, "high": gain + half, "p": 0.001 if abs(gain) > half else 0.5}
    places = product(POPULATIONS, ("LQC", "RCS", "FE", AVERAGE), METRICS)
    return [dials | numbers | dict(zip(("population", "category", "metric"), place, strict=True)) for place in places]


def a_map(gains, half=0.02):
    """A map of 2 x 2 cells, the last one the chain's own."""
    places = list(product((0.0, 0.7), (0.0, 1.5)))
    return pd.DataFrame([line for (focus, overlap), gain in zip(places, gains, strict=True)
                         for line in cell(gain, half=half, focus=focus, overlap=overlap,
                                          own=(focus, overlap) == places[-1])])  # fmt: skip


def whole(gains=(0.01, 0.02, 0.03, 0.08)):
    """A map, a line over intake bias and one over training posts."""
    betas = [line for beta in (0.0, 3.0, 6.0) for line in cell(-beta / 100, beta=beta)]
    sizes = [line for n in (2, 4) for line in cell(0.01 * n, posts=4250 * n)]
    return pd.concat([a_map(list(gains)), pd.DataFrame(betas + sizes)], ignore_index=True)


def as_limit(lines):
    """The same without intervals, and without training posts."""
    return lines[lines["training_posts"] == 4250].drop(columns=["low", "high", "training_posts"])


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
    fits = maps.paper_fits(a_map([0.0, middle, gaps.min(), -0.1])).query("population == 'traffic'")["fits"].tolist()
    assert fits[0] == fits[3] == 0 and fits[2] >= 1
    assert maps.paper_fits(a_map([middle] * 4, half=0.5))["fits"].tolist() == [3] * 8


def test_verdicts_after_holm_are_those_of_the_cells_of_one_population_risk_and_metric():
    lines = a_map([0.05, 0.03, -0.05, 0.0]).assign(p=0.02)
    area = (lines["metric"] == AREA) & (lines["category"] == AVERAGE) & (lines["population"] == OWN)
    lines.loc[area, "p"] = [0.001, 0.04, 0.01, 0.03]
    cells = maps.verdicts(lines)
    assert cells.loc[area, "helps"].tolist() == [True, True, False, False]
    assert cells.loc[area, "hurts"].tolist() == [False, False, True, False]
    sure = (holm([0.001, 0.04, 0.01, 0.03]) < 0.05).tolist()
    assert cells.loc[area, ["helps after Holm", "hurts after Holm"]].any(axis=1).tolist() == sure
    assert sure == [True, False, True, False] and not cells.loc[~area, "helps after Holm"].any()
    assert len(maps.verdicts(lines.assign(low=None))) == 0


def test_the_map_is_the_chains_own_bias_and_size_and_lines_are_apart_from_it():
    lines = whole()
    found = maps.map_of(lines, OWN)
    assert len(found) == 4 and set(found["beta"]) == {1.5} and set(found["training_posts"]) == {4250}
    assert found["own"].sum() == 1 and set(found["population"]) == {OWN}
    (over,) = maps.lines_over(lines, "beta").values()
    assert over[over["population"] == OWN]["beta"].tolist() == [0.0, 1.5, 3.0, 6.0]
    ((name, sizes),) = maps.lines_over(lines, "training_posts").items()
    assert sizes[sizes["population"] == OWN]["training_posts"].tolist() == [4250, 8500, 17000]
    assert name == "beta 1.5, focus 0, overlap 0"


def test_figures_say_every_number_star_those_without_zero_and_mark_the_own_and_the_papers_cells():
    lines = whole((0.081, 0.0, -0.05, 0.01))
    numbers = ["+8.1*", "+0.0", "-5.0*", "+1.0"]
    panels = [axis for axis in maps.over_queues(lines).axes if axis.texts]
    assert [texts(panel) for panel in panels] == [numbers, numbers]
    (hatched,) = [patch for patch in panels[0].patches if patch.get_hatch()]
    assert hatched.get_xy() == (-0.5, -0.5), "the paper's region"
    (framed,) = [patch for patch in panels[0].patches if not patch.get_hatch()]
    assert framed.get_xy() == (0.54, 0.54), "the chain's own"
    left = maps.beside_limit(lines, as_limit(lines)).axes[0]
    assert texts(left) == ["+8.1", "+0.0", "-5.0", "+1.0"]


def test_lines_and_interventions_draw_every_series():
    lines = whole()
    figure = maps.lines(lines, as_limit(lines), pd.DataFrame(cell(0.02, beta=3.0)))
    drawn = [{one.get_label() for one in axis.containers} for axis in figure.axes]
    assert drawn[0] == drawn[2] == {"focus 0, overlap 0", "focus 0, overlap 0, LoRA"}
    assert drawn[1] == drawn[3] == {"beta 1.5, focus 0, overlap 0"}
    ways = [("masked", 0, None), ("masked", 40, None), ("unmasked", 0, None), ("unmasked", 40, None)]
    ways += [("masked", 0, "all queues"), ("masked", 0, "traffic")]
    mended = pd.DataFrame([line | {"objective": objective, "negatives": count, "weighed_to": way}
                           for objective, count, way in ways for line in cell(count / 1000, beta=6.0)])  # fmt: skip
    for axis in maps.mended(mended).axes:
        assert [len(one[0].get_xdata()) for one in axis.containers] == [2, 2, 2]
        assert [text.get_text() for text in axis.get_xticklabels()] == ["none", "+40", "to\nall\nqueues", "to\ntraffic"]
    left, middle, right = maps.summary(lines, mended).axes
    assert len(left.texts) == 4 and len(middle.containers) == 2 and len(right.containers) == 3
