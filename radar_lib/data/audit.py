"""What is in the posts, who labelled what, what leaks: tidy tables from `Posts.table()` and the frames.

Each function is pure; tables are one row per fact, so that they print, plot and save as they are.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from radar_lib.data.posts import Posts
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, TEXT_COLUMNS, labels, valid_mask
from radar_lib.data.shards import BATCH_ROWS

_ZERO_WIDTH = re.compile("[\u200b-\u200f\u2060\ufeff]")


def plain_text(text: str) -> str:
    """Unicode form NFKC (styled letters become plain ones) without zero-width characters."""
    return text if text.isascii() else _ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", text))


def text_key(text: str) -> str:
    """Key of texts that are equal but for Unicode styling, case and spaces."""
    return " ".join(plain_text(text).casefold().split())


def all_text(table: pd.DataFrame) -> pd.Series:
    """Title, OCR and ASR text of each post, in lines."""
    first, *others = TEXT_COLUMNS
    return table[first].str.cat([table[name] for name in others], sep="\n").str.strip()


def validity_matrix(table: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Verified posts per pipeline (rows) and risk (columns): the disjoint annotation of Eq. 4, counted."""
    valid = pd.DataFrame(valid_mask(labels(table, categories)), columns=list(categories), index=table.index)
    return valid.groupby(table["pipeline"]).sum()


def prevalence(table: pd.DataFrame, categories: Sequence[str], *, by: str = "split") -> pd.DataFrame:
    """Violating share of the verified posts, per risk and group.

    Args:
        by: a column, or 'month' of `created_at` (posts without a time are left out).

    Returns:
        Columns group, category, posts, verified, positives, prevalence (NaN where nothing is verified).
    """
    groups = table["created_at"].dt.strftime("%Y-%m") if by == "month" else table[by]
    parts = []
    for category in categories:
        label = table[LABEL_PREFIX + category]
        counts = {"posts": label >= -1, "verified": label >= 0, "positives": label == 1}
        part = pd.DataFrame(counts).groupby(groups.rename("group"), sort=by != "split").sum().reset_index()
        parts.append(part.assign(category=category))
    tidy = pd.concat(parts, ignore_index=True)
    tidy["prevalence"] = tidy["positives"] / tidy["verified"].where(tidy["verified"] > 0)
    return tidy[["group", "category", "posts", "verified", "positives", "prevalence"]]


def shared_between_splits(keys: pd.Series, splits: pd.Series) -> pd.DataFrame:
    """How many posts of one split have a key that occurs in another.

    Args:
        keys: one hashable per post (or per frame); empty keys are ignored.
        splits: the split of each, with the same index.

    Returns:
        Columns split, other, n, share (of the split's keys), for each ordered pair of splits.
    """
    filled = keys[keys != ""]
    splits = splits[filled.index]
    held = {split: set(group) for split, group in filled.groupby(splits, sort=False)}
    rows = []
    for split, group in filled.groupby(splits, sort=False):
        for other in held:
            if other != split:
                n = int(group.isin(held[other]).sum())
                rows.append({"split": split, "other": other, "n": n, "share": n / len(group)})
    return pd.DataFrame(rows, columns=["split", "other", "n", "share"])


def text_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """`shared_between_splits` of the whole text, with `kind` exact or normalised (see `text_key`)."""
    text = all_text(table)
    kinds: dict[str, Callable[[str], str]] = {"exact": str, "normalised": text_key}
    parts = [shared_between_splits(text.map(key), table["split"]).assign(kind=kind) for kind, key in kinds.items()]
    return pd.concat(parts, ignore_index=True)


