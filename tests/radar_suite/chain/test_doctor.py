"""The doctor: one line per finding, of an environment or of a checkpoint, and a remedy for each that is not ok."""

import shutil
import sys
from pathlib import Path

import pytest

from radar_lib.errors import RadarError
from radar_suite.chain import cli, doctor, exits
from radar_suite.world.standins import FOLDER as STANDINS


def test_packages_are_compared_and_each_difference_has_a_remedy(tmp_path: Path, monkeypatch):
    installed = {"torch": "2.13.0+cpu", "numpy": "2.0.0"}

    def version(name):
        if name not in installed:
            raise doctor.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "requires", lambda name: ["torch>=2", "numpy", "peft>=0.2", 'ruff; extra == "dev"'])
    pins = tmp_path / "constraints.txt"
    pins.write_text("# pins\nTorch==2.13.0\nnumpy==2.4.6 ; x\npeft==0.21.2\n-e .\n")
    numpy, peft, same = doctor.check_packages(pins)
    assert numpy.state == "warn" and "2.4.6" in str(numpy) and numpy.remedy
    assert peft.state == "fail" and "pip install peft==0.21.2" in str(peft)
    assert same.state == "ok" and "torch 2.13.0+cpu" in same.text
    assert [check.state for check in doctor.check_packages(tmp_path / "none.txt")] == ["fail", "ok"]


def test_a_torch_that_cannot_be_imported_fails(monkeypatch):
    assert [check.state for check in doctor.check_devices()] == ["ok"]
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [check.state for check in doctor.check_devices()] == ["fail"]


def test_a_containers_memory_counts_and_the_disk_is_tried(tmp_path: Path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text(str(2**30))
    memory, disk = doctor.check_room(tmp_path / "runs", [limit, tmp_path / "absent"])
    assert memory.state == "warn" and "of 1.0 GiB" in memory.text and memory.remedy and "is writable" in disk.text
    limit.write_text("max\n")
    monkeypatch.setattr(doctor, "DISK_GIB", 1e9)
    memory, disk = doctor.check_room(tmp_path / "runs", [limit])
    assert "of 1.0 GiB" not in memory.text and disk.state == "warn" and disk.remedy
    (tmp_path / "file").write_text("")
    assert [check.state for check in doctor.check_room(tmp_path / "file" / "runs", [])][-1] == "fail"


def test_a_kernel_is_really_started_and_one_that_fails_has_a_remedy(monkeypatch):
    assert [check.state for check in doctor.check_kernel()] == ["ok"]
    monkeypatch.setattr("radar_suite.chain.processes.sys.executable", "/bin/false")
    (check,) = doctor.check_kernel()
    assert check.state == "fail" and "ipykernel" in check.remedy and check.text


def test_the_verdict_is_the_exit_code():
    def check_one(*states, error=None):
        yield from (doctor.Check(state, "x", "text", "" if state == "ok" else "mend it") for state in states)
        if error:
            raise error

    setup, usage = exits.SetupError("no kernel"), RadarError("bad file\ndownload it")
    for parts, code, last in [
        ([check_one("ok"), check_one("ok")], exits.OK, "all in order"),
        ([check_one("warn"), check_one("ok")], exits.OK, "0 failed, 1 warnings"),
        ([check_one("fail"), check_one("ok")], exits.ENVIRONMENT, "1 failed, 0 warnings"),
        ([check_one(error=setup), check_one("warn")], exits.ENVIRONMENT, "1 failed, 1 warnings"),
        ([check_one("ok", error=usage)], exits.USAGE, "1 failed, 0 warnings"),
    ]:
        lines: list[str] = []
        assert doctor.report(parts, lines.append) == code and lines[-1].strip() == last
    assert lines[-2].startswith("fail  after x") and lines[-2].endswith("-> download it")


def examine(checkpoint):
    """Exit code and text of `radar doctor --checkpoint`."""
    lines: list[str] = []
    return doctor.examine(str(checkpoint), say=lines.append), "\n".join(lines)


@pytest.mark.parametrize("name", ["qwen3-vl-2b", "siglip2"])
def test_a_sound_checkpoint(name, capsys):
    assert cli.main(["doctor", "--checkpoint", f"standin:{name}"]) == exits.OK
    text = capsys.readouterr().out
    labels = ["files", "weights", "family", "parameters", "tokenizer", "images", "post", "forward"]
    assert [line.split()[1] for line in text.splitlines() if line.startswith("ok ")] == labels
    assert "warn" not in text and "1 safetensors" in text and "(F16)" in text and "a vector of" in text


def test_the_text_is_cut_as_in_the_chain(capsys):
    for given, limit in (([], 256), (["--text-tokens", "40"], 40)):
        assert cli.main(["doctor", "--checkpoint", "standin:qwen3-vl-2b", *given]) == exits.OK
        assert f"text is cut at {limit}\n" in capsys.readouterr().out


def test_a_damaged_one_is_named_with_its_remedy_and_nothing_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("radar_lib.models.backbones.load_backbone", None)
    folder = shutil.copytree(STANDINS / "siglip2", tmp_path / "siglip2")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, text = examine(folder)
    assert code == exits.USAGE and text.startswith("fail") and "download it again" in text
    code, text = examine(tmp_path / "missing")
    assert code == exits.USAGE and "no checkpoint folder" in text


def test_one_without_an_image_processor(tmp_path):
    folder = shutil.copytree(STANDINS / "siglip2", tmp_path / "siglip2")
    (folder / "preprocessor_config.json").unlink()
    code, text = examine(folder)
    assert code == exits.USAGE and "fail  after weights" in text and "preprocessor_config.json" in text


def test_one_that_does_not_fit_is_checked_but_for_its_weights(monkeypatch):
    monkeypatch.setattr(doctor, "place_for", lambda parameters: ("cpu", None))
    code, text = examine("standin:siglip2")
    assert code == exits.OK and "warn  forward" in text and "GiB" in text


def test_a_name_of_the_papers_table_is_its_pinned_checkpoint(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, text = examine("Gemma3-4B")
    assert code == exits.USAGE and "google/gemma-3-4b-it@093f9f388b31" in text and "HF_TOKEN" in text
