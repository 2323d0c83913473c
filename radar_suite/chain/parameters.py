"""The `parameters` cell of a notebook, parsed with `ast`: names, types, defaults, and what fits them.

papermill only warns about a parameter that the notebook does not have, and its own inspection misses annotations
such as `int | None` and `Literal["a"]`, so the cell is read here and pydantic checks every value against it.
"""

from __future__ import annotations

import ast
import json
import re
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Optional, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from radar_lib.errors import RadarError
from radar_lib.ranges import check_ranges
from radar_suite.chain.exits import UsageError
from radar_suite.report.parameter_ranges import RANGES

TYPES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)}
TYPES |= {"Literal": Literal, "Optional": Optional, "Union": Union, "typing": typing, "__builtins__": {}}


class Misfit(Exception):
    """A value does not have the annotated type, or lies outside the parameter's range."""


@cache
def _adapter(annotation: str) -> TypeAdapter:
    kind = eval(annotation, dict(TYPES))
    kind = eval(kind, dict(TYPES)) if isinstance(kind, str) else kind  # written in quotes
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))


@dataclass(frozen=True)
class Parameter:
    """One line `name: annotation = default` of a parameters cell."""

    name: str
    annotation: str
    default: Any

    def fit(self, value: Any) -> Any:
        """`value` as this parameter's type: as in JSON, integers may be floats and lists tuples, and nothing else.

        Raises:
            Misfit: it does not have that type, or lies outside its range (`parameter_ranges.RANGES`).
        """
        try:
            fitting = _adapter(self.annotation).validate_json(json.dumps(value))
            check_ranges({self.name: fitting}, RANGES)
        except (ValidationError, TypeError, ValueError, RadarError):
            raise Misfit from None
        return fitting


def parse_parameters(source: str, *, notebook: str) -> dict[str, Parameter]:
    """Parameters of one cell, in order.

    Raises:
        UsageError: a line is not `name: type = literal`, or its default does not have its type.
    """
    parameters: dict[str, Parameter] = {}
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"{notebook}: the parameters cell is not Python (line {error.lineno}: {error.msg}).") from None
    for line in body:
        where = f"{notebook}, parameters cell, line {line.lineno}: `{ast.unparse(line)}`"
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None):
            raise UsageError(f"{where}. Every line must read `name: type = literal`.")
        name, annotation = line.target.id, ast.unparse(line.annotation)
        if name in parameters:
            raise UsageError(f"{where}. The name is declared twice.")
        try:
            default = ast.literal_eval(line.value)
        except ValueError:
            raise UsageError(f"{where}. The default must be a literal; derive values in a later cell.") from None
        try:
            _adapter(annotation)
        except Exception:
            raise UsageError(f"{where}. The type {annotation!r} is none that can be checked.") from None
        try:
            parameters[name] = Parameter(name, annotation, Parameter(name, annotation, None).fit(default))
            if parameters[name].default != default:  # a list for a tuple
                raise Misfit
        except Misfit:
            limits = f" that is {RANGES[name]}" if name in RANGES else ""
            raise UsageError(f"{where}. The default does not have the declared type{limits}.") from None
    return parameters


def without_magics(source: str) -> str:
    """A cell's source as Python alone."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)
