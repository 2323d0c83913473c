"""How much of what was planted did the audit find? Findings against the built-in corpus' hidden truth.

Only audits and evaluation read the truth; every function here returns None where a corpus has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from radar_lib.data.posts import Posts
from radar_lib.data.schema import LABEL_PREFIX

Pairs = set[tuple[int, int]]


def truth_of(posts: Posts, post_ids: pd.Series) -> pd.DataFrame | None:
    """The truth file's rows for these posts, in their order and with their index; None where there is no file."""
    path = posts.folder / "hidden" / "truth.parquet"
    if not path.exists():
        return None
    facts = [name for name in pq.read_schema(path).names if not name.startswith("fact_")]
    truth = pd.read_parquet(path, columns=facts).set_index("post_id").loc[post_ids]
    return truth.set_index(post_ids.index)


def planted_pairs(truth: pd.DataFrame | None, post_ids: pd.Series) -> Pairs | None:
    """All pairs (places a < b) of posts with one original, the original included; None where nobody noted copies."""
    if truth is None or "duplicate_of" not in truth:
        return None
    origin = dict(zip(post_ids, truth["duplicate_of"], strict=True))
    groups: dict[str, list[int]] = {}
    for place, post_id in enumerate(post_ids):
        first, steps = post_id, 0
        while origin.get(first) and steps < len(origin):  # a copy of a copy
            first, steps = origin[first], steps + 1
        groups.setdefault(first, []).append(place)
    return {pair for places in groups.values() for pair in combinations(places, 2)}


def planted_conflicts(pairs: Pairs | None, table: pd.DataFrame, categories: Sequence[str]) -> set[tuple] | None:
    """Planted copies with opposite verified labels: (a, b, category)."""
    if pairs is None:
        return None
    label = {category: table[LABEL_PREFIX + category].to_numpy() for category in categories}
    return {(a, b, c) for a, b in pairs for c in categories if {int(label[c][a]), int(label[c][b])} == {0, 1}}


def wrong_labels(
    truth: pd.DataFrame | None, labels: Int[np.ndarray, " post"], category: str
) -> Bool[np.ndarray, " post"] | None:
    """Which verified labels of a risk differ from what is true of the post."""
    return None if truth is None else truth[f"true_{category}"].to_numpy() != labels


def bayes_order(
    truth: pd.DataFrame | None, labels: Int[np.ndarray, " post"], category: str
) -> Int[np.ndarray, " post"] | None:
    """Posts by how unlikely their label is given all facts behind them: the best order that any audit could reach."""
    if truth is None or f"posterior_{category}" not in truth:
        return None
    posterior = truth[f"posterior_{category}"].to_numpy()
    return np.argsort(np.where(labels == 1, posterior, 1 - posterior), kind="stable")


def precision_curve(order: Int[np.ndarray, " post"], wrong: Bool[np.ndarray, " post"]) -> Float[np.ndarray, " post"]:
    """Share of wrong labels among the first 1, 2, ... posts of an order."""
    return np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
