"""A notebook's process before, in and after its turn; its kernel knows the notebook's imports and nothing else."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from radar_suite.chain import exits
from radar_suite.chain.job import Job, next_to_run
from radar_suite.chain.kernel import imports_of
from radar_suite.chain.notebooks import discover


def test_the_imports_of_the_cells_in_order_and_once():
    cells = ["import os, json as j\nx = 1\nif x:\n    import torch", "%magic\nimport lost", "import os, json as j"]
    assert imports_of([*cells, "from a.b import c"]) == "import os, json as j\nfrom a.b import c"


def test_the_next_is_the_first_that_is_stale_or_reads_what_is_made_now():
    a, b, c, d = (SimpleNamespace(name=name, upstream=("a",) if name == "c" else ()) for name in "abcd")
    assert next_to_run([a, b, c, d], a, []) is c
    assert next_to_run([a, b, c, d], a, ["a", "b"]) is b
    assert next_to_run([a, b, c, d], b, ["a", "d"]) is d
    assert next_to_run([a, b, c, d], d, ["a"]) is None


WARM = """\
import sys
assert "colorsys" in sys.modules, "not warmed up"
assert not {"colorsys", "t"} & set(globals()), "names were left behind"
import no_such_module_at_all"""


def test_a_kernel_is_warm_but_empty_and_a_missing_import_still_fails(project, capsys):
    project.step("00_a", "print(1)")
    project.step("01_b", WARM, "import colorsys\nimport time as t", reads=("00_a/out.json",))
    assert project.run() == exits.FAILURE
    assert "No module named 'no_such_module_at_all'" in capsys.readouterr().out


def test_a_process_that_never_has_its_turn_leaves_the_earlier_log_and_no_kernel(project, tmp_path):
    project.step("00_a", "print(1)")
    (notebook,) = discover(project.notebooks)
    log = tmp_path / "00_a/log.txt"
    log.parent.mkdir()
    log.write_text("earlier")
    job = Job.start(notebook, tmp_path, {})
    deadline = time.monotonic() + 60
    while len(job.tree()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = job.tree()
    assert len(processes) >= 2, "no kernel was started"
    job.end()
    job.end()  # twice is once
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive and log.read_text() == "earlier" and [path.name for path in log.parent.iterdir()] == ["log.txt"]


def test_the_process_ends_with_its_parent(project, tmp_path):
    project.step("00_a", "print(1)")
    code = (
        "import os\nfrom pathlib import Path\nfrom radar_suite.chain.notebooks import discover\n"
        "from radar_suite.chain.job import Job\n"
        f"job = Job.start(discover(Path({str(project.notebooks)!r}))[0], Path({str(tmp_path)!r}), {{}})\n"
        "print(job.process.pid, flush=True)\nos._exit(0)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline, "it outlived the chain"
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["00_primer", "05_router_training"])
def test_the_real_notebooks_import_what_can_be_imported(name):
    from pathlib import Path

    root = Path(__file__).parents[3] / "notebooks"
    cells = json.loads((root / f"{name}.ipynb").read_text())["cells"]
    found = imports_of("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "from radar_lib" in found
    exec(found, {})
