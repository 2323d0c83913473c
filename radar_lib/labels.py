"""The label of a post for a risk: 1 violating, 0 cleared, -1 not verified (Eq. 4)."""

from typing import Any

from jaxtyping import Bool, Num

UNVERIFIED = -1


def valid_mask(labels: Num[Any, "*shape"]) -> Bool[Any, "*shape"]:
    """True where a label was verified, m = 1 where y != -1 (Eq. 4), of an array or a tensor.

    A NaN label counts as verified, as Eq. 4 has it, so that a hole in a label file shows up as a NaN loss.

    >>> import numpy as np
    >>> valid_mask(np.array([[1, 0, -1], [-1, -1, 0]])).tolist()
    [[True, True, False], [False, False, True]]
    """
    return labels != UNVERIFIED
