"""The columns of a post: names, types, defaults, the label matrix and the mask of verified labels.

One row is one post. The number of risks K and their names come from the `label_<category>` columns alone, so the
same code serves K = 1, 3 or 7.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features, Image, List, Value
from jaxtyping import Int, Int8
from PIL import Image as PILImage

from radar_lib.data.frames import picture
from radar_lib.errors import RadarError
from radar_lib.labels import LABELS, check_categories, valid_mask  # noqa: F401  callers take the mask with `labels`

SPLITS = ("pretrain", "train", "validation", "calibration", "test", "test_own", "audit", "unlabelled")
TEXT_COLUMNS = ("title", "ocr_text", "asr_text")
LABEL_PREFIX = "label_"
FRAMES = "frames"
# What a missing optional column means: CLDR's unknown region, BCP 47's undetermined language, no date.
DEFAULTS: dict[str, Any] = {
    "pipeline": "traffic", "region": "ZZ", "language": "und", "created_at": None, "title": "", "ocr_text": "",
    "asr_text": "", "group": "", "caption": "", "stream_id": "", "segment": 0,
}  # fmt: skip


class Frame(Image):
    """How `datasets` stores an image, decoded as a person sees it. A path is only a name: nothing is read from it."""

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> PILImage.Image:
        return picture(value["bytes"]) if isinstance(value, Mapping) else value


def categories_of(columns: Iterable[str]) -> tuple[str, ...]:
    """Category names among `columns`, in their order: `label_LQC` gives `LQC`."""
    return tuple(c.removeprefix(LABEL_PREFIX) for c in columns if c.startswith(LABEL_PREFIX) and c != LABEL_PREFIX)


def features(
    categories: Iterable[str], *, captions: bool = False, streams: bool = False, groups: bool = False
) -> Features:
    """Types of all columns as `datasets` features (`features(...).arrow_schema` for Arrow).

    Args:
        categories: risk names; one int8 column `label_<category>` each.
        captions: add `caption`, filled in the pretrain split and empty elsewhere.
        streams: add `stream_id` and `segment` (the n-th segment of a live stream; a stream never spans splits).
        groups: add `group`: posts that are not independent share one (an image, campaign, stream or account), which
            never spans splits; empty for a post on its own.

    Raises:
        RadarError: a risk's name breaks the rule for names (`labels.NAME_RULE`).
    """
    try:
        categories = check_categories(categories)
    except ValueError as error:
        raise RadarError(f"label columns: {error}") from error
    columns: dict[str, Any] = {"post_id": Value("string"), "split": Value("string"), "pipeline": Value("string")}
    columns |= {"region": Value("string"), "language": Value("string"), "created_at": Value("timestamp[us]")}
    columns |= {name: Value("string") for name in TEXT_COLUMNS}
    columns |= {FRAMES: List(Image())}
    columns |= {LABEL_PREFIX + category: Value("int8") for category in categories}
    if groups:
        columns["group"] = Value("string")
    if captions:
        columns["caption"] = Value("string")
    if streams:
        columns |= {"stream_id": Value("string"), "segment": Value("int32")}
    return Features(columns)


def labels(posts: Dataset | pa.Table | pd.DataFrame, categories: Iterable[str]) -> Int8[np.ndarray, "post category"]:
    """Label matrix: 1 violating, 0 cleared, -1 not verified. Frames are not read.

    Raises:
        RadarError: a label is anything else; the message has column, row and value.
    """
    names = [LABEL_PREFIX + category for category in categories]
    if isinstance(posts, Dataset):
        posts = posts.select_columns(names).with_format("arrow")[:]
    columns = [np.asarray(posts[name]) for name in names]
    for name, column in zip(names, columns, strict=True):
        if len(wrong := np.flatnonzero(~np.isin(column, LABELS))):
            raise RadarError(f"{name} is {column[wrong[0]]!s} in row {wrong[0]} and wrong in {len(wrong):,} rows; a "
                             "label is 1 violating, 0 cleared or -1 not verified.")  # fmt: skip
    return np.stack(columns, axis=1).astype(np.int8) if columns else np.empty((len(posts), 0), dtype=np.int8)


def group_numbers(posts: pd.DataFrame) -> Int[np.ndarray, " post"] | None:
    """A number for each post, which the posts of one `group`, or without one of one live stream, share.

    None if all are independent of each other.
    """
    names = pd.Series("", index=posts.index)
    for column in ("stream_id", "group"):  # a group says more than a stream
        if column in posts:
            names = names.mask(posts[column] != "", column + " " + posts[column].astype(str))
    numbers = np.where(names != "", pd.factorize(names)[0], -1 - np.arange(len(posts)))
    numbers = np.unique(numbers, return_inverse=True)[1]
    return numbers if numbers.max(initial=-1) + 1 < len(numbers) else None


def to_record(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """One post as plain values for Arrow: defaults filled in, frames as {bytes, path}, times as naive UTC.

    A frame may be encoded bytes, a PIL image (stored as PNG) or a mapping with `bytes`, and `path` as their name. Keys
    of `row` that are no column (such as hidden truth) are refused, so that they cannot slip into the posts.
    """
    names = tuple(names)
    for key in row:
        if key not in names:
            raise RadarError(f"post {row.get('post_id')!r}: {key!r} is not one of the columns {', '.join(names)}.")
    record = {name: row[name] if name in row else _default(name, row) for name in names}
    record[FRAMES] = [_encoded(frame) for frame in record[FRAMES]]
    if not all(isinstance(frame["bytes"], bytes) for frame in record[FRAMES]):
        raise RadarError(f"post {row.get('post_id')!r}: a frame holds no bytes. Read its file first.")
    if getattr(record["created_at"], "tzinfo", None) is not None:
        record["created_at"] = record["created_at"].astimezone(UTC).replace(tzinfo=None)
    return record


def _default(name: str, row: Mapping[str, Any]) -> Any:
    if name.startswith(LABEL_PREFIX):
        return -1
    if name == FRAMES:
        return []
    if name not in DEFAULTS:
        raise RadarError(f"post {row.get('post_id')!r}: column {name!r} is missing and has no default.")
    return DEFAULTS[name]


def _encoded(frame: Any) -> dict[str, Any]:
    if isinstance(frame, bytes):
        return {"bytes": frame, "path": None}
    if isinstance(frame, PILImage.Image):
        buffer = io.BytesIO()
        frame.save(buffer, format="PNG")
        return {"bytes": buffer.getvalue(), "path": None}
    return {"bytes": frame.get("bytes"), "path": frame.get("path")}
