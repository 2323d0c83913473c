"""Soft labels and runs' records that others wrote, or a disk damaged: refused with one clear error."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import digest_json, write_sealed
from radar_lib.training.cache import RECORD
from radar_lib.training.loop import Recipe
from radar_lib.training.scores import read_scores
from radar_lib.training.specs import Run, RunSpec, SoftLabels

IDS = ["a", "b", "c"]


def table(**columns):
    return pd.DataFrame({"post_id": IDS, "split": "train", "logit_A": np.float32([1, 2, 3])} | columns)


@pytest.mark.parametrize(
    "columns, message",
    [({"post_id": ["a", "b", "a"]}, "column post_id: 'a' is there twice"),
     ({"post_id": ["a", None, "c"]}, "column post_id: row 2 holds no text"),
     ({"post_id": [1, 2, 3]}, "column post_id: row 1 holds no text"),
     ({"logit_A": [0.0, np.inf, 0.0]}, "column logit_A: post 'b' has no finite logit"),
     ({"logit_A": [0.0, 0.0, -np.inf]}, "column logit_A: post 'c' has no finite logit"),
     ({"logit_A": [np.nan, 0.0, 0.0]}, "column logit_A: post 'a' has no finite logit"),
     ({"logit_A": ["0.5", "much", ""]}, "column logit_A: it holds no numbers")],
)  # fmt: skip
def test_soft_labels_that_would_mislead_are_refused_with_column_and_post(tmp_path, columns, message):
    table(**columns).to_parquet(tmp_path / "soft.parquet")
    with pytest.raises(RadarError, match=f"soft.parquet, {message}"):
        SoftLabels.open(tmp_path / "soft.parquet").logits(IDS[:1], ["A"])


def test_truncated_missing_and_exchanged_soft_labels_are_one_error(tmp_path):
    path = tmp_path / "soft.parquet"
    with pytest.raises(RadarError, match="does not exist"):
        SoftLabels.open(path)
    table().to_parquet(path)
    whole, opened = path.read_bytes(), SoftLabels.open(path)
    assert opened.logits(["b"], ["A"]).tolist() == [[2.0]]
    table(logit_A=np.float32([1, -2, 3])).to_parquet(path)
    with pytest.raises(RadarError, match="not what was written"):
        opened.logits(["b"], ["A"])
    for part in (b"", whole[:-9], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(RadarError, match="no readable Parquet file"):
            read_scores(path)
    table().drop(columns="post_id").to_parquet(path)
    with pytest.raises(RadarError, match="column post_id: it is missing"):
        read_scores(path)


def test_a_run_is_named_by_the_hash_of_its_inputs_alone(tmp_path):
    inputs = {"spec": asdict(RunSpec("Qwen3-VL-2B", ("A",), Recipe()))}
    digest = digest_json({"kind": "training", **inputs})
    write_sealed(tmp_path / RECORD, {"digest": digest, "inputs": inputs, "files": {}})
    assert Run.load(tmp_path).digest == digest
    other = {"spec": inputs["spec"] | {"lora_rank": 4}}
    for record in ({"digest": "../../outside", "inputs": inputs}, {"digest": digest, "inputs": other}, {}):
        write_sealed(tmp_path / RECORD, {"files": {}} | record)
        with pytest.raises(RadarError, match="its hash is not that of a run"):
            Run.load(tmp_path)
