"""The scores that every trained model leaves: one Parquet file of float32 logits, which all tables and figures read.

Logits, not probabilities: sigmoids in low precision create ties that change average precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
        digest: of the file (`digest_file`), where it is known: these bytes are read, or none.

    Raises:
        RadarError: the file is missing, damaged or not the one of the digest; an id is null, no text or there twice; a
            logit is no finite number.
    """
    if not Path(path).exists():
        raise RadarError(f"{path} does not exist: the run that writes it has not finished.")
    data = Path(path).read_bytes()
    if digest is not None and digest_bytes(data) != digest:
        raise RadarError(f"{path} is not what was written (digest {digest}). Run the step that writes it again.")
    try:
        scores = pq.read_table(pa.BufferReader(data)).to_pandas()
    except UNREADABLE as error:
        raise RadarError(f"{path} is no readable Parquet file ({error!s:.200}). Write it again.") from error
    if fault := _fault(scores):
        raise RadarError(f"{path}, {fault}. Write it again.")
    return scores


def _fault(scores: pd.DataFrame) -> str:
    """What is wrong with a table of scores: column, what, and the first such post; empty when all is well."""
    if "post_id" not in scores:
        return "column post_id: it is missing"
    if not (texts := scores["post_id"].map(lambda value: isinstance(value, str))).all():
        return f"column post_id: row {int(texts.argmin()) + 1} holds no text"
    if (again := scores["post_id"].duplicated()).any():
        return f"column post_id: {scores['post_id'][again].iloc[0]!r} is there twice"
    for column in scores.columns[scores.columns.str.startswith(LOGIT_PREFIX)]:
        if scores[column].dtype.kind not in "fiu":
            return f"column {column}: it holds no numbers ({scores[column].dtype})"
        if not (finite := np.isfinite(scores[column].to_numpy())).all():
            return f"column {column}: post {scores['post_id'].iloc[int(finite.argmin())]!r} has no finite logit"
    return ""


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
