"""Every exercise: the reference passes, each typical mistake hears its own sentence, `...` is fine."""


import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.testing import assert_close

from radar_lib import losses, metrics
from radar_lib.errors import RadarError
from radar_lib.models.base import last_real_token
from radar_suite.exercises.bank import BANK
from radar_suite.exercises.engine import exercise

NAMES = sorted(BANK)


def draws(name: str, number: int = 20):
    return [BANK[name].case(np.random.default_rng(seed)) for seed in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes_and_each_mistake_hears_its_own_sentence(name, capsys):
    q = exercise(name)
    assert q.check(q.answer) is True and q.mistakes
    assert "correct" in capsys.readouterr().out
    if isinstance(q.answer, float):
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


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_wrong_and_never_raises(name, capsys):
    q = exercise(name)
    for nonsense in (None, "text", [1, 2, 3], {"a": 1}, np.nan, 1e9, lambda: 1, lambda *a: None, lambda *a: "x", max):
        assert q.check(nonsense) is False
    assert "not yet:" in capsys.readouterr().out


def test_a_wrong_answer_hears_what_it_did(capsys):
    def broken(prevalence):
        raise KeyError("oops")

    for name, answer, part in (
        ("head_bias", broken, "raised KeyError"),
        ("head_bias", lambda prevalence: 12.0, "for prevalence = 0."),
        ("marks", lambda values: [""] * len(values), "('', '', "),
        ("macro_average", 71.52, "macro_average(values, posts)"),
        ("normalised_apr", lambda *case: str(BANK["normalised_apr"].answer(*case)), "expected"),
        ("masked_bce", lambda *case: BANK["masked_bce"].answer(*case).item(), "gradient"),
        ("ap_with_ties", 83.33, "percentage"),
        ("ap_with_ties", "0.83", "string"),
        ("ap_with_ties", 0.83, "3 decimals"),
    ):
        assert not exercise(name).check(answer)
        assert part in capsys.readouterr().out


def test_hints_come_one_by_one_and_unknown_names_get_neighbours(monkeypatch):
    monkeypatch.setattr("radar_suite.exercises.exercise.display", lambda text: None)
    q = exercise("masked_bce")
    for _ in range(len(q.hints) + 1):
        q.hint()
    assert q.hints_given == len(q.hints) and exercise("masked_bce").hints_given == 0
    with pytest.raises(RadarError, match="masked_bce"):
        exercise("maskd_bce")


def test_an_answer_may_not_spoil_its_own_arguments():
    def in_place(labels, lam):
        labels[labels == -1] = 7
        return np.where(labels == 7, lam, 1.0)

    assert exercise("cell_weights").check(in_place)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("masked_bce", lambda logits, y: losses.masked_bce(logits, y, losses.valid_mask(y))),
        ("bce_gradient", lambda logits, y: gradient(lambda z: losses.masked_bce(z, y, losses.valid_mask(y)), logits)),
        ("kl_gradient", lambda teacher, z: gradient(lambda z: losses.bernoulli_kl(teacher, z).sum(), z)),
        ("loss_at_one", lambda logits, teacher: losses.distillation_loss(teacher, logits)),
        ("auto_pass_rate", lambda y, scores, recall: metrics.apr_at_recall(y, scores, recall=recall)),
        ("recall_at_precision", lambda y, scores, p: metrics.recall_at_precision(y, scores, precision=p)),
        ("normalised_apr", lambda apr, r, prevalence: metrics.normalised_apr(apr, recall=r, prevalence=prevalence)),
        ("pooled", lambda hidden, mask: hidden[torch.arange(len(hidden)), last_real_token(mask)]),
        ("lora_weight", lambda *case: folded(*case)),
        ("bernoulli_entropy", lambda z: torch.distributions.Bernoulli(logits=z.double()).entropy().float()),
    ],
)
def test_references_equal_the_library(name, oracle):
    for case in draws(name):
        assert_close(torch.as_tensor(BANK[name].answer(*case)), torch.as_tensor(oracle(*case)), check_dtype=False)


def folded(W, A, B, alpha):
    """The layer as peft merges it."""
    layer = nn.Sequential(nn.Linear(W.shape[1], W.shape[0], bias=False))
    inject_adapter_in_model(LoraConfig(r=len(A), lora_alpha=alpha, target_modules=["0"]), layer)
    weights = {"base_layer": W, "lora_A.default": A, "lora_B.default": B}
    layer[0].load_state_dict({f"{name}.weight": value for name, value in weights.items()})
    layer[0].merge()
    return layer[0].base_layer.weight.detach()


def gradient(loss, z):
    z = z.clone().requires_grad_(True)
    loss(z).backward()
    return z.grad


def test_average_precision_and_macro_average_are_the_library_s_and_the_paper_s():
    ap = metrics.average_precision(np.array([1, 0, 1, 1, 0]), np.array([3.0, 2.0, 2.0, 2.0, 1.0]))
    assert np.isclose(BANK["ap_with_ties"].answer, ap, atol=1e-4)
    average = BANK["macro_average"].answer([82.57, 70.90, 61.10], [15_000, 30_000, 30_000])
    assert average == pytest.approx(71.52, abs=0.006)


def test_mixed_targets_add_up_to_eq_7():
    for label, prob, lam in draws("mixed_target"):
        teacher = torch.logit(torch.tensor([[prob]]))
        z = torch.tensor([[0.4]])
        slope = gradient(lambda z: losses.radar_loss(z, torch.tensor([[label]]), teacher, lam=lam), z).item()  # noqa: B023
        target, weight = BANK["mixed_target"].answer(label, prob, lam)
        assert np.isclose(slope, weight * (torch.sigmoid(z).item() - target), atol=1e-6)
