"""Held-out faults and harmless changes are drawn by their generator alone; their plans share nothing with others."""

from dataclasses import fields
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch

from radar_suite.diagnosis import plant
from radar_suite.diagnosis.bench import VARIANTS, Bench
from radar_suite.diagnosis.faults import FAULTS
from radar_suite.diagnosis.faults import OUTSIDE as DEVELOPED_OUTSIDE
from radar_suite.diagnosis.held_out import OUTSIDE, PLANS, SEVERITIES, harmless
from radar_suite.diagnosis.setups import K, Setup, learn, posts_of, relabels_of, score
from radar_suite.studies.heads import initial_weights
from radar_suite.world.policies import CATEGORIES

HIDDEN = 16
LEARNED = ("train", "validation")
CASES = [(name, severity) for name in OUTSIDE for severity in SEVERITIES]


@pytest.fixture(scope="module")
def bench():
    """A made-up world: no text, no frames, features that know the truth."""
    random, posts, truth = np.random.default_rng(0), {}, {}
    for split, n in (("train", 120), ("validation", 60), ("audit", 80), ("serve", 70)):
        truth[split] = (random.random((n, K)) < 0.3).astype(np.int8)
        ids = [f"{split}-{i}" for i in range(n)]
        own = random.integers(K, size=n)
        seen = (own[:, None] == np.arange(K)) | (split not in LEARNED)
        labels = np.where(seen, truth[split], -1).astype(np.int8)
        posts[split] = pd.DataFrame({
            "post_id": ids, "pipeline": np.array(CATEGORIES)[own], "region": random.choice(["r", "s"], n),
            "language": random.choice(["en", "es", "ar"], n), "month": random.integers(0, 12, n), "group": ids,
            "content": ids, **{f"label_{c}": labels[:, k] for k, c in enumerate(CATEGORIES)},
        })  # fmt: skip
    mix = random.normal(size=(K, HIDDEN))
    features = {variant: {split: (y @ mix + random.normal(size=(len(y), HIDDEN))).astype(np.float32)
                          for split, y in truth.items()} for variant in VARIANTS}  # fmt: skip
    posterior = {split: np.clip(0.8 * y + 0.2 * random.random(y.shape), 0, 1) for split, y in truth.items()}
    teacher = {split: 3.0 * y - 2 + random.normal(size=y.shape) for split, y in truth.items()}
    return Bench("made up", posts, truth, posterior, features, teacher)


def digest(value):
    """Of arrays and tables in nested dictionaries and lists."""
    if isinstance(value, dict):
        return digest([[name, digest(of)] for name, of in sorted(value.items())])
    if isinstance(value, list):
        return sha256("".join(map(digest, value)).encode()).hexdigest()
    if isinstance(value, pd.DataFrame):
        return digest(value.to_csv())
    return sha256(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()).hexdigest()


def state(setup):
    """A digest of all that is trained and scored, changes after training by what they do."""
    logits, weights = np.linspace(-6, 3, 6 * K, dtype=np.float32).reshape(6, K), initial_weights(HIDDEN, K, seed=3)
    for change in setup.after:
        logits, weights = change("logits", logits), change("weights", weights)
    named = {f.name: getattr(setup, f.name) for f in fields(setup) if f.name != "after"}
    return digest(named | {"logits": logits, "weights": {name: w.numpy() for name, w in weights.items()}})


def changed(bench, change, seed):
    setup = Setup.of(bench)
    change(setup, np.random.default_rng(seed))
    return setup


@pytest.mark.parametrize("name, severity", CASES)
def test_a_fault_changes_the_set_up_by_its_generator_alone_and_leaves_the_bench(bench, name, severity):
    before = digest(vars(bench))

    def fault(setup, random):
        OUTSIDE[name](setup, severity, random)

    first, again = changed(bench, fault, 1), changed(bench, fault, 1)
    assert state(first) == state(again) != state(Setup.of(bench))
    assert digest(vars(bench)) == before


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_with_the_fault_is_trained_scored_and_written(bench, name):
    setup = changed(bench, lambda s, random: OUTSIDE[name](s, max(SEVERITIES), random), 2)
    setup.epochs = 2
    torch.manual_seed(0)
    trained, curve = learn(setup, [0])
    posts = posts_of(setup, score(setup, trained[0]))
    logits = posts[[f"logit_{c}" for c in CATEGORIES]].to_numpy()
    assert np.isfinite(logits).all() and np.isfinite(curve).all(axis=None)
    assert posts["post_id"].is_unique and len(relabels_of(setup, np.random.default_rng(0)))
    assert all(len(setup.x[v][split]) == len(t) for v in VARIANTS for split, t in setup.posts.items())


def test_harmless_changes_differ_keep_most_posts_and_leave_the_bench(bench):
    before = digest(vars(bench))
    runs = [changed(bench, harmless, seed) for seed in (1, 1, 2)]
    assert state(runs[0]) == state(runs[1]) != state(runs[2])
    assert digest(vars(bench)) == before
    for setup in runs:
        for split, posts in setup.posts.items():
            assert len(posts) >= 0.9 * len(bench.posts[split]) - 1
            rows = posts["post_id"].str.rsplit("-", n=1).str[-1].astype(int).to_numpy()
            assert (setup.x["whole"][split] == bench.features["whole"][split][rows]).all()


def test_what_is_held_out_was_not_developed_on():
    assert not set(OUTSIDE) & (set(FAULTS) | set(DEVELOPED_OUTSIDE))
    assert not set(SEVERITIES) & set(plant.DEVELOPED)
    assert PLANS["held-out-standin"].backbone not in {plan.backbone for plan in plant.PLANS.values()}
    for plan in PLANS.values():
        assert plan.world not in {other.world for other in plant.PLANS.values()}
        assert plan.repeats * len(plan.severities) >= 8 and plan.healthy >= 100
        assert plan.outside * len(OUTSIDE) >= 30 and plan.judged
