"""Teacher inference (paper section 3.4): each expert reads every post, also those that its own pipeline never saw.

The experts share one base: a post's frames pass the frozen tower once, then each expert's adapter and head read it.
Posts are dealt to parts by a hash of their ids, so any number of processes can share the work, and a killed inference
goes on with the parts that are missing. Notebook 04 starts one process per GPU. Over several machines with a common
disk, start the same thing before it:

    torchrun --nproc-per-node 8 -m radar_lib.training.teachers --posts DIR --cache DIR --experts RUN_FOLDER ...
    python -m radar_lib.training.teachers --shard 3/8 --posts DIR ...      # or by hand, the fourth of eight
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path
from radar_lib.models.base import Backbone
from radar_lib.models.router import RadarRouter
from radar_lib.models.text import TextLimit
from radar_lib.sources import digest_sources
from radar_lib.training.batches import part_of
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Execution
from radar_lib.training.scores import logit_columns, logits_for, read_scores
from radar_lib.training.specs import SCORES, Run, RunSpec
from radar_lib.training.workers import PARENT, launch, launched, launched_bar

PART_POSTS = 8192  # what a killed process loses at most: some minutes of three 8B experts on one GPU
BAR = "experts read posts"
IMAGE_INPUTS = ("pixel_values", "image_grid_thw", "image_sizes", "batch_num_images")


class Panel(nn.Module):
    """Saved routers on one base, side by side: column k of the logits comes from the k-th router's heads.

    Their trained weights are held once each, and copied into the one set of LoRA layers in turn. A batch with pixels
    passes the tower once, whose output all routers share, and which then goes.

    Args:
        folders: of routers with the same rank and number of categories, such as the experts.

    Raises:
        RadarError: as `RadarRouter.from_pretrained`, or the routers differ in shape.
    """

    def __init__(self, folders: Sequence[Path], backbone: Backbone):
        super().__init__()
        self.states: list[dict[str, Tensor]] = []
        for folder in folders:
            if self.states:
                self.router.detach()
            self.router = RadarRouter.from_pretrained(folder, backbone=backbone)
            trained = {name: p for name, p in self.router.named_parameters() if p.requires_grad}
            self.states.append({name: p.detach().clone() for name, p in trained.items()})

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch category"]:
        batch = look_once(self.router.backbone, batch)
        logits = []
        for state in self.states:
            self.router.load_trainable_state_dict(state)
            logits.append(self.router(batch))
        return torch.cat(logits, dim=1)

    def detach(self) -> None:
        """Give the base back as it was."""
        self.router.detach()


@torch.no_grad()
def look_once(backbone: Backbone, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The batch with the frozen tower's output in place of its pixels; unchanged where there is neither."""
    if not backbone.features_cacheable or "pixel_values" not in batch:
        return batch
    text = {key: value for key, value in batch.items() if key not in IMAGE_INPUTS}
    levels = backbone.tower({key: batch[key] for key in IMAGE_INPUTS if key in batch})
    return text | {f"features_{i}": level for i, level in enumerate(levels)}


def soft_labels(
    lab: Lab, experts: Mapping[str, Run], *, splits: Sequence[str], path: Path, processes: int = 0
) -> pd.DataFrame:
    """Logits of all experts for every post of `splits`, written to `path`: the t of Eq. 6, kept as logits.

    Args:
        lab: posts, base model and cache.
        experts: the expert of each category, or a router of all of them, for each.
        splits: splits to score.
        path: Parquet file to write: post_id, split and logit_<category> (float32).
        processes: 0 for one per GPU where the lab is on 'cuda', else one.

    Raises:
        RadarError: a category has no expert, the experts' bases differ, or a process died.
    """
    panel = in_order(lab.posts.categories, experts)
    processes = processes or (max(1, torch.cuda.device_count()) if lab.device == "cuda" else 1)
    missing = _missing(lab, panel, splits)
    if processes > 1 and len(missing) > 1:
        lab.release()
        arguments = ["--posts", lab.posts.folder, "--cache", lab.cache.root, "--checkpoints", lab.checkpoints]
        arguments += ["--experts", *(run.entry.folder for run in panel), "--splits", *splits]
        arguments += ["--packing"] * lab.execution.packing + ["--device", "cpu"] * (lab.device == "cpu")
        with lab.bar(total=sum(len(rows) for _, (*_, rows) in missing), desc=BAR, unit="post", mininterval=2) as bar:
            launch(__name__, list(map(str, arguments)), processes=processes, bar=bar, unit="post")
    score_shard(lab, panel, splits=splits)
    tables = []
    for split in splits:
        kept = [entry for entry, _ in _parts(lab, panel, split)]
        scores = pd.concat([read_scores(one.path(SCORES), digest=one.record()["files"][SCORES]) for one in kept])
        table = lab.table(split)[["post_id"]].assign(split=split)
        table[logit_columns(lab.posts.categories)] = logits_for(scores, table["post_id"], lab.posts.categories)
        tables.append(table)
    joined = pd.concat(tables, ignore_index=True)
    with atomic_path(path) as temporary:
        joined.to_parquet(temporary, index=False)
    return joined


