"""Controls of distillation: the 2x2 effects by hand, tables for any number of risks and seeds, a figure of them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from radar_lib.evidence import AVERAGE, Evidence
from radar_suite.report.experiments import SMALL
from radar_suite.report.tables import METRICS
from radar_suite.studies.controls import (
    CONTRASTS,
    DESIGN,
    EXPERTS,
    NONE,
    OTHER_FAMILY,
    ROWS,
    SAME_SIZE,
    UNVERIFIED,
    VERIFIED,
    contrast_table,
    control_figure,
    control_table,
    table_row,
    teacher_of,  # fmt: skip
)

QUALITY = {NONE: 0.5, VERIFIED: 0.7, UNVERIFIED: 1.2, EXPERTS: 1.5}


def made(categories: int, *, seeds: int = 2, posts: int = 400):
    """Evidence of all rows on posts of K pipelines; a row's signal is its quality."""
    generator = np.random.default_rng(7)
    truth = np.full((posts, categories), -1)
    truth[np.arange(posts), np.arange(posts) % categories] = generator.random(posts) < 0.25
    names = [*ROWS, teacher_of(SAME_SIZE), teacher_of(OTHER_FAMILY)]
    names += [table_row(name, distilled=distilled) for name in SMALL for distilled in (False, True)]
    logits = {
        name: [QUALITY.get(name, 1.0) * truth.clip(0) + generator.normal(size=truth.shape) for _ in range(seeds)]
        for name in names
    }
    return Evidence(truth, logits, tuple("ABCDEFG"[:categories]), replicates=200, seed=1)


@pytest.fixture(scope="module")
def three():
    return made(3)


def test_the_two_effects_add_up_to_the_gain_and_every_contrast_is_one():
    weights = {one.name: pd.Series({str(row): weight for row, weight in one.weights.items()}) for one in CONTRASTS}
    both = weights["targets"].add(weights["supervision"], fill_value=0)
    pd.testing.assert_series_equal(both[both != 0].sort_index(), weights["gain"].sort_index())
    apart = weights["supervision"].sub(weights["targets"], fill_value=0)
    pd.testing.assert_series_equal(apart[apart != 0].sort_index(), weights["supervision - targets"].sort_index())
    for name, one in weights.items():
        assert one.sum() == pytest.approx(0), name
        assert one[one > 0].sum() == pytest.approx(2 if name in ("interaction", "match") else 1), name
    assert len(weights) == len(CONTRASTS)


def test_effects_are_those_worked_out_by_hand(three):
    table = contrast_table(three).set_index(["contrast", "category", "metric"])["estimate"]
    for category in (AVERAGE, "A", "B", "C"):
        for metric in METRICS:
            m00, m10, m01, m11 = (100 * three.value(row, category, metric) for row in DESIGN)
            expected = {
                "gain": m11 - m00,
                "targets": ((m10 - m00) + (m11 - m01)) / 2,
                "supervision": ((m01 - m00) + (m11 - m10)) / 2,
                "interaction": m11 - m10 - m01 + m00,
            }
            for name, value in expected.items():
                assert table[name, category, metric] == pytest.approx(value, abs=0.0051)


@pytest.mark.parametrize(("categories", "seeds"), [(1, 1), (3, 2), (7, 2)])
def test_the_table_holds_for_any_number_of_risks_and_seeds(categories, seeds):
    table = control_table(made(categories, seeds=seeds))
    figure = control_figure(table)
    figure.canvas.draw()
    plt.close(figure)
    assert len(table) == len(ROWS) * (categories + 1) * len(METRICS)
    assert (table["sd"].notna() == (seeds > 1)).all() and (table["seeds"] == seeds).all()
    values = table.set_index(["row", "category", "metric"])["value"]
    for reference, column in ((NONE, "gain"), (EXPERTS, "against experts")):
        own = table[table["row"] == reference]
        assert (own[[column, f"{column} low", f"{column} high"]] == 0).all(axis=None)
        expected = [values[row, c, m] - values[reference, c, m] for row, c, m in values.index]
        np.testing.assert_allclose(table[column], expected, atol=0.0151)
        assert ((table[f"{column} low"] <= table[column]) & (table[column] <= table[f"{column} high"])).all()
