"""Build the built-in corpus: choose the posts, draw and write them shard by shard, keep the truth apart.

A post's content depends on (seed, stream, index) alone, each split has a stream of its own, and a shard is a
contiguous run of a split's chosen posts. So any number of workers writes the same bytes, a killed build goes on with
the shards that are missing, and a larger training split leaves calibration and test posts as they are.
"""

import hashlib
import itertools
import math
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from radar_lib.data.posts import Posts, features, finish_corpus, open_posts
from radar_lib.data.schema import SPLITS
from radar_lib.data.shards import shard_path, write_shard
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_file, locked, read_json, write_json
from radar_suite.world.captions import caption
from radar_suite.world.dials import PIPELINE_SHARES, CorpusConfig, corpus_digest, plan_corpus
from radar_suite.world.draws import Draws
from radar_suite.world.facts import DOMAINS, MAX_SEGMENTS, stream_key
from radar_suite.world.flaws import KINDS, NEAR, disguise
from radar_suite.world.language import bank, retag, write_text
from radar_suite.world.pipelines import TRAFFIC, Selection, Signals, panel_votes
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.rendering import draw_frames

__all__ = ["PIPELINE_SHARES", "CorpusConfig", "build_corpus", "corpus_digest", "plan_corpus"]

NAME = "radar-built-in"
SHARD_POSTS = 500
FIRST_DAY = datetime(2025, 1, 1)


def post_id(key: bytes, index: int) -> str:
    """Identifier of a post of the stream with this id key: tells nothing of split, order or label."""
    return hashlib.sha256(key + int(index).to_bytes(8, "little")).hexdigest()[:16]


def _id_key(config: CorpusConfig, split: str, kind: str = "id") -> bytes:
    return stream_key(config.seed, split, kind).to_bytes(8, "little")


def post_ids(config: CorpusConfig, s: Selection) -> list[str]:
    """Identifiers of a selection's posts."""
    key = _id_key(config, s.split)
    return [post_id(key, i) for i in s.index]


def _originals(config: CorpusConfig, s: Selection) -> list[str]:
    """Identifier of the post that each post copies, '' for a post of its own."""
    keys = [_id_key(config, split) for split in SPLITS]
    return [
        post_id(keys[split], i) if copied else ""
        for copied, split, i in zip(s.copy, s.origin_split, s.origin, strict=True)
    ]


def _stream_ids(config: CorpusConfig, s: Selection) -> list[str]:
    """Identifier of the live stream that each post is a segment of, '' for none."""
    key, segment = _id_key(config, s.split, "live"), s.facts["segment"]
    return [post_id(key, i - n + 1) if n else "" for i, n in zip(s.index.tolist(), segment.tolist(), strict=True)]


def render_posts(config: CorpusConfig, s: Selection, start: int, stop: int) -> Iterator[dict]:
    """Posts ``start`` to ``stop`` of a selection as rows of the data contract."""
    ids, streams = post_ids(config, s), _stream_ids(config, s)
    for n in range(start, stop):
        facts = {name: values[s.facts[name][n]] for name, values in DOMAINS.items()}
        title, ocr_text, asr_text, frames, second = _content(config, s, n, facts)
        pipeline = TRAFFIC if s.pipeline[n] < 0 else CATEGORIES[s.pipeline[n]]
        row = {
            "post_id": ids[n],
            "split": s.split,
            "pipeline": pipeline,
            "region": facts["region"],
            "language": facts["language"],
            "created_at": FIRST_DAY + timedelta(days=int(facts["day"]), seconds=second),
            "title": title,
            "ocr_text": ocr_text,
            "asr_text": asr_text,
            "frames": frames,
            "stream_id": streams[n],
            "segment": int(facts["segment"]),
        }
        row |= {f"label_{c}": int(v) for c, v in zip(CATEGORIES, s.labels[n], strict=True)}
        if config.pretrain_posts:
            row["caption"] = (
                caption(facts, language_name=bank(facts["language"])["name"]) if s.split == "pretrain" else ""
            )
        yield row


def _content(config: CorpusConfig, s: Selection, n: int, facts: dict) -> tuple[str, str, str, list[bytes], int]:
    """Title, text on screen, speech, frames and second of the day of one post.

    Everything is drawn from the original's (seed, stream, index), for a copy as for a post of its own. A live stream's
    segments share the draws of its first one for what stays the same, a campaign's posts share the campaign's.
    """
    seed, stream, index = config.seed, SPLITS[s.origin_split[n]], int(s.origin[n])
    first = index - max(int(facts["segment"]) - 1, 0)
    live = facts["segment"] != "0"
    keys = {kind: stream_key(seed, stream, kind) for kind in ("text", "frames", "live text", "live frames")}
    campaign = int(facts["campaign"][1:]) if facts["campaign"] else 0
    words, looks = (
        Draws(stream_key(seed, kind), campaign) if campaign else None for kind in ("campaign text", "campaign frames")
    )
    text = write_text(
        facts,
        Draws(keys["text"], index, chunk=64),
        template=words,
        shared=Draws(keys["live text"], first, chunk=64) if live else None,
    )
    draws = Draws(keys["frames"], index)
    second = draws.integer(0, 86_399)
    shared = Draws(keys["live frames"], first) if live else None
    if live:  # segments of a quarter of an hour, in order
        second = shared.integer(0, 86_399 - 900 * MAX_SEGMENTS) + 900 * int(facts["segment"])
    frames = draw_frames(
        facts, text[1], draws, px=config.frame_px, n_frames=int(facts["n_frames"]), shared=shared, look=looks
    )
    if s.copy[n]:
        own = Draws(stream_key(seed, s.stream, "copy"), int(s.index[n]), chunk=64)
        second = own.integer(0, 86_399)
        if s.copy[n] == NEAR:
            crop = own.chance(0.4)  # cropped or worded anew, so that one of the two gives the copy away
            frames = disguise(frames, own, crop=crop)
            if not crop and own.chance(0.5):
                anew = write_text(facts, own, template=words)
                # What the frames show as text cannot be worded anew; such a copy only gets another tag.
                text = (retag(text[0], own), *text[1:]) if text[1] or anew[1] else anew
    return *text, frames, second


