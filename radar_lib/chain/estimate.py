"""What each notebook of the chain will take: posts, tokens, operations, memory, disk and time, from its parameters.

Everything follows from the sizes of the splits, the geometry of the checkpoints and the machine. The constants below
are the only measured numbers; each says where it comes from, and a test holds the sum against the committed record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radar_lib.chain.machine import Machine
from radar_lib.corpus.config import SHARE, CorpusConfig
from radar_lib.models.flops import Geometry, PostFlops, geometry_of, post_flops, published_geometry
from radar_lib.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, ROUTER_ROWS

PAPER = {"train": 1_700_000, "validation": 17_000, "test": 75_000}  # validation: not stated, 1 % is assumed
STARTUP = 12.0  # seconds of any notebook: kernel, imports, tables and figures (record of profile cpu)
PLAN_SECONDS = 55e-6  # choosing one post of the built-in corpus, one process (benchmarks/records/corpus-cpu.json)
BUILD_SECONDS = (1.5e-3, 5.0e-8)  # drawing one post: constant, and per square pixel of a frame's side (same record)
BUILD_BYTES = (3_600.0, 0.224)  # size of a post: the same two (same record)
BUILD_MEMORY = (215e6, 85.0)  # of each process at 96 px, and per post in the one that plans (same record)
AUDIT_SECONDS = 3e-3  # hashes, probes and figures of notebook 01 per audited post (record of profile cpu)
READ_SECONDS = (0.6e-3, 0.3e-3, 2.0e-8)  # decoding and tokenising: per post, per frame, per square pixel of a frame
PARENT, WORKER = 1.3e9, 1.5e9  # resident bytes of a notebook, and of each run that is trained beside it on a CPU
LAUNCH_SECONDS = (10e-3, 2e-3)  # a training step on a GPU takes at least this, and this per layer: kernels' launches
GPU_CONTEXT = 1.5e9  # of CUDA and of buffers that are not counted
KEPT_SHARE = 0.5  # of the free disk: encoded posts of a split above it are streamed instead of kept


@dataclass(frozen=True)
class Posts:
    """What is fed in: posts by split and category, and the mean shape of a post.

    Attributes:
        splits: number of posts by split.
        shares: share of the training, validation and test posts that each category's pipeline owns.
        frames, px, words: per post, frames, pixels along a frame's side, and tokens besides the visual ones.
        built: drawn by the chain itself, so building counts.
    """

    splits: Mapping[str, int]
    shares: Sequence[float]
    frames: float
    px: int
    words: float
    built: bool = False
    audited: int = 40_000

    def count(self, *splits: str) -> int:
        return sum(self.splits.get(split, 0) for split in splits)


@dataclass(frozen=True)
class Row:
    """One notebook: passes over posts, tokens and operations of its models, peak bytes, bytes written, seconds."""

    notebook: str
    posts: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    memory: float = PARENT
    disk: float = 0.0
    seconds: float = STARTUP

    def plus(self, other: Row) -> Row:
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("posts", "tokens", "flops", "disk")}
        return replace(self, **sums, seconds=self.seconds + other.seconds, memory=max(self.memory, other.memory))


def posts_of(values: Mapping[str, Any], *, paper: bool, train: int | None, stored: Mapping[str, int] | None) -> Posts:
    """The posts of a run.

    Args:
        values: parameters of all notebooks by name.
        paper: the paper's own posts, which nobody else has: `PAPER`, four 384 px frames and 128 tokens each.
        train: number of training posts instead of the profile's.
        stored: split sizes of a corpus folder of the user's.
    """
    shares = [part / sum(SHARE) for part in SHARE]
    standins = values.get("checkpoints") == "standins"
    if values.get("public_sources") or values.get("profile") == "public":
        sizes = {"train": 3 * values["max_train"], "test": 3 * values["max_test"]}
        return Posts(sizes | ({"train": train} if train else {}), [1 / 3] * 3, 0.0, 96, 45.0)
    if stored or paper:
        sizes = dict(stored or PAPER) | ({"train": train} if train else {})
        return Posts(sizes, shares, 4.0, 96 if standins else 384, 128.0, audited=values["audited_posts"])
    names = {field: values[field] for field in CorpusConfig.__dataclass_fields__ if field in values}
    config = CorpusConfig(**names | ({"train_posts": train} if train else {}))
    quotas = {
        split: sum(math.floor(positives / p) for p in config.test_prevalence)
        for split, positives in (("calibration", config.calibration_positives), ("test", config.test_positives))
    }
    sizes = {"train": config.train_posts, "validation": config.validation_posts, **quotas,
             "audit": config.audit_posts, "unlabelled": config.unlabelled_posts}  # fmt: skip
    return Posts(sizes, shares, 3.07, config.frame_px, 43.0 if standins else 60.0, True, values["audited_posts"])


@dataclass(frozen=True)
class Model:
    """A backbone at work on these posts."""

    geometry: Geometry
    need: PostFlops
    posts: Posts
    machine: Machine
    rank: int
    batch: int
    checkpointing: bool

    @property
    def feature_bytes(self) -> float:
        """What one post takes on disk once its frozen tower has run: ids, positions, every level in float32."""
        if self.geometry.trains_vision:
            return 0.0
        visual = self.posts.frames * self.geometry.visual_tokens(self.posts.px)
        return 32.0 * self.need.tokens + 4.0 * visual * self.geometry.text.hidden * self.geometry.levels

    def kept(self, count: float) -> bool:
        """Whether the tower runs once for all runs; otherwise posts are streamed and it runs in every pass."""
        return not self.geometry.trains_vision and count * self.feature_bytes < KEPT_SHARE * self.machine.disk

    def read(self, name: str, count: float) -> Row:
        """Decode and tokenise posts and pass them through the tower, where the result is kept."""
        if not self.kept(count):
            return Row(name, seconds=0.0, memory=0.0)
        flops, decoding = count * self.need.tower, count * _read_seconds(self.posts) / self.machine.cores
        return Row(name, count, 0.0, flops, 0.0, count * self.feature_bytes, decoding + flops / self.machine.speed)

    def work(self, name: str, *, train: float = 0.0, score: float = 0.0, seen: float, readers: int = 1) -> Row:
        """Training steps on `train` posts and forward passes over `score`, of the `seen` posts that may be kept.

        Args:
            readers: forward passes that share one run of the tower where posts are streamed.
        """
        kept, need, machine = self.kept(seen), self.need, self.machine
        step = need.lora_cached if kept else need.lora
        look = need.inference - need.tower * (1.0 if kept else 1 - 1 / readers)
        flops = train * step + score * look
        per_step = LAUNCH_SECONDS[0] + LAUNCH_SECONDS[1] * self.geometry.text.layers
        launches = per_step * (train + score / 12) / self.batch if machine.gpu else 0.0  # a third, batches of four
        seconds = max(flops / machine.speed, launches)
        if not kept:  # decoded again in every pass; beside the GPU's work, or before the CPU's
            decoding = (train + score / readers) * _read_seconds(self.posts) / machine.cores
            seconds = max(seconds, decoding) if machine.gpu else seconds + decoding
        tokens = (train + score) * need.tokens
        return Row(name, train + score, tokens, flops, self.memory(train > 0), 0.0, seconds)

    def memory(self, training: bool) -> float:
        """Peak bytes on the GPU, or of all processes on a CPU."""
        g, text = self.geometry, self.geometry.text
        if not self.machine.gpu:
            weights = 8.0 * g.parameters  # float32, and what holds gradients beside it
            return PARENT + self.machine.lanes * (WORKER + weights) if training else PARENT + weights
        weights = GPU_CONTEXT + 2.0 * g.parameters + 16.0 * g.lora_parameters(self.rank)  # AdamW in float32
        if not training:
            return weights + 1e9
        queries = text.heads * text.head_dim
        values = 2.0 * (10 * text.hidden + 3 * queries + 4 * text.intermediate)  # bytes per layer and token
        layers = 2.0 + text.layers / 16 if self.checkpointing else text.layers
        return weights + self.batch * self.need.tokens * values * layers


def _read_seconds(posts: Posts) -> float:
    once, frame, pixel = READ_SECONDS
    return once + posts.frames * (frame + pixel * posts.px**2)


def estimate(parameters: Mapping[str, Mapping[str, Any]], posts: Posts, machine: Machine) -> list[Row]:
    """One row per notebook, in order.

    Args:
        parameters: of every notebook, by its name; notebooks that this does not know take `STARTUP`.
    """
    values = merged(parameters)
    models: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in models:
            geometry = geometry_for(name, values["checkpoints"])
            need = post_flops(geometry, text_tokens=posts.words, frames=posts.frames, px=posts.px,
                              rank=values["lora_rank"], categories=len(posts.shares))  # fmt: skip
            batch = values["batch_size"] / values.get("accumulate", 1)
            models[name] = Model(geometry, need, posts, machine, values["lora_rank"], math.ceil(batch),
                                 values.get("gradient_checkpointing", False))  # fmt: skip
        return models[name]

    rules = {"01": _audit, "02": _backbones, "03": _experts, "04": _teachers, "05": _routers, "07": _lambdas}
    return [rules[name[:2]](name, values, posts, machine, model) if name[:2] in rules else Row(name)
            for name in parameters]  # fmt: skip


def merged(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All notebooks' parameters as one map; a name has the same value wherever it appears."""
    return {name: value for values in parameters.values() for name, value in values.items()}


