"""The solutions notebooks run, and answer every exercise that the notebooks ask."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from radar_lib.report.exercise_bank import BANK

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))


def asked_in(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return re.findall(r'exercise\("(\w+)"\)', source)


def test_every_answer_is_right():
    """All in one kernel, emptied in between: starting a kernel costs as much as running three of them."""
    everything = nbformat.v4.new_notebook()
    for path in SOLUTIONS:
        everything.cells.append(nbformat.v4.new_code_cell("%reset -f"))
        everything.cells += nbformat.read(path, as_version=4).cells
    for number, cell in enumerate(everything.cells):
        cell.id = f"cell-{number}"  # they are unique within a notebook only
    NotebookClient(everything, kernel_name="python3", timeout=60).execute()
    printed = str([cell.get("outputs") for cell in everything.cells])
    assert printed.count("'text/plain': '✔ correct'") == len(BANK)
    assert "✘" not in printed


def test_every_question_of_a_notebook_has_its_answer_in_the_solutions():
    for path in SOLUTIONS:
        assert asked_in(NOTEBOOKS / path.name) == asked_in(path), path.name
    assert sorted(name for path in SOLUTIONS for name in asked_in(path)) == sorted(BANK)
