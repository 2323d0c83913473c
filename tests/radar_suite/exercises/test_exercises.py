"""Every exercise: the reference passes, each typical mistake hears its own sentence, `...` is fine."""

import inspect

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from radar_lib import losses, metrics
from radar_lib.errors import RadarError
from radar_suite.exercises.bank import BANK, notebook_00, notebook_04, notebook_05, notebook_06, notebook_07
from radar_suite.exercises.engine import exercise

NAMES = sorted(BANK)


def draws(name: str, number: int = 20):
    return [BANK[name].case(np.random.default_rng(seed)) for seed in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes_and_each_mistake_hears_its_own_sentence(name, capsys):
    q = exercise(name)
    assert q.check(q.answer) is True and q.mistakes
    assert "correct" in capsys.readouterr().out
    if not callable(q.answer):
        assert q.check(round(q.answer, 3))  # as many decimals as are asked for suffice
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
    exec(q.skeleton("q"), {"q": q})
    out = capsys.readouterr().out
    assert out.count("not attempted yet") == (4 if callable(q.answer) else 2) and "not yet:" not in out


def test_a_skeleton_is_what_the_task_asks_for_and_has_a_name_of_its_own():
    names = set()
    for name, q in BANK.items():
        written = {}
        exec(q.skeleton("q"), {"q": q}, written)
        (answer,) = written
        names.add(answer)
        if callable(q.answer):
            parameters = inspect.signature(q.answer)
            assert inspect.signature(written[answer]) == parameters and answer == q.answer.__name__
            assert f"`{answer}{parameters} ->" in q.task, name
            assert [len(case) for case in draws(name, 1)] == [len(parameters.parameters)]
    assert len(names) == len(BANK)


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_wrong_and_never_raises(name, capsys):
    q = exercise(name)
    for nonsense in (None, "text", [1, 2, 3], {"a": 1}, np.nan, 1e9, lambda: 1, lambda *a: None, lambda *a: "x", max):
        assert q.check(nonsense) is False
    assert "not yet:" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_hints_come_one_by_one_and_the_solution_shows_the_reference(name, monkeypatch):
    shown = []
    monkeypatch.setattr("radar_suite.exercises.exercise.display", shown.append)
    q = exercise(name)
    assert len(q.hints) >= 2 and f"`{name}`" in q._repr_markdown_() == repr(q)
    for _ in range(len(q.hints) + 1):
        q.hint()
    assert q.hints_given == len(q.hints) and exercise(name).hints_given == 0
    q.solution()
    assert all(hint in one.data for hint, one in zip((*q.hints, q.hints[-1]), shown, strict=False))
    assert (f"def {q.answer.__name__}(" if callable(q.answer) else f"{name} = {q.answer}") in shown[-1].data


@pytest.mark.parametrize(
    ("given", "part"),
    [("0.83", "string"), ("0.8333", "string"), (83.33, "percentage"), (83, "percentage"), (0.83, "not it"),
     (lambda: 0.8333, "function")],
)
def test_a_value_hears_what_kind_is_wanted_and_how_exactly(given, part, capsys):
    assert exercise("ap_with_ties").check(given) is False
    out = capsys.readouterr().out
    assert part in out and "between 0 and 1, to 3 decimals" in out


def test_a_wrong_answer_hears_what_it_did(capsys):
    def broken(prevalence):
        raise KeyError("oops")

    for name, answer, part in (
        ("head_bias", broken, "raised KeyError"),
        ("head_bias", lambda prevalence: 12.0, "for prevalence = 0."),
        ("marks", lambda values: [""] * len(values), "('', '', "),
        ("macro_average", 71.52, "macro_average(values, posts)"),
        ("normalised_apr", lambda *case: str(BANK["normalised_apr"].answer(*case)), "expected"),
        ("masked_bce", lambda *case: notebook_00.my_masked_bce(*case).item(), "gradient"),
    ):
        assert not exercise(name).check(answer)
        assert part in capsys.readouterr().out


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
        assert_close(notebook_00.my_masked_bce(logits, labels), losses.masked_bce(logits, labels, valid))
    for logits, labels in draws("bce_gradient"):
        z = logits.clone().requires_grad_(True)
        losses.masked_bce(z, labels, losses.valid_mask(labels)).backward()
        assert_close(notebook_05.bce_gradient(logits, labels), z.grad)
    for teacher, student in draws("kl_gradient"):
        z = student.clone().requires_grad_(True)
        losses.bernoulli_kl(teacher, z).sum().backward()
        assert_close(notebook_00.my_kl_gradient(teacher, student), z.grad)
    for logits, teacher in draws("loss_at_one"):
        assert_close(notebook_07.loss_at_one(logits, teacher), losses.distillation_loss(teacher, logits))
    for labels, scores, recall in draws("auto_pass_rate"):
        ours = metrics.apr_at_recall(labels, scores, recall=recall)
        assert np.isclose(notebook_00.my_auto_pass_rate(labels, scores, recall), ours)
    for labels, scores, precision in draws("recall_at_precision"):
        ours = metrics.recall_at_precision(labels, scores, precision=precision)
        assert np.isclose(notebook_06.recall_at_precision(labels, scores, precision), ours)
    for apr, recall, prevalence in draws("normalised_apr"):
        ours = metrics.normalised_apr(apr, recall=recall, prevalence=prevalence)
        assert np.isclose(notebook_06.normalised_apr(apr, recall, prevalence), ours)
    for (logits,) in draws("bernoulli_entropy"):
        oracle = torch.distributions.Bernoulli(logits=logits.double()).entropy().float()
        assert_close(notebook_04.bernoulli_entropy(logits), oracle)
    ap = metrics.average_precision(np.array([1, 0, 1, 1, 0]), np.array([3.0, 2.0, 2.0, 2.0, 1.0]))
    assert np.isclose(BANK["ap_with_ties"].answer, ap, atol=1e-4)


def test_mixed_targets_add_up_to_eq_7():
    for label, prob, lam in draws("mixed_target"):
        z = torch.tensor([[0.4]], requires_grad=True)
        teacher = torch.logit(torch.tensor([[prob]]))
        losses.radar_loss(z, torch.tensor([[label]]), teacher, lam=lam).backward()
        target, weight = notebook_00.my_mixed_target(label, prob, lam)
        assert np.isclose(z.grad.item(), weight * (torch.sigmoid(torch.tensor(0.4)).item() - target), atol=1e-6)


def test_macro_average_is_the_papers():
    assert exercise("macro_average").answer([82.57, 70.90, 61.10], [15_000, 30_000, 30_000]) == pytest.approx(
        71.52, abs=0.006
    )
