"""The built-in corpus' card and Croissant file: generated, valid, and true of a corpus that is really there."""

import io
import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from radar_lib.data.posts import features, write_corpus
from radar_lib.files import write_json
from radar_suite.report import cards

# The validator's own dependencies; nothing that this project calls can change them.
pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{name}.*") for name in ("mlcroissant", "rdflib")]
pytestmark.append(pytest.mark.filterwarnings("ignore:ConjunctiveGraph"))
ROOT = Path(__file__).parents[3]
RECORD = ROOT / "figures" / "cpu"


@pytest.fixture(scope="module")
def mlcroissant():
    logging.disable(logging.WARNING)  # the validator's dependencies log on import
    yield pytest.importorskip("mlcroissant")
    logging.disable(logging.NOTSET)


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def small(tmp_path):
    rows = [{"post_id": f"p{i}", "split": ("train", "test")[i % 2], "pipeline": "A", "title": f"title {i // 2}",
             "language": "pt", "frames": [picture()] * (i % 3), "label_A": i % 2 - (i == 4)}
            for i in range(6)]  # fmt: skip
    extra = {"config": {"seed": 7}}
    return write_corpus(tmp_path / "c", rows, name="small", kind="built-in", categories=("A", "B"), extra=extra)


def record_of(posts, folder, truth=None):
    table = posts.table()
    record = cards.corpus_record(posts, table, list(features(posts.categories)), truth)
    write_json(folder / cards.RECORD, record)
    return record


def test_the_record_counts(small, tmp_path):
    table = small.table()
    truth = pd.DataFrame({"true_A": 0, "true_B": 1, "duplicate_kind": ["", "near", "exact", "near", "", ""],
                          "campaign": ["", "x", "", "", "", ""]}, index=table.index)  # fmt: skip
    record = record_of(small, tmp_path, truth)
    assert record["splits"] == {"train": 3, "test": 3} and record["training_pipelines"] == {"A": 3}
    assert record["labels"] == [
        {"split": "train", "category": "A", "verified": 2, "positives": 0},
        {"split": "test", "category": "A", "verified": 3, "positives": 3},
    ]
    assert record["planted"] == {"wrong A labels": 3, "wrong B labels": 0, "exact copies": 1, "near copies": 2,
                                 "posts of campaigns": 1}  # fmt: skip
    assert "| train | 3 | 2, 0 (0.0%) | none |" in cards.counts(tmp_path) and "Seed 7" in cards.counts(tmp_path)
    assert cards.languages(tmp_path) == "pt 100.0%.\n" and "- near copies: 2" in cards.planted(tmp_path)


def test_the_official_validator_accepts_the_committed_croissant(mlcroissant):
    metadata = mlcroissant.Dataset(jsonld=str(ROOT / cards.CROISSANT)).metadata
    assert not metadata.ctx.issues.errors and not metadata.ctx.issues.warnings
    assert metadata.data_biases and metadata.personal_sensitive_information and metadata.data_collection


def test_a_croissant_reader_finds_the_posts(small, tmp_path, mlcroissant):
    record_of(small, tmp_path)
    path = small.folder / "croissant.json"
    path.write_text(json.dumps(cards.croissant(tmp_path, ROOT / cards.RAI)))
    dataset = mlcroissant.Dataset(jsonld=str(path))
    assert not dataset.metadata.ctx.issues.errors
    records = {row["posts/post_id"].decode(): row for row in dataset.records("posts")}
    table = small.table().set_index("post_id")
    assert set(records) == set(table.index)
    for post_id, row in records.items():
        assert row["posts/title"].decode() == table.loc[post_id, "title"]
        assert row["posts/label_A"] == table.loc[post_id, "label_A"]
    assert records["p2"]["posts/frames"][0].size == (9, 7)
