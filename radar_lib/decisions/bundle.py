"""A bundle: a router with its calibration, as one folder that is used as it is or refused.

    <folder>/...           what `RadarRouter.save_pretrained` writes; plain peft loads the adapter
    <folder>/bundle.json   thresholds as logits, recall target, confidence, calibration, files' digests; sealed
    <folder>/README.md     model card

Files and encoder are told by their digests. What digests cannot tell (an image processor that another version of a
package computes differently, another prompt, another precision) the probe does: a few fixed posts go the whole way when
a bundle is made, and again when it is opened, and must come to the same logits.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from datasets import Dataset
from jaxtyping import Float, Int8
from PIL import Image

from radar_lib.data.posts import Posts, labels
from radar_lib.data.schema import group_numbers
from radar_lib.decisions.routing import Bypass, Decision, Limits, Post, in_memory, route, score
from radar_lib.errors import RadarError
from radar_lib.files import (
    atomic_path,
    atomic_write_text,
    changed_file,
    digest_json,
    digests_below,
    read_sealed,
    write_sealed,
)
from radar_lib.models.backbones import load_backbone
from radar_lib.models.base import INSTRUCTION
from radar_lib.models.router import CONFIG, RadarRouter
from radar_lib.models.text import TextLimit
from radar_lib.thresholds import (
    Threshold,
    certified_threshold,
    dispatched,
    independent_positives,
    naive_rank,
    operating_point,
    recall_upper,
    thin,
    threshold_at_rank,
)
from radar_lib.training.inference import weights_dtype

BUNDLE, CARD, FORMAT = "bundle.json", "README.md", 1
SPLITS = ("calibration", "audit")  # the others have steered the router, or are there to judge it
PROBE_TOLERANCE = 1e-2  # of a logit; float32 differs by 1e-5 between machines, another precision by more than this
SLICES = ("language", "region", "month")


@dataclass(frozen=True)
class Bundle:
    """A router and what it was calibrated to; `calibrate` makes one and `open_bundle` reads one.

    Attributes:
        record: bundle.json, without its seal.
    """

    router: RadarRouter
    record: dict[str, Any]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.record["categories"])

    @property
    def thresholds(self) -> tuple[float, ...]:
        """tau of each risk, as a logit."""
        return tuple(self.record["thresholds"][category]["logit"] for category in self.categories)

    @cached_property
    def digest(self) -> str:
        """Stands in every decision: it covers thresholds, calibration and, by their digests, all files."""
        return digest_json(self.record)

    def route(
        self, posts: Sequence[Post] | Dataset, *, observe_only: bool = False, limits: Limits | None = None
    ) -> Iterator[Decision]:
        """One decision per post, in order; see `routing.route`. Posts need `post_id`, texts and frames, no labels."""
        about = {"observe_only": observe_only, "limits": limits}
        return route(self.router, self.thresholds, in_memory(posts), **about)

    def save(self, folder: str | Path) -> None:
        """Write the folder, whole or not at all."""
        with atomic_path(folder) as temporary:
            self.router.save_pretrained(temporary)
            write_sealed(temporary / BUNDLE, self.record)
            if wrong := changed_file(temporary, self.record["files"]):
                raise RadarError(f"{wrong} of the router is not what was calibrated. Calibrate it as it is now.")
            atomic_write_text(temporary / CARD, (temporary / CARD).read_text(encoding="utf-8") + _card(self.record))


def calibrate(
    router: RadarRouter, posts: Posts, *, recall: float = 0.9, confidence: float = 0.95, split: str = "calibration",
    inclusion: pd.Series | None = None, count: Literal["groups", "posts"] = "groups", seed: int = 1,
    limits: Limits | None = None, bar: Any = iter,
) -> Bundle:  # fmt: skip
    """Thresholds for all risks of a router, which together keep their recall with this confidence (see `thresholds`).

    Posts that cannot be scored are dispatched when routing, so they are left out here, and counted.

    Args:
        inclusion: the chance with which each post was drawn into the split, by post_id, where it was not the same for
            all; posts are thinned to an equal one.
        count: what recall counts where posts share a `group`; see `independent_positives`.
        bar: wraps the posts as they are scored, as tqdm does.

    Raises:
        RadarError: another split than calibration or audit; a risk without a label column; fewer violating posts than
            the target takes, with that number; a chance that is missing or not from 0 to 1.
    """
    categories = router.config.categories
    if split not in SPLITS:
        raise RadarError(f"split {split!r} cannot calibrate: it trained or tests. Use {' or '.join(SPLITS)}.")
    if lacking := [category for category in categories if category not in posts.categories]:
        raise RadarError(f"{posts.folder}: no labels for {', '.join(lacking)}; it has {', '.join(posts.categories)}.")
    table = posts.table(split)
    truth = labels(table, categories)
    _check_labels(truth, categories, recall=recall, confidence=confidence)  # before minutes of scoring
    kept = _thinned(table, inclusion, seed)
    scored = list(bar(score(router, in_memory(posts.split(split)), limits=limits)))
    sound = np.array([not isinstance(one, Bypass) for one in scored])
    blank = np.full(len(categories), np.nan, np.float32)
    logits = np.stack([blank if isinstance(one, Bypass) else one for one in scored])
    use = kept & sound
    table, truth, logits = table[use].reset_index(drop=True), truth[use], logits[use]
    groups = group_numbers(table)
    found = {
        category: _threshold(truth[:, k], logits[:, k], groups, count, seed, category,
                             recall=recall, confidence=confidence, risks=len(categories))
        for k, category in enumerate(categories)
    }  # fmt: skip
    taus = np.array([threshold.logit for threshold in found.values()])
    calibration = {
        "posts": posts.name, "kind": posts.kind, "digest": posts.digest, "split": split, "rows": len(scored),
        "thinned": int((~kept).sum()), "not_scored": dict(Counter(x.cause for x in scored if isinstance(x, Bypass))),
        "logits": digest_json([table["post_id"].tolist(), logits.tolist(), truth.tolist()]),
        "pipelines": {str(name): int(n) for name, n in table["pipeline"].value_counts().sort_index().items()},
        "auto_pass": float((~dispatched(logits, taus)).all(axis=1).mean()),
        "risks": {c: _summary(truth[:, k], logits[:, k], found[c], recall) for k, c in enumerate(categories)},
    }  # fmt: skip
    backbone = router.backbone
    processor = backbone.frame_processor.processor
    record = {
        "format": FORMAT, "categories": list(categories), "recall": recall, "confidence": confidence, "count": count,
        "thresholds": {category: asdict(threshold) for category, threshold in found.items()},
        "calibration": calibration, "below_target": below_target(table, truth, logits, taus, categories, recall),
        "encoder": {
            "checkpoint": backbone.checkpoint, "digest": backbone.digest, "text_tokens": backbone.max_text_tokens,
            "instruction": INSTRUCTION, "processor": type(processor).__name__, "device": backbone.device.type,
        },
        "files": _router_files(router), "probe": _probe(router),
    }  # fmt: skip
    return Bundle(router, record)


def open_bundle(folder: str | Path, *, device: str = "cpu") -> Bundle:
    """Load a bundle that `Bundle.save` wrote.

    Raises:
        RadarError: no bundle, one that was changed, on another encoder, or that scores its probe otherwise here.
    """
    folder = Path(folder)
    if not (folder / BUNDLE).is_file():
        raise RadarError(f"{folder} is not a bundle: {BUNDLE} is missing. `radar calibrate` makes one of a router.")
    record = read_sealed(folder / BUNDLE)
    if record.get("format") != FORMAT:
        raise RadarError(f"{folder} is a bundle of format {record.get('format')!r}; this version reads {FORMAT}. "
                         "Calibrate the router again.")  # fmt: skip
    if wrong := changed_file(folder, record["files"]):
        raise RadarError(f"{folder / wrong} is not what was calibrated. Fetch the bundle again, or calibrate again.")
    bundle = Bundle(load_router(folder, device=device), record)
    if bundle.router.config.categories != bundle.categories:
        raise RadarError(f"{folder}: the router's risks are not the bundle's. Calibrate the router again.")
    was, now = np.array(record["probe"]), np.array(_probe(bundle.router))
    if not (apart := np.abs(was - now).max()) <= PROBE_TOLERANCE:
        raise RadarError(
            f"{folder}: fixed posts come to other logits than when it was calibrated ({apart:.3g} apart): its encoder "
            "is not computed as it was (device, precision, package versions). Calibrate the router here."
        )
    return bundle


def load_router(folder: str | Path, *, device: str = "cpu") -> RadarRouter:
    """`RadarRouter.from_pretrained` on a device, in the precision that its backbone has there."""
    if not (Path(folder) / CONFIG).is_file():
        raise RadarError(f"{folder} is not a saved router: {CONFIG} is missing.")
    base = read_sealed(Path(folder) / CONFIG)["base"]
    text = TextLimit(**base["text"])
    backbone = load_backbone(base["checkpoint"], dtype=weights_dtype(device), device=device, text=text)
    return RadarRouter.from_pretrained(folder, backbone=backbone)


def _check_labels(truth: Int8[np.ndarray, "post category"], categories: Sequence[str], **target: Any) -> None:
    for k, category in enumerate(categories):
        certified_threshold(np.zeros((truth[:, k] == 1).sum()), name=category, risks=len(categories), **target)
        if not (truth[:, k] == 0).any():
            raise RadarError(f"{category}: no calibration post is cleared, so nothing is known of what is released.")


def _thinned(table: pd.DataFrame, inclusion: pd.Series | None, seed: int) -> np.ndarray:
    if inclusion is None:
        return np.ones(len(table), bool)
    chances = inclusion.reindex(table["post_id"]).to_numpy(float)
    if wrong := np.flatnonzero(~((chances > 0) & (chances <= 1))).tolist():
        raise RadarError(f"the chance of inclusion of post {table['post_id'].iloc[wrong[0]]!r} is {chances[wrong[0]]}; "
                         "it must be above 0, and at most 1.")  # fmt: skip
    return thin(1.0 / chances, groups=group_numbers(table), seed=seed)


def _threshold(
    truth: Int8[np.ndarray, " post"], logits: Float[np.ndarray, " post"], groups: np.ndarray | None, count: Any,
    seed: int, name: str, **target: Any,
) -> Threshold:  # fmt: skip
    violating = truth == 1
    positives = logits[violating]
    if groups is not None:
        positives = independent_positives(positives, groups[violating], count=count, seed=seed)
    return certified_threshold(positives, name=name, **target)


def _summary(
    truth: Int8[np.ndarray, " post"], logits: Float[np.ndarray, " post"], threshold: Threshold, recall: float
) -> dict[str, float]:
    """What a threshold does on its own calibration posts, with the APR of the usual rule, which certifies nothing."""
    verified = truth >= 0
    y, z = truth[verified], logits[verified]
    naive = threshold_at_rank(z[y == 1], naive_rank(int(y.sum()), recall))
    counts = {"verified": len(y), "violating": int(y.sum()), "prevalence": float(y.mean())}
    return counts | operating_point(y, z, threshold.logit)._asdict() | {"naive_apr": operating_point(y, z, naive).apr}


def below_target(
    table: pd.DataFrame, truth: Int8[np.ndarray, "post category"], logits: Float[np.ndarray, "post category"],
    thresholds: Float[np.ndarray, " category"], categories: Sequence[str], recall: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Languages, regions and months where less than `recall` of the violating posts are dispatched, the surest first.

    The guarantee is for all posts together; a slice may lie below it. `recall_upper` is what its posts leave likely (95
    %, one-sided): below the target, the slice is; above, it may be chance.
    """
    months = pd.to_datetime(table["created_at"]).dt.strftime("%Y-%m")
    slices = table.assign(month=months)
    out = []
    for k, category in enumerate(categories):
        violating = slices[truth[:, k] == 1].assign(found=dispatched(logits[truth[:, k] == 1, k], thresholds[k]))
        for by in SLICES:
            for value, found in violating.groupby(by)["found"]:
                if found.mean() < recall:
                    counts = {"positives": len(found), "found": int(found.sum())}
                    upper = recall_upper(counts["found"], len(found))
                    out.append({"category": category, "by": by, "slice": str(value), **counts, "recall_upper": upper})
    return sorted(out, key=lambda one: (one["recall_upper"], one["category"], one["by"], one["slice"]))


