"""The label of a post for a risk: 1 violating, 0 cleared, -1 not verified (Eq. 4)."""

from typing import Any

from jaxtyping import Bool, Num

UNVERIFIED = -1
LABELS = (1, 0, UNVERIFIED)


def valid_mask(labels: Num[Any, "*shape"]) -> Bool[Any, "*shape"]:
    """True where a label was verified, m = 1 where y != -1 (Eq. 4), of an array or a tensor.

    A NaN label counts as verified, as Eq. 4 has it, so that a hole in a label file shows up as a NaN loss.

    Raises:
        ValueError: a label is none of 1, 0, -1 and NaN; the message has the value. (The values are looked at where they
            are: those on a GPU cost a wait for it.)

    >>> import numpy as np
    >>> valid_mask(np.array([[1, 0, -1], [-1, -1, 0]])).tolist()
    [[True, True, False], [False, False, True]]
    """
    known = (labels == 1) | (labels == 0) | ((labels < 0) & (labels == UNVERIFIED)) | (labels != labels)
    if not known.all():  # (torch takes the byte 255 for -1, but not for less than 0)
        values = sorted({value.item() for value in labels[~known][:1000]})
        raise ValueError(f"labels hold {', '.join(map(str, values[:5]))}; a label is 1 violating, 0 cleared or -1 not "
                         "verified")  # fmt: skip
    return labels != UNVERIFIED
