"""A finished run of the chain as a run folder, and a healthy band for it.

The router's backbone, with its adapter, reads every post once; the router's own heads, and those of a band, are applied
to the same pooled vectors. A run of the chain has no serving replay, no second look, no curves by category and no soft
labels of audit posts: signals that need them are left out, by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from radar_lib.data.posts import FRAMES, LABEL_PREFIX, Posts, labels, open_posts
from radar_lib.data.schema import TEXT_COLUMNS, group_numbers
from radar_lib.errors import RadarError
from radar_lib.files import digest_bytes, read_json
from radar_lib.models.router import RadarRouter
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache
from radar_lib.training.encoded import EncodedPosts
from radar_lib.training.inference import predict
from radar_lib.training.scores import logits_for, read_scores
from radar_lib.training.specs import Run
from radar_suite.diagnosis.runs import VERSION, About, RunFolder, check_audit
from radar_suite.places import CACHE
from radar_suite.studies.heads import HeadRecipe, Member, Weights, head_logits, train_heads

ROUTERS, CORPUS = "05_router_training/routers.json", "01_data_audit/corpus.json"
SOFT_LABELS = "04_teacher_inference/soft_labels.parquet"
SPLITS = {"train": "train", "validation": "validation", "audit": "audit", "serve": "unlabelled"}  # and the corpus's
CHANGES: dict[str, dict[str, Any]] = {
    "logit": {}, "no_frames": {FRAMES: []}, "no_text": dict.fromkeys(TEXT_COLUMNS, "")
}  # fmt: skip
CHUNK = 256  # posts in memory
CHANGED, LEAST_KEPT = 0.15, 0.9  # of a band: relative change of the rate, share of a split's posts
LAMBDA = 0.5  # of the tables; a band of a run with a larger one is trained with this


@dataclass(frozen=True)
class ChainRun:
    """One router of a chain run.

    Attributes:
        posts: metadata, labels and, where there are, soft labels by split.
        features: pooled vectors by column that they give (logit, no_frames, no_text) and split.
        weights: of the router's heads.
    """

    run: Run
    posts: dict[str, pd.DataFrame]
    features: dict[tuple[str, str], Float[np.ndarray, "post hidden"]]
    weights: Weights

    def run_folder(
        self, weights: Weights | None = None, kept: dict[str, Int[np.ndarray, " post"]] | None = None
    ) -> RunFolder:
        """The run, or one with other heads in its place, and of a split only the rows `kept`."""
        categories, parts = self.run.spec.categories, []
        for split, table in self.posts.items():
            part, rows = table.assign(split=split), (kept or {}).get(split, np.arange(len(table)))
            for (what, of), x in self.features.items():
                if of == split:
                    part[[f"{what}_{c}" for c in categories]] = head_logits(x, weights or self.weights)
            parts.append(part.iloc[rows])
        known = float((labels(self.posts["train"], categories) >= 0).sum())
        every = float(len(self.posts["train"]) * len(categories))
        said = {"verified_cells": known, "loss_cells": every if self.run.spec.recipe.objective == "unmasked" else known}
        return RunFolder(About(version=VERSION, categories=list(categories), contract=said), pd.concat(parts))

    def band(self, seeds: int) -> list[RunFolder]:
        """Runs whose heads alone are trained anew, with the mask, one per seed, and with harmless changes: of rate and
        length of the usual recipe, and of which posts are trained on and scored.

        What is wrong with the posts, their labels or the adapter is wrong with them, too, and does not show.
        """
        train, spec, runs = self.posts["train"], self.run.spec, []
        known = labels(train, spec.categories)
        teacher = [f"teacher_{c}" for c in spec.categories]
        lam = min(spec.recipe.lam, LAMBDA) if teacher[0] in train else 0.0
        guide = train[teacher].to_numpy() if lam else np.zeros(known.shape)
        for seed in range(1000, 1000 + seeds):
            random, usual = np.random.default_rng(seed), HeadRecipe()
            recipe = replace(usual, learning_rate=usual.learning_rate * random.uniform(1 - CHANGED, 1 + CHANGED),
                             epochs=usual.epochs + int(random.integers(-1, 2)))  # fmt: skip
            kept = {split: np.flatnonzero(random.random(len(table)) < random.uniform(LEAST_KEPT, 1))
                    for split, table in self.posts.items() if split != "validation"}  # fmt: skip
            rows = kept["train"]
            member = Member.distilled(rows, known[rows], guide[rows], lam=lam, seed=seed)
            runs.append(self.run_folder(*train_heads(self.features["logit", "train"], [member], recipe), kept))
        return runs


def is_chain_run(folder: Path) -> bool:
    """Whether a folder is that of a profile whose routers are trained."""
    return (folder / ROUTERS).is_file()


def read_chain(folder: Path, row: str = "") -> ChainRun:
    """A router of a chain run, its posts read by its backbone (kept in the cache of the runs).

    Args:
        folder: `runs/<profile>`.
        row: run hash, or loss and backbone as 'Masked BCE/Gemma3-4B'; without it the last router of notebook 05.

    Raises:
        RadarError: the chain has not come so far, no router fits, the corpus has no audit posts, or a file is not what
            was written.
    """
    listed = {f"{one['loss']}/{one['method']}": one["run"] for one in read_json(folder / ROUTERS, list[dict[str, Any]])}
    found = row if row in listed.values() else listed.get(row) if row else [*listed.values()][-1]
    if not found:
        raise RadarError(f"{folder / ROUTERS} has no router {row!r}. Name a run hash or one of {', '.join(listed)}.")
    cache = Cache(folder.parent / CACHE)
    run = Run.load(cache.root / "training" / found)
    corpus = open_posts(folder.parent / read_json(folder / CORPUS, dict[str, Any])["folder"])
    splits = {split: own for split, own in SPLITS.items() if own in corpus.splits}
    if "audit" not in splits:
        raise RadarError(f"{corpus.folder} has no audit posts. Add some, labelled for every risk.")
    check_audit(corpus.table("audit"), run.spec.categories, corpus.folder)
    teacher = None
    if (soft := folder / SOFT_LABELS).is_file():
        teacher = read_scores(soft, digest=read_json(soft.with_suffix(".json"), dict[str, Any])["digest"])
    keys = [("logit", split) for split in splits] + [(what, "audit") for what in CHANGES if what != "logit"]
    router = RadarRouter.from_pretrained(run.router_folder)

    about = {"run": run.digest, "posts": corpus.digest, "code": digest_sources(__name__)}
    features, content = {}, {}
    for what, split in tqdm(keys, desc=f"{run.spec.backbone}: posts read", unit="split"):
        entry = cache.entry("diagnosis", about | {"read": what, "split": split})
        entry.make(
            lambda inner, what=what, split=split: _keep(inner, *_read(router, corpus, splits[split], CHANGES[what]))
        )
        features[what, split] = np.load(entry.path("features.npy"), allow_pickle=False)
        if what == "logit":
            content[split] = np.load(entry.path("content.npy"), allow_pickle=False)
    posts = _describe(corpus, splits, content)
    for table in posts.values():
        if teacher is not None and set(table["post_id"]) <= set(teacher["post_id"]):
            logits = logits_for(teacher, table["post_id"].tolist(), run.spec.categories)
            table[[f"teacher_{c}" for c in run.spec.categories]] = logits
    return ChainRun(run, posts, features, _head_weights(router))


def _describe(corpus: Posts, splits: dict[str, str], content: dict[str, np.ndarray]) -> dict[str, pd.DataFrame]:
    """Metadata and labels by split."""
    whole = pd.concat([corpus.table(own).assign(split=split, content=content[split]) for split, own in splits.items()],
                      ignore_index=True)  # fmt: skip
    numbers, dates = group_numbers(whole), whole["created_at"]
    whole["group"] = whole["post_id"] if numbers is None else numbers.astype(str)
    if dates.notna().all():
        whole["month"] = (dates.dt.year * 12 + dates.dt.month).astype(int)
    whole.loc[whole["split"] == "serve", [name for name in whole if name.startswith(LABEL_PREFIX)]] = -1
    kept = [name for name in whole if name in ("post_id", "pipeline", "region", "language", "month", "group", "content")
            or name.startswith(LABEL_PREFIX)]  # fmt: skip
    return {split: whole.loc[whole["split"] == split, kept].reset_index(drop=True) for split in splits}


def _read(
    router: RadarRouter, corpus: Posts, split: str, change: dict[str, Any]
) -> tuple[Float[np.ndarray, "post hidden"], np.ndarray]:
    """What the router's backbone makes of a split's posts, changed; and a digest of each post's text and frames."""
    posts, backbone = corpus.split(split), router.backbone

    def chunks() -> Iterator[tuple[np.ndarray, list[str]]]:
        for i in range(0, len(posts), CHUNK):
            rows = [posts[j] for j in range(i, min(i + CHUNK, len(posts)))]
            digests = [_content(row) for row in rows]
            encoded = backbone.encode([{**row, **change} for row in rows])
            inputs = EncodedPosts.in_memory(backbone, encoded)
            yield predict(backbone, inputs, batch_size=inputs.at_once, device=backbone.device), digests

    vectors, digests = zip(*chunks(), strict=True)
    return np.concatenate(vectors).astype(np.float32), np.concatenate(digests)


def _keep(folder: Path, features: Float[np.ndarray, "post hidden"], content: np.ndarray) -> None:
    np.save(folder / "features.npy", features, allow_pickle=False)
    np.save(folder / "content.npy", content, allow_pickle=False)


def _content(row: dict[str, Any]) -> str:
    text = "\0".join(row[name] for name in TEXT_COLUMNS).encode()
    return digest_bytes(text + b"".join(frame.tobytes() for frame in row[FRAMES]))


def _head_weights(router: RadarRouter) -> Weights:
    """MLP and heads of a router as `studies.heads` names them."""
    norm, linear = router.mlp[0], router.mlp[1]
    return {
        "scale": norm.weight, "shift": norm.bias, "weight": linear.weight.T, "bias": linear.bias,
        "heads": torch.cat([head.weight for head in router.heads]).T,
        "head_bias": torch.cat([head.bias for head in router.heads]),
    }  # fmt: skip
