"""The scores that every trained model leaves: one Parquet file of float32 logits, which all tables and figures read.

Logits, not probabilities: sigmoids in low precision create ties that change average precision.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_bytes

LOGIT_PREFIX = "logit_"
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)  # what damaged Parquet raises


def logit_columns(categories: Sequence[str]) -> list[str]:
    """Names of the logit columns, in the order of the categories."""
    return [f"{LOGIT_PREFIX}{category}" for category in categories]


def write_scores(
    path: str | Path, *, post_ids: Sequence[str], splits: Sequence[str], logits: Float[np.ndarray, "post category"],
    categories: Sequence[str],
) -> None:  # fmt: skip
    """Write `post_id`, `split` and one float32 `logit_<category>` column per risk, atomically.

    Raises:
        RadarError: a logit is not finite (names the first such post) or the shapes disagree.
    """
    if logits.shape != (len(post_ids), len(categories)):
        raise RadarError(f"{path}: {logits.shape} logits for {len(post_ids)} posts and {len(categories)} categories.")
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        first = post_ids[int(np.argmax(bad))]
        raise RadarError(f"{path}: {int(bad.sum())} posts have a non-finite logit, the first is {first!r}.")
    frame = pd.DataFrame({"post_id": list(post_ids), "split": list(splits)})
    for column, values in zip(logit_columns(categories), logits.T, strict=True):
        frame[column] = values.astype(np.float32)
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False)


def read_scores(path: str | Path, *, digest: str | None = None) -> pd.DataFrame:
    """Scores as a data frame; see `write_scores` for the columns.

    Args:
        digest: what was recorded when they were written; the bytes that are read are held against it.

    Raises:
        RadarError: the file is missing, is no Parquet, or is not what was written.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise RadarError(f"{path} does not exist: the run that writes it has not finished.") from None
    if digest is not None and digest_bytes(content) != digest:
        raise RadarError(f"{path} is not what was written (digest {digest}). Delete it and run its step again.")
    try:
        return pd.read_parquet(io.BytesIO(content))
    except UNREADABLE as error:
        raise RadarError(f"{path}: no readable Parquet ({error}). Delete it and run its step again.") from error


def logits_for(scores: pd.DataFrame, post_ids: Sequence[str], categories: Sequence[str]) -> Float[np.ndarray, "p c"]:
    """Logits of `post_ids`, in that order.

    Raises:
        RadarError: a post or a category has no score.
    """
    missing = [column for column in logit_columns(categories) if column not in scores.columns]
    if missing:
        raise RadarError(f"the scores hold no {', '.join(missing)}; they hold {', '.join(scores.columns[2:])}.")
    by_post = scores.set_index("post_id")[logit_columns(categories)]
    found = by_post.reindex(list(post_ids))
    absent = found.isna().any(axis=1).to_numpy()
    if absent.any():
        raise RadarError(f"{int(absent.sum())} posts have no score, the first is {post_ids[int(np.argmax(absent))]!r}.")
    return found.to_numpy(dtype=np.float32)
