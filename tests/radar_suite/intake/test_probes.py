"""Probes find what is there, find nothing where nothing is, and never see the post they judge."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from radar_lib.metrics import average_precision
from radar_suite.intake import probes


def two_modalities(n=400, *, seed=0):
    """A risk that text and frames each half explain."""
    rng = np.random.default_rng(seed)
    said, shown = rng.random(n) < 0.5, rng.random(n) < 0.5
    labels = (rng.random(n) < np.where(said & shown, 0.9, np.where(said | shown, 0.35, 0.02))).astype(int)
    texts = [" ".join(rng.choice(["buy", "now", "a"] if s else ["see", "my", "a"], 4)) for s in said]
    frames = rng.normal(size=(n, 6)).astype(np.float32) + 2.0 * shown[:, None]
    return labels, {"text": probes.text_features(texts), "frames": probes.standardise(frames)}


def test_the_joint_probe_beats_both_where_both_matter():
    labels, parts = two_modalities()
    found = probes.risk_probe(labels, np.arange(len(labels)), parts)
    ap = {kind: average_precision(found.labels, logits) for kind, logits in found.logits.items()}
    assert ap["joint"] > max(ap["text"], ap["frames"]) + 0.05
    scores, gains = probes.modality_tables({"A": found}, np.ones(len(labels), bool))
    assert (gains["low"] > 0).all() and set(gains["over"]) == {"text", "frames"}
    assert scores.set_index("probe").loc["joint", "ap"] == ap["joint"]
    assert (gains["low"] < gains["gain"]).all() and (gains["gain"] < gains["high"]).all()


def rare_risk(n=1500):
    """A rare risk, some of whose posts use a few of 400 words: features, labels, folds."""
    rng = np.random.default_rng(0)
    labels, words = (rng.random(n) < 0.04).astype(int), np.array([f"w{i}" for i in range(400)])
    texts = [" ".join(rng.choice(words[:60] if y and rng.random() < 0.7 else words, 8)) for y in labels]
    return probes.text_features(texts), labels, probes.fold_of(labels, np.arange(n))


def test_a_probe_of_a_rare_risk_is_fitted_to_its_optimum():
    features, labels, fold = rare_risk()
    logits, exact = probes.out_of_fold(features, labels, fold, kind="text"), np.empty(len(labels))
    for k in np.unique(fold):
        model = LogisticRegression(C=probes.STRENGTH["text"], solver="newton-cg", tol=1e-8, max_iter=1000)
        exact[fold == k] = model.fit(features[fold != k], labels[fold != k]).decision_function(features[fold == k])
    assert np.abs(logits - exact).max() < 0.02 * exact.std()


def test_a_probe_that_stops_early_is_an_error(monkeypatch):
    monkeypatch.setattr(probes, "LogisticRegression", partial(LogisticRegression, max_iter=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a notebook might
        with pytest.raises(ConvergenceWarning):
            probes.out_of_fold(*rare_risk(), kind="text")


def test_noise_gives_chance_although_there_are_more_features_than_posts():
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 2
    found = probes.risk_probe(labels, np.arange(300), {"frames": probes.standardise(rng.normal(size=(300, 900)))})
    assert 0.38 < roc_auc_score(labels, found.logits["joint"]) < 0.62


def test_copies_share_a_fold_so_that_they_cannot_vouch_for_each_other():
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 2, 150), 2)
    twins = np.repeat(np.arange(150), 2)
    frames = probes.standardise(np.repeat(rng.normal(size=(150, 400)), 2, axis=0))
    apart = probes.risk_probe(labels, twins, {"frames": frames})
    cheating = probes.risk_probe(labels, np.arange(300), {"frames": frames})
    assert roc_auc_score(labels, apart.logits["joint"]) < 0.65 < 0.8 < roc_auc_score(labels, cheating.logits["joint"])
    fold = probes.fold_of(labels, twins)
    assert (fold[::2] == fold[1::2]).all() and set(fold) == set(range(5))


def test_posts_that_are_all_copies_of_each_other_give_none():
    features = {"frames": np.arange(80.0).reshape(40, 2)}
    assert probes.risk_probe(np.arange(40) % 2, np.zeros(40, int), features) is None


def test_rare_classes_and_missing_content_give_none():
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0, -1, -1])
    frames = np.zeros((10, 3), np.float32)
    assert probes.risk_probe(labels, np.arange(10), {"frames": frames}) is None
    assert probes.risk_probe(np.full(10, -1), np.arange(10), {"frames": frames}) is None
    empty = {"text": probes.text_features([""] * 40), "frames": np.zeros((40, 0), np.float32)}
    assert empty["text"].shape == (40, 0) and probes.risk_probe(np.arange(40) % 2, np.arange(40), empty) is None
    one = probes.risk_probe(np.arange(40) % 2, np.arange(40), {"frames": np.arange(80.0).reshape(40, 2)})
    assert set(one.logits) == {"frames", "joint"}

    scores, gains = probes.modality_tables({"A": one}, np.zeros(40, bool))
    assert scores.empty and gains.empty


def test_flipped_labels_come_first_among_the_suspects():
    labels, parts = two_modalities(seed=3)
    rng = np.random.default_rng(3)
    clean = (parts["frames"].mean(1) > 0).astype(int)  # a risk that the frames settle
    wrong = rng.random(len(clean)) < 0.05
    found = probes.risk_probe(clean ^ wrong, np.arange(len(clean)), parts)
    order, n_suspects = probes.suspects(found.labels, found.logits["joint"])
    assert wrong[order[: wrong.sum()]].mean() >= 3 * wrong.mean()
    assert sorted(order) == list(range(len(clean))) and 0 < n_suspects < 4 * wrong.sum()


def test_the_pipeline_probe_finds_a_pipeline_that_writes_its_own_language_and_none_that_does_not():
    rng = np.random.default_rng(0)
    words = {"a": ["uno", "dos", "tres", "y"], "b": ["one", "two", "three", "y"]}
    pipelines = pd.Series(list("ab") * 120)

    def probe(texts):
        return probes.pipeline_probe(pipelines, np.arange(240), {"text": probes.text_features(texts)})

    own = probe([" ".join(rng.choice(words[p], 5)) for p in pipelines])
    assert (own["auc"] > 0.95).all() and set(own["pipeline"]) == {"a", "b"} and (own["posts"] == 120).all()
    assert probe([" ".join(rng.choice(words["a"], 5)) for _ in pipelines])["auc"].between(0.3, 0.7).all()
    assert probes.pipeline_probe(pd.Series(["a"] * 40), np.arange(40), {"text": probes.text_features(["x"] * 40)}).empty


def test_scaled_features_have_no_mean_and_rows_of_about_unit_length():
    features = probes.standardise(np.random.default_rng(5).normal(3, 7, (500, 40)))
    assert np.abs(features.mean(0)).max() < 1e-4
    assert np.linalg.norm(features, axis=1).mean() == pytest.approx(1, abs=0.1)
    assert probes.standardise(np.ones((4, 3))).shape == (4, 0)


def test_what_a_probe_gains_is_less_certain_where_posts_share_a_group():
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.random(60) < 0.4, 5).astype(int)
    known = {kind: labels + np.repeat(rng.normal(size=60), 5) + 0.3 * rng.normal(size=300)
             for kind in ("text", "frames")}  # fmt: skip
    logits = known | {"joint": known["text"] + known["frames"]}
    one, judged = {"A": probes.RiskProbe(np.arange(300), labels, logits)}, np.ones(300, bool)
    alone, grouped = (probes.modality_tables(one, judged, groups=groups)[1] for groups in (None, np.arange(300) // 5))
    assert alone["gain"].equals(grouped["gain"])
    assert (grouped["high"] - grouped["low"] > 1.5 * (alone["high"] - alone["low"])).all()
