"""What every notebook promises: one cell of literal parameters, no outputs, short cells, declared files."""

import ast
import inspect
import re
import sys
from pathlib import Path
from statistics import median

import pytest
import yaml

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat's optional check of URLs takes seconds to import
import nbformat  # noqa: E402

from radar_suite.chain.notebooks import check_graph, discover  # noqa: E402
from radar_suite.chain.parameters import without_magics  # noqa: E402
from radar_suite.chain.profiles import load_profile, resolve  # noqa: E402
from radar_suite.report.experiments import EXECUTION, set_up  # noqa: E402

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = {p.stem: yaml.safe_load(p.read_text()) for p in sorted((ROOT / "notebooks/profiles").glob("*.yaml"))}
NOTEBOOKS = {notebook.name: notebook for notebook in discover(ROOT / "notebooks")}

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_chain_holds_together():
    check_graph(list(NOTEBOOKS.values()))
    assert [name[:2] for name in NOTEBOOKS] == [f"{n:02d}" for n in range(len(PATHS))]


@every_notebook
def test_a_notebook_is_committed_without_outputs_and_on_any_machines_kernel(path):
    notebook, code = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@every_notebook
def test_cells_are_short(path):
    lengths = [len(cell.source.splitlines()) for cell in read(path)[1]]
    assert median(lengths) <= 6 and max(lengths) <= 25


@every_notebook
def test_parameters_are_used_and_default_to_the_cpu_profile(path):
    notebook = NOTEBOOKS[path.stem]
    places = ("profile", "runs_dir", "device", "seed")  # which every notebook has
    set_up_reads = {*places, *EXECUTION, *re.findall(r'"(\w+)"', inspect.getsource(set_up))}
    nodes = [node for source in notebook.sources for node in ast.walk(ast.parse(without_magics(source)))]
    read_here = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert "globals" in read_here and set(notebook.parameters) <= read_here | set_up_reads
    assert {"profile", "runs_dir", "device", "seed"} <= set(notebook.parameters)
    given = {name: value for name, value in PROFILES["cpu"].items() if name in notebook.parameters}
    for name, value in given.items():
        assert notebook.parameters[name].default == value, name


def test_one_name_has_one_default_everywhere_and_cpu_lists_them_all():
    declared = {name: notebook.parameters for name, notebook in NOTEBOOKS.items()}
    known = {parameter for parameters in declared.values() for parameter in parameters}
    assert known - set(PROFILES["cpu"]) == {"runs_dir"}
    defaults = {name: {one: cell[one].default for one in cell} for name, cell in declared.items()}
    assert resolve(declared, load_profile("cpu", ROOT / "notebooks/profiles")[1]) == defaults


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_names_known_parameters_and_itself(name):
    known = {parameter for notebook in NOTEBOOKS.values() for parameter in notebook.parameters}
    assert set(PROFILES[name]) <= known and PROFILES[name]["profile"] == name
