"""A modality that carries the signal costs more than one that does not; all violating posts take part."""

from __future__ import annotations

import numpy as np
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.metrics import average_precision
from radar_lib.models.backbones import BACKBONES
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar
from radar_suite.report import reliance
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny


def test_posts_that_all_look_alike_leave_chance():
    generator = np.random.default_rng(0)
    truth = (generator.random(400) < 0.2).astype(int)
    clean = generator.normal(size=400) + 2 * truth
    found = reliance.lost(truth, clean, np.zeros(400))
    assert found.estimate == pytest.approx(average_precision(truth, clean) - truth.mean())
    assert 0 < found.low < found.estimate < found.high
    nearly = reliance.lost(truth, clean, 1e-3 * generator.normal(size=400))  # chance, but in an order of its own
    assert nearly.estimate == pytest.approx(found.estimate, abs=0.1)


def test_the_sample_holds_every_violation_and_some_cleared_posts():
    labels = np.array([-1, 0, 1, 0, 0, 1, -1, 0], np.int8)
    found = reliance.sampled(labels, cleared=2, seed=3)
    assert len(found) == 4 and {2, 5} <= set(found.tolist()) and (labels[found] >= 0).all()
    assert reliance.sampled(labels, cleared=9, seed=3).tolist() == [1, 2, 3, 4, 5, 7]


def test_a_model_that_reads_titles_loses_what_titles_tell(tmp_path):
    words = ["calm walk by the sea", "cheap loans now"]
    rows = [{"post_id": f"{split}-{i}", "split": split, "title": words[i % 4 == 0], "ocr_text": f"note {i % 7}",
             "label_X": int(i % 4 == 0)} for split in ("train", "test") for i in range(48)]  # fmt: skip
    posts = write_corpus(tmp_path / "posts", rows, name="toy", kind="imported", categories=("X",))
    standin = BACKBONES["Qwen3-VL-8B"].folder
    write_random_standin(tmp_path / "checkpoints" / standin, standin, words * 20, geometry=tiny(GEOMETRIES[standin]),
                         vocabulary=300)  # fmt: skip
    lab = Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(tmp_path / "checkpoints"), bar=no_bar)
    run = lab.train(RunSpec("Qwen3-VL-8B", ("X",), Recipe(epochs=5, batch_size=8, learning_rate=2e-2), 4, 8))
    ablations = reliance.ablations_for(lab, "test")
    assert [a.name for a in ablations] == ["blank-title", "blank-ocr", "permute-title-own-1", "permute-ocr-own-1"]
    table = reliance.reliance(lab, run, ablations, cleared=20)
    assert (table["posts"] == 32).all() and (table["PR-AUC"] > 0.95).all()
    losses = table.set_index(["kind", "what"])["loss"]
    assert losses["permute", "title"] > 0.3 and abs(losses["permute", "ocr"]) < 0.1
    said = reliance.most_borrowed(table)
    assert said.startswith(f"Expert X loses most to another post's title: {100 * losses['permute', 'title']:.1f} [")
    vague = table.assign(low=np.where(table["kind"] == "permute", -0.01, table["low"]))
    assert reliance.most_borrowed(vague).startswith("Expert X: none can be shown; the largest loss is by title, ")
    figure = reliance.figure(table)
    assert [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes] == ["expert X"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ocr", "title"]
    text = reliance.in_points(table)
    assert text.index.tolist()[:2] == [("title", "blank"), ("ocr", "blank")] and list(text.columns) == ["X"]
    assert text.loc[("title", "permute"), "X"].startswith(f"{100 * losses['permute', 'title']:.1f} [")
