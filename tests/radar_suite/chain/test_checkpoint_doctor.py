"""What `radar doctor --checkpoint` says of a sound, a damaged and a too large checkpoint."""

import shutil

import pytest

from radar_suite.chain import checkpoint_doctor, cli, exits
from radar_suite.world.standins import FOLDER as STANDINS


def examine(checkpoint):
    lines: list[str] = []
    code = checkpoint_doctor.examine(str(checkpoint), say=lines.append)
    return code, "\n".join(lines)


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "siglip2"])
def test_a_sound_checkpoint(name, capsys):
    assert cli.main(["doctor", "--checkpoint", f"standin:{name}"]) == exits.OK
    said = capsys.readouterr().out
    labels = ["files", "weights", "family", "parameters", "tokenizer", "images", "post", "forward"]
    assert [line.split()[1] for line in said.splitlines() if line.startswith("ok ")] == labels
    assert "warn" not in said and said.rstrip().endswith("all in order")
    assert "1 safetensors" in said and "(F16)" in said and "a vector of" in said


def test_a_damaged_one_is_named_with_its_remedy_and_nothing_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("radar_lib.models.backbones.load_backbone", None)
    folder = shutil.copytree(STANDINS / "siglip2", tmp_path / "siglip2")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, said = examine(folder)
    assert code == exits.USAGE and said.startswith("fail  files") and "Delete" in said and "download it again" in said
    assert "not fit to load" in said
    code, said = examine(tmp_path / "missing")
    assert code == exits.USAGE and "no checkpoint folder" in said


def test_one_without_an_image_processor(tmp_path):
    folder = shutil.copytree(STANDINS / "siglip2", tmp_path / "siglip2")
    (folder / "preprocessor_config.json").unlink()
    code, said = examine(folder)
    assert code == exits.USAGE and "fail  after weights" in said and "preprocessor_config.json" in said


def test_one_that_does_not_fit_is_checked_but_for_its_weights(monkeypatch):
    monkeypatch.setattr(checkpoint_doctor, "_room", lambda parameters: ("cpu", None))
    code, said = examine("standin:siglip2")
    assert code == exits.OK and "warn  forward" in said and "GiB are needed" in said and "1 warnings" in said


def test_a_name_of_the_papers_table_is_its_pinned_checkpoint(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = examine("Gemma3-4B")
    assert code == exits.USAGE and "google/gemma-3-4b-it@093f9f388b31" in said and "HF_TOKEN" in said
