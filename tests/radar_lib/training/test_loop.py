"""The loop on a linear model: it learns, it resumes to the bit, it stops on NaN."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.partial_losses import OBJECTIVES, SideInformation
from radar_lib.training.inference import predict
from radar_lib.training.loop import Execution, Recipe, TrainingSet, learning_rate_factor, no_bar, train


class Features:
    def __init__(self, x):
        self.x, self.lengths = x, [1 + i % 7 for i in range(len(x))]

    def batches(self, plan):
        return ({"x": self.x[list(indices)]} for indices in plan)


class Linear(torch.nn.Module):
    def __init__(self, width=5, categories=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(width, categories)

    def forward(self, batch):
        return self.layer(batch["x"])


def problem(n=90, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 5)).astype(np.float32)
    truth = (x[:, :3] + 0.3 * random.normal(size=(n, 3)) > 0.5).astype(np.int8)
    labels = np.full((n, 3), -1, np.int8)
    labels[np.arange(n), np.arange(n) % 3] = truth[np.arange(n), np.arange(n) % 3]
    teacher, chance = 3 * x[:, :3] - 1.5, torch.from_numpy(random.uniform(0.2, 0.6, (n, 3)).astype(np.float32))
    side = SideInformation(torch.tensor([0.05, 0.3, 0.08]), chance, torch.from_numpy(teacher))
    return TrainingSet(Features(torch.from_numpy(x)), labels, [f"p{i}" for i in range(n)], teacher, side)


RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=0.05)


def test_the_loss_falls_and_every_trainable_weight_moves(tmp_path):
    model = Linear()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = train(model, problem(), RECIPE, folder=tmp_path, bar=no_bar)
    assert history.steps[-1]["loss"] < 0.7 * history.steps[0]["loss"]
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("changes", [*({"objective": name} for name in OBJECTIVES), {"lam": 0.5}, {"lam": 1.0}])
def test_an_interrupted_run_resumes_to_the_bit(tmp_path, interrupting, changes):
    recipe = Recipe(**{"epochs": 3, "batch_size": 8, "learning_rate": 0.05, **changes})
    whole = Linear()
    expected = train(whole, problem(), recipe, folder=tmp_path / "whole", bar=no_bar)

    with pytest.raises(KeyboardInterrupt):
        train(Linear(), problem(), recipe, folder=tmp_path / "cut", checkpoint_seconds=0, bar=interrupting(20))
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()

    resumed = Linear()
    history = train(resumed, problem(), recipe, folder=tmp_path / "cut", bar=no_bar)
    assert torch.equal(resumed.layer.weight, whole.layer.weight) and torch.equal(resumed.layer.bias, whole.layer.bias)
    assert history.steps == expected.steps


@pytest.mark.parametrize("changes", [*({"objective": name} for name in ("unmasked", "ipw", "dr")), {}, {"lam": 0.5}])
def test_accumulated_micro_batches_train_as_the_whole_batch_does(tmp_path, changes):
    recipe = Recipe(**{"epochs": 2, "batch_size": 7, "learning_rate": 0.05, **changes})
    whole, parts = Linear().double(), Linear().double()
    data = problem()
    data.inputs.x = data.inputs.x.double()
    expected = train(whole, data, recipe, folder=tmp_path / "whole", bar=no_bar)
    found = train(parts, data, recipe, folder=tmp_path / "parts", execution=Execution(accumulate=3), bar=no_bar)
    assert torch.allclose(parts.layer.weight, whole.layer.weight, rtol=0, atol=1e-9)
    assert [entry["loss"] for entry in found.steps] == pytest.approx([entry["loss"] for entry in expected.steps])


def test_a_parameter_that_no_batch_uses_is_left_alone_and_resumed(tmp_path):
    class Spare(Linear):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Parameter(torch.ones(2))

        def forward(self, batch):
            used = batch["x"][0, 0] > 1  # in a few batches only
            return super().forward(batch) + (self.spare.sum() if used else 0)

    whole, again = Spare(), Spare()
    train(whole, problem(), RECIPE, folder=tmp_path / "whole", bar=no_bar)
    cut = problem()
    real = cut.inputs.batches

    def dying(plan):
        yield from real(plan[:29])
        raise KeyboardInterrupt

    cut.inputs.batches = dying
    with pytest.raises(KeyboardInterrupt):
        train(Spare(), cut, RECIPE, folder=tmp_path / "cut", checkpoint_seconds=0, bar=no_bar)
    train(again, problem(), RECIPE, folder=tmp_path / "cut", bar=no_bar)
    assert not torch.equal(whole.spare, torch.ones(2))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_posts(tmp_path):
    data = problem()
    data.inputs.x[4] = float("nan")
    with pytest.raises(RadarError, match=r"the loss is nan at step .*posts p\d+"):
        train(Linear(), data, RECIPE, folder=tmp_path, bar=no_bar)


def test_no_posts_is_an_error(tmp_path):
    empty = TrainingSet(Features(torch.zeros(0, 5)), np.zeros((0, 3), np.int8), [])
    with pytest.raises(RadarError, match="no training post"):
        train(Linear(), empty, RECIPE, folder=tmp_path, bar=no_bar)


def test_a_recipe_that_means_nothing_is_refused():
    with pytest.raises(RadarError, match="objective"):
        Recipe(objective="hinge")
    with pytest.raises(RadarError, match="'unmasked' has none"):
        Recipe(objective="unmasked", lam=0.5)
    with pytest.raises(RadarError, match="'dr' has none"):
        Recipe(objective="dr", lam_unverified=0.5)
    with pytest.raises(RadarError, match="accumulate is 0"):
        Execution(accumulate=0)
    assert Recipe(objective="dr").needs == ("propensity", "imputed") and Recipe().needs == ()


def test_the_schedule_rises_linearly_then_falls_as_a_cosine():
    factors = [learning_rate_factor(step, total=100, warmup=0.2) for step in range(100)]
    assert factors[0] == 0.0 and np.allclose(np.diff(factors[:21]), 1 / 20)
    assert max(factors) == factors[20] == 1.0
    assert factors[60] == pytest.approx(0.5) and factors[99] < 0.001
    assert learning_rate_factor(0, total=10, warmup=0.0) == 1.0


def test_predictions_come_in_the_order_of_the_posts():
    model, data = Linear(), problem()
    expected = model({"x": data.inputs.x}).detach().numpy()
    assert np.allclose(predict(model, data.inputs, batch_size=16), expected, atol=1e-6)


@pytest.mark.parametrize("after", [0, 20])
def test_tensorboard_shows_the_curves_where_it_is_installed(tmp_path, interrupting, after):
    if after:
        with pytest.raises(KeyboardInterrupt):
            train(Linear(), problem(), RECIPE, folder=tmp_path, checkpoint_seconds=0, bar=interrupting(after))
    history = train(Linear(), problem(), RECIPE, folder=tmp_path, validate=lambda m: {"LQC": 0.5}, bar=no_bar)
    if find_spec("tensorboard") is None:
        assert not list(tmp_path.rglob("*tfevents*"))
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(tmp_path / "curves")).Reload()
    shown = [(event.step, event.value) for event in curves.Scalars("train/loss")]  # each once, resumed or not
    assert shown == [(entry["step"], pytest.approx(entry["loss"])) for entry in history.steps]
    assert [event.value for event in curves.Scalars("validation/LQC")] == [0.5] * len(history.epochs)


def test_each_objective_trains_another_model(tmp_path):
    weights = {}
    for name in OBJECTIVES:
        model, recipe = Linear(), Recipe(objective=name, epochs=2, batch_size=16, learning_rate=0.05)
        history = train(model, problem(), recipe, folder=tmp_path / name, bar=no_bar)
        assert history.steps[-1]["loss"] < history.steps[0]["loss"]
        weights[name] = model.layer.weight.detach()
    names = list(OBJECTIVES)
    assert not any(torch.equal(weights[a], weights[b]) for i, a in enumerate(names) for b in names[:i])
