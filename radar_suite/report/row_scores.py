"""The rows' logits on the test posts, in one compact file: from it every number of the tables can be recomputed.

A column is one run's logits for one risk, float32 as the models gave them, and null where the post was not verified for
that risk. Where posts are not independent, `group` numbers their groups. `radar verify` reads the file; so can anyone,
with nothing but a Parquet reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int8

from radar_lib.data.posts import Posts, labels, valid_mask
from radar_lib.data.schema import LABEL_PREFIX, group_numbers
from radar_lib.errors import RadarError
from radar_lib.evidence import Evidence
from radar_lib.files import atomic_path
from radar_lib.intervals import Groups
from radar_lib.metrics import score_table
from radar_lib.training.scores import UNREADABLE
from radar_suite.report.workspace import Workspace

KEY = b"radar_rows"  # of the file's metadata: which run each group of columns is


def labelled_test_posts(
    posts: Posts, split: str = "test"
) -> tuple[list[str], Int8[np.ndarray, "post category"], Groups]:
    """Ids, labels (1, 0, -1) and groups of the test posts that were verified for something: all routers scored them."""
    table = posts.table(split)
    truth = labels(table, posts.categories)
    known = valid_mask(truth).any(axis=1)
    return table["post_id"][known].tolist(), truth[known], group_numbers(table[known])


@dataclass(frozen=True)
class RowScores:
    """Rows scored on one set of test posts.

    Attributes:
        post_ids: of the posts.
        truth: their labels (1, 0, -1).
        categories: the risks, in the order of the columns.
        rows: by row, a table row as (loss, method) or a lambda, the logits of its run at each seed.
        groups: number of each post's group; None if all are independent.
        kind: of the posts (`Posts.kind`): of the built-in world some comparisons are by construction.
    """

    post_ids: Sequence[str]
    truth: Int8[np.ndarray, "post category"]
    categories: tuple[str, ...]
    rows: Mapping[Hashable, Mapping[int, Float[np.ndarray, "post category"]]]
    groups: Groups = None
    kind: str = ""

    def only(self, wanted: Callable[[Any], bool]) -> RowScores:
        """The rows whose name is wanted."""
        return replace(self, rows={row: runs for row, runs in self.rows.items() if wanted(row)})

    def beside(self, other: RowScores) -> RowScores:
        """These rows and those of `other`, scored on the same posts."""
        return replace(self, rows={**self.rows, **other.rows})

    def scored(self) -> dict[Hashable, dict[int, dict[str, dict[str, float]]]]:
        """`score_table` of every row and seed."""
        return {row: {seed: score_table(self.truth, logits, self.categories) for seed, logits in runs.items()}
                for row, runs in self.rows.items()}  # fmt: skip

    def evidence(self, *, seed: int) -> Evidence:
        """Intervals and differences over the test posts; a row's seeds are one mean."""
        rows = {row: list(runs.values()) for row, runs in self.rows.items()}
        return Evidence(self.truth, rows, self.categories, groups=self.groups, seed=seed)

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        columns: dict[str, Any] = {"post_id": pa.array(list(self.post_ids), pa.string())}
        columns |= {LABEL_PREFIX + c: pa.array(self.truth[:, k], pa.int8()) for k, c in enumerate(self.categories)}
        columns |= {} if self.groups is None else {"group": pa.array(self.groups, pa.int32())}
        listed = []
        for row, runs in self.rows.items():
            for seed, logits in runs.items():
                listed.append({"row": row, "seed": seed})
                for k, category in enumerate(self.categories):
                    unknown = self.truth[:, k] < 0
                    columns[_column(row, seed, category)] = pa.array(logits[:, k], pa.float32(), mask=unknown)
        about = {KEY: json.dumps({"categories": self.categories, "rows": listed, "kind": self.kind}).encode()}
        scores = [name for name, column in columns.items() if column.type == pa.float32()]
        with atomic_path(path) as temporary:
            pq.write_table(
                pa.table(columns).replace_schema_metadata(about), temporary, compression="zstd", compression_level=9,
                use_dictionary=False, use_byte_stream_split=scores,
            )  # fmt: skip


def read_row_scores(path: Path) -> RowScores:
    """What `RowScores.write` left.

    Raises:
        RadarError: there is no such file, or it is not one of these, or a verified post has no finite logit.
    """
    if not path.is_file():
        raise RadarError(f"{path} does not exist: `radar reproduce` writes it (notebooks 06 and 07).")
    try:
        return _row_scores(path)
    except UNREADABLE as error:
        raise RadarError(f"{path}: no readable scores ({error}): run `radar reproduce` again.") from error


def _row_scores(path: Path) -> RowScores:
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    if KEY not in metadata:
        raise RadarError(f"{path} does not say which runs its columns are: run `radar reproduce` again.")
    about = json.loads(metadata[KEY])
    categories = tuple(about["categories"])
    truth = np.stack([table[LABEL_PREFIX + category].to_numpy() for category in categories], axis=1)
    rows: dict[Hashable, dict[int, np.ndarray]] = {}
    for one in about["rows"]:
        row, seed = tuple(one["row"]) if isinstance(one["row"], list) else one["row"], one["seed"]
        columns = [table[_column(row, seed, category)].to_numpy() for category in categories]
        logits = np.stack(columns, axis=1).astype(np.float32)
        if not np.isfinite(logits[truth >= 0]).all():
            raise RadarError(f"{path}: {_column(row, seed, '')}a verified post has no finite logit.")
        rows.setdefault(row, {})[seed] = logits
    groups = table["group"].to_numpy() if "group" in table.column_names else None
    return RowScores(table["post_id"].to_pylist(), truth, categories, rows, groups, about.get("kind", ""))


def save_row_scores(ws: Workspace, name: str, scores: RowScores, *, caption: str) -> None:
    """Write `figures/<name>.parquet` and enter it, with its digest, in the notebook's manifest."""
    path = ws.path(f"figures/{name}.parquet")
    scores.write(path)
    ws.enter(name, [path], kind="scores", caption=caption)


def row_of(entry: Mapping[str, Any]) -> Hashable:
    """The row of an index entry of the training notebooks: (loss, method), or a point of the lambda grid."""
    return (entry["loss"], entry["method"]) if "loss" in entry else entry["lambda"]


def name_of(row: Hashable) -> str:
    """A table row as 'loss, method'; a lambda as 'lambda 0.5'; any other row by its own name."""
    return f"lambda {row:g}" if isinstance(row, Real) else ", ".join(row) if isinstance(row, tuple) else str(row)


def _column(row: Hashable, seed: int, category: str) -> str:
    return f"{name_of(row)}, seed {seed}: {category}"