def geometry_for(name: str, checkpoints: str) -> Geometry:
    """Geometry of a backbone: its stand-in's, its folder's, or the published one."""
    from transformers import AutoConfig

    from radar_lib.models.backbones import BACKBONES, checkpoint_folder, resolve_checkpoint
    from radar_lib.models.quiet import quiet_transformers

    if checkpoints == "hub":
        return published_geometry(name)
    with quiet_transformers():
        folder = checkpoint_folder(resolve_checkpoint(BACKBONES[name], checkpoints))
        return geometry_of(AutoConfig.from_pretrained(folder))


def _audit(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    total = sum(posts.splits.values())
    seconds, disk, memory = STARTUP + min(posts.audited, total) * AUDIT_SECONDS, 0.0, PARENT
    if posts.built:
        built = build_cost(total, posts.px, machine.cores)
        seconds, disk, memory = seconds + built.seconds, built.disk, max(memory, built.memory)
    return Row(name, total, 0.0, 0.0, memory + total * 100.0, disk, seconds)


def build_cost(posts: int, px: int, cores: int) -> Row:
    """Building the built-in corpus with a process per core."""
    drawing = posts * (BUILD_SECONDS[0] + BUILD_SECONDS[1] * px**2) / cores
    return Row("radar corpus build", posts, disk=posts * (BUILD_BYTES[0] + BUILD_BYTES[1] * px**2),
               memory=BUILD_MEMORY[0] * (1 + cores) + BUILD_MEMORY[1] * posts,
               seconds=posts * PLAN_SECONDS + drawing)  # fmt: skip


def _backbones(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    row = Row(name)
    for backbone in dict.fromkeys((EXPERT_BACKBONE, *(r.backbone for r in ROUTER_ROWS), LAMBDA_STUDY_BACKBONE)):
        row = row.plus(model(backbone).work(name, score=values["cost_posts"], seen=math.inf))
    return row


def _experts(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    """Each expert trains on its own pipeline's posts and scores its own test posts: all experts together, all posts."""
    expert, seeds = model(EXPERT_BACKBONE), values.get("seeds", 1)
    seen, epochs = posts.count("train", "validation", "test"), values["expert_epochs"]
    row = Row(name).plus(expert.read(name, seen))
    score = epochs * posts.count("validation") + posts.count("validation", "test")
    return row.plus(expert.work(name, train=seeds * epochs * posts.count("train"), score=seeds * score, seen=seen))


def _teachers(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    """Every expert reads every training and validation post; the tower runs once for all of them."""
    expert, experts = model(EXPERT_BACKBONE), len(posts.shares)
    score, seen = experts * posts.count("train", "validation"), posts.count("train", "validation", "test")
    row = Row(name, disk=score / experts * (16.0 + 4 * experts))
    return row.plus(expert.work(name, score=score, seen=seen, readers=experts))


def _routers(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    row, seen = Row(name), posts.count("train", "validation", "test")
    for backbone in dict.fromkeys(r.backbone for r in ROUTER_ROWS):
        row = row.plus(model(backbone).read(name, seen))
    for experiment in ROUTER_ROWS:
        row = row.plus(_router(name, model(experiment.backbone), values, posts))
    return row


def _router(name: str, backbone: Model, values: Mapping[str, Any], posts: Posts) -> Row:
    seeds, epochs = values.get("seeds", 1), values["epochs"]
    score = epochs * posts.count("validation") + posts.count("validation", "test")
    seen = posts.count("train", "validation", "test")
    return backbone.work(name, train=seeds * epochs * posts.count("train"), score=seeds * score, seen=seen)


def _lambdas(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    """The points of the grid that are rows of the tables are there already."""
    rows = [r for r in ROUTER_ROWS if r.backbone == LAMBDA_STUDY_BACKBONE and r.objective == "masked"]
    done = {values["lambda_tables"] if experiment.distilled else 0.0 for experiment in rows}
    row = Row(name)
    for _ in set(values["lambda_grid"]) - done:
        row = row.plus(_router(name, model(LAMBDA_STUDY_BACKBONE), values, posts))
    return row

