"""A slider starts where it should, and stays out of the chain's way."""

import pytest

from radar_suite.report import teaching


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
