"""What an audit looks for, how bad it is, and what to do: one line per finding.

The grades are rules of thumb. Change them in `CHECKS` if your platform's are different.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

SEVERITIES = ("none", "low", "medium", "high")


class Check(NamedTuple):
    """One thing to look for.

    Attributes:
        finding: what is counted.
        of: what its share is of.
        medium, high: shares from which on the grade is that; any share above 0 is low.
        action: what to do about it.
    """

    finding: str
    of: str
    medium: float
    high: float
    action: str


CHECKS = {
    "unverified": Check("unverified labels", "cells of the training matrix", 0.05, 0.4,
                        "compare a mask (Eq. 5) with counting them as cleared"),
    "uneven": Check("prevalence that depends on the group", "tests of a risk by a grouping (p below 0.001)", 0.2, 0.6,
                    "report metrics per group; a model can learn the group instead of the violation"),
    "gaps": Check("modalities missing in one split five points more than in another", "modalities", 0.05, 0.2,
                  "find out why before serving"),
    "empty": Check("posts without any content", "posts looked at", 0.001, 0.01,
                   "leave them out: nothing can be learnt from them"),
    "cut": Check("posts whose text is not read to its end", "posts looked at", 0.05, 0.2,
                 "raise text_tokens, as far as the checkpoint has positions"),
    "across": Check("posts with a copy in another split", "posts looked at", 0.001, 0.01,
                    "drop the copies from the later split, or split by group of copies"),
    "within": Check("posts with a copy in their own split", "posts looked at", 0.01, 0.1,
                    "keep one of each group, or weigh a group as one post"),
    "streams": Check("live streams in more than one split", "streams", 0.0, 0.0,
                     "give all segments of a stream to one split"),
    "groups": Check("groups of posts in more than one split", "groups", 0.0, 0.0,
                    "give all posts of a group to one split"),
    "conflicts": Check("copies with opposite labels", "pairs of copies with two labels of one risk", 0.02, 0.1,
                       "adjudicate: at least one label of each pair is wrong"),
    "label errors": Check("suspected label errors", "verified training labels", 0.01, 0.08,
                          "have the first ones of each list labelled again, twice"),
    "domain leak": Check("pipelines that the content gives away (AUC > 0.6)", "pipelines", 0.65, 0.95,
                         "compare mask and no mask (notebook 08); past an AUC of 0.95 score each risk within its own "
                         "source only"),
    "one modality": Check("risks whose joint probe is not clearly above both modalities'", "risks", 0.5, 2.0,
                          "take better features, more posts, or a model that reads the two together"),
    "hidden": Check("violations among the unverified (truth)", "unverified training cells", 0.02, 0.08,
                    "look for them with soft labels"),
}  # fmt: skip


def grade(value: float, *, medium: float, high: float) -> str:
    """Severity: none at 0 and where nothing could be counted (NaN), low below `medium`, medium below `high`."""
    return SEVERITIES[0] if np.isnan(value) or value == 0 else SEVERITIES[1 + int(value >= medium) + int(value >= high)]


def finding(name: str, count: int, total: int, *, worst: float | None = None) -> dict[str, Any]:
    """One line of the summary.

    Args:
        name: of one of `CHECKS`.
        count: how many were seen.
        total: of how many.
        worst: what is graded, where that is not the share.
    """
    check, share = CHECKS[name], count / total if total else np.nan
    severity = grade(share if worst is None else worst, medium=check.medium, high=check.high)
    return {"finding": check.finding, "count": int(count), "share": share, "of": check.of, "severity": severity,
            "what to do": check.action if count else "nothing"}  # fmt: skip


def summary(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The findings as a table, the gravest first."""
    return pd.DataFrame(lines).sort_values(
        "severity", key=lambda column: -column.map(SEVERITIES.index), kind="stable", ignore_index=True
    )
