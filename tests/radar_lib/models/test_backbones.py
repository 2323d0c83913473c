"""The registry, and what loading accepts and refuses."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES, checkpoint_digest, load_backbone, pretraining_record
from radar_lib.models.checkpoints import open_checkpoint
from radar_lib.models.families import FAMILIES
from radar_lib.models.text import TextLimit
from radar_suite.world.standins.geometry import GEOMETRIES


@pytest.fixture
def copy(checkpoints, tmp_path):
    """A checkpoint folder that a test may damage."""

    def make(name="qwen3-vl-2b"):
        return shutil.copytree(checkpoints / name, tmp_path / name)

    return make


def test_digest_follows_the_files_that_count(copy):
    folder = copy()
    before = checkpoint_digest(folder)
    assert load_backbone(folder).digest == before
    (folder / "README.md").write_text("a new card")
    (folder / "record.json").write_text('{"quality": 1}')
    assert checkpoint_digest(folder) == before and pretraining_record(folder) == {"quality": 1}
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert checkpoint_digest(folder) != before
    assert checkpoint_digest(f"owner/name@{'0a' * 20}") == f"owner/name@{'0a' * 20}"
    assert pretraining_record("owner/name") is None


def test_half_precision_weights_still_pool_to_float32(checkpoints, loaded, awkward_posts):
    half = load_backbone(checkpoints / "qwen3-vl-2b", dtype=torch.bfloat16)
    with torch.no_grad():
        encoded = half.encode(awkward_posts)
        out = half(half.collate(encoded))
        cached = half(half.collate(half.cache_features(encoded)))
        full = loaded("qwen3-vl-2b")(loaded("qwen3-vl-2b").collate(encoded))
    assert out.dtype == torch.float32 and next(half.model.parameters()).dtype == torch.bfloat16
    assert torch.equal(out, cached)
    torch.testing.assert_close(out, full, rtol=0.1, atol=0.15)


def test_text_limit_is_the_tokenizers_or_the_callers(checkpoints, loaded, awkward_posts):
    assert loaded("qwen3-vl-2b").max_text_tokens == loaded("qwen3-vl-2b").tokenizer.model_max_length
    short = load_backbone(checkpoints / "qwen3-vl-2b", text=TextLimit(5))
    assert short.encode(awkward_posts[5:])[0].n_tokens < loaded("qwen3-vl-2b").encode(awkward_posts[5:])[0].n_tokens


@pytest.mark.parametrize(
    ("reference", "said"),
    [("{}/missing", "no checkpoint folder"), ("{}", r"config\.json"), ("package:radar_lib.models/none", "config"),
     ("nobody/no-such-model", "network access"), ("{}/bert", r"'bert' is not one of gemma3.*families\.py")],
)  # fmt: skip
def test_a_checkpoint_that_is_absent_or_of_no_known_family(copy, change_json, tmp_path, monkeypatch, reference, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if reference.endswith("bert"):
        change_json(copy().rename(tmp_path / "bert") / "config.json", model_type="bert")
    with pytest.raises(RadarError, match=said):
        load_backbone(reference.format(tmp_path))


def test_a_pickle_is_never_read(copy):
    folder = copy()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    load_backbone(folder)  # beside safetensors it does not matter
    (folder / "model.safetensors").unlink()
    with pytest.raises(RadarError, match=r"a pickle \(pytorch_model\.bin\), which can run any code.*take the "):
        load_backbone(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(RadarError, match="neither model.safetensors nor"):
        load_backbone(folder)


@pytest.fixture
def sharded(copy, shards):
    """A folder of three shards with their index, and its weights."""
    folder = copy()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards(folder, weights)
    return folder


@pytest.mark.parametrize("damage", ["missing shard", "missing tensor", "other folder"])
def test_shards_that_do_not_fit_their_index(sharded, change_json, damage):
    shard = sharded / "model-00002-of-00003.safetensors"
    if damage == "missing shard":
        shard.unlink()
        said = r"1 of 3 shards are missing, first model-00002-of-00003.*Download"
    elif damage == "missing tensor":
        weights = load_file(shard)
        said = f"00002-of-00003.safetensors lacks 1 weights .* first {weights.popitem()[0]}.*Delete"
        save_file(weights, shard, {"format": "pt"})
    else:
        change_json(sharded / "model.safetensors.index.json", weight_map={"a": "../model-00001-of-00003.safetensors"})
        said = "not a safetensors file of this folder"
    with pytest.raises(RadarError, match=said):
        load_backbone(sharded)


@pytest.mark.parametrize("source", ["record", "download"])
def test_a_wrong_hash(copy, source):
    """A stand-in's record holds the hash, and so does what `hf download --local-dir` leaves beside the files."""
    folder = copy()
    weights = folder / "model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if source == "record":
        (folder / "record.json").write_text(json.dumps({"sha256": {weights.name: sha256}}))
    else:
        note = folder / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
        note.parent.mkdir(parents=True)
        note.write_text(f"{'0a' * 20}\n{sha256}\n1760000000.0\n")
    assert open_checkpoint(folder).verified == 1
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RadarError, match=rf"wrong hash: its bytes begin \w+, {sha256[:16]} is expected\. Delete"):
        load_backbone(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a safetensors file", "is not a safetensors file"),
        (b"", "is not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n", "git lfs pull"),
        (None, r"bytes, its header speaks of .*Delete"),
    ],
)
def test_damaged_or_truncated_weights(copy, content, message):
    weights = copy() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    with pytest.raises(RadarError, match=message):
        load_backbone(weights.parent)


def test_a_weight_that_no_file_holds(copy):
    folder = copy()
    weights = load_file(folder / "model.safetensors")
    gone = next(key for key in weights if "q_proj" in key)
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RadarError, match=f"1 weights are missing from its files, first .*{gone.split('.')[-2]}"):
        load_backbone(folder)


def test_a_backbone_is_frozen_float32_and_encodes_without_weights_too(checkpoints, loaded, awkward_posts):
    for name in GEOMETRIES:
        backbone, empty = loaded(name), load_backbone(checkpoints / name, device="meta")
        assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())
        assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
        assert {p.device.type for p in empty.parameters()} == {"meta"}  # the size of a model that does not fit
        mine, expected = empty.encode(awkward_posts), backbone.encode(awkward_posts)
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(mine, expected, strict=True))


def test_registry_has_the_papers_seven_and_each_has_a_geometry_of_its_family():
    assert len(BACKBONES) == 7 and [spec.role for spec in BACKBONES.values()].count("expert") == 1
    assert {spec.folder for spec in BACKBONES.values()} == set(GEOMETRIES)
    for name, spec in BACKBONES.items():
        assert spec.name == name and GEOMETRIES[spec.folder].family == spec.family and spec.family in FAMILIES
