"""The doctor: one line per finding, of an environment or of a checkpoint, and a remedy for each that is not ok."""

import shutil
import sys
from pathlib import Path

import pytest

from radar_suite.chain import cli, doctor, exits
from radar_suite.world.standins import FOLDER as STANDINS


def test_constraints_are_read_by_name(tmp_path: Path):
    (tmp_path / "constraints.txt").write_text("# pins\nTorch==2.13.0\nscikit-learn==1.9.1 ; x\n-e .\n")
    assert doctor.read_constraints(tmp_path / "constraints.txt") == {"torch": "2.13.0", "scikit-learn": "1.9.1"}
    assert doctor.read_constraints(tmp_path / "none.txt") == {}


def test_packages_are_compared_and_each_difference_has_a_remedy(monkeypatch):
    installed = {"torch": "2.13.0+cpu", "numpy": "2.0.0"}

    def version(name):
        if name not in installed:
            raise doctor.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "version", version)
    pins = {"torch": "2.13.0", "numpy": "2.4.6", "peft": "0.21.2"}
    same, numpy, peft = doctor.check_packages(pins, ["torch", "numpy", "peft"])
    assert same.state == "ok" and "1 of 3 as in constraints.txt: torch 2.13.0+cpu" in same.text
    assert numpy.state == "warn" and "the recorded runs used 2.4.6" in str(numpy)
    assert peft.state == "fail" and "pip install peft==0.21.2" in str(peft)
    assert "no constraints.txt to compare with" in doctor.check_packages({}, ["torch"])[0].text


def test_an_old_python_and_a_torch_that_cannot_be_imported_fail(monkeypatch):
    assert doctor.check_python().state == doctor.check_devices().state == "ok"
    monkeypatch.setattr(doctor, "PYTHON", (99, 0))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.check_python().state == doctor.check_devices().state == "fail"


def test_memory_counts_a_containers_limit(tmp_path: Path):
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    assert doctor.check_memory([limit]).text.count("GiB") == 1
    limit.write_text(str(2**30))
    check = doctor.check_memory([limit, tmp_path / "absent"])
    assert check.state == "warn" and "of 1.0 GiB" in check.text and check.remedy


def test_the_disk_is_tried(tmp_path: Path, monkeypatch):
    assert "is writable" in doctor.check_disk(tmp_path / "runs").text
    monkeypatch.setattr(doctor, "DISK_MIB", 10**9)
    assert doctor.check_disk(tmp_path).state == "warn"
    (tmp_path / "file").write_text("")
    assert doctor.check_disk(tmp_path / "file" / "runs").state == "fail"


def test_a_kernel_is_really_started():
    check = doctor.check_kernel()
    assert check.state == "ok", check


def test_a_kernel_that_fails_has_a_remedy(monkeypatch):
    monkeypatch.setattr("radar_suite.chain.processes.sys.executable", "/bin/false")
    check = doctor.check_kernel()
    assert check.state == "fail" and "ipykernel" in check.remedy and check.text


def test_the_verdict_is_the_exit_code(tmp_path: Path, monkeypatch):
    ok, bad = doctor.Check("ok", "x", "fine"), doctor.Check("fail", "x", "broken", "mend it")
    for name in ("check_python", "check_devices", "check_memory"):
        monkeypatch.setattr(doctor, name, lambda: ok)
    monkeypatch.setattr(doctor, "check_packages", lambda constraints: [ok])
    for found, code, last in [
        (ok, exits.OK, "all in order"),
        (bad, exits.ENVIRONMENT, "1 failed, 0 warnings"),
    ]:
        monkeypatch.setattr(doctor, "check_kernel", lambda found=found: found)
        lines: list[str] = []
        assert doctor.diagnose(project=tmp_path, runs=tmp_path, say=lines.append) == code
        assert lines[-1].strip() == last


def examine(checkpoint):
    """Exit code and text of `radar doctor --checkpoint`."""
    lines: list[str] = []
    code = doctor.examine(str(checkpoint), say=lines.append)
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
    monkeypatch.setattr(doctor, "place_for", lambda parameters: ("cpu", None))
    code, said = examine("standin:siglip2")
    assert code == exits.OK and "warn  forward" in said and "GiB are needed" in said and "1 warnings" in said


def test_a_name_of_the_papers_table_is_its_pinned_checkpoint(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = examine("Gemma3-4B")
    assert code == exits.USAGE and "google/gemma-3-4b-it@093f9f388b31" in said and "HF_TOKEN" in said
