"""The built-in corpus' hidden truth, for audits and evaluation: no code that trains or infers reads it."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pyarrow.parquet as pq

from radar_lib.data.posts import Posts
from radar_lib.errors import RadarError
from radar_lib.files import digest_file


def truth_of(posts: Posts, post_ids: pd.Series, *, facts: bool = False) -> pd.DataFrame | None:
    """The truth file's rows for these posts, in their order and with their index; None where there is no file.

    Args:
        facts: with the facts behind each post, as columns `fact_<name>`.

    Raises:
        RadarError: the file is not the one that corpus.json was written for.
    """
    path = posts.folder / "hidden" / "truth.parquet"
    if not path.exists():
        return None
    if posts.info.get("truth_digest", actual := digest_file(path)) != actual:
        raise RadarError(f"{path} has changed. Delete {posts.folder}: the next run builds these posts anew.")
    columns = [name for name in pq.read_schema(path).names if facts or not name.startswith("fact_")]
    truth = pd.read_parquet(path, columns=columns).set_index("post_id").loc[post_ids]
    return truth.set_index(post_ids.index)


def planted_pairs(truth: pd.DataFrame | None, post_ids: pd.Series) -> set[tuple[int, int]] | None:
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