def _router_files(router: RadarRouter) -> dict[str, str]:
    """Digests of the files that a router is saved as; its card, which people edit, does not count."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        router.save_pretrained(Path(folder) / "router")
        return digests_below(Path(folder) / "router", without=(CARD,))


def _probe(router: RadarRouter) -> list[list[float]]:
    """Logits of fixed posts that go the whole way: text in several scripts, frames of several sizes, each alone."""
    rows, columns = np.indices((90, 160))
    frames = []
    for pixels in (
        np.stack([rows, columns, rows + columns], -1),
        np.stack([columns, rows * columns, rows], -1)[:, :70],
    ):
        buffer = io.BytesIO()
        Image.fromarray((pixels % 256).astype(np.uint8)).save(buffer, format="PNG")
        frames.append(buffer.getvalue())
    words = {"title": "Win a prize today, follow me", "ocr_text": "مرحبا سегодня 50%", "asr_text": "hola a todos"}
    none = dict.fromkeys(words, "")
    posts = [{"post_id": str(i), **texts, "frames": given}
             for i, (texts, given) in enumerate([(words, frames), (words, []), (none, frames[1:])])]  # fmt: skip
    out = []
    for logits in score(router, posts):
        if isinstance(logits, Bypass):
            raise RadarError(f"the router cannot score a plain post: {logits.cause}, {logits.detail}. Train it again.")
        out.append([float(value) for value in logits])
    return out


def _card(record: dict[str, Any]) -> str:
    """The part of a model card that is about thresholds; its numbers are the record's."""
    risks = record["calibration"]["risks"]
    names = ("violating", "prevalence", "recall", "apr", "precision", "naive_apr")
    rows = [
        f"| {c} | {t['logit']:.6g} | {t['positives']:,} | {t['rank']:,} | {t['failure']:.4f} | "
        + " | ".join(f"{risks[c][name]:,.4g}" for name in names) + " |"
        for c, t in record["thresholds"].items()
    ]  # fmt: skip
    below = [
        f"| {s['category']} | {s['by']} {s['slice']} | {s['found']} of {s['positives']} | {s['recall_upper']:.3f} |"
        for s in record["below_target"]
        if s["recall_upper"] < record["recall"]
    ]
    about = record["calibration"]
    return f"""
## Thresholds

A post is sent to a risk's module if its logit is above the threshold, or cannot be computed.

| recall target | confidence, all risks | recall counts | calibration posts | split | digest | released by all |
| --- | --- | --- | --- | --- | --- | --- |
| {record["recall"]:g} | {record["confidence"]:.4g} | {record["count"]} | {about["posts"]}: {about["rows"]:,} | \
{about["split"]} | `{about["digest"]}` | {about["auto_pass"]:.4f} |

The target holds for posts drawn like the calibration posts, pipeline by pipeline as there, whatever their prevalence.

| risk | threshold | independent violating posts | rank | P(recall below target) | {" | ".join(names)} |
| {" | ".join(["---"] * (5 + len(names)))} |
{chr(10).join(rows)}

From `recall` on: on the calibration posts themselves. `naive_apr` is of the rule that only reaches the target there.

Slices below the target beyond chance (95 % each); `{BUNDLE}` has the others:

| risk | slice | found | recall at most |
| --- | --- | --- | --- |
{chr(10).join(below)}
"""
