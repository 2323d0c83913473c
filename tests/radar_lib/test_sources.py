"""What a key covers: sources that are imported, whatever the way, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from radar_lib import sources

ROOT = Path(__file__).parents[2]
TRAINING = "radar_lib.training.lab"


def digests(root: Path, *modules: str) -> dict[str, str]:
    """`source_digests` of a copy of this project, in a process that imports that copy."""
    code = f"import json; from radar_lib.sources import source_digests; print(json.dumps(source_digests(*{modules!r})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.fixture
def project(tmp_path):
    """A copy of both packages' sources."""
    for path in [path for name in ("radar_lib", "radar_suite") for path in (ROOT / name).rglob("*.py")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path


def test_training_covers_losses_and_models_and_no_room_of_the_suite():
    covered = sources.source_digests(TRAINING)
    expected = {"radar_lib.losses", "radar_lib.models.router", "radar_lib.training.loop", "radar_lib.data.posts"}
    assert expected <= set(covered)
    assert not [name for name in covered if name.startswith("radar_suite")]


def test_imports_inside_functions_and_relative_ones_are_followed():
    assert sources.imports_of("def f():\n    from radar_lib.models import router\n") == {
        "radar_lib.models",
        "radar_lib.models.router",
    }
    assert sources.imports_of("from . import losses", package="radar_lib") == {"radar_lib", "radar_lib.losses"}
    assert sources.imports_of("import numpy\nimport radar_lib.losses as x") == {"radar_lib.losses"}


def test_data_files_beside_a_module_are_covered():
    covered = sources.source_digests("radar_suite.world.language")
    assert "radar_suite.world/banks/en.yaml" in covered
    assert not [name for name in covered if name.startswith("radar_suite.world.standins")]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("radar_lib/losses.py", "\nimport", "\n# a comment\nimport", False),
        ("radar_lib/losses.py", '"""', '"""Other words. ', False),
        ("radar_lib/losses.py", "torch.where(", "torch.where(*", True),
        ("radar_suite/report/plots.py", "\nimport", "\nfrom pathlib import Path\nimport", False),
    ],
)
def test_a_key_changes_with_a_line_that_training_runs_and_with_no_other(project, file, old, new, changed):
    before = digests(project, TRAINING)
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))
    assert (digests(project, TRAINING) != before) == changed


def test_training_and_encoding_cover_no_more_than_they_run():
    training = {name.rpartition(".")[2] for name in sources.source_digests(TRAINING)}
    encoding = {name.rpartition(".")[2] for name in sources.source_digests("radar_lib.training.encoder")}
    assert not training & {"parallel", "workers", "teachers"}
    assert {"families", "encoded"} <= encoding and not encoding & {"loop", "losses", "router"}
