"""Figure 1 draws for any K and any names, and shows every part of the method."""

import matplotlib.pyplot as plt
import pytest

from radar_suite.report.overview import SIZE, draw_overview


@pytest.mark.parametrize(
    "categories",
    [("LQC", "RCS", "FE"), ("one",), tuple("ABCDEFG"), ("hate_speech", "50 % off $now$", "a^b", "x" * 60)],
)
def test_draws_any_categories(categories):
    fig, ax = plt.subplots(figsize=SIZE, layout="constrained")
    draw_overview(ax, categories=categories)
    fig.canvas.draw()
    texts = " ".join(text.get_text() for text in ax.texts)
    for part in ("Backbone", "MLP", "K heads", "experts", "mask", "soft labels", "Eq. 7", "skipped", "gradient"):
        assert part in texts
    assert texts.count("vertical module") == min(len(categories), 3 if len(categories) > 4 else 4)
    plt.close(fig)