def text_statistics(table: pd.DataFrame, *, by: str = "split") -> pd.DataFrame:
    """Lengths in characters. Columns group, column, posts, empty (share), mean, median, p95 (of the non-empty)."""
    rows = []
    for group, part in table.groupby(by, sort=False):
        for name in TEXT_COLUMNS:
            lengths = part[name].str.len().to_numpy()
            filled = lengths[lengths > 0]
            mean, median, p95 = (filled.mean(), *np.percentile(filled, [50, 95])) if len(filled) else [np.nan] * 3
            rows.append({"group": group, "column": name, "posts": len(part), "empty": 1 - len(filled) / len(part),
                         "mean": mean, "median": median, "p95": p95})  # fmt: skip
    return pd.DataFrame(rows)


def frame_table(posts: Posts, *splits: str) -> pd.DataFrame:
    """One row per frame: post_id, split, pipeline, frame (its place), digest of its bytes, width, height, n_bytes.

    Only headers are decoded, and one batch of frames is in memory.
    """
    rows = []
    for shard in posts.shards(*splits):
        for batch in pq.ParquetFile(shard).iter_batches(BATCH_ROWS, columns=["post_id", "split", "pipeline", FRAMES]):
            for post in batch.to_pylist():
                for place, frame in enumerate(post.pop(FRAMES)):
                    with Image.open(io.BytesIO(frame["bytes"])) as image:
                        width, height = image.size
                    digest = hashlib.sha256(frame["bytes"]).hexdigest()[:16]
                    rows.append({**post, "frame": place, "digest": digest, "width": width, "height": height,
                                 "n_bytes": len(frame["bytes"])})  # fmt: skip
    columns = ["post_id", "split", "pipeline", "frame", "digest", "width", "height", "n_bytes"]
    return pd.DataFrame(rows, columns=columns)


def frame_duplicates(frames: pd.DataFrame) -> pd.DataFrame:
    """`shared_between_splits` of frames with equal bytes, from `frame_table`."""
    return shared_between_splits(frames["digest"], frames["split"])


def missing_modalities(table: pd.DataFrame, frames: pd.DataFrame, *, by: str = "split") -> pd.DataFrame:
    """Share of posts without each modality: columns group, posts, one per text column, frames, everything."""
    absent = pd.DataFrame({name: table[name].str.len() == 0 for name in TEXT_COLUMNS})
    absent[FRAMES] = ~table["post_id"].isin(frames["post_id"])
    absent["everything"] = absent.all(axis=1)
    grouped = absent.groupby(table[by].rename("group"), sort=False)
    shares = grouped.mean().reset_index()
    shares.insert(1, "posts", grouped.size().to_numpy())
    return shares


def pipeline_probe(
    table: pd.DataFrame, *, train: str = "train", test: str = "test", max_posts: int = 6_000, seed: int = 1
) -> pd.DataFrame:
    """How well the pipeline can be guessed from the text alone (TF-IDF and logistic regression, one against the rest).

    At AUC 1 a router can know who labelled a post, and a risk's score can stand for its source. At most `max_posts`
    of each split are used.

    Returns:
        Columns pipeline, n_train, n_test, auc (0.5 is chance; NaN for a pipeline without posts on both sides).
    """
    sample, held_out = (
        part.sample(min(max_posts, len(part)), random_state=seed)
        for part in (table[table["split"] == train], table[table["split"] == test])
    )
    pipelines = sorted(set(sample["pipeline"]))
    rows = []
    if len(pipelines) > 1 and len(held_out):
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000, token_pattern=r"\S+")
        known, unknown = vectors.fit_transform(all_text(sample)), vectors.transform(all_text(held_out))
        for pipeline in pipelines:
            target, truth = sample["pipeline"] == pipeline, held_out["pipeline"] == pipeline
            model = LogisticRegression(max_iter=500, random_state=seed).fit(known, target)
            mixed = 0 < truth.sum() < len(truth)
            auc = roc_auc_score(truth, model.decision_function(unknown)) if mixed else np.nan
            rows.append({"pipeline": pipeline, "n_train": int(target.sum()), "n_test": int(truth.sum()), "auc": auc})
    return pd.DataFrame(rows, columns=["pipeline", "n_train", "n_test", "auc"])