def truth_table(config: CorpusConfig, s: Selection) -> pa.Table:
    """Hidden truth of some posts: true labels, reviewers' votes, posteriors, intake cues and propensities of all K,
    what each post copies or belongs to, and the latent facts."""
    signals, votes = Signals.of(s.facts), panel_votes(s, config.seed)
    p, propensity = signals.posteriors, config.intake.chance(signals)
    columns: dict[str, Any] = {"post_id": post_ids(config, s)}
    for k, c in enumerate(CATEGORIES):
        columns |= {
            f"true_{c}": s.truth[:, k].astype(np.int8),
            f"posterior_{c}": p[:, k].astype(np.float32),
            f"votes_{c}": votes[:, k],
            f"cue_{c}": signals.cues[:, k].astype(np.float32),
            f"propensity_{c}": propensity[:, k].astype(np.float32),
        }
    columns |= {
        "duplicate_of": _originals(config, s),
        "duplicate_kind": [KINDS[kind] for kind in s.copy],
        "stream_id": _stream_ids(config, s),
        "campaign": [DOMAINS["campaign"][n] for n in s.facts["campaign"]],
    }
    for name, values in DOMAINS.items():
        columns[f"fact_{name}"] = pa.DictionaryArray.from_arrays(s.facts[name], list(values)).dictionary_decode()
    return pa.table(columns)


def _write_truth(config: CorpusConfig, plan: list[Selection], path: Path) -> None:
    """The truth of all posts, a few thousand in memory at a time."""
    with atomic_path(path) as temporary:
        parts = (truth_table(config, s.take(slice(i, i + 5_000))) for s in plan for i in range(0, len(s), 5_000))
        first = next(parts)
        with pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
            for part in itertools.chain([first], parts):
                writer.write_table(part)


def _build_shard(job: tuple) -> int:
    config, selection, path = job
    types = features(CATEGORIES, captions=config.pretrain_posts > 0, streams=True)
    write_shard(path, render_posts(config, selection, 0, len(selection)), types)
    return len(selection)


def build_corpus(config: CorpusConfig, out: Path | str, *, workers: int = 1, progress: bool = True) -> Posts:
    """Build the corpus in ``out``; finished shards are kept, a complete corpus of the same digest is left alone.

    One process builds; others that ask for the same folder meanwhile wait, and find the corpus.

    Raises:
        RadarError: ``out`` holds something else, the settings are impossible, or the disk is full.
    """
    with locked(Path(out).with_name(f".{Path(out).name}.lock")):
        return _build(config, Path(out), workers=workers, progress=progress)


def _build(config: CorpusConfig, out: Path, *, workers: int, progress: bool) -> Posts:
    digest = corpus_digest(config)
    if (out / "corpus.json").exists():
        if read_json(out / "corpus.json").get("config_digest") == digest:
            return open_posts(out)
        raise RadarError(f"{out} holds another corpus; choose another folder or delete it")
    begun = out / "build.json"
    used = out.exists() and any(not p.name.startswith(".") for p in out.iterdir())
    if used and not (begun.exists() and read_json(begun)["config_digest"] == digest):
        raise RadarError(f"{out} is not empty and holds no unfinished build of this corpus; choose another folder")
    plan = plan_corpus(config)
    write_json(begun, {"config_digest": digest, "config": asdict(config)})
    for left in (p for pattern in (".*.tmp", "*/.*.tmp") for p in out.glob(pattern)):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    counts = [(s, math.ceil(len(s) / SHARD_POSTS)) for s in plan]
    shards = [
        (s, i, path)
        for s, count in counts
        for i in range(count)
        if not (path := shard_path(out, s.split, i, count)).exists()
    ]
    jobs = ((config, _shard(s, i), path) for s, i, path in shards)
    total, missing = sum(map(len, plan)), sum(len(_shard(s, i)) for s, i, _ in shards)
    _write_truth(config, plan, out / "hidden" / "truth.parquet")
    with tqdm(total=total, initial=total - missing, unit=" posts", desc="corpus", disable=not progress) as bar:
        for n in _run(jobs, min(workers, len(shards))):
            bar.update(n)
    posts = finish_corpus(
        out,
        name=NAME,
        kind="built-in",
        extra={
            "config_digest": digest,
            "config": asdict(config),
            "truth_digest": digest_file(out / "hidden" / "truth.parquet"),
        },
    )
    begun.unlink(missing_ok=True)
    return posts


def _shard(s: Selection, i: int) -> Selection:
    return s.take(slice(i * SHARD_POSTS, (i + 1) * SHARD_POSTS))


def _run(jobs: Iterator[tuple], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from map(_build_shard, jobs)
        return
    # Spawned workers hold no copies of the parent's threads or GPU state, on any system.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = {pool.submit(_build_shard, job) for job in itertools.islice(jobs, 3 * workers)}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(_build_shard, job) for job in itertools.islice(jobs, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise RadarError(
                "a process that was building posts died, perhaps for lack of memory; build again with "
                "fewer workers, the finished shards are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