def in_order(categories: Sequence[str], experts: Mapping[str, Run]) -> list[Run]:
    """The expert of each category; a router that stands for all categories comes once.

    Raises:
        RadarError: a category has none, or their heads are not the categories, each once and in this order.
    """
    missing = [category for category in categories if category not in experts]
    if missing:
        raise RadarError(f"no expert for {', '.join(missing)}: train one per category first.")
    panel = list({experts[category].digest: experts[category] for category in categories}.values())
    heads = [category for run in panel for category in run.spec.categories]
    if heads != list(categories):
        raise RadarError(f"the teacher has heads for {', '.join(heads)}, not for {', '.join(categories)}.")
    return panel


def score_shard(lab: Lab, panel: Sequence[Run], *, splits: Sequence[str], shard: tuple[int, int] = (0, 1)) -> None:
    """Score the parts of shard i of n (counted from 0) that are not on disk yet; the result does not depend on n.

    Args:
        panel: of `in_order`, for `lab.posts.categories`.
    """
    todo = [part for number, part in _missing(lab, panel, splits) if number % shard[1] == shard[0]]
    if not todo:
        return
    name, spec = panel[0].spec.backbone, replace(panel[0].spec, categories=lab.posts.categories)
    if any(run.spec.backbone != name for run in panel):
        raise RadarError(f"experts of different bases: {', '.join(run.spec.backbone for run in panel)}.")
    experts = Panel([run.router_folder for run in panel], lab.backbone(name))
    try:
        with lab.bar(total=sum(len(rows) for *_, rows in todo), desc=BAR, unit="post") as bar:
            for split, entry, rows in todo:
                entry.make(partial(_keep_part, lab, experts, spec, split, rows))
                bar.update(len(rows))
    finally:
        experts.detach()


def _keep_part(
    lab: Lab, experts: Panel, spec: RunSpec, split: str, rows: Int[np.ndarray, " row"], folder: Path
) -> None:
    lab.write_scores(experts, spec, folder / SCORES, split, rows=rows)


def parts(post_ids: Sequence[str], *, most: int) -> list[Int[np.ndarray, " row"]]:
    """Rows of each part of a split: as few parts as hold about `most` posts each, dealt by a hash of the id."""
    count = math.ceil(len(post_ids) / most)
    part = part_of(post_ids, count)
    return [rows for number in range(count) if len(rows := np.flatnonzero(part == number))]


def _parts(lab: Lab, panel: Sequence[Run], split: str) -> list[tuple[Entry, Int[np.ndarray, " row"]]]:
    """Where a split's soft labels are kept: cache entry and rows of each part."""
    about = {"experts": [run.digest for run in panel], "posts": lab.posts.digest, "split": split, "most": PART_POSTS,
             "code": digest_sources("radar_lib.training.teachers")}  # fmt: skip
    dealt = parts(lab.table(split)["post_id"].tolist(), most=PART_POSTS)
    return [(lab.cache.entry("teacher", about | {"part": part}), rows) for part, rows in enumerate(dealt)]


def _missing(
    lab: Lab, panel: Sequence[Run], splits: Sequence[str]
) -> list[tuple[int, tuple[str, Entry, Int[np.ndarray, " row"]]]]:
    """Number, split, entry and rows of each part that is not complete; numbers count the parts of all splits."""
    every = [(split, entry, rows) for split in splits for entry, rows in _parts(lab, panel, split)]
    return [(number, part) for number, part in enumerate(every) if not part[1].complete]


def _by_category(folders: Sequence[Path]) -> dict[str, Run]:
    return {category: run for run in map(Run.load, folders) for category in run.spec.categories}


def main(arguments: Sequence[str] | None = None) -> None:
    """One process's share, from the command line; under torchrun the shard and the GPU follow its numbers."""
    rank, world, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m radar_lib.training.teachers", description=__doc__)
    parser.add_argument("--posts", type=Path, required=True, help="folder of the posts")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the cache, runs/cache")
    parser.add_argument("--experts", type=Path, nargs="+", required=True, help="finished runs, one per category")
    parser.add_argument("--splits", nargs="+", default=["train", "validation"])
    parser.add_argument("--shard", default=f"{rank or 0}/{world or 1}", help="i/n, counted from 0")
    parser.add_argument("--checkpoints", required=True, help="hub, a folder, or package:NAME")
    parser.add_argument("--device", default=f"cuda:{local or 0}" if gpu else "cpu")
    parser.add_argument("--packing", action="store_true", help="posts end to end instead of padded")
    args = parser.parse_args(arguments)
    experts = _by_category(args.experts)
    # posts that are not kept yet are streamed: no process waits for another that encodes them
    bar = launched_bar if PARENT in os.environ else tqdm
    lab = Lab(open_posts(args.posts), Cache(args.cache), checkpoints=args.checkpoints, device=args.device, bar=bar,
              execution=Execution(packing=args.packing), encoded_bytes=0,
              text=TextLimit(**next(iter(experts.values())).entry.inputs.get("text", {})))  # fmt: skip
    panel, shard = in_order(lab.posts.categories, experts), tuple(map(int, args.shard.split("/")))
    score_shard(lab, panel, splits=[split for split in args.splits if split in lab.posts.splits], shard=shard)


if __name__ == "__main__":
    with launched():
        main()
