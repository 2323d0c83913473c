"""The taxonomy of failures as data: `taxonomy.yaml`, checked."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from radar_lib.errors import RadarError

FILE = Path(__file__).with_name("taxonomy.yaml")
Stage = Literal["pretraining", "intake", "annotation", "splitting", "training", "distillation", "thresholds", "serving"]
Harm = Literal["pr_auc", "served_pr_auc", "log_loss", "serve_bias", "recall", "optimism"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Test(_Strict):
    """A test that separates look-alikes, and what it costs."""

    what: str
    reads: list[str]  # signals that it takes beyond those that every diagnosis has
    cost: str


class Intervention(_Strict):
    """A fix; the cheapest that is likely to work comes first."""

    fix: str
    cost: str


class Cause(_Strict):
    """One cause of failure.

    Attributes:
        harm: measure by which the cause hurts, and a fix is verified.
        signatures: signals, and the side of the healthy band on which each lies.
        look_alikes: other causes with some of these signatures, and the test that separates both.
        contract: exact check that names this cause, if there is one.
    """

    name: str
    title: str
    stage: Stage
    harm: Harm
    signatures: dict[str, Literal["high", "low", "either"]]
    look_alikes: dict[str, str]
    contract: str | None = None
    interventions: list[Intervention]
    verification: str


class Taxonomy(_Strict):
    """Causes and tests."""

    tests: dict[str, Test]
    causes: list[Cause]

    @model_validator(mode="after")
    def _consistent(self) -> Taxonomy:
        names = [cause.name for cause in self.causes]
        if len(set(names)) < len(names):
            raise ValueError("a cause is named twice")
        for cause in self.causes:
            for other, test in cause.look_alikes.items():
                if other not in names or test not in self.tests:
                    raise ValueError(f"{cause.name}: no cause {other!r} or no test {test!r}")
        return self

    def cause(self, name: str) -> Cause:
        return next(cause for cause in self.causes if cause.name == name)

    def separating_test(self, first: str, second: str) -> str | None:
        """Name of the test that separates two causes; None where none is known."""
        found = {cause.name: cause.look_alikes for cause in self.causes}
        return found.get(first, {}).get(second) or found.get(second, {}).get(first)


@lru_cache(maxsize=4)
def read_taxonomy(path: Path = FILE) -> Taxonomy:
    """The causes.

    Raises:
        RadarError: the file is not YAML, or an entry lacks something or names what there is not.
    """
    try:
        return Taxonomy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise RadarError(f"{path} cannot be read ({error}). Mend it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RadarError(f"{path}, {where}: {first['msg']}. Mend that entry.") from error
