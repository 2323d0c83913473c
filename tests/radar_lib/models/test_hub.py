"""Hub ids without a network: huggingface_hub's cache, commits, and what is refused before any weight is used."""

import hashlib
import json
import shutil

import pytest
from safetensors.torch import load_file

from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES, checkpoint_digest, load_backbone, resolve_checkpoint
from radar_lib.models.checkpoints import _commit, open_checkpoint
from radar_lib.models.router import RadarRouter, RouterConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def sharded(checkpoints, shards, tmp_path_factory):
    """Checkpoint folders with several shards."""
    root = tmp_path_factory.mktemp("sharded")
    for name in ("gemma3-4b", "siglip2"):
        shutil.copytree(checkpoints / name, root / name)
        shards(root / name, load_file(root / name / "model.safetensors"))
        (root / name / "model.safetensors").unlink()
    return root


def hub_cache(root, folder, identifier, *, commit=COMMIT, branch="main"):
    """Files in huggingface_hub's cache as a download leaves them: named by their hash, linked by commit."""
    repository = root / f"models--{identifier.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for place in (snapshot, repository / "blobs", repository / "refs"):
        place.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    for path in folder.iterdir():
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blob)
    return snapshot


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    _commit.cache_clear()
    yield tmp_path / "hub"
    _commit.cache_clear()


def test_a_hub_id_loads_from_the_cache_and_names_its_commit(sharded, offline_hub, tmp_path):
    hub_cache(offline_hub, sharded / "gemma3-4b", "google/gemma-3-4b-it")
    full = f"google/gemma-3-4b-it@{COMMIT}"
    for reference in ("google/gemma-3-4b-it", "google/gemma-3-4b-it@main", full):
        assert checkpoint_digest(reference) == full
        files = open_checkpoint(reference)
        assert files.digest == files.reference == full and files.verified == 3
    backbone = load_backbone("google/gemma-3-4b-it")
    assert backbone.digest == backbone.checkpoint == full
    RadarRouter(backbone, RouterConfig(("A",), lora_rank=2)).save_pretrained(tmp_path / "router")
    saved = json.loads((tmp_path / "router" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("google/gemma-3-4b-it", COMMIT)
    card = (tmp_path / "router" / "README.md").read_text()
    assert "\nbase_model: google/gemma-3-4b-it\n" in card and full in card and str(tmp_path) not in card
    assert RadarRouter.from_pretrained(tmp_path / "router").backbone.checkpoint == full
    with pytest.raises(RadarError, match="network access"):
        load_backbone("google/gemma-3-4b-it@v2")
    with pytest.raises(RadarError, match="network access"):
        load_backbone(resolve_checkpoint(BACKBONES["Gemma3-4B"], "hub"))  # its pinned commit is not in this cache


def test_damage_in_the_hubs_cache_is_seen(sharded, offline_hub):
    snapshot = hub_cache(offline_hub, sharded / "siglip2", "owner/name")
    shard = snapshot / "model-00002-of-00003.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.resolve().write_bytes(content)
    with pytest.raises(RadarError, match=r"model-00002-of-00003.safetensors has the wrong hash.*Delete .*blobs"):
        load_backbone("owner/name")
    shard.unlink()
    with pytest.raises(RadarError, match="1 of 3 shards are missing, first model-00002"):
        load_backbone("owner/name")


def test_resolving_a_checkpoint(tmp_path):
    for spec in BACKBONES.values():
        identifier, _, revision = resolve_checkpoint(spec, "hub").partition("@")
        assert identifier == spec.hub_id and len(revision) == 40 and set(revision) <= set("0123456789abcdef")
    spec = BACKBONES["Qwen3-VL-2B"]
    assert resolve_checkpoint(spec, "package:some.package") == "package:some.package/qwen3-vl-2b"
    with pytest.raises(RadarError, match=r"expected a folder qwen3-vl-2b or Qwen3-VL-2B, or a line in checkpoints"):
        resolve_checkpoint(spec, str(tmp_path))
    for name in ("Qwen3-VL-2B", "qwen3-vl-2b"):
        (tmp_path / name).mkdir()
        assert resolve_checkpoint(spec, str(tmp_path)) == str(tmp_path / name)
    (tmp_path / "checkpoints.yaml").write_text("Qwen3-VL-2B: Qwen/Qwen3-VL-2B-Instruct@v2\n")
    assert resolve_checkpoint(spec, str(tmp_path)) == "Qwen/Qwen3-VL-2B-Instruct@v2"
    (tmp_path / "checkpoints.yaml").write_text("Qwen3-VL-4b: x/y\n")
    with pytest.raises(RadarError, match=r"no backbone is called 'Qwen3-VL-4b'"):
        resolve_checkpoint(spec, str(tmp_path))


@pytest.mark.parametrize("token", [None, "hf_of_the_environment"])
def test_the_token_comes_from_the_environment_only(monkeypatch, token):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **options: asked.append(options) or "a/b")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    _commit.cache_clear()
    checkpoint_digest("owner/name@v1")
    _commit.cache_clear()
    assert [options["token"] for options in asked] == [token or False]  # False: not even what a login has left
