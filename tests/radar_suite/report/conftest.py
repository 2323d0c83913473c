"""The small corpus and the tiny checkpoints of the training tests."""

from pathlib import Path
from runpy import run_path

training = run_path(str(Path(__file__).parents[2] / "radar_lib/training/conftest.py"))
posts, checkpoints = training["posts"], training["checkpoints"]
