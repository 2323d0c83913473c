"""Posts, operations, memory and disk that each notebook of the chain demands, from its parameters.

    operations  passes over posts, as the notebooks make them, times operations per pass (`flops`, counted by torch); a
                frozen tower runs once per post where its output takes less than `DISK_SHARE` of the free disk
    memory      4 bytes a weight on a CPU and 2 on a GPU, 16 a trained one (float32 weight, gradient, two moments), and
                activations: 34 bytes per token, unit of width and layer of a micro-batch (Korthikanti et al. 2022,
                "Reducing Activation Recomputation in Large Transformer Models", without scores), or 2 and one full
                layer with checkpointing; for each run trained side by side
    disk        posts at the recorded bytes (linear in pixels), soft labels, and for a kept tower's output 4 bytes per
                number and 32 per token
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from radar_lib.errors import RadarError
from radar_lib.files import read_json

if TYPE_CHECKING:
    from radar_suite.chain.flops import Cost

PAPER = {"train": 1_700_000, "validation": 17_000, "test": 75_000}  # validation: not stated, 1 % is assumed
SAMPLE = 256  # posts of a corpus folder whose frames are counted


@dataclass(frozen=True)
class Machine:
    """A device: operations per second that `lanes` runs together are assumed to reach, bytes of memory and disk."""

    name: str
    gpu: bool
    cores: int
    lanes: int
    speed: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Posts:
    """Posts by split, their risks, and the mean shape of a post.

    Attributes:
        violations: violating test posts per risk.
        frames, px, words: per post, frames, pixels along a frame's side, and tokens besides the visual ones.
        built: drawn by the chain itself.
    """

    splits: Mapping[str, int]
    categories: int
    violations: float
    frames: float
    px: int
    words: float
    built: bool = False

    def count(self, *splits: str) -> int:
        return sum(self.splits.get(split, 0) for split in splits or self.splits)


@dataclass(frozen=True)
class Pass:
    """A model's training steps on `train` posts and forward passes over `score`, of `seen` different ones whose tower
    output may be kept (infinite: pixels are read again); streamed, `readers` passes share one run of the tower."""

    backbone: str
    train: float = 0.0
    score: float = 0.0
    seen: float = math.inf
    readers: int = 1


@dataclass(frozen=True)
class Row:
    """One notebook: passes over posts, tokens and operations of its models, bytes of peak and disk, seconds."""

    notebook: str
    posts: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    seconds: float = 0.0


def posts_of(values: Mapping[str, Any], *, paper: bool = False, train: int | None = None, stored: Any = None) -> Posts:
    """The posts of a run: those of a corpus folder (`stored`), the paper's, public ones, or the built-in corpus.

    Args:
        values: parameters of all notebooks by name.
        paper: the paper's own posts, which nobody else has: `PAPER`, four 384 px frames and 128 tokens each.
        train: number of training posts instead of the profile's.
    """
    from radar_suite.world.dials import CorpusConfig

    given, rates = {"train": train} if train else {}, CorpusConfig.test_prevalence
    standins = values.get("checkpoints") == "standins"
    px = 96 if standins else 384
    if stored is not None:
        return Posts(stored.splits | given, len(stored.categories), *_violations_and_frames(stored), px, 128.0)
    if paper:
        violations = PAPER["test"] * sum(rates) / len(rates) ** 2  # each risk's pipeline owns a third of the posts
        return Posts(PAPER | given, len(rates), violations, 4.0, px, 128.0)
    if values.get("public_sources") or values.get("profile") == "public":  # at most about half are violating
        sizes = {"train": 3 * values["max_train"], "test": 3 * values["max_test"]}
        return Posts(sizes | given, 3, values["max_test"] / 2, 0.0, 96, 45.0)
    known = {name: values[name] for name in CorpusConfig.__dataclass_fields__ if name in values}
    config = CorpusConfig(**known | {f"{split}_posts": count for split, count in given.items()})
    sizes = {split: getattr(config, f"{split}_posts") for split in ("train", "validation", "audit", "unlabelled")}
    for split in ("calibration", "test"):
        sizes[split] = sum(math.floor(getattr(config, f"{split}_positives") / rate) for rate in rates)
    return Posts(sizes, len(rates), config.test_positives, 3.07, config.frame_px, 43.0 if standins else 60.0, True)


def _violations_and_frames(stored: Any) -> tuple[float, float]:
    """Violating test posts per risk, and mean frames of the first posts of a corpus folder; no pixel is decoded."""
    from pyarrow.parquet import ParquetFile

    from radar_lib.data.posts import FRAMES, LABEL_PREFIX

    names = [LABEL_PREFIX + category for category in stored.categories]
    tested = "test" in stored.splits
    violations = float((stored.table("test", columns=names) == 1).sum().mean()) if tested else 0.0
    first = ParquetFile(stored.shards(*[split for split in ("train",) if split in stored.splits])[0])
    column = next(first.iter_batches(SAMPLE, columns=[FRAMES])).column(FRAMES)
    return violations, float(np.mean([len(frames) for frames in column]))


def config_of(name: str, checkpoints: str) -> Any:
    """The transformers configuration of a backbone: its stand-in's, its folder's, or the published one.

    Raises:
        RadarError: a folder without a readable configuration or of another family, or an unknown Hub id.
    """
    from transformers import AutoConfig

    from radar_lib.models.backbones import BACKBONES, checkpoint_folder, quiet_transformers
    from radar_suite.chain.flops import COUNTED, published_config
    from radar_suite.world.standins import resolve as reference_of

    reference = reference_of(BACKBONES[name], checkpoints)
    folder = checkpoint_folder(reference)
    if folder is None:
        for spec in BACKBONES.values():
            if spec.hub_id == reference.partition("@")[0]:
                return published_config(spec.name)
        raise RadarError(f"{name}: {reference} is no folder and none of the paper's checkpoints, and `radar plan` "
                         "downloads nothing. Download it and name its folder.")  # fmt: skip
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RadarError(f"{name}: {folder} has no configuration that transformers reads: {reason}") from error
    if config.model_type not in COUNTED:
        raise RadarError(f"{name}: {folder} is of a family that is not known here. Known: {', '.join(COUNTED)}.")
    return config


@lru_cache
def cost_of(name: str, checkpoints: str, px: int, rank: int, categories: int) -> Cost:
    """`router_cost` of a backbone by name."""
    from radar_suite.chain.flops import router_cost

    return router_cost(config_of(name, checkpoints), px=px, rank=rank, categories=categories)


def passes(notebook: str, values: Mapping[str, Any], posts: Posts) -> list[Pass]:
    """What the models of a notebook read, as its cells do it."""
    from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, ROUTER_ROWS
    from radar_suite.report.reliance import MODALITIES
    from radar_suite.world.dials import CorpusConfig

    seeds, seen = values.get("seeds", 1), posts.count("train", "validation", "test")

    def run(backbone: str, epochs: int) -> Pass:
        score = epochs * posts.count("validation") + posts.count("validation", "test")
        return Pass(backbone, seeds * epochs * posts.count("train"), seeds * score, seen)

    match notebook[:2]:
        case "02":
            names = dict.fromkeys((EXPERT_BACKBONE, *(row.backbone for row in ROUTER_ROWS), LAMBDA_STUDY_BACKBONE))
            return [Pass(name, score=values["cost_posts"]) for name in names]
        case "03":  # each expert its own pipeline's posts: all experts together, all posts
            return [run(EXPERT_BACKBONE, values["expert_epochs"])]
        case "04":  # every post by every expert; its own risk's test posts once per ablation, JPEG again from pixels
            experts, test = posts.categories, posts.count("test")
            sample = experts * (posts.violations + min(values["ablated_posts"], test / posts.categories))
            changes = 2 * (len(MODALITIES) - (not posts.frames))
            return [Pass(EXPERT_BACKBONE, 0, experts * posts.count("train", "validation"), seen, experts),
                    Pass(EXPERT_BACKBONE, 0, sample * changes, seen),
                    Pass(EXPERT_BACKBONE, 0, sample if posts.frames else 0)]  # fmt: skip
        case "05":  # the rows, the multi-task reference, and the probe's frozen states
            rows = [run(name, values["epochs"]) for name in (*(row.backbone for row in ROUTER_ROWS), EXPERT_BACKBONE)]
            return [*rows, Pass(LAMBDA_STUDY_BACKBONE, 0, posts.count("train", "test"), seen)]
        case "07":  # points of the grid that are rows of the tables are there already
            rows = [row for row in ROUTER_ROWS if row.backbone == LAMBDA_STUDY_BACKBONE and row.objective == "masked"]
            known = {values["lambda_tables"] if row.distilled else 0.0 for row in rows}
            return [run(LAMBDA_STUDY_BACKBONE, values["epochs"])] * len(set(values["lambda_grid"]) - known)
        case "08":  # pools of the built-in world, whatever the chain's posts are
            tests = sum(int(values["phase_test_positives"] / rate) for rate in CorpusConfig.test_prevalence)
            return [Pass(values["phase_backbone"], 0, len(values["phase_levels"]) * (values["phase_pool"] + tests))]
    return []


def merge(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All notebooks' parameters as one map; a name has the same value wherever it appears."""
    return {name: value for values in parameters.values() for name, value in values.items()}


