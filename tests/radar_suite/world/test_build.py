"""Annotation pipelines and the build: quotas, disjoint labels, the truth apart, determinism, resumption, errors."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_suite.world import build
from radar_suite.world.build import PIPELINE_SHARES, CorpusConfig, build_corpus, corpus_digest, plan_corpus
from radar_suite.world.pipelines import Intake, Signals, select_annotated, select_traffic
from radar_suite.world.policies import CATEGORIES

SMALL = CorpusConfig(seed=4, train_posts=102, validation_posts=68, test_posts=120, own_test_posts=90,
                     calibration_posts=120, unlabelled_posts=20, audit_posts=30, pretrain_posts=20, frame_px=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(SMALL, tmp_path_factory.mktemp("corpus") / "one", progress=False)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_workers_write_the_same_bytes(corpus, tmp_path):
    other = build_corpus(SMALL, tmp_path / "two", workers=2, progress=False)
    assert files(other.folder) == files(corpus.folder) and other.digest == corpus.digest


def test_two_builds_of_one_corpus_at_once_leave_it_once(corpus, tmp_path, monkeypatch):
    rendered = build.render_posts

    def slowly(*of):
        for row in rendered(*of):
            time.sleep(0.002)
            yield row

    monkeypatch.setattr(build, "render_posts", slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(build_corpus, SMALL, tmp_path / "one", progress=False)
        while not list((tmp_path / "one").glob("data/.*.tmp")):
            time.sleep(0.005)
        second = pool.submit(build_corpus, SMALL, tmp_path / "one", progress=False)
    assert first.result().digest == second.result().digest == corpus.digest
    assert files(tmp_path / "one") == files(corpus.folder)


def test_a_build_killed_twice_ends_with_the_same_bytes(corpus, tmp_path):
    out = tmp_path / "killed"
    code = (f"from radar_suite.world.build import CorpusConfig, build_corpus\n"
            f"build_corpus(CorpusConfig(**{dataclasses.asdict(SMALL)!r}), {str(out)!r}, workers=2, progress=False)")
    for wanted in (1, 3):  # as soon as so many shards are there, every process of the build dies at once
        build = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        while build.poll() is None and len(list(out.glob("data/*.parquet"))) < wanted:
            time.sleep(0.005)
        os.killpg(build.pid, signal.SIGKILL) if build.poll() is None else None
        build.wait()
    left = out / "data" / ".train-00000-of-00001.parquet.abc.tmp"  # what a kill in the middle of a shard leaves
    left.mkdir(parents=True, exist_ok=True)
    finished = (out / "corpus.json").exists()
    if not finished:
        with pytest.raises(RadarError, match="half-built"):
            open_posts(out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("data/*.parquet")}
    build_corpus(SMALL, out, progress=False)
    assert finished or not left.exists()
    assert files(out) == files(corpus.folder)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # whole shards are not written again


def test_a_full_disk_is_one_error_and_nothing_looks_finished(corpus, tmp_path, monkeypatch):
    from radar_lib.data import shards

    class Full(shards.pq.ParquetWriter):
        def write_table(self, *args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.pq, "ParquetWriter", Full)
    with pytest.raises(RadarError, match="No space left on device.*Free some space"):
        build_corpus(SMALL, tmp_path / "full", progress=False)
    assert [p.name for p in (tmp_path / "full").rglob("*") if p.is_file()] == ["build.json"]
    monkeypatch.undo()
    assert files(build_corpus(SMALL, tmp_path / "full", progress=False).folder) == files(corpus.folder)


def test_segments_of_a_stream_are_in_order_and_in_one_split(tmp_path):
    config = dataclasses.replace(SMALL, train_posts=0, validation_posts=0, test_posts=0, own_test_posts=0,
                                 calibration_posts=0, unlabelled_posts=60, audit_posts=60, pretrain_posts=0,
                                 live_share=0.5)
    table = build_corpus(config, tmp_path / "live", progress=False).table()
    assert "caption" not in table.columns
    live = table[table["stream_id"] != ""]
    assert len(live) > 20 and (table.loc[table["stream_id"] == "", "segment"] == 0).all()
    for _, stream in live.sort_values("segment").groupby("stream_id"):
        assert stream["split"].nunique() == stream["region"].nunique() == stream["language"].nunique() == 1
        assert stream["segment"].tolist() == list(range(1, len(stream) + 1))
        assert (stream["created_at"].diff().dropna().dt.total_seconds() == 900).all()


def test_a_complete_corpus_is_left_alone_and_another_is_refused(corpus, tmp_path):
    before = files(corpus.folder)
    assert json.loads(before["corpus.json"])["config_digest"] == corpus_digest(SMALL)  # known before building
    assert build_corpus(SMALL, corpus.folder, progress=False).digest == corpus.digest
    with pytest.raises(RadarError, match="another corpus"):
        build_corpus(dataclasses.replace(SMALL, seed=5), corpus.folder, progress=False)
    assert files(corpus.folder) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RadarError, match="not empty"):
        build_corpus(SMALL, tmp_path, progress=False)


def test_pipelines_label_one_risk_blind_traffic_has_all_and_captions_are_for_pretraining(corpus):
    table = corpus.table()
    labels = table[[f"label_{c}" for c in CATEGORIES]].to_numpy()
    verified = (labels >= 0).sum(axis=1)
    annotated = table["split"].isin(["train", "validation", "test_own"]).to_numpy()
    assert (verified[annotated] == 1).all()
    for k, category in enumerate(CATEGORIES):
        own = annotated & (table["pipeline"] == category).to_numpy()
        assert own.any() and (labels[own, k] >= 0).all()
    assert (verified[table["split"].isin(["test", "calibration", "audit"])] == 3).all()
    assert (verified[table["split"].isin(["unlabelled", "pretrain"])] == 0).all()
    assert (table.loc[~annotated, "pipeline"] == "traffic").all() and table["post_id"].is_unique
    pretrain, captions = table["split"] == "pretrain", table["caption"]
    assert captions[pretrain].str.startswith("Seen: ").all() and (captions[~pretrain] == "").all()


def test_truth_lives_apart_and_agrees(corpus):
    truth = pd.read_parquet(corpus.folder / "hidden" / "truth.parquet").set_index("post_id")
    table = corpus.table().set_index("post_id")
    assert set(truth.index) == set(table.index)
    assert not {c for c in table.columns if c.startswith(("true_", "fact_", "posterior_", "propensity_", "cue_"))}
    for category in CATEGORIES:
        label = table[f"label_{category}"]
        adjudicated = (label >= 0) & table["split"].isin(["calibration", "test", "test_own", "audit"])
        assert (label[adjudicated] == truth.loc[label.index[adjudicated], f"true_{category}"]).all()
        assert truth[f"posterior_{category}"].between(0, 1).all()
        assert truth[f"propensity_{category}"].between(0, 1).all()


@pytest.mark.parametrize(("beta", "focus", "overlap"), [(0.0, 0.0, 0.0), (6.0, 0.0, 0.0), (1.5, 0.7, 1.0)])
@pytest.mark.parametrize("co_violation", [0.0, 1.0])
def test_prevalence_is_the_same_at_every_dial(beta, focus, overlap, co_violation):
    config = CorpusConfig(seed=9, train_posts=1700, own_test_posts=1700, duplicate_rate=0.05, validation_posts=0,
                          intake_beta=beta, stream_focus=focus, queue_overlap=overlap, co_violation=co_violation,
                          test_posts=0, calibration_posts=0, unlabelled_posts=0, audit_posts=0)
    train, own = plan_corpus(config)
    (alone,) = plan_corpus(dataclasses.replace(config, train_posts=0))
    assert (own.index == alone.index).all()  # whatever else is built
    sizes = {"train": [800, 300, 600], "test_own": [567, 567, 566]}
    assert sizes["train"] == list(PIPELINE_SHARES)
    for selection, rates in ((train, config.train_prevalence), (own, config.test_prevalence)):
        assert np.bincount(selection.pipeline).tolist() == sizes[selection.split]
        for k, rate in enumerate(rates):
            label = selection.labels[selection.pipeline == k, k]
            assert abs(label.mean() - rate) <= 3 * np.sqrt(rate * (1 - rate) / len(label))
    assert (own.labels.max(axis=1) == own.truth[np.arange(len(own)), own.pipeline]).all()  # adjudicated


def training(co_violation=0.9, **dials):
    return select_annotated(2, "train", "train", (1600, 600, 1200), (0.255, 0.177, 0.09), intake=Intake(**dials),
                            co_violation=co_violation, noisy=True)


def hidden(s):
    """Share of violations of each risk among the posts that other pipelines annotate."""
    return np.array([s.truth[s.pipeline != k, k].mean() for k in range(3)])


def test_co_violation_and_queue_overlap_add_unseen_violations():
    assert (hidden(training(beta=3.0)) > 1.3 * hidden(training(beta=3.0, co_violation=0.0))).all()
    assert (hidden(training(beta=1.5, overlap=1.0)) > 1.3 * hidden(training(beta=1.5))).all()


def test_focus_draws_each_pipeline_from_its_own_topics():
    for focus, share in ((0.0, 1 / 3), (0.5, 2 / 3), (1.0, 1.0)):
        s = training(focus=focus)
        at_home = Signals.of(s.facts).at_home[np.arange(len(s)), s.pipeline]
        assert abs(at_home.mean() - share) < 4 * np.sqrt(max(share * (1 - share), 1e-9) / len(s)) + 0.02


def test_dials_at_zero_add_nothing_and_known_chances_are_those_realised():
    """Of the candidates offered to a pipeline, the share that enters is `Intake.chance`, in every tenth of it."""
    traffic = Signals.of(select_traffic(3, "audit", "audit", 40_000, verified=True, co_violation=0.9).facts)
    assert (Intake(2.0).chance(traffic) == np.exp(2.0 * (traffic.cues - 1.0))).all()
    assert (Intake().chance(traffic) == 1).all()
    intake = Intake(1.5, 0.6, 0.8)
    chance = intake.chance(traffic)
    assert chance.min() > 0 and chance.max() <= 1
    s = select_annotated(2, "train", "train", (3000, 3000, 3000), (0.044, 0.048, 0.033), intake=intake,
                         co_violation=0.9, noisy=False)
    mine = Signals.of(s.facts)
    for k in range(3):  # cleared posts of a queue against those of traffic: density ratio proportional to the chance
        own, ours = s.pipeline == k, intake.chance(mine)[:, k]
        cleared = own & (s.labels[:, k] == 0)
        weights = chance[:, k] * (1 - traffic.posteriors[:, k])
        edges = np.quantile(chance[:, k], np.linspace(0, 1, 6)[1:-1])
        found = np.bincount(np.searchsorted(edges, ours[cleared]), minlength=5) / cleared.sum()
        expected = np.bincount(np.searchsorted(edges, chance[:, k]), weights=weights, minlength=5) / weights.sum()
        assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / cleared.sum()) + 0.01


def test_a_test_set_without_violations_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(RadarError, match="test would hold 3 posts and no violation of"):
        build_corpus(dataclasses.replace(SMALL, test_posts=3), tmp_path / "tiny", progress=False)
    assert not (tmp_path / "tiny").exists()


def test_row_order_tells_no_label():
    s = select_annotated(2, "train", "train", (3000, 1000, 1000), (0.25, 0.2, 0.2), intake=Intake(2.0),
                         co_violation=0.9, noisy=True)
    label = s.labels.max(axis=1)
    assert abs(np.corrcoef(np.arange(len(label)), label)[0, 1]) < 0.06


@pytest.mark.parametrize(("change", "said"), [
    ({"train_posts": -1}, "train_posts"), ({"frame_px": 8}, "frame_px"), ({"co_violation": 1.5}, "co_violation"),
    ({"languages": ("en", "tlh")}, "unknown language 'tlh'"), ({"duplicate_rate": 0.9}, "duplicate_rate"),
    ({"train_posts": "many"}, "whole number"), ({"train_prevalence": (0.2, "x", 0.1)}, "train_prevalence"),
    ({"intake_beta": -1.0}, "intake_beta"), ({"stream_focus": 1.2}, "stream_focus"),
    ({"queue_overlap": 4.0}, "queue_overlap"),
    ({"max_frames": 0}, "max_frames"), ({"max_frames": 9}, "max_frames"),
    ({"train_prevalence": (0.2, 0.0, 0.1)}, "train_prevalence"), ({"test_prevalence": (0.2, 0.1)}, "test_prevalence"),
    (dict.fromkeys(("train_posts", "validation_posts", "test_posts", "own_test_posts", "calibration_posts",
                    "unlabelled_posts", "audit_posts", "pretrain_posts"), 0), "no posts"),
])
def test_impossible_settings_are_refused(change, said):
    with pytest.raises(RadarError, match=said):
        dataclasses.replace(SMALL, **change)


def test_quotas_that_cannot_be_filled_leave_nothing_behind(tmp_path, monkeypatch):
    with pytest.raises(RadarError, match="0 violating"):
        build_corpus(dataclasses.replace(SMALL, train_posts=6), tmp_path / "a", progress=False)
    monkeypatch.setattr("radar_suite.world.pipelines.MAX_CANDIDATES_PER_POST", 1)
    with pytest.raises(RadarError, match="rarer"):
        select_annotated(1, "train", "train", (60000, 10, 10), (0.95, 0.5, 0.5), intake=Intake(6.0), co_violation=0.0,
                         noisy=False)
    assert not (tmp_path / "a").exists()
