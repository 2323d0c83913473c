"""Exercises by name, as a notebook asks for them.

    q = exercise("masked_bce")
    q                  # the task
    q.hint()           # one hint at a time
    q.check(answer)    # 'correct', or one sentence about what differs; returns a bool
    q.solution()       # code and explanation
    q.skeleton("q")    # source of the cell that a notebook leaves for the answer
"""

import copy
import difflib

from radar_lib.errors import RadarError
from radar_suite.exercises.bank import BANK
from radar_suite.exercises.exercise import Exercise


def exercise(name: str) -> Exercise:
    """The exercise of that name, with no hint given yet.

    Raises:
        RadarError: no such exercise; the message names the nearest ones.
    """
    if name not in BANK:
        near = difflib.get_close_matches(name, BANK, n=3) or sorted(BANK)
        raise RadarError(f"no exercise is called {name!r}; the nearest are {', '.join(near)}")
    return copy.copy(BANK[name])
