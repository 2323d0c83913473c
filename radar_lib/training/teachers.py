"""Teacher inference (paper section 3.4): each expert reads every post, also those that its own pipeline never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path
from radar_lib.models.router import RadarRouter
from radar_lib.training.runs import Lab, Run
from radar_lib.training.scores import logit_columns, logits_for, read_scores


def expert_logits(lab: Lab, expert: Run, *, split: str) -> pd.DataFrame:
    """One expert's logits for every post of a split: columns post_id, split, logit_<its category>.

    The expert is loaded from its saved folder, adapter and head, on the lab's shared base model. The result is kept
    in the cache, so that an interrupted inference resumes at the first missing (expert, split).
    """
    entry = lab.cache.entry("teacher", {"expert": expert.digest, "posts": lab.posts.digest, "split": split})
    path = entry.path("scores.parquet")
    if not entry.complete:
        router = RadarRouter.from_pretrained(expert.router_folder, backbone=lab.backbone(expert.spec.backbone))
        try:
            lab.write_scores(router, expert.spec, path, [split], every_post=True)
        finally:
            router.detach()
        entry.finish({"rows": lab.posts.splits[split]})
    return read_scores(path)


def soft_labels(lab: Lab, experts: Mapping[str, Run], *, splits: Sequence[str], path: Path) -> pd.DataFrame:
    """Logits of all experts for every post of `splits`, written to `path`: the t of Eq. 6, kept as logits.

    Args:
        lab: posts, base model and cache.
        experts: the expert of each category; the order of the columns.
        splits: splits to score.
        path: Parquet file to write: post_id, split and logit_<category> (float32).

    Raises:
        RadarError: a category has no expert.
    """
    missing = [category for category in lab.posts.categories if category not in experts]
    if missing:
        raise RadarError(f"no expert for {', '.join(missing)}: train one per category first.")
    parts = []
    for split in splits:
        scored = {c: expert_logits(lab, experts[c], split=split) for c in lab.posts.categories}
        joined = next(iter(scored.values()))[["post_id", "split"]].copy()
        for category, frame in scored.items():
            joined[logit_columns([category])] = logits_for(frame, joined["post_id"].tolist(), [category])
        parts.append(joined)
    table = pd.concat(parts, ignore_index=True)
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)
    return table
