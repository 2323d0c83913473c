"""The taxonomy of failures as data: `taxonomy.yaml`, checked."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text
from radar_suite.diagnosis.signals import CONTRACT, SIGNALS

FILE = Path(__file__).with_name("taxonomy.yaml")
Stage = Literal["pretraining", "intake", "annotation", "splitting", "training", "distillation", "thresholds", "serving"]
VERDICTS = {"healthy", "unknown"}  # that are none of the causes
Harm = Literal["pr_auc", "served_pr_auc", "log_loss", "serve_bias", "recall", "optimism"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Test(_Strict):
    """A test that separates look-alikes, and what it costs."""

    what: str
    reads: list[str]  # signals that it takes beyond those that every diagnosis has
    cost: str


class Intervention(_Strict):
    """A fix; the cheapest that is likely to work comes first.

    Attributes:
        runs: function of fixes.py that applies it to heads, if there is one.
    """

    fix: str
    cost: str
    runs: str | None = None


class Cause(_Strict):
    """One cause of failure.

    Attributes:
        harm: measure by which the cause hurts, and a fix is verified.
        signatures: signals, and the side of the healthy band on which each lies.
        look_alikes: other causes with some of these signatures, and the test that separates both.
        contract: exact check that names this cause, if there is one.
    """

    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    title: str
    stage: Stage
    harm: Harm
    signatures: dict[str, Literal["high", "low", "either"]] = Field(min_length=1)
    look_alikes: dict[str, str] = Field(min_length=1)
    contract: str | None = None
    interventions: list[Intervention] = Field(min_length=1)
    verification: str


def _known(where: str, what: str, named: Iterable[str], known: Container[str]) -> None:
    if unknown := [name for name in named if name not in known]:
        raise ValueError(f"{where}: no {what} {unknown[0]!r}")


class Taxonomy(_Strict):
    """Causes and tests."""

    tests: dict[str, Test]
    causes: list[Cause]

    @model_validator(mode="after")
    def _consistent(self) -> Taxonomy:
        names = [cause.name for cause in self.causes]
        if len(set(names)) < len(names):
            raise ValueError("a cause is named twice")
        if taken := VERDICTS & set(names):
            raise ValueError(f"{taken.pop()!r} is a verdict of its own, not a cause")
        for test, about in self.tests.items():
            _known(f"test {test}", "signal", about.reads, SIGNALS)
        for cause in self.causes:
            _known(cause.name, "look-alike", cause.look_alikes, set(names) - {cause.name})
            _known(cause.name, "test", cause.look_alikes.values(), self.tests)
            _known(cause.name, "signal", cause.signatures, SIGNALS)
            _known(cause.name, "contract", [cause.contract] * bool(cause.contract), CONTRACT)
        return self

    def check_fixes(self, known: Container[str]) -> None:
        """Refuse fixes that are no functions of fixes.py, whose names are given.

        Raises:
            RadarError: names the cause and what there is not.
        """
        for cause in self.causes:
            if unknown := [step.runs for step in cause.interventions if step.runs and step.runs not in known]:
                raise RadarError(f"taxonomy.yaml, {cause.name}: FIXES of fixes.py has no {unknown[0]!r}. "
                                 "Enter it there, or leave `runs` out.")  # fmt: skip

    def cause(self, name: str) -> Cause:
        return next(cause for cause in self.causes if cause.name == name)

    def separating_test(self, first: str, second: str) -> str | None:
        """Name of the test that separates two causes; None where none is known."""
        found = {cause.name: cause.look_alikes for cause in self.causes}
        return found.get(first, {}).get(second) or found.get(second, {}).get(first)


class _Once(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{twice.pop()} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


@lru_cache(maxsize=4)
def read_taxonomy(path: Path = FILE) -> Taxonomy:
    """The causes.

    Raises:
        RadarError: the file is not YAML, or an entry lacks something or names what there is not.
    """
    try:
        return Taxonomy.model_validate(yaml.load(path.read_text(encoding="utf-8"), _Once))  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RadarError(f"{path} cannot be read ({error}). Mend it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RadarError(f"{path}, {where}: {first['msg']}. Mend that entry.") from error


def document(taxonomy: Taxonomy) -> str:
    """docs/diagnosis.md: the taxonomy as Markdown."""
    lines = [
        "# Failures of a router: causes, signatures, tests, interventions", "",
        "Generated by `radar taxonomy` from `radar_suite/diagnosis/taxonomy.yaml`; formulas of the signals are in "
        "`radar_suite/diagnosis/signals.py`. `high` and `low` are sides of a band of healthy reruns. "
        "`radar diagnose --help` says what it reads; [notebook 10](../notebooks/10_failure_diagnosis.ipynb) works a "
        "diagnosis out, and when a fix counts as proven.", "",
        "Harm: average precision offline (`pr_auc`) and as served; `log_loss` of audit posts; `serve_bias`, how far "
        "the mean score in traffic lies from the prevalence; `recall` short of its target at the deployed threshold; "
        "`optimism`, validation above audit.", "",
        "| cause | stage | harms | exact check |", "|---|---|---|---|",
        *(f"| [{c.title}](#{c.name}) | {c.stage} | {c.harm} | {c.contract or ''} |" for c in taxonomy.causes), "",
    ]  # fmt: skip
    for c in taxonomy.causes:
        fixes = "; ".join(f"{one.fix} ({one.cost})" for one in c.interventions)
        lines += [
            f"## {c.name}", "", f"{c.title}. {c.stage.capitalize()}.", "",
            f"- Signatures: {', '.join(f'`{name}` {side}' for name, side in c.signatures.items())}",
            *(f"- Not `{other}`, by `{test}`" for other, test in c.look_alikes.items()),
            f"- Interventions, in order: {fixes}", f"- To be seen afterwards: {c.verification}", "",
        ]  # fmt: skip
    lines += ["## Tests", "", "| test | what | cost | reads |", "|---|---|---|---|"]
    lines += [f"| {name} | {t.what} | {t.cost} | {', '.join(t.reads)} |" for name, t in taxonomy.tests.items()]
    return "\n".join(lines) + "\n"


def write_document(path: Path) -> bool:
    """Renew the document; returns whether it changed."""
    new = document(read_taxonomy())
    if path.exists() and path.read_text(encoding="utf-8") == new:
        return False
    atomic_write_text(path, new)
    return True
