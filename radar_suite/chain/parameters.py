"""The `parameters` cell of a notebook, parsed with `ast`: names, types, defaults, and what fits them.

papermill only warns about a parameter that the notebook does not have, and its own inspection misses annotations
such as `int | None` and `Literal["a"]`, so the cell is read here and every value is checked against it.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from radar_suite.chain.exits import UsageError

_SCALARS = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "tuple": tuple, "dict": dict}
_GENERICS = ("optional", "union", "literal", "list", "dict", "tuple")


class Misfit(Exception):
    """A value does not have the annotated type."""


@dataclass(frozen=True)
class Parameter:
    """One line `name: annotation = default` of a parameters cell."""

    name: str
    annotation: str
    default: Any

    def fit(self, value: Any) -> Any:
        """`value` as this parameter's type: integers become floats and lists become tuples where declared so.

        Raises:
            Misfit: it does not have that type.
        """
        return _fit(ast.parse(self.annotation, mode="eval").body, value)


def _fit(node: ast.expr, value: Any) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _fit(ast.parse(node.value, mode="eval").body, value)
    if isinstance(node, ast.Constant) and node.value is None:
        return _require(value is None, value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _fit_any((node.left, node.right), value)
    if isinstance(node, ast.Subscript):
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _fit_generic(_name(node.value), arguments, value)
    return _fit_scalar(_name(node), value)


def _fit_scalar(name: str, value: Any) -> Any:
    kind = _SCALARS[name]
    if isinstance(value, float) and not math.isfinite(value):
        raise Misfit
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    return _require(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), value)


def _fit_generic(name: str, arguments: list[ast.expr], value: Any) -> Any:
    match name.lower():
        case "optional":
            return None if value is None else _fit(arguments[0], value)
        case "union":
            return _fit_any(arguments, value)
        case "literal":
            choices = [ast.literal_eval(choice) for choice in arguments]
            return _require(any(type(value) is type(choice) and value == choice for choice in choices), value)
        case "list":
            return [_fit(arguments[0], item) for item in _require(isinstance(value, list), value)]
        case "dict":
            items = _require(isinstance(value, dict), value).items()
            return {_fit(arguments[0], key): _fit(arguments[1], item) for key, item in items}
        case "tuple":
            items = _require(isinstance(value, list | tuple), value)
            if isinstance(arguments[-1], ast.Constant) and arguments[-1].value is Ellipsis:
                return tuple(_fit(arguments[0], item) for item in items)
            _require(len(items) == len(arguments), value)
            return tuple(_fit(kind, item) for kind, item in zip(arguments, items, strict=True))
    raise KeyError(name)


def _fit_any(kinds: Iterable[ast.expr], value: Any) -> Any:
    for kind in kinds:
        try:
            return _fit(kind, value)
        except Misfit:
            continue
    raise Misfit


def _require(condition: bool, value: Any) -> Any:
    if not condition:
        raise Misfit
    return value


def _name(node: ast.expr) -> str:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    if name not in _SCALARS and name.lower() not in _GENERICS:
        raise KeyError(ast.unparse(node))
    return name


def parse_parameters(source: str, *, notebook: str) -> dict[str, Parameter]:
    """Parameters of one cell, in order.

    Raises:
        UsageError: a line is not `name: type = literal`, or its default does not have its type.
    """
    found: dict[str, Parameter] = {}
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(
            f"{notebook}: the parameters cell is not Python (line {error.lineno}: {error.msg})."
        ) from None
    for line in body:
        where = f"{notebook}, parameters cell, line {line.lineno}: `{ast.unparse(line)}`"
        if not (
            isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None
        ):
            raise UsageError(f"{where}. Every line must read `name: type = literal`.")
        name, annotation = line.target.id, ast.unparse(line.annotation)
        try:
            default = Parameter(name, annotation, None).fit(ast.literal_eval(line.value))
        except KeyError as error:
            raise UsageError(
                f"{where}. The type {error} is not one that a profile can be checked against."
            ) from None
        except ValueError:
            raise UsageError(
                f"{where}. The default must be a literal; derive values in a later cell."
            ) from None
        except Misfit:
            raise UsageError(f"{where}. The default does not have the declared type.") from None
        if name in found:
            raise UsageError(f"{where}. The name is declared twice.")
        found[name] = Parameter(name, annotation, default)
    return found


def without_magics(source: str) -> str:
    """A cell's source as Python alone."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def unused_parameters(parameters: Iterable[str], sources: Iterable[str]) -> list[str]:
    """Parameters that no code cell reads: setting them would change nothing, silently.

    Args:
        parameters: names declared in the parameters cell.
        sources: the notebook's other code cells.
    """
    read: set[str] = set()
    for source in sources:
        names = (node for node in ast.walk(ast.parse(without_magics(source))) if isinstance(node, ast.Name))
        read |= {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return [name for name in parameters if name not in read]
