"""Discovery, the graph, and which notebooks a command means."""

import json

import pytest

from radar_suite.chain.exits import UsageError
from radar_suite.chain.notebooks import discover, find, select

PARAMETERS = "seed: int = 1"


@pytest.fixture
def three(project):
    project.add("00_a", PARAMETERS, "print(seed)", writes=["out.json", "scores"])
    project.add(
        "01_b", PARAMETERS, "print(seed)", reads=["00_a/scores/x.parquet"], writes=["b.json"], title="Second"
    )
    project.add("02_c", PARAMETERS, "print(seed)", reads=["01_b/b.json", "00_a/out.json"])
    (project.notebooks / "scratch.ipynb").write_text("not looked at")
    return project


def test_notebooks_come_in_order_with_their_declarations(three):
    first, second, third = discover(three.notebooks)
    assert [first.name, second.name, third.name] == ["00_a", "01_b", "02_c"]
    assert second.title == "Second" and second.limit_s("cpu") == 300
    assert third.upstream == ("01_b", "00_a") and first.upstream == ()
    assert list(first.parameters) == ["seed"]


def test_only_code_cells_count_for_the_code_digest(three):
    before = discover(three.notebooks)[0].code
    three.add("00_a", "seed: int = 5", "# New prose", "print(seed)", writes=["out.json", "scores"])
    assert discover(three.notebooks)[0].code == before
    three.add("00_a", PARAMETERS, "print(seed + 1)", writes=["out.json", "scores"])
    assert discover(three.notebooks)[0].code != before


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("00_a/ot.json", "is written by no notebook. Did you mean '00_a/out.json'"),
        ("02_c/late.json", "is written only later"),
        ("01_b/own.json", "is written only later"),
        ("/etc/passwd", "below the run's folder"),
        ("../x", "below the run's folder"),
    ],
)
def test_a_read_must_be_an_earlier_write(three, read, message):
    three.add("01_b", PARAMETERS, reads=[read], writes=["b.json", "own.json"])
    three.add("02_c", PARAMETERS, writes=["late.json"])
    with pytest.raises(UsageError, match="01_b.ipynb") as error:
        discover(three.notebooks)
    assert message in str(error.value)


def test_limits_may_differ_by_profile(three):
    three.add("02_c", PARAMETERS, time_limit_min={"default": 2, "paper": 6000})
    notebook = discover(three.notebooks)[2]
    assert notebook.limit_s("cpu") == 120 and notebook.limit_s("paper") == 360_000
    three.add("02_c", PARAMETERS, time_limit_min="long")
    with pytest.raises(UsageError, match="02_c.ipynb: .*time_limit_min.* number"):
        discover(three.notebooks)


def test_a_file_that_is_no_proper_notebook_is_named(three):
    path = three.notebooks / "00_a.ipynb"
    content = json.loads(path.read_text())
    for broken, message in [
        ("{", "not a notebook"),
        (json.dumps({"cells": [], "metadata": {}}), "needs `radar`"),
        (json.dumps(content | {"cells": content["cells"][1:]}), "0 cells are tagged `parameters`"),
        (json.dumps(content | {"cells": content["cells"][:1] * 2}), "2 cells are tagged"),
        (json.dumps(content | {"metadata": {"radar": {"title": "x", "reads": "a"}}}), "reads Input should be a"),
    ]:
        path.write_text(broken)
        with pytest.raises(UsageError, match="00_a.ipynb") as error:
            discover(three.notebooks)
        assert message in str(error.value)
    with pytest.raises(UsageError, match="no notebooks named like"):
        discover(three.root)


def test_a_notebook_is_found_by_number_name_or_file(three):
    notebooks = discover(three.notebooks)
    for name in ("1", "01", "01_b", "01_b.ipynb", "notebooks/01_b.ipynb"):
        assert find(name, notebooks).name == "01_b"
    with pytest.raises(UsageError, match=r"no notebook '01_c'.* Notebooks: 00_a, 01_b, 02_c"):
        find("01_c", notebooks)


def test_from_and_only_select(three):
    notebooks = discover(three.notebooks)
    assert select(notebooks) == notebooks
    assert [book.name for book in select(notebooks, start="01")] == ["01_b", "02_c"]
    assert [book.name for book in select(notebooks, only=["02", "00_a"])] == ["00_a", "02_c"]
