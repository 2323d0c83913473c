"""The primer's pictures show what Eq. 7 and Eq. 2 say; its sliders stay out of the chain's way."""

import doctest

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from radar_lib import losses, metrics
from radar_suite.report import teaching

LABELS = np.array([[1, -1, -1, 0], [-1, 0, -1, -1], [-1, -1, 1, -1]])
RISKS = ["LQC", "RCS", "FE", "ADS"]


@pytest.fixture
def pair():
    fig, axes = plt.subplots(2, 1)
    yield axes
    plt.close(fig)


def shown(ax):
    return np.array([float(text.get_text()) for text in ax.texts]).reshape(3, 4)


def test_targets_and_weights_reproduce_the_gradient_of_eq_7(pair):
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    teaching.draw_lambda(pair, LABELS, torch.sigmoid(teacher).numpy(), lam=0.5, columns=RISKS)
    student.requires_grad_(True)
    losses.radar_loss(student, torch.tensor(LABELS), teacher, lam=0.5).backward()
    by_picture = shown(pair[1]) * (torch.sigmoid(student).detach().numpy() - shown(pair[0])) / 3
    np.testing.assert_allclose(student.grad.numpy(), by_picture, atol=0.01 / 3)  # two decimals are shown
    assert len(pair[0].patches) == (LABELS == -1).sum()


def test_the_legend_tells_recall_and_auto_pass_rate(pair):
    labels, scores = teaching.simulate_scores(np.random.default_rng(3), posts=500, prevalence=0.1, separation=2.0)
    assert labels.sum() == 50
    tau = metrics.threshold_at_recall(labels, scores, recall=0.9)
    teaching.draw_threshold(pair, labels, scores, tau=tau)
    recall, released = (text.get_text() for text in pair[1].get_legend().get_texts())
    assert "90.0 % at tau" in recall
    assert f"{100 * metrics.apr_at_recall(labels, scores, recall=0.9):.1f} % at tau" in released


def test_sliders_call_once_and_print_a_line_in_the_chain(monkeypatch, capsys):
    calls = []
    monkeypatch.delenv("RADAR_NOTEBOOK_DIGEST", raising=False)
    teaching.slider(lambda lam: calls.append(lam), lam=(0.0, 1.0, 0.1, 0.5))
    assert calls == [0.5]
    monkeypatch.setenv("RADAR_NOTEBOOK_DIGEST", "abc")
    teaching.slider(lambda lam: calls.append(lam), lam=(0.0, 1.0, 0.1, 0.5))
    assert calls == [0.5] and "to move lam" in capsys.readouterr().out


def test_a_slider_over_scores_starts_exactly_at_the_threshold_and_reaches_all_scores(monkeypatch):
    labels, scores = teaching.simulate_scores(np.random.default_rng(7), posts=500, prevalence=0.1, separation=2.0)
    tau = metrics.threshold_at_recall(labels, scores, recall=0.9)
    low, high, step, start = teaching.range_over(scores, start=tau, step=0.1)
    assert scores.min() - step < low <= scores.min() and scores.max() <= high < scores.max() + step
    assert np.isclose((start - low) / step, round((start - low) / step))
    moved_to = []
    monkeypatch.delenv("RADAR_NOTEBOOK_DIGEST", raising=False)
    teaching.slider(lambda tau: moved_to.append(tau), tau=(low, high, step, start))
    assert moved_to == [tau]


def test_doctests():
    assert doctest.testmod(teaching).failed == 0
