"""Every example of a docstring gives what it says."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATHS = [path for package in ("radar_lib", "radar_suite") for path in sorted((ROOT / package).rglob("*.py"))]
NAMES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PATHS if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted and not found.failed
