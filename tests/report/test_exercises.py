"""Every exercise: the reference passes, each typical mistake hears its own sentence, `...` is fine."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from radar_lib import losses, metrics
from radar_lib.errors import RadarError
from radar_lib.report.exercise_bank import BANK, lambdas, primer, routers, tables, teachers
from radar_lib.report.exercises import exercise

NAMES = sorted(BANK)


def draws(name: str, number: int = 20):
    return [BANK[name].case(np.random.default_rng(seed)) for seed in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes(name, capsys):
    q = exercise(name)
    assert q.check(q.answer) is True
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_each_mistake_hears_its_own_sentence(name, capsys):
    q = exercise(name)
    assert q.mistakes
    for wrong, sentence in q.mistakes:
        assert q.check(wrong) is False
        assert sentence in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_unattempted_is_fine(name, capsys):
    q = exercise(name)
    assert q.check(...) is False
    if callable(q.answer):
        assert q.check(lambda *arguments: ...) is False
        assert q.check(lambda *arguments: (..., 1.0)) is False
    told = capsys.readouterr().out
    assert "not attempted yet" in told and "not yet:" not in told


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_wrong_and_never_raises(name, capsys):
    q = exercise(name)
    for nonsense in (None, "text", [1, 2, 3], {"a": 1}, np.nan, 1e9, lambda: 1, lambda *a: None, lambda *a: "x", max):
        assert q.check(nonsense) is False
    assert "not yet:" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_hints_and_solution(name, capsys):
    q = exercise(name)
    assert len(q.hints) >= 2 and f"`{name}`" in q._repr_markdown_() == repr(q)
    for _ in range(len(q.hints) + 1):
        q.hint()
    assert q.shown == len(q.hints)
    assert exercise(name).shown == 0
    q.solution()
    assert "display" not in capsys.readouterr().err


def test_solution_shows_code_and_reason(monkeypatch):
    shown = []
    monkeypatch.setattr("radar_lib.report.exercises.display", shown.append)
    exercise("masked_bce").solution()
    assert "def my_masked_bce(logits, labels):" in shown[0].data and "Indexing" in shown[0].data
    exercise("net_saving").solution()
    assert "answer = 0.7204" in shown[1].data
    exercise("masked_bce").check(primer.my_masked_bce)
    assert "✔ correct" in shown[2]._repr_html_()


def test_a_wrong_answer_without_a_known_mistake_is_shown_a_case(capsys):
    assert not exercise("head_bias").check(lambda prevalence: 12.0)
    assert "your answer is 12" in capsys.readouterr().out
    assert not exercise("ap_with_ties").check(0.123)
    assert "q.hint()" in capsys.readouterr().out


def test_an_answer_that_raises_is_told_so(capsys):
    def broken(prevalence):
        raise KeyError("oops")

    assert not exercise("head_bias").check(broken)
    assert "raised KeyError" in capsys.readouterr().out


def test_an_answer_may_not_spoil_its_own_arguments():
    def in_place(labels, lam):
        labels[labels == -1] = 7
        return np.where(labels == 7, lam, 1.0)

    assert exercise("cell_weights").check(in_place)


def test_unknown_names_get_neighbours():
    with pytest.raises(RadarError, match="masked_bce"):
        exercise("maskd_bce")


def test_references_equal_the_library():
    for logits, labels in draws("masked_bce"):
        valid = losses.valid_mask(labels)
        assert_close(primer.my_masked_bce(logits, labels), losses.masked_bce(logits, labels, valid))
    for logits, labels in draws("bce_gradient"):
        z = logits.clone().requires_grad_(True)
        losses.masked_bce(z, labels, losses.valid_mask(labels)).backward()
        assert_close(routers.bce_gradient(logits, labels), z.grad)
    for teacher, student in draws("kl_gradient"):
        z = student.clone().requires_grad_(True)
        losses.bernoulli_kl(teacher, z).sum().backward()
        assert_close(primer.my_kl_gradient(teacher, student), z.grad)
    for logits, teacher in draws("loss_at_one"):
        assert_close(lambdas.loss_at_one(logits, teacher), losses.distillation_loss(teacher, logits))
    for labels, scores, recall in draws("auto_pass_rate"):
        ours = metrics.apr_at_recall(labels, scores, recall=recall)
        assert np.isclose(primer.my_auto_pass_rate(labels, scores, recall), ours)
    for labels, scores, precision in draws("recall_at_precision"):
        ours = metrics.recall_at_precision(labels, scores, precision=precision)
        assert np.isclose(tables.recall_at_precision(labels, scores, precision), ours)
    for apr, recall, prevalence in draws("normalised_apr"):
        ours = metrics.normalised_apr(apr, recall=recall, prevalence=prevalence)
        assert np.isclose(tables.normalised_apr(apr, recall, prevalence), ours)
    for (logits,) in draws("bernoulli_entropy"):
        oracle = torch.distributions.Bernoulli(logits=logits.double()).entropy().float()
        assert_close(teachers.bernoulli_entropy(logits), oracle)
    ap = metrics.average_precision(np.array([1, 0, 1, 1, 0]), np.array([3.0, 2.0, 2.0, 2.0, 1.0]))
    assert np.isclose(BANK["ap_with_ties"].answer, ap, atol=1e-4)


def test_mixed_targets_add_up_to_eq_7():
    for label, prob, lam in draws("mixed_target"):
        z = torch.tensor([[0.4]], requires_grad=True)
        teacher = torch.logit(torch.tensor([[prob]]))
        losses.radar_loss(z, torch.tensor([[label]]), teacher, lam=lam).backward()
        target, weight = primer.my_mixed_target(label, prob, lam)
        assert np.isclose(z.grad.item(), weight * (torch.sigmoid(torch.tensor(0.4)).item() - target), atol=1e-6)


def test_macro_average_is_the_papers():
    assert exercise("macro_average").answer([82.57, 70.90, 61.10], [15_000, 30_000, 30_000]) == pytest.approx(
        71.52, abs=0.006
    )
