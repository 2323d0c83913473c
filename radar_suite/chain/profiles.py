"""Profiles and `--set`, checked against every notebook's parameters before any kernel starts."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from radar_suite.chain.exits import UsageError
from radar_suite.chain.parameters import Misfit, Parameter
from radar_suite.places import check_run_name
from radar_suite.report.parameter_ranges import RANGES

GIVEN_BY_THE_CHAIN = {"profile": "--profile", "runs_dir": "--runs"}
FOLDERS = ("posts", "public_sources", "checkpoints")  # parameters that may name a folder of the user's
CHECKPOINT_WORDS = ("standins", "hub")
NOT_YAML = (ValueError, OSError, RecursionError)  # not UTF-8, a date that is none, no right to read it, too deep
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 reads 1e-5 as text


@dataclass(frozen=True)
class Value:
    """A value that a user gave, and where: 'profiles/smoke.yaml', '--set seed'."""

    value: Any
    source: str
    text: str | None = None  # as typed, for values from the command line


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def profile_name(profile: str) -> str:
    """The name of a profile, which may be given as its file."""
    return Path(profile).stem if profile.endswith((".yaml", ".yml")) else profile


def load_profile(name: str, folder: Path) -> tuple[str, dict[str, Value]]:
    """Name and values of a profile: `<folder>/<name>.yaml`, or a YAML file of your own given by its path.

    Raises:
        UsageError: there is no such profile, or it is not a flat map of names to values.
        RadarError: as `check_run_name`: a run has its profile's name.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        hint = f"{nearest(name, known)} Profiles: {', '.join(known) or 'none'} ({folder})."
        raise UsageError(f"no profile {name!r}.{hint}")
    label = f"profiles/{path.name}" if path.parent == folder else str(path)
    check_run_name(path.stem)
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        pairs = yaml.SafeLoader("").construct_pairs(node, deep=True) if node else []
    except (yaml.YAMLError, *NOT_YAML) as error:
        raise UsageError(f"{path}: not a flat YAML map of parameter names to values. {error}") from None
    values: dict[str, Value] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise UsageError(f"{label}: {key!r} is not a parameter's name.")
        if key in values:  # YAML itself would silently keep the last one
            raise UsageError(f"{label}: {key!r} is given twice.")
        values[key] = Value(value, label)
    if "profile" in values and values["profile"].value != path.stem:
        raise UsageError(f"{label}: `profile` must be {path.stem!r}, like the file's name.")
    return path.stem, values


def parse_override(text: str) -> tuple[str, Value]:
    """`name=value` of `--set`; the value is a YAML literal.

    Raises:
        UsageError: there is no '=', the value is not YAML, or the chain itself sets this parameter.
    """
    name, equals, literal = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--set {text}: expected name=value, e.g. --set seed=2 or --set 'lambdas=[0.0, 0.5]'.")
    if name in GIVEN_BY_THE_CHAIN:
        raise UsageError(f"--set {name}: use {GIVEN_BY_THE_CHAIN[name]} instead.")
    try:
        value = float(literal) if _EXPONENT.fullmatch(literal) else yaml.safe_load(literal)
    except (yaml.YAMLError, *NOT_YAML):
        raise UsageError(f"--set {text}: {literal!r} is not a YAML literal.") from None
    return name, Value(value, f"--set {name}", literal)


def resolve(declared: Mapping[str, Mapping[str, Parameter]], given: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Complete parameters of every notebook: its own subset of what was given, defaults for the rest.

    Args:
        declared: parameters by notebook, in the notebooks' order.
        given: values by parameter name; a value must fit every notebook that declares the name.

    Raises:
        UsageError: a name that no notebook has, or a value of another type or outside its range; the message names the
            remedy.
    """
    known = {name for parameters in declared.values() for name in parameters}
    for name, value in given.items():
        if name not in known:
            hint = nearest(name, known) or f" Known: {', '.join(sorted(known))}."
            raise UsageError(f"{value.source}: no notebook has a parameter {name!r}.{hint}")
    return {
        notebook: {
            name: _checked(notebook, parameter, given[name]) if name in given else parameter.default
            for name, parameter in parameters.items()
        }
        for notebook, parameters in declared.items()
    }


def _checked(notebook: str, parameter: Parameter, given: Value) -> Any:
    for candidate in [given.value] if given.text is None else [given.value, given.text]:
        try:  # `--set name=123` for a str is the text 123
            return parameter.fit(candidate)
        except Misfit:
            continue
    hint = ""
    if isinstance(given.value, str) and _EXPONENT.fullmatch(given.value):
        hint = " YAML reads this as text: write it with a dot and a sign, like 1.0e-5."
    limits = f", {RANGES[parameter.name]}" if parameter.name in RANGES else ""
    declared = f"`{parameter.name}: {parameter.annotation}`{limits} (default {parameter.default!r})"
    got = f"{repr(given.value) if given.text is None else given.text} ({type(given.value).__name__})"
    raise UsageError(f"{given.source}: {notebook} declares {declared}, got {got}.{hint}")


def run_name(profile: str, given: Mapping[str, Value]) -> str:
    """Name of a run's folder: its profile's, and of own posts theirs as well."""
    posts = given["posts"].value if "posts" in given else ""
    return profile + "-" + re.sub(r"[^\w.-]+", "_", Path(posts).name) if posts else profile


def absolute_paths(given: Mapping[str, Value], *, project: Path) -> dict[str, Value]:
    """Folders as absolute paths: those of a profile start at the project, those of a command where you are."""
    out = dict(given)
    for name in FOLDERS:
        value = given.get(name)
        if value is not None and isinstance(value.value, str) and value.value not in ("", *CHECKPOINT_WORDS):
            base = Path.cwd() if value.source.startswith("--") else project
            out[name] = replace(value, value=os.path.realpath(base / Path(value.value).expanduser()), text=None)
    return out
