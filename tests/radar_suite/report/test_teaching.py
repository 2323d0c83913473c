"""The primer's pictures show what Eq. 5 and Eq. 2 say; its sliders stay out of the chain's way."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from radar_lib import metrics
from radar_suite.report import teaching


@pytest.fixture
def pair():
    fig, axes = plt.subplots(2, 1)
    yield axes
    plt.close(fig)


def test_each_cell_says_its_number_and_the_unverified_are_hatched(pair):
    values, valid = np.array([[0.0, -0.25], [1.0, 0.5]]), np.array([[True, False], [True, True]])
    teaching.draw_cells(pair[0], values, valid=valid, title="t", columns=["A", "B"], limits=(-1, 1), colours="PuOr")
    assert [text.get_text() for text in pair[0].texts] == ["0", "-0.25", "1.00", "0.50"]
    (box,) = pair[0].patches
    assert box.get_hatch() and box.get_xy() == (0.5, -0.5)


def test_the_legend_tells_recall_and_auto_pass_rate(pair):
    labels = np.repeat([1, 0], [50, 450])
    scores = np.random.default_rng(3).normal(size=500) + 2 * labels
    tau = metrics.threshold_at_recall(labels, scores, recall=0.9)
    teaching.draw_threshold(pair, labels, scores, tau=tau)
    recall, released = (text.get_text() for text in pair[1].get_legend().get_texts())
    assert "90.0 % at tau" in recall
    assert f"{100 * metrics.apr_at_recall(labels, scores, recall=0.9):.1f} % at tau" in released


def test_a_slider_starts_exactly_where_it_should_reaches_both_ends_and_rests_in_the_chain(monkeypatch, capsys):
    import ipywidgets

    moved_to, sliders, slider = [], [], ipywidgets.FloatSlider
    monkeypatch.setattr(ipywidgets, "FloatSlider", lambda **options: sliders.append(slider(**options)) or sliders[-1])
    monkeypatch.delenv("RADAR_NOTEBOOK_DIGEST", raising=False)
    for ends in ((-1.1, 2.0, 0.5, 0.25), (0.0, 1.0, 0.05, 0.5)):
        teaching.slider(lambda tau: moved_to.append(tau), tau=ends)
        assert moved_to.pop() == ends[3]
    first, second = sliders
    assert (first.min, first.max, second.min, second.max) == pytest.approx((-1.25, 2.25, 0.0, 1.0))
    monkeypatch.setenv("RADAR_NOTEBOOK_DIGEST", "abc")
    teaching.slider(print, tau=(0.0, 1.0, 0.1, 0.5))
    assert "tau" in capsys.readouterr().out and len(sliders) == 2