def demand(
    parameters: Mapping[str, Mapping[str, Any]], posts: Posts, machine: Machine, records: Path, *, models: bool = True
) -> list[Row]:
    """Each notebook's row, in order, but for seconds and what a process takes besides its models.

    Args:
        parameters: of every notebook, by its name.
        records: folder of the benchmarks' records.
        models: count what runs a model, too.
    """
    from radar_lib.training.streamed import DISK_SHARE
    from radar_suite.report.experiments import ROUTER_ROWS

    values, kept, rows = merge(parameters), set(), []
    shape = (posts.words, posts.frames)
    for name in parameters:
        row, total = Row(name), posts.count()
        match name[:2]:
            case "01":
                row = replace(row, posts=total if posts.built else min(total, values["audited_posts"]),
                              disk=total * bytes_per_post(posts.px, records) if posts.built else 0.0)  # fmt: skip
            case "04":  # an id of 16 bytes and float32 logits
                row = replace(row, disk=posts.count("train", "validation") * (16.0 + 4 * posts.categories))
            case "06":  # resampled: experts, routers and multi-task at each seed, four other reference rows
                runs = values.get("seeds", 1) * (2 + len(ROUTER_ROWS)) + 4
                row = replace(row, posts=runs * posts.count("test"))
        for one in passes(name, values, posts) if models else ():
            cost = cost_of(one.backbone, values["checkpoints"], posts.px, values["lora_rank"], posts.categories)
            tokens, count = cost.tokens(*shape), one.train + one.score
            size_of_one = 32 * tokens + 4 * posts.frames * cost.frame_values
            given = cost.frozen_tower and one.seen * size_of_one < DISK_SHARE * machine.disk
            flops = one.train * cost.step(*shape, given=given) + one.score * cost.inference(*shape, given=given)
            disk = 0.0
            if given and one.backbone not in kept:
                kept.add(one.backbone)
                flops, disk = flops + one.seen * posts.frames * cost.tower, one.seen * size_of_one
            elif cost.frozen_tower and not given:
                flops -= one.score * posts.frames * cost.tower * (1 - 1 / one.readers)
            memory = max(row.memory, model_memory(cost, one, tokens, values, machine))
            row = replace(row, posts=row.posts + count, tokens=row.tokens + count * tokens, flops=row.flops + flops,
                          disk=row.disk + disk, memory=memory)  # fmt: skip
        rows.append(row)
    return rows


def bytes_per_post(px: int, records: Path) -> float:
    """Of the built-in corpus with frames of `px` pixels, linear in their area; 0 without a record."""
    path = records / "corpus-cpu.json"
    lines = read_json(path)["lines"] if path.is_file() else [{"frame_px": 1, "bytes_per_post": 0.0}] * 2
    areas, sizes = ([line[name] ** power for line in lines] for name, power in (("frame_px", 2), ("bytes_per_post", 1)))
    return float(np.polyval(np.polyfit(areas, sizes, 1), px**2)) if max(sizes) else 0.0


def model_memory(cost: Cost, one: Pass, tokens: float, values: Mapping[str, Any], machine: Machine) -> float:
    """Bytes of weights, optimiser state and activations (see the module) of the runs at work at a time."""
    weights, unit = (2.0 if machine.gpu else 4.0) * cost.parameters, tokens * cost.width
    unit *= math.ceil(values["batch_size"] / values.get("accumulate", 1))
    if not one.train:
        return weights + 34 * unit
    layers = 34 + 2 * cost.layers if values.get("gradient_checkpointing") else 34 * cost.layers
    return machine.lanes * (weights + 16 * cost.trained + layers * unit)
