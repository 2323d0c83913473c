"""What each notebook of the chain will take: posts, tokens, operations, memory, disk and time, from its parameters.

Everything follows from the sizes of the splits, the geometry of the checkpoints and the machine. The constants below
are the only measured numbers; each says where it comes from, and a test holds the sum against the committed record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from radar_lib.errors import RadarError
from radar_lib.evidence import REPLICATES
from radar_lib.models.families import FAMILIES
from radar_lib.training.streamed import DISK_SHARE
from radar_suite.chain.flops import Geometry, PostFlops, geometry_of, post_flops, published_geometry
from radar_suite.chain.machine import Machine
from radar_suite.chain.planned_posts import Posts
from radar_suite.report.ablations import MODALITIES
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, ROUTER_ROWS
from radar_suite.world.dials import CorpusConfig

STARTUP = 12.0  # seconds of any notebook: kernel, imports, tables and figures (record of profile cpu)
PLAN_SECONDS = 37e-6  # choosing one post of the built-in corpus, one process (benchmarks/records/corpus-cpu.json)
BUILD_SECONDS = (1.5e-3, 5.0e-8)  # drawing one post: constant, and per square pixel of a frame's side (same record)
BUILD_BYTES = (3_600.0, 0.224)  # size of a post: the same two (same record)
BUILD_MEMORY = (215e6, 63.0)  # of each process at 96 px, and per post in the one that plans (same record)
AUDIT_SECONDS = 3e-3  # hashes, probes and figures of notebook 01 per audited post (record of profile cpu)
# The words' regressions of notebook 06, per training and test post (one core, 4,250 and 7,500 posts).
WORDS_SECONDS = 0.6e-3
BOOTSTRAP_SECONDS = 3.5e-9  # of notebook 06 per replicate, row and verified post (one core; 7,500 and 30,000 posts)
CELL_SECONDS = 5.0  # heads and bootstrap of one cell of notebook 08 on one core
# Decoding and tokenising: per post, per frame, per square pixel of a frame. Assumed, so that a core decodes about as
# many frames of 1080 px a second as training/streamed.py counts on; there is no record of it.
READ_SECONDS = (0.6e-3, 0.3e-3, 2.0e-8)
# Resident bytes of a notebook, and of each run that is trained beside it on a CPU (peaks in the record of profile cpu).
PARENT, WORKER = 1.3e9, 1.5e9
# A training step on a GPU takes at least this, and this per layer: some hundred kernels' launches each way. Assumed.
LAUNCH_SECONDS = (10e-3, 2e-3)
GPU_CONTEXT = 1.5e9  # of CUDA and of buffers that are not counted. Assumed.


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
        return not self.geometry.trains_vision and count * self.feature_bytes < DISK_SHARE * self.machine.disk

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
                              rank=values["lora_rank"], categories=posts.categories)  # fmt: skip
            batch = values["batch_size"] / values.get("accumulate", 1)
            models[name] = Model(geometry, need, posts, machine, values["lora_rank"], math.ceil(batch),
                                 values.get("gradient_checkpointing", False))  # fmt: skip
        return models[name]

    rules = {"01": _audit, "02": _backbones, "03": _experts, "04": _teachers, "05": _routers, "06": _tables,
             "07": _lambdas, "08": _phase}  # fmt: skip
    return [rules[name[:2]](name, values, posts, machine, model) if name[:2] in rules else Row(name)
            for name in parameters]  # fmt: skip


def merged(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All notebooks' parameters as one map; a name has the same value wherever it appears."""
    return {name: value for values in parameters.values() for name, value in values.items()}


def geometry_for(name: str, checkpoints: str) -> Geometry:
    """Geometry of a backbone: its stand-in's, its folder's, or the published one.

    Raises:
        RadarError: a folder without a readable configuration, a Hub id that is none of the paper's, or a model of
            another family.
    """
    from transformers import AutoConfig

    from radar_lib.models.backbones import BACKBONES, checkpoint_folder, quiet_transformers
    from radar_suite.world.standins import resolve

    if checkpoints == "hub":
        return published_geometry(name)
    reference = resolve(BACKBONES[name], checkpoints)
    folder = checkpoint_folder(reference)
    if folder is None:
        published = [spec.name for spec in BACKBONES.values() if spec.hub_id == reference.partition("@")[0]]
        if published:
            return published_geometry(published[0])
        raise RadarError(
            f"{name}: {reference} is no folder and none of the paper's checkpoints, and `radar plan` downloads "
            "nothing. Download it and name its folder."
        )
    try:
        with quiet_transformers():
            return geometry_of(AutoConfig.from_pretrained(folder))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RadarError(f"{name}: {folder} has no configuration that transformers reads: {reason}") from error
    except (KeyError, AttributeError) as error:
        known = ", ".join(FAMILIES)
        raise RadarError(f"{name}: {folder} is of a family that is not known here. Known: {known}.") from error


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
    """Every expert reads every training and validation post; the tower runs once for all of them.

    Then each reads the sampled test posts of its own risk once more per ablation: every modality emptied and borrowed,
    and frames as JPEG again, which alone pass the tower again where its output is kept.
    """
    expert, experts = model(EXPERT_BACKBONE), posts.categories
    score, seen = experts * posts.count("train", "validation"), posts.count("train", "validation", "test")
    row = Row(name, disk=score / experts * (16.0 + 4 * experts))
    row = row.plus(expert.work(name, score=score, seen=seen, readers=experts))
    cleared = min(values.get("ablated_posts", 0), posts.count("test") / experts)
    sample = experts * (posts.violations + cleared)
    row = row.plus(expert.work(name, score=sample * 2 * (len(MODALITIES) - (not posts.frames)), seen=seen))
    return row.plus(expert.work(name, score=sample, seen=math.inf)) if posts.frames else row


def _tables(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    """No model: the bootstrap of the experts' row, of every router's and of the multi-task model's, each at every seed,
    and of the other four reference rows; and the words' regressions. All on one core."""
    runs = values.get("seeds", 1) * (2 + len(ROUTER_ROWS)) + 4
    bootstrap = BOOTSTRAP_SECONDS * REPLICATES * runs * posts.count("test")
    return Row(name, seconds=STARTUP + bootstrap + WORDS_SECONDS * posts.count("train", "test"))


def _routers(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    row, seen = Row(name), posts.count("train", "validation", "test")
    for backbone in dict.fromkeys(r.backbone for r in ROUTER_ROWS):
        row = row.plus(model(backbone).read(name, seen))
    for experiment in ROUTER_ROWS:
        row = row.plus(_router(name, model(experiment.backbone), values, posts))
    probed = model(LAMBDA_STUDY_BACKBONE).work(name, score=posts.count("train", "test"), seen=seen)
    return row.plus(_router(name, model(EXPERT_BACKBONE), values, posts)).plus(probed)  # the reference rows


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


def _phase(name: str, values: Mapping[str, Any], posts: Posts, machine: Machine, model: Any) -> Row:
    """Pools of the built-in world are drawn and pass the frozen backbone once; the heads take seconds."""
    tests = sum(int(values["phase_test_positives"] / prevalence) for prevalence in CorpusConfig.test_prevalence)
    count = len(values["phase_levels"]) * (values["phase_pool"] + tests)
    built = build_cost(count, values["frame_px"], machine.cores)
    cells = len(values["phase_levels"]) * len(values["phase_betas"])
    row = Row(name, seconds=STARTUP + built.seconds + cells * CELL_SECONDS / machine.cores, memory=built.memory)
    return row.plus(model(values["phase_backbone"]).work(name, score=count, seen=math.inf))
