"""Build the built-in corpus: choose the posts, draw and write them shard by shard, keep the truth apart.

A post's content depends on (seed, stream, index) alone, each split has a stream of its own, and a shard is a
contiguous run of a split's chosen posts. So any number of workers writes the same bytes, a killed build goes on with
the shards that are missing, and a larger training split leaves calibration and test posts as they are.
"""

import hashlib
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from radar_lib.corpus.captions import caption
from radar_lib.corpus.draws import Draws
from radar_lib.corpus.facts import DOMAINS, stream_key
from radar_lib.corpus.frames import draw_frames
from radar_lib.corpus.language import bank, write_text
from radar_lib.corpus.pipelines import TRAFFIC, Selection, select_annotated, select_traffic
from radar_lib.corpus.policies import CATEGORIES, intake_cues, posteriors
from radar_lib.data.posts import Posts, features, finish_corpus, open_posts
from radar_lib.data.shards import shard_path, write_shard
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_files, digest_json, read_json, write_json

NAME = "radar-built-in"
SHARE = (800, 300, 600)  # training posts per pipeline, ratio (LQC : RCS : FE)
SHARD_POSTS = 500
FIRST_DAY = datetime(2025, 1, 1)


@dataclass(frozen=True)
class CorpusConfig:
    """Everything that decides the bytes of a corpus.

    Splits of size 0 are left out. ``test_positives`` is the number of positives per risk in each of test and
    calibration; the number of posts follows from ``test_prevalence``. ``pretrain_posts`` need another ``seed`` than
    the corpus that is trained on.
    """

    seed: int = 1
    train_posts: int = 8500
    validation_posts: int = 1000
    test_positives: int = 100
    calibration_positives: int = 100
    unlabelled_posts: int = 4000
    audit_posts: int = 2000
    pretrain_posts: int = 0
    frame_px: int = 96
    min_frames: int = 1
    max_frames: int = 5
    train_prevalence: tuple[float, float, float] = (0.255, 0.177, 0.090)
    test_prevalence: tuple[float, float, float] = (0.044, 0.048, 0.033)
    intake_beta: float = 3.0
    co_violation: float = 0.9

    def __post_init__(self) -> None:
        for name in ("train_posts", "validation_posts", "test_positives", "calibration_positives",
                     "unlabelled_posts", "audit_posts", "pretrain_posts"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")
        _require(sum((self.train_posts, self.test_positives, self.calibration_positives, self.validation_posts,
                      self.unlabelled_posts, self.audit_posts, self.pretrain_posts)) > 0, "the corpus has no posts")
        _require(32 <= self.frame_px <= 1024, f"frame_px is {self.frame_px}; it must be between 32 and 1024")
        _require(1 <= self.min_frames <= self.max_frames <= 5,
                 f"min_frames {self.min_frames} and max_frames {self.max_frames} must be ordered within 1 to 5")
        for name in ("train_prevalence", "test_prevalence"):
            rates = getattr(self, name)
            _require(len(rates) == 3 and all(0 < p < 1 for p in rates),
                     f"{name} is {rates}; it needs three shares between 0 and 1, for {', '.join(CATEGORIES)}")
            object.__setattr__(self, name, tuple(float(p) for p in rates))
        _require(0 <= self.co_violation <= 1, f"co_violation is {self.co_violation}; it is a share, 0 to 1")
        _require(0 <= self.intake_beta <= 6, f"intake_beta is {self.intake_beta}; it must be between 0 and 6")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RadarError(f"corpus settings: {message}")


def corpus_digest(config: CorpusConfig) -> str:
    """Identity of a corpus, known before it is built: its configuration and the generator's sources."""
    here = Path(__file__).parent
    sources = [p for p in sorted(here.rglob("*")) if p.suffix in (".py", ".yaml")]
    return digest_json({"config": asdict(config), "sources": digest_files(sources, root=here)})


def plan_corpus(config: CorpusConfig) -> list[Selection]:
    """Choose the posts of every split; facts only, nothing is drawn yet."""
    seed, dials = config.seed, {"co_violation": config.co_violation}
    plan: list[Selection] = []
    for split, n in (("train", config.train_posts), ("validation", config.validation_posts)):
        if n:
            first, second = (round(n * share / sum(SHARE)) for share in SHARE[:2])
            plan.append(select_annotated(seed, split, split, (first, second, n - first - second),
                                         config.train_prevalence, beta=config.intake_beta, noisy=True, **dials))
    for split, positives in (("calibration", config.calibration_positives), ("test", config.test_positives)):
        if positives:
            sizes = [math.floor(positives / p) for p in config.test_prevalence]
            plan.append(select_annotated(seed, split, split, sizes, config.test_prevalence, beta=0.0, noisy=False,
                                         **dials))
    for split, n in (("unlabelled", config.unlabelled_posts), ("audit", config.audit_posts),
                     ("pretrain", config.pretrain_posts)):
        if n:
            plan.append(select_traffic(seed, split, split, n, verified=split == "audit", **dials))
    for selection in plan:
        np.clip(selection.facts["n_frames"], config.min_frames - 1, config.max_frames - 1,
                out=selection.facts["n_frames"])
    return plan


def post_ids(config: CorpusConfig, selection: Selection) -> list[str]:
    """Identifiers that tell nothing of split, order or label."""
    key = stream_key(config.seed, selection.stream, "id").to_bytes(8, "little")
    return [hashlib.sha256(key + int(i).to_bytes(8, "little")).hexdigest()[:16] for i in selection.index]


def render_posts(config: CorpusConfig, s: Selection, start: int, stop: int) -> Iterator[dict]:
    """Posts ``start`` to ``stop`` of a selection as rows of the data contract."""
    ids = post_ids(config, s)
    text_key, frame_key = (stream_key(config.seed, s.stream, kind) for kind in ("text", "frames"))
    for n in range(start, stop):
        index = int(s.index[n])
        facts = {name: values[s.facts[name][n]] for name, values in DOMAINS.items()}
        title, ocr_text, asr_text = write_text(facts, Draws(text_key, index, chunk=64))
        draws = Draws(frame_key, index)
        pipeline = TRAFFIC if s.pipeline[n] < 0 else CATEGORIES[s.pipeline[n]]
        row = {
            "post_id": ids[n], "split": s.split, "pipeline": pipeline,
            "region": facts["region"], "language": facts["language"],
            "created_at": FIRST_DAY + timedelta(days=int(facts["day"]), seconds=draws.integer(0, 86_399)),
            "title": title, "ocr_text": ocr_text, "asr_text": asr_text,
            "frames": draw_frames(facts, ocr_text, draws, px=config.frame_px, n_frames=int(facts["n_frames"])),
        }
        row |= {f"label_{c}": int(v) for c, v in zip(CATEGORIES, s.labels[n], strict=True)}
        if config.pretrain_posts:
            row["caption"] = (caption(facts, language_name=bank(facts["language"])["name"])
                              if s.split == "pretrain" else "")
        yield row


def truth_table(config: CorpusConfig, plan: list[Selection]) -> pa.Table:
    """Hidden truth: true labels, posteriors, intake cues and propensities of all K, and the latent facts."""
    columns: dict[str, list] = {}
    for s in plan:
        cues, p = intake_cues(s.facts), posteriors(s.facts)
        part = {"post_id": post_ids(config, s)}
        for k, c in enumerate(CATEGORIES):
            part |= {f"true_{c}": s.truth[:, k].astype(np.int8), f"posterior_{c}": p[:, k].astype(np.float32),
                     f"cue_{c}": cues[:, k].astype(np.float32),
                     f"propensity_{c}": np.exp(config.intake_beta * (cues[:, k] - 1)).astype(np.float32)}
        part |= {f"fact_{name}": np.array(values)[s.facts[name]] for name, values in DOMAINS.items()}
        for name, values in part.items():
            columns.setdefault(name, []).append(pa.array(values))
    return pa.table({name: pa.chunked_array(parts) for name, parts in columns.items()})


def _build_shard(job: tuple) -> int:
    config, selection, path = job
    types = features(CATEGORIES, captions=config.pretrain_posts > 0)
    write_shard(path, render_posts(config, selection, 0, len(selection)), types)
    return len(selection)


def _part(s: Selection, start: int, stop: int) -> Selection:
    cut = slice(start, stop)
    return Selection(s.split, s.stream, s.index[cut], s.pipeline[cut], s.labels[cut], s.truth[cut],
                     {name: values[cut] for name, values in s.facts.items()})


def build_corpus(config: CorpusConfig, out: Path | str, *, workers: int = 1, progress: bool = True) -> Posts:
    """Build the corpus in ``out``; finished shards are kept, a complete corpus of the same digest is left alone.

    Raises:
        RadarError: ``out`` holds something else, the settings are impossible, or the disk is full.
    """
    out, digest = Path(out), corpus_digest(config)
    if (out / "corpus.json").exists():
        if read_json(out / "corpus.json").get("config_digest") == digest:
            return open_posts(out)
        raise RadarError(f"{out} holds another corpus; choose another folder or delete it")
    begun = out / "build.json"
    if out.exists() and any(out.iterdir()) and not (begun.exists() and read_json(begun)["config_digest"] == digest):
        raise RadarError(f"{out} is not empty and holds no unfinished build of this corpus; choose another folder")
    plan = plan_corpus(config)
    write_json(begun, {"config_digest": digest, "config": asdict(config)})
    jobs, done = [], 0
    for s in plan:
        count = math.ceil(len(s) / SHARD_POSTS)
        for i in range(count):
            path = shard_path(out, s.split, i, count)
            part = _part(s, i * SHARD_POSTS, min((i + 1) * SHARD_POSTS, len(s)))
            if path.exists():
                done += len(part)
            else:
                jobs.append((config, part, path))
    with atomic_path(out / "hidden" / "truth.parquet") as temporary:
        pq.write_table(truth_table(config, plan), temporary, compression="zstd")
    with tqdm(total=sum(map(len, plan)), initial=done, unit=" posts", desc="corpus", disable=not progress) as bar:
        for n in _run(jobs, workers):
            bar.update(n)
    posts = finish_corpus(out, name=NAME, kind="built-in", extra={
        "config_digest": digest, "config": asdict(config),
        "truth_digest": hashlib.sha256((out / "hidden" / "truth.parquet").read_bytes()).hexdigest()[:16]})
    begun.unlink(missing_ok=True)
    return posts


def _run(jobs: list[tuple], workers: int) -> Iterator[int]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_build_shard, jobs)
        return
    # Spawned workers hold no copies of the parent's threads or GPU state, on any system.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = [pool.submit(_build_shard, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise RadarError("a process that was building posts died, perhaps for lack of memory; build again with "
                             "fewer workers, the finished shards are kept") from error
        finally:
            pool.shutdown(cancel_futures=True)
