"""Every exercise: the reference passes, each typical mistake hears its own sentence, `...` is fine."""

import inspect

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from radar_lib import losses, metrics
from radar_lib.errors import RadarError
from radar_suite.exercises.bank import BANK, lambdas, primer, routers, tables, teachers
from radar_suite.exercises.engine import exercise

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
    exec(q.skeleton("q"), {"q": q})
    told = capsys.readouterr().out
    assert told.count("not attempted yet") == (4 if callable(q.answer) else 2) and "not yet:" not in told


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
    monkeypatch.setattr("radar_suite.exercises.engine.display", shown.append)
    exercise("masked_bce").solution()
    assert "def my_masked_bce(logits, labels):" in shown[0].data and "Indexing" in shown[0].data
    exercise("net_saving").solution()
    assert "net_saving = 0.7204" in shown[1].data
    exercise("masked_bce").check(primer.my_masked_bce)
    assert "✔ correct" in shown[2]._repr_html_()


def test_a_wrong_answer_without_a_known_mistake_is_shown_a_case_with_its_arguments_named(capsys):
    assert not exercise("head_bias").check(lambda prevalence: 12.0)
    told = capsys.readouterr().out
    assert "for prevalence = 0." in told and "your answer is 12;" in told
    assert not exercise("marks").check(lambda values: [""] * len(values))
    assert "your answer is ('', '', " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("0.83", "'0.83' is a string; give a number without quotation marks"),
        ("0.8333", "'0.8333' is a string"),
        (83.33, "83.33 is not between 0 and 1"),
        (83, "not a percentage"),
        (0.83, "0.83 is not it"),
        (lambda: 0.8333, "a value is wanted, not a function"),
    ],
)
def test_a_value_is_told_what_kind_is_wanted_and_how_exactly(given, told, capsys):
    assert exercise("ap_with_ties").check(given) is False
    said = capsys.readouterr().out
    assert told in said and "a fraction between 0 and 1, to 3 decimals" in said


@pytest.mark.parametrize("name", [name for name in NAMES if not callable(BANK[name].answer)])
def test_as_many_decimals_as_are_asked_for_suffice(name):
    assert exercise(name).check(round(BANK[name].answer, 3))


def test_a_value_in_place_of_a_function_is_told_the_signature(capsys):
    assert exercise("macro_average").check(71.52) is False
    assert "71.52 is no function: write `def macro_average(values, posts)`" in capsys.readouterr().out


def test_no_message_names_a_variable_that_the_notebooks_do_not_have(capsys):
    for name in NAMES:
        for answer in (0.123, "text", None, max, lambda *arguments: "x"):
            exercise(name).check(answer)
    assert "q." not in capsys.readouterr().out


def test_a_string_is_no_number_and_a_loss_without_gradient_is_told_so(capsys):
    assert not exercise("normalised_apr").check(lambda *case: str(BANK["normalised_apr"].answer(*case)))
    assert not exercise("masked_bce").check(lambda logits, labels: primer.my_masked_bce(logits, labels).item())
    assert "a tensor computed from the logits" in capsys.readouterr().out


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
