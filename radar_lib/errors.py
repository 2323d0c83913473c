"""The one exception that users meet: a message that says what is wrong, where, and what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class RadarError(Exception):
    """Bad input or a bad environment; the message names the place and the remedy, and fits on one screen."""


@contextmanager
def error_ends_process() -> Iterator[None]:
    """Around the `main` of a module: a RadarError ends the process with its message alone and code 1."""
    try:
        yield
    except RadarError as error:
        sys.exit(str(error))
