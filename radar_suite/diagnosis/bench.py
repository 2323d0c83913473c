"""Benches: posts of the built-in world with frozen features, on which routers' heads are trained in seconds.

A bench holds every post once per variant: as it is, with a modality muted, with garbled text, cut short. Features come
from a stand-in backbone, or from the latent facts through a fixed random layer ('facts'), which needs no rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int8
from tqdm import tqdm

from radar_lib.data.frames import picture
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS
from radar_lib.files import digest_json
from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoded import EncodedPosts
from radar_lib.training.inference import predict
from radar_suite.studies.heads import HeadRecipe, Member, head_logits, train_heads
from radar_suite.world.build import render_posts
from radar_suite.world.dials import CorpusConfig, corpus_digest, plan_corpus
from radar_suite.world.facts import CONTEXT_FACTS, DOMAINS, FRAME_FACTS, TEXT_FACTS
from radar_suite.world.pipelines import TRAFFIC, Selection, hash_uniform
from radar_suite.world.policies import CATEGORIES, posteriors
from radar_suite.world.standins import resolve

SPLITS = {"train": "train", "validation": "validation", "audit": "audit", "serve": "unlabelled"}  # and the world's
VARIANTS = ("whole", "no_frames", "no_text", "garbled", "cut")
FACTS = "facts"  # the bench without a backbone
HIDDEN = 64  # of its features
SLICE = 256  # posts per cache entry
KEPT_CHARACTERS = 12  # of each text of a post that is cut
GARBLED_SHARE = 0.5  # of the characters of text on screen and speech

Matrix = Float[np.ndarray, "post category"]


@dataclass(frozen=True)
class Size:
    """Posts of a bench."""

    train: int = 1500
    validation: int = 400
    audit: int = 1200
    serve: int = 900


@dataclass(frozen=True)
class Bench:
    """One world seen by one backbone.

    Attributes:
        posts: by split, one row per post: post_id, pipeline, region, language, month, group, content, label_<category>.
        truth: by split, true labels of all K.
        posterior: by split, P(y_k = 1 | facts).
        features: by variant and split.
        teacher: by split, the experts' logits: each learned its own pipeline's posts.
    """

    name: str
    posts: dict[str, pd.DataFrame]
    truth: dict[str, Int8[np.ndarray, "post category"]]
    posterior: dict[str, Matrix]
    features: dict[str, dict[str, Float[np.ndarray, "post hidden"]]]
    teacher: dict[str, Matrix]


def corpus_of(seed: int, size: Size) -> CorpusConfig:
    """The world's posts that a bench of this size holds."""
    return CorpusConfig(
        seed=seed, train_posts=size.train, validation_posts=size.validation, audit_posts=size.audit,
        unlabelled_posts=size.serve, test_posts=0, calibration_posts=0, duplicate_rate=0.0,
    )  # fmt: skip


def open_bench(backbone: str, *, seed: int, size: Size, cache: Cache) -> Bench:
    """A bench, its features from the cache where they are.

    Args:
        backbone: name of a stand-in as in Table 1, or 'facts'.
        seed: of the world.

    Raises:
        RadarError: the world cannot be built at this size, or there is no such backbone.
    """
    config = corpus_of(seed, size)
    plan = {s.split: s for s in plan_corpus(config)}
    chosen = {split: plan[own] for split, own in SPLITS.items()}
    make = _facts_features if backbone == FACTS else _backbone_features
    features = make(config, chosen, backbone, cache)
    posts = {split: _describe(s, seed) for split, s in chosen.items()}
    truth = {split: s.truth for split, s in chosen.items()}
    posterior = {split: posteriors(s.facts) for split, s in chosen.items()}
    teacher = _experts(features["whole"], chosen["train"].labels, seed)
    return Bench(f"{backbone}, world {seed}", posts, truth, posterior, features, teacher)


def _describe(s: Selection, seed: int) -> pd.DataFrame:
    facts = {name: np.array(DOMAINS[name])[s.facts[name]] for name in CONTEXT_FACTS}
    index, segment = s.index.astype(np.int64), s.facts["segment"].astype(np.int64)
    ids = [f"{s.split}-{i}" for i in index]
    stream = [f"{s.split}-live-{i - n + 1}" if n else one for i, n, one in zip(index, segment, ids, strict=True)]
    pipeline = np.where(s.pipeline < 0, TRAFFIC, np.array(CATEGORIES)[s.pipeline])
    labels = {f"label_{c}": s.labels[:, k] for k, c in enumerate(CATEGORIES)}
    return pd.DataFrame({
        "post_id": ids, "pipeline": pipeline, "region": facts["region"], "language": facts["language"],
        "month": facts["day"].astype(int) // 31, "group": stream, "content": ids, **labels,
    })  # fmt: skip


def _experts(features: dict[str, Any], labels: Int8[np.ndarray, "post category"], seed: int) -> dict[str, Matrix]:
    members = []
    for k in range(labels.shape[1]):
        own = np.where(np.arange(labels.shape[1]) == k, labels, -1)
        members.append(Member.of(np.arange(len(labels)), own, "masked", seed=1000 + seed + k))
    trained = train_heads(features["train"], members, HeadRecipe(epochs=8))
    return {split: np.stack([head_logits(x, one)[:, k] for k, one in enumerate(trained)], axis=1)
            for split, x in features.items()}  # fmt: skip


