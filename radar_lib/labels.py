"""The label of a post for a risk: 1 violating, 0 cleared, -1 not verified (Eq. 4). And what a risk may be called."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from jaxtyping import Bool, Num

UNVERIFIED = -1
LABELS = (1, 0, UNVERIFIED)
LONGEST_NAME = 40  # characters, which figures and files can hold
# Taken: columns and lines of tables and curves, posts of no pipeline, and what CSV readers take for no text.
RESERVED = ("average", "avg", "epoch", "false", "inf", "infinity", "na", "nan", "none", "null", "traffic", "true")
# Letters and marks that no one sees (Unicode's default-ignorable ones).
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
NAME_RULE = ("A risk's name is of letters (of any script), digits, - and _, begins with a letter, has at most "
             f"{LONGEST_NAME} of them, differs from the others' by more than case, - and _, and is none of "
             f"{', '.join(RESERVED)}")  # fmt: skip


def valid_mask(labels: Num[Any, "*shape"]) -> Bool[Any, "*shape"]:
    """True where a label was verified, m = 1 where y != -1 (Eq. 4), of an array or a tensor.

    A NaN label counts as verified, as Eq. 4 has it, so that a hole in a label file shows up as a NaN loss.

    Raises:
        ValueError: a label is none of 1, 0, -1 and NaN, with the value; or labels are no numbers, but objects or text.
            (The values are looked at where they are: those on a GPU cost a wait for it.)

    >>> import numpy as np
    >>> valid_mask(np.array([[1, 0, -1], [-1, -1, 0]])).tolist()
    [[True, True, False], [False, False, True]]
    """
    if getattr(labels.dtype, "kind", "f") not in "biuf":  # numpy's; torch knows nothing but numbers
        raise ValueError(f"labels are {labels.dtype}; make them int8: 1 violating, 0 cleared, -1 not verified")
    known = (labels == 1) | (labels == 0) | ((labels < 0) & (labels == UNVERIFIED)) | (labels != labels)
    if not known.all():  # (torch takes the byte 255 for -1, but not for less than 0)
        values = sorted({value.item() for value in labels[~known][:1000]})
        raise ValueError(f"labels hold {', '.join(map(str, values[:5]))}; a label is 1 violating, 0 cleared or -1 not "
                         "verified")  # fmt: skip
    return labels != UNVERIFIED


def column_name(name: str) -> str:
    """A name as columns and files have it: lower case, with _ for whatever is no letter or digit.

    >>> column_name("Fake-Engagement")
    'fake_engagement'
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub("_+", "_", "".join(c if unicodedata.category(c)[0] in "LMN" else "_" for c in text)).strip("_")


def check_categories(names: Iterable[str]) -> tuple[str, ...]:
    """The names of the risks, if they keep `NAME_RULE`: then no output has to escape them, and none is mistaken.

    Raises:
        ValueError: one does not; the message has it and the rule.
    """
    seen: dict[str, str] = {}
    for name in names:
        kinds = [unicodedata.category(c)[0] if c not in "-_" else "-" for c in name]
        unseen = UNSEEN.search(name)
        plain = not unseen and 0 < len(name) <= LONGEST_NAME and kinds[0] == "L" and set(kinds) <= set("LMN-")
        other = seen.get(column := column_name(name).replace("_", ""))
        if not plain or other or column in RESERVED:
            said = f"{ascii(name)}, which has letters that nobody sees" if unseen else repr(name)
            raise ValueError(f"a risk cannot be called {said}{f' beside {other!r}' if other else ''}. {NAME_RULE}.")
        seen[column] = name
    return tuple(seen.values())
