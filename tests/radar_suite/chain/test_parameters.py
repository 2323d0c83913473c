"""The parameters cell: what is accepted as a declaration, and which values fit it."""

import pytest

from radar_suite.chain.exits import UsageError
from radar_suite.chain.parameters import Misfit, Parameter, parse_parameters

FITS = [
    ("int", 3, 3),
    ("float", 3, 3.0),
    ("float", 1e-5, 1e-5),
    ("bool", True, True),
    ("str", "", ""),
    ("int | None", None, None),
    ("Optional[int]", 4, 4),
    ("typing.Optional[int]", None, None),
    ("Union[int, str]", "a", "a"),
    ("float | None", 2, 2.0),
    ("int | float", 2, 2),
    ("list[float]", [0, 0.5, 1], [0.0, 0.5, 1.0]),
    ("list", [1, "a"], [1, "a"]),
    ("tuple[int, ...]", [1, 2, 3], (1, 2, 3)),
    ("tuple[str, float]", ["a", 1], ("a", 1.0)),
    ("tuple", [1], (1,)),
    ("dict[str, float]", {"a": 1}, {"a": 1.0}),
    ('Literal["a", 2, None]', None, None),
    ('Literal["a", 2]', "a", "a"),
    ('"int | None"', None, None),
    ("list[tuple[int, int]]", [[1, 2]], [(1, 2)]),
]
MISFITS = [
    ("int", True), ("int", 1.0), ("int", "1"), ("float", "1e-5"), ("float", True), ("float", float("nan")),
    ("float", float("inf")), ("bool", 1), ("str", 1), ("str", None), ("list[float]", [True]),
    ("tuple[int, int]", [1]), ("tuple[int, ...]", ["a"]), ('Literal["a"]', "b"),
    ("int | None", "x"), ("dict[str, int]", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "expected"), FITS)
def test_a_value_that_fits_is_converted_exactly(annotation, value, expected):
    got = Parameter("x", annotation, None).fit(value)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(("annotation", "value"), MISFITS)
def test_a_value_of_another_type_is_refused(annotation, value):
    with pytest.raises(Misfit):
        Parameter("x", annotation, None).fit(value)


def test_a_cell_is_parsed_in_order_with_comments_and_strings_that_hold_an_equals_sign():
    cell = '# sizes\nn: int = 3  # posts\ntext: str = "a=b"\nsign: float = -0.5\nmaybe: int | None = None\n'
    found = parse_parameters(cell, notebook="01_a")
    assert {name: parameter.default for name, parameter in found.items()} == {
        "n": 3, "text": "a=b", "sign": -0.5, "maybe": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("n = 3", "name: type = literal"),
        ("n: int", "name: type = literal"),
        ("import os", "name: type = literal"),
        ("n: int = 3\nm: int = n * 2", "must be a literal"),
        ("n: int = 'a'", "does not have the declared type"),
        ("n: list[int] = (1,)", "does not have the declared type"),
        ("n: np.ndarray = 3", "type 'np.ndarray' is none"),
        ("n: int = 3\nn: int = 4", "declared twice"),
        ("n: int = (", "not Python"),
    ],
)
def test_a_bad_declaration_names_notebook_and_line(cell, message):
    with pytest.raises(UsageError, match="01_a") as error:
        parse_parameters(cell, notebook="01_a")
    assert message in str(error.value)
