"""kill -9 at a random moment, ten times in one run: curve, weights and scores are those of a run left alone."""

import subprocess
import sys
from pathlib import Path

from radar_lib.files import read_json
from radar_lib.training.specs import Run

FILES = ("router/adapter_model.safetensors", "router/heads.safetensors")


def test_a_run_killed_ten_times_ends_as_one_left_alone(posts, checkpoints, tmp_path):
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(script), str(posts.folder), str(checkpoints), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    (whole,), (killed,) = ((tmp_path / name / "training").iterdir() for name in ("whole", "killed"))
    assert whole.name == killed.name  # one and the same run hash
    for name in FILES:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert Run.load(whole).scores("test").equals(Run.load(killed).scores("test"))
    curves = [read_json(folder / "history.json") for folder in (whole, killed)]
    assert curves[0]["steps"] == curves[1]["steps"] and curves[0]["epochs"] == curves[1]["epochs"]
