"""The registry, and what loading accepts and refuses."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.models.backbones import (
    BACKBONES,
    checkpoint_digest,
    load_backbone,
    pretraining_record,
    resolve_checkpoint,
)
from radar_lib.models.families import FAMILIES
from radar_lib.models.standins.geometry import GEOMETRIES


@pytest.fixture
def copy(checkpoints, tmp_path):
    """A checkpoint folder that a test may damage."""

    def make(name="qwen3-vl-2b"):
        return shutil.copytree(checkpoints / name, tmp_path / name)

    return make


def test_registry_has_the_papers_seven_and_each_has_a_geometry_of_its_family():
    assert len(BACKBONES) == 7 and [spec.role for spec in BACKBONES.values()].count("expert") == 1
    assert {spec.standin for spec in BACKBONES.values()} == set(GEOMETRIES)
    for name, spec in BACKBONES.items():
        assert spec.name == name and GEOMETRIES[spec.standin].family == spec.family and spec.family in FAMILIES


def test_resolving_a_checkpoint(tmp_path):
    spec = BACKBONES["Qwen3-VL-2B"]
    assert resolve_checkpoint(spec, "standins") == "standin:qwen3-vl-2b"
    assert resolve_checkpoint(spec, "hub") == "Qwen/Qwen3-VL-2B-Instruct"
    with pytest.raises(RadarError, match="expected a folder qwen3-vl-2b or Qwen3-VL-2B"):
        resolve_checkpoint(spec, str(tmp_path))
    (tmp_path / "Qwen3-VL-2B").mkdir()
    assert resolve_checkpoint(spec, str(tmp_path)) == str(tmp_path / "Qwen3-VL-2B")
    (tmp_path / "qwen3-vl-2b").mkdir()
    assert resolve_checkpoint(spec, str(tmp_path)) == str(tmp_path / "qwen3-vl-2b")


def test_a_backbone_is_frozen_in_evaluation_mode_and_float32(loaded):
    for name in GEOMETRIES:
        backbone = loaded(name)
        assert not backbone.training and not any(p.requires_grad for p in backbone.parameters())
        assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
        assert backbone.family == GEOMETRIES[name].family


def test_digest_follows_the_files_that_count(copy):
    folder = copy()
    before = checkpoint_digest(folder)
    assert load_backbone(folder).digest == before
    (folder / "README.md").write_text("a new card")
    (folder / "record.json").write_text('{"quality": 1}')
    assert checkpoint_digest(folder) == before and pretraining_record(folder) == {"quality": 1}
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert checkpoint_digest(folder) != before
    assert checkpoint_digest("owner/name", revision="abc") == "owner/name@abc"
    assert pretraining_record("owner/name") is None


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "gemma3-4b", "llava-ov-0.5b"])
def test_a_generation_checkpoint_loads_as_the_same_backbone(loaded, copy, awkward_posts, name):
    """Hub checkpoints are saved with a language-model head and other key names, in several shards."""
    from transformers import AutoModelForImageTextToText

    folder, base = copy(name), loaded(name)
    generator = AutoModelForImageTextToText.from_config(base.model.config)
    generator.model.load_state_dict(base.model.state_dict())
    (folder / "model.safetensors").unlink()
    generator.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    again = load_backbone(folder)
    with torch.no_grad():
        batch = base.collate(base.encode(awkward_posts))
        torch.testing.assert_close(again(batch), base(batch))
    next(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(RadarError, match="cannot load checkpoint"):
        load_backbone(folder)


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
    short = load_backbone(checkpoints / "qwen3-vl-2b", max_text_tokens=5)
    assert short.encode(awkward_posts[5:])[0].n_tokens < loaded("qwen3-vl-2b").encode(awkward_posts[5:])[0].n_tokens


def test_no_such_folder(tmp_path):
    with pytest.raises(RadarError, match="no checkpoint folder"):
        load_backbone(tmp_path / "missing")
    with pytest.raises(RadarError, match=r"config\.json"):
        load_backbone(tmp_path)
    with pytest.raises(RadarError, match=r"config\.json"):
        load_backbone("standin:no-such-standin")


def test_an_unknown_hub_id_says_what_is_needed(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RadarError, match="network access"):
        load_backbone("nobody/no-such-model", revision="main")


def test_a_family_outside_the_registry(copy):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": config["architectures"]}))
    with pytest.raises(RadarError, match=r"'bert' is not one of gemma3, llava_onevision, qwen3_vl, siglip"):
        load_backbone(folder)


def test_a_pickle_is_never_read(copy):
    folder = copy()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(RadarError, match="safetensors"):
        load_backbone(folder)


def test_a_damaged_or_incomplete_weight_file(copy):
    from safetensors.torch import load_file, save_file

    folder = copy()
    weights = load_file(folder / "model.safetensors")
    gone = next(key for key in weights if "q_proj" in key)
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RadarError, match=f"1 weights are missing from its files, first .*{gone.split('.')[-2]}"):
        load_backbone(folder)
    (folder / "model.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(RadarError, match="cannot load checkpoint"):
        load_backbone(folder)
