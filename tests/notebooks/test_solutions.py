"""The solutions notebooks run, and answer every exercise that the notebooks ask."""

import re
from pathlib import Path

import nbformat
import pytest

from radar_suite.exercises.bank import BANK
from radar_suite.exercises.engine import exercise

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def asked_in(path: Path) -> list[str]:
    return re.findall(r'exercise\("(\w+)"\)', "\n".join(code(path)))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_answer_is_right(path, capsys):
    """Each is asserted by its own cell."""
    space = {}
    for source in code(path):
        exec(compile(source, path.name, "exec"), space)
    assert capsys.readouterr().out.count("✔ correct") == len(asked_in(path))


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
