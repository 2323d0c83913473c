"""What the audit found, how bad it is, and what to do: one line per finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

SEVERITIES = ("none", "low", "medium", "high")
COLUMNS = ["finding", "count", "share", "of", "severity", "what to do"]
P_VALUE = 0.001  # of a difference in prevalence that is worth a word


@dataclass(frozen=True)
class Finding:
    """One line of the summary.

    Attributes:
        finding: what was looked for.
        count: how many.
        share: of the posts, pairs or labels named in `of`; None where there were none, or where it is no share.
        severity: one of SEVERITIES.
        action: what to do about it.
    """

    finding: str
    count: int
    share: float | None
    of: str
    severity: str
    action: str


def graded(share: float | None, *, medium: float, high: float) -> str:
    """Severity of a share: none at 0, low below `medium`, medium below `high`."""
    if not share:
        return SEVERITIES[0]
    return SEVERITIES[1 + (share >= medium) + (share >= high)]


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def unverified(valid: np.ndarray) -> Finding:
    """Empty cells of the label matrix of the training posts."""
    empty = int((~valid).sum())
    share = _share(empty, valid.size)
    act = "compare a mask (Eq. 5) with counting them as cleared" if empty else "nothing: every label is there"
    return Finding("unverified labels", empty, share, "cells of the training matrix",
                   graded(share, medium=0.05, high=0.4), act)  # fmt: skip


def duplicates(pairs: pd.DataFrame, splits: pd.Series, *, across: bool) -> Finding:
    """Posts with a copy in another split, or posts with a copy in their own."""
    where = splits.to_numpy()
    a, b = pairs["a"].to_numpy(int), pairs["b"].to_numpy(int)
    chosen = (where[a] != where[b]) == across
    count = len(set(a[chosen]) | set(b[chosen]))
    share = _share(count, len(splits))
    if across:
        act = "drop the copies from the later split, or split by group of copies"
        severity = graded(share, medium=0.001, high=0.01)
    else:
        act, severity = "keep one of each group, or weigh a group as one post", graded(share, medium=0.01, high=0.1)
    name = "posts with a copy in another split" if across else "posts with a copy in their own split"
    return Finding(name, count, share, "posts looked at", severity, act if count else "nothing")


def conflicts(found: pd.DataFrame, n_pairs: int) -> Finding:
    """Copies with opposite labels."""
    share = _share(len(found), n_pairs)
    act = "adjudicate: at least one label of each pair is wrong" if len(found) else "nothing"
    return Finding("copies with opposite labels", len(found), share, "pairs of copies with two labels of one risk",
                   graded(share, medium=0.02, high=0.1), act)  # fmt: skip


def label_errors(estimated: Mapping[str, int], verified: Mapping[str, int]) -> Finding:
    """Labels that a probe doubts, over all risks."""
    count, total = sum(estimated.values()), sum(verified.values())
    share = _share(count, total)
    act = "have the first ones of each list labelled again, twice" if count else "nothing"
    return Finding("suspected label errors", count, share, "verified training labels",
                   graded(share, medium=0.01, high=0.08), act)  # fmt: skip


def domain_leak(probe: pd.DataFrame) -> Finding | None:
    """Pipelines that the content gives away; None where there is only one."""
    best = probe.groupby("pipeline")["auc"].max().dropna()
    if not len(best):
        return None
    count, top = int((best > 0.6).sum()), best.max()
    severity = SEVERITIES[int(top > 0.55) + int(top > 0.65) + int(top > 0.95)]
    act = "a mask hides what a risk's pipeline never sees, its absence takes it for cleared: compare both (notebook 08)"
    if severity == "high":
        act = "score each risk within its own source only: a model can answer 'which source?' instead"
    return Finding("pipelines that the content gives away (AUC > 0.6)", count, _share(count, len(best)), "pipelines",
                   severity, act)  # fmt: skip


def uneven_groups(tests: Mapping[str, pd.DataFrame]) -> Finding:
    """Ways of grouping, and risks, whose prevalence differs by more than chance."""
    rows = pd.concat([frame.assign(by=name) for name, frame in tests.items()], ignore_index=True)
    count = int((rows["p_value"] < P_VALUE).sum())
    act = "report metrics per group; a model can learn the group instead of the violation" if count else "nothing"
    share = _share(count, len(rows))
    names = " and ".join([", ".join(list(tests)[:-1]), list(tests)[-1]]) if len(tests) > 1 else "".join(tests)
    return Finding("prevalence that depends on the group", count, share, f"tests (risk by {names}; p < {P_VALUE:g})",
                   graded(share, medium=0.2, high=0.6), act)  # fmt: skip


def modality_gaps(absent: pd.DataFrame) -> Finding:
    """Modalities that are missing more often in one split than in another, by five points or more; splits of fewer than
    100 posts are left out."""
    absent = absent[absent["posts"] >= 100] if (absent["posts"] >= 100).any() else absent
    columns = [name for name in absent.columns if name not in ("group", "posts", "everything")]
    gaps = absent[columns].max() - absent[columns].min()
    count = int((gaps >= 0.05).sum())
    act = "find out why before serving: " + ", ".join(gaps.index[gaps >= 0.05]) if count else "nothing"
    return Finding("modalities missing in one split more than in another", count, _share(count, len(columns)),
                   "modalities", graded(float(gaps.max()), medium=0.05, high=0.2), act)  # fmt: skip


def empty_posts(absent: pd.DataFrame) -> Finding:
    """Posts without any content."""
    total = int(absent["posts"].sum())
    count = int(round((absent["everything"] * absent["posts"]).sum()))
    return Finding("posts without any content", count, _share(count, total), "posts looked at",
                   graded(_share(count, total), medium=0.001, high=0.01),
                   "leave them out: nothing can be learnt from them" if count else "nothing")  # fmt: skip


def split_streams(streams: list[str], total: int) -> Finding | None:
    """Live streams that lie in several splits; None where the corpus has no streams."""
    act = "give all segments of a stream to one split" if streams else "nothing"
    found = Finding("live streams in more than one split", len(streams), _share(len(streams), total), "streams",
                    "high" if streams else "none", act)  # fmt: skip
    return found if total else None


def useless_modality(gains: pd.DataFrame) -> Finding | None:
    """Risks for which the joint probe is not clearly better than both single ones.

    Args:
        gains: columns category, over, low (end of the interval of the joint probe's gain).
    """
    if not len(gains):
        return None
    clear = gains.groupby("category")["low"].min() > 0
    count = int((~clear).sum())
    act = "expect little from a second modality there, or take better features" if count else "nothing: use both"
    return Finding("risks that one modality seems to settle", count, _share(count, len(clear)), "risks",
                   graded(_share(count, len(clear)), medium=0.5, high=2.0), act)  # fmt: skip


def hidden_violations(count: int, cells: int) -> Finding:
    """Unverified cells that truly violate; only the built-in corpus knows."""
    share = _share(count, cells)
    return Finding("violations among the unverified (truth)", count, share, "unverified training cells",
                   graded(share, medium=0.02, high=0.08), "look for them with soft labels")  # fmt: skip


def check_line(check: Mapping[str, object]) -> str:
    """A sentence on one planted flaw: what `duplicates.retrieval` counted."""
    of = {name: "none" if np.isnan(check[name]) else f"{check[name]:.1%}" for name in ("precision", "recall")}
    counted = f"{check['wanted']:,} planted, {check['found']:,} found, {check['both']:,} in both"
    return f"Against the truth, {check['flaw']}: {counted} (precision {of['precision']}, recall {of['recall']})."


def summary(found: list[Finding | None]) -> pd.DataFrame:
    """The findings as a table, the gravest first; those that do not apply (None) are left out."""
    rows = [asdict(finding) for finding in found if finding is not None]
    frame = pd.DataFrame(rows).rename(columns={"action": "what to do"})[COLUMNS]
    return frame.sort_values("severity", key=lambda s: -s.map(SEVERITIES.index), kind="stable", ignore_index=True)
