"""Names of runs and of files within a folder: what may be one."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from radar_lib.errors import RadarError

CACHE = "cache"  # of `<runs>`, beside the runs, for all of them
RUN_NAME = re.compile(r"\w[\w .+-]*")


def _below(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError(f"{value!r} must be a path below the run's folder")
    return str(path)


Below = Annotated[str, AfterValidator(_below)]


def check_run_name(name: str) -> str:
    """The name of a run's folder, `<runs>/<name>`.

    Raises:
        RadarError: it would not be a folder of its own there.
    """
    if name.casefold() == CACHE or not RUN_NAME.fullmatch(name):
        why = "the cache of all runs has it" if name.casefold() == CACHE else (
            "a run's name starts with a letter or digit and goes on with those, spaces and _ . + -")  # fmt: skip
        raise RadarError(f"no run can be called {name!r}: {why}. Give the profile another name.")
    return name
