"""The solutions notebooks run, and answer every exercise that the notebooks ask."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
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


def test_every_question_of_a_notebook_has_its_answer_in_the_solutions():
    for path in SOLUTIONS:
        assert asked_in(NOTEBOOKS / path.name) == asked_in(path), path.name
    assert sorted(name for path in SOLUTIONS for name in asked_in(path)) == sorted(BANK)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_each_exercise_leaves_room_for_its_answer_and_the_solutions_fill_it(path):
    cells, solved = code(NOTEBOOKS / path.name), code(path)
    elsewhere = "\n".join(source for source in cells if ".check(" not in source)
    used = {node.id for node in ast.walk(ast.parse(elsewhere)) if isinstance(node, ast.Name)}
    for number, name in enumerate(asked_in(path), 1):
        posed = f'q{number} = exercise("{name}")\nq{number}'
        skeleton = exercise(name).skeleton(f"q{number}")
        assert cells[cells.index(posed) + 1] == skeleton
        answer = solved[solved.index(posed) + 1]
        head, *_, check = skeleton.splitlines()
        assert head.removesuffix("...") in answer and answer.endswith(f"assert {check.removesuffix(';')}")
        assert re.split(r"\W+", head.removeprefix("def "))[0] not in used, "the answer would replace something"
