"""The solutions notebooks run, and answer every exercise that the notebooks ask."""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from radar_suite.exercises.bank import BANK
from radar_suite.exercises.engine import exercise

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def asked_in(path: Path) -> list[str]:
    return re.findall(r'exercise\("(\w+)"\)', "\n".join(code(path)))


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


def test_every_question_leaves_room_for_its_answer_and_the_solutions_fill_it():
    assert sorted(name for path in SOLUTIONS for name in asked_in(path)) == sorted(BANK)
    for path in SOLUTIONS:
        cells, solved = code(NOTEBOOKS / path.name), code(path)
        assert asked_in(path) and asked_in(NOTEBOOKS / path.name) == asked_in(path), path.name
        for number, name in enumerate(asked_in(path), 1):
            posed, skeleton = f'q{number} = exercise("{name}")\nq{number}', exercise(name).skeleton(f"q{number}")
            assert cells[cells.index(posed) + 1] == skeleton
            answer, (head, *_, check) = solved[solved.index(posed) + 1], skeleton.splitlines()
            assert head.removesuffix("...") in answer and answer.endswith(f"assert {check.removesuffix(';')}")