def _facts_features(config: CorpusConfig, chosen: dict[str, Selection], _: str, __: Cache) -> dict[str, Any]:
    random = np.random.default_rng(config.seed)
    blocks = {kind: [(name, random.normal(size=(len(DOMAINS[name]), HIDDEN))) for name in names]
              for kind, names in (("frames", FRAME_FACTS), ("text", TEXT_FACTS))}  # fmt: skip
    mix, accents = random.normal(size=(2 * HIDDEN, HIDDEN)), random.normal(size=(len(DOMAINS["language"]), HIDDEN))

    def vectors(s: Selection, variant: str) -> np.ndarray:
        noise = np.random.default_rng([config.seed, len(s)]).normal(size=(4, len(s), HIDDEN))
        frames, text = (sum(table[s.facts[name]] for name, table in blocks[kind]) / len(blocks[kind]) ** 0.5
                        for kind in ("frames", "text"))  # fmt: skip
        text = text + 0.5 * accents[s.facts["language"]]
        lost = hash_uniform(s.index, np.uint64(7))[:, None]
        if variant == "garbled":
            text = 0.5 * text + 0.9 * noise[2]
        if variant == "cut":
            text = np.where(lost < 0.5, 0.4 * text, text)
        text, frames = text * (variant != "no_text"), frames * (variant != "no_frames")
        both = np.concatenate([frames + 0.15 * noise[0], text + 0.15 * noise[1]], axis=1)
        return np.tanh(both @ mix / HIDDEN**0.5).astype(np.float32)

    return {variant: {split: vectors(s, variant) for split, s in chosen.items()} for variant in VARIANTS}


def _backbone_features(
    config: CorpusConfig, chosen: dict[str, Selection], backbone: str, cache: Cache
) -> dict[str, Any]:
    checkpoint = resolve(BACKBONES[backbone], "standins")
    about = {"posts": corpus_digest(config), "checkpoint": checkpoint, "code": digest_sources(__name__)}
    jobs = [(split, s.take(slice(i, i + SLICE)), cache.entry("diagnosis", about | {"split": split, "from": i}))
            for split, s in chosen.items() for i in range(0, len(s), SLICE)]  # fmt: skip
    missing = [job for job in jobs if not job[-1].complete]
    for _, part, entry in tqdm(missing, desc=f"{backbone}: posts drawn and encoded", disable=not missing):
        _encode(config, part, checkpoint, entry)
    read = {id(entry): np.load(entry.path("features.npy"), allow_pickle=False) for *_, entry in jobs}
    return {variant: {split: np.concatenate([read[id(entry)][v] for own, _, entry in jobs if own == split])
                      for split in chosen} for v, variant in enumerate(VARIANTS)}  # fmt: skip


def _encode(config: CorpusConfig, part: Selection, checkpoint: str, entry: Entry) -> None:
    def work(folder: Path) -> None:
        rows = list(render_posts(config, part, 0, len(part)))
        for row in rows:
            row[FRAMES] = [picture(frame) for frame in row[FRAMES]]
        np.save(folder / "features.npy", np.stack([_pooled(checkpoint, rows, v) for v in VARIANTS]), allow_pickle=False)

    entry.make(work)
    _towered.cache_clear()


def _pooled(checkpoint: str, rows: list[dict[str, Any]], variant: str) -> Float[np.ndarray, "post hidden"]:
    """Pooled vectors of one variant; the frames pass the vision tower once for all of them."""
    model = _model(checkpoint)
    change = {
        "whole": lambda row: {}, "no_frames": lambda row: {FRAMES: []},
        "no_text": lambda row: dict.fromkeys(TEXT_COLUMNS, ""),
        "garbled": lambda row: {name: garble(row[name], row["post_id"]) for name in ("ocr_text", "asr_text")},
        "cut": lambda row: {name: row[name][:KEPT_CHARACTERS] for name in TEXT_COLUMNS},
    }[variant]  # fmt: skip
    encoded = model.encode([{**row, **change(row)} for row in rows])
    if variant != "no_frames":
        key = (checkpoint, rows[0]["post_id"], len(rows))
        seen = _towered(key)
        if not seen:
            seen.extend(post.features for post in model.cache_features(encoded))
        encoded = [_with(post, features) for post, features in zip(encoded, seen, strict=True)]
    return predict(model, EncodedPosts.in_memory(model, encoded), batch_size=EncodedPosts.at_once).astype(np.float32)


@lru_cache(maxsize=1)
def _towered(key: Any) -> list:
    return []


def _with(post: Any, features: Any) -> Any:
    return replace(post, frames=(), features=features)


@lru_cache(maxsize=1)
def _model(checkpoint: str) -> Any:
    return load_backbone(checkpoint)


def garble(text: str, key: str) -> str:
    """`text` with half of its characters replaced by others of it, as recognition that fails does; spaces stay."""
    random = np.random.default_rng([int(digest_json(key), 16) % 2**63])
    letters = np.array(list(text) or [""])
    wrong: Bool[np.ndarray, " letter"] = (random.random(len(letters)) < GARBLED_SHARE) & (letters != " ")
    return "".join(np.where(wrong, random.permutation(letters), letters))
