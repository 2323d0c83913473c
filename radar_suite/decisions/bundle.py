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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from jaxtyping import Bool, Float, Int8
from PIL import Image

from radar_lib.data.posts import Posts, labels
from radar_lib.data.schema import group_numbers
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, changed_file, digest_json, digests_below, read_sealed, write_sealed
from radar_lib.models.backbones import load_backbone
from radar_lib.models.base import INSTRUCTION
from radar_lib.models.router import CONFIG, RadarRouter
from radar_lib.models.text import TextLimit
from radar_lib.routing import Bypass, Decision, Post, route_batch
from radar_lib.thresholds import (
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
from radar_suite.decisions.windows import Limits, once, windows
from radar_suite.report.tables import to_markdown

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

    folder: Path
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
        """One decision per post, in order. Posts need `post_id`, texts and frames (encoded bytes or PIL), no labels."""
        return route(self.router, self.thresholds, once(posts), observe_only=observe_only, limits=limits)


def route(
    router: RadarRouter, thresholds: Sequence[float], posts: Iterable[Post | Bypass], *, observe_only: bool = False,
    limits: Limits | None = None, first_row: int = 0,
) -> Iterator[Decision]:  # fmt: skip
    """`route_batch` over any number of posts, each of which is read whole (`windows`) or bypasses the router."""
    for window in windows(posts, router.backbone, limits or Limits()):
        yield from route_batch(router, thresholds, window, observe_only=observe_only, first_row=first_row)
        first_row += len(window)


def calibrate(
    router: RadarRouter, posts: Posts, out: str | Path, *, recall: float = 0.9, confidence: float = 0.95,
    split: str = "calibration", inclusion: pd.Series | None = None, seed: int = 1, bar: Any = iter,
) -> Bundle:  # fmt: skip
    """Thresholds for all risks of a router, which together keep their recall with this confidence (see `thresholds`),
    written with it as a bundle.

    Posts that cannot be scored are dispatched when routing, so they are left out here, and counted.

    Args:
        out: the bundle's folder, written whole or not at all.
        inclusion: the chance with which each post was drawn into the split, by post_id, where it was not the same for
            all; posts are thinned to an equal one, by `seed`.
        bar: wraps the posts as they are scored, as tqdm does.

    Raises:
        RadarError: `out` is there; another split than calibration or audit; a risk without a label column; fewer
            violating posts than the target takes, with that number; a chance that is missing or not from 0 to 1.
    """
    out, categories = Path(out), router.config.categories
    target = {"recall": recall, "confidence": confidence}
    if out.exists():
        raise RadarError(f"{out} exists already. Delete it or choose another folder.")
    if split not in SPLITS:
        raise RadarError(f"split {split!r} cannot calibrate: it trained or tests. Use {' or '.join(SPLITS)}.")
    if lacking := [category for category in categories if category not in posts.categories]:
        raise RadarError(f"{posts.folder}: no labels for {', '.join(lacking)}; it has {', '.join(posts.categories)}.")
    table = posts.table(split)
    kept = _thinned(table, inclusion, seed)
    _certify(table[kept], np.zeros((kept.sum(), len(categories)), np.float32), categories, **target)  # before scoring
    decisions = list(bar(route(router, np.zeros(len(categories)), once(posts.split(split)))))
    sound = np.array([not one.cause for one in decisions])
    use, logits = kept & sound, np.stack([one.logits for one in decisions])
    used, logits = table[use], logits[use]
    truth, found = labels(used, categories), _certify(used, logits, categories, **target)
    taus = np.array([threshold.logit for threshold in found.values()])
    calibration = {
        "posts": posts.name, "kind": posts.kind, "digest": posts.digest, "split": split, "rows": len(table),
        "thinned": int((~kept).sum()), "not_scored": dict(Counter(one.cause for one in decisions if one.cause)),
        "logits": digest_json([used["post_id"].tolist(), logits.tolist(), truth.tolist()]),
        "pipelines": {str(name): int(n) for name, n in used["pipeline"].value_counts().sort_index().items()},
        "auto_pass": float((~dispatched(logits, taus)).all(axis=1).mean()),
        "risks": {c: _summary(truth[:, k], logits[:, k], taus[k], recall) for k, c in enumerate(categories)},
    }  # fmt: skip
    backbone = router.backbone
    record = {
        "format": FORMAT, "categories": list(categories), **target,
        "thresholds": {category: asdict(threshold) for category, threshold in found.items()},
        "calibration": calibration, "below_target": below_target(used, truth, logits, taus, categories, recall),
        "encoder": {
            "checkpoint": backbone.checkpoint, "digest": backbone.digest, "text_tokens": backbone.max_text_tokens,
            "instruction": INSTRUCTION, "processor": type(backbone.frame_processor.processor).__name__,
            "device": backbone.device.type,
        },
        "probe": _probe(router),
    }  # fmt: skip
    with atomic_path(out) as temporary:
        router.save_pretrained(temporary)
        record["files"] = digests_below(temporary, without=(CARD,))  # which people edit
        write_sealed(temporary / BUNDLE, record)
        with (temporary / CARD).open("a", encoding="utf-8") as card:
            card.write(_card(record))
    return Bundle(out, router, record)


def open_bundle(folder: str | Path, *, device: str = "cpu") -> Bundle:
    """Load a bundle that `calibrate` wrote.

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
    bundle = Bundle(folder, load_router(folder, device=device), record)
    if bundle.router.config.categories != bundle.categories:
        raise RadarError(f"{folder}: the router's risks are not the bundle's. Calibrate the router again.")
    if not (apart := np.abs(np.subtract(record["probe"], _probe(bundle.router))).max()) <= PROBE_TOLERANCE:
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


def _thinned(table: pd.DataFrame, inclusion: pd.Series | None, seed: int) -> Bool[np.ndarray, " post"]:
    if inclusion is None:
        return np.ones(len(table), bool)
    chances = inclusion.reindex(table["post_id"]).to_numpy(float)
    if wrong := np.flatnonzero(~((chances > 0) & (chances <= 1))).tolist():
        raise RadarError(f"the chance of inclusion of post {table['post_id'].iloc[wrong[0]]!r} is {chances[wrong[0]]}; "
                         "it must be above 0, and at most 1.")  # fmt: skip
    return thin(1.0 / chances, groups=group_numbers(table), seed=seed)


def _certify(
    table: pd.DataFrame, logits: Float[np.ndarray, "post category"], categories: Sequence[str], **target: float
) -> dict[str, Any]:
    """Threshold of each risk; refused where violating posts are too few, or no post is cleared."""
    table = table.reset_index(drop=True)
    truth, groups, out = labels(table, categories), group_numbers(table), {}
    for k, category in enumerate(categories):
        if not (truth[:, k] == 0).any():
            raise RadarError(f"{category}: no calibration post is cleared, so nothing is known of what is released.")
        violating = truth[:, k] == 1
        positives = logits[violating, k]
        if groups is not None:
            positives = independent_positives(positives, groups[violating])
        out[category] = certified_threshold(positives, name=category, risks=len(categories), **target)
    return out


def _summary(
    truth: Int8[np.ndarray, " post"], logits: Float[np.ndarray, " post"], threshold: float, recall: float
) -> dict[str, float]:
    """What a threshold does on its own calibration posts, with the APR of the usual rule, which certifies nothing."""
    verified = truth >= 0
    y, z = truth[verified], logits[verified]
    naive = threshold_at_rank(z[y == 1], naive_rank(int(y.sum()), recall))
    counts = {"verified": len(y), "violating": int(y.sum()), "prevalence": float(y.mean())}
    return counts | operating_point(y, z, threshold)._asdict() | {"naive_apr": operating_point(y, z, naive).apr}


def below_target(
    table: pd.DataFrame, truth: Int8[np.ndarray, "post category"], logits: Float[np.ndarray, "post category"],
    thresholds: Float[np.ndarray, " category"], categories: Sequence[str], recall: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Languages, regions and months where less than `recall` of the violating posts are dispatched, the surest first.

    The guarantee is for all posts together; a slice may lie below it. `recall_upper` is what its posts leave likely (95
    %, one-sided): below the target, the slice is; above, it may be chance.
    """
    slices, out = table.assign(month=pd.to_datetime(table["created_at"]).dt.strftime("%Y-%m")), []
    for k, category in enumerate(categories):
        violating = truth[:, k] == 1
        found = slices[violating].assign(found=dispatched(logits[violating, k], thresholds[k]))
        for by in SLICES:
            for value, n, hits in found.groupby(by)["found"].agg(["size", "sum"]).itertuples():
                if hits < recall * n:
                    out.append({"category": category, "by": by, "slice": str(value), "positives": int(n),
                                "found": int(hits), "recall_upper": recall_upper(int(hits), int(n))})  # fmt: skip
    return sorted(out, key=lambda one: (one["recall_upper"], one["category"], one["by"], one["slice"]))


def _probe(router: RadarRouter) -> list[list[float]]:
    """Logits of fixed posts that go the whole way: text in several scripts, frames of two sizes, each alone."""
    frames = []
    for height, width in ((90, 160), (90, 70)):
        rows, columns = np.indices((height, width))
        pixels = np.stack([rows, rows * columns, rows + columns], -1) % 256
        Image.fromarray(pixels.astype(np.uint8)).save(buffer := io.BytesIO(), format="PNG")
        frames.append(buffer.getvalue())
    words = {"title": "Win a prize today, follow me", "ocr_text": "مرحبا сегодня 50%", "asr_text": "hola a todos"}
    posts = [{"post_id": "both", **words, "frames": frames}, {"post_id": "text", **words, "frames": []},
             {"post_id": "frame", **dict.fromkeys(words, ""), "frames": frames[1:]}]  # fmt: skip
    decisions = list(route(router, np.zeros(len(router.config.categories)), posts))
    for one in decisions:
        if one.cause:
            raise RadarError(f"the router cannot score a plain post: {one.cause}, {one.detail}. Train it again.")
    return [[float(value) for value in one.logits] for one in decisions]


def _card(record: dict[str, Any]) -> str:
    """The part of a model card that is about thresholds; its numbers are the record's."""
    about = record["calibration"]
    names = {"recall": "recall target", "confidence": "confidence, all risks"}
    target = {names[key]: f"{record[key]:.4g}" for key in names}
    target |= {"calibration posts": f"{about['posts']}: {about['rows']:,}", "split": about["split"]}
    target |= {"digest": f"`{about['digest']}`", "released by all": f"{about['auto_pass']:.4f}"}
    risks = [
        {"risk": c, "threshold": f"{t['logit']:.6g}", "independent violating posts": t["positives"], "rank": t["rank"],
         "P(recall below target)": f"{t['failure']:.4f}"}
        | {name: f"{value:,.4g}" for name, value in about["risks"][c].items()}
        for c, t in record["thresholds"].items()
    ]  # fmt: skip
    sure = [one for one in record["below_target"] if one["recall_upper"] < record["recall"]]
    below = pd.DataFrame(sure, columns=["category", "by", "slice", "positives", "found", "recall_upper"]).round(3)
    return f"""
## Thresholds

A post is sent to a risk's module if its logit is above the threshold, or cannot be computed.

{to_markdown(pd.DataFrame([target]))}
The target holds for posts drawn like the calibration posts, pipeline by pipeline as there, whatever their prevalence.

{to_markdown(pd.DataFrame(risks))}
From `verified` on: on the calibration posts themselves. `naive_apr` is of the rule that only reaches the target there.

Slices below the target beyond chance (95 % each); `{BUNDLE}` has the others:

{to_markdown(below)}"""
