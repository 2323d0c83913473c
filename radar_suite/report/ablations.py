"""Scores of a finished run on changed posts: a modality left empty or taken from other posts, or frames treated anew.

What a model loses without a modality says how much it leans on it; what it loses to another treatment of the same
frames says how much of that is noise. The results lie beside the run's scores, as `scores.<ablation>.parquet`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from jaxtyping import Int
from PIL import Image

from radar_lib.data.posts import FRAMES, TEXT_COLUMNS, Posts
from radar_lib.errors import RadarError
from radar_lib.models.router import RadarRouter
from radar_lib.training.encoded import EncodedPosts, StoredPosts
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab, Run
from radar_lib.training.scores import logits_for, read_scores, write_scores
from radar_lib.training.streamed import Retouch, Rows, encode_blank

MODALITIES = {"title": "title", "ocr": "ocr_text", "asr": "asr_text", "frames": FRAMES}  # and the column of each


def jpeg60(frames: list[Image.Image]) -> list[Image.Image]:
    """Each frame once more through JPEG, at quality 60."""
    out = []
    for frame in frames:
        buffer = io.BytesIO()
        frame.convert("RGB").save(buffer, format="JPEG", quality=60)
        out.append(Image.open(buffer))
    return out


def rescaled(frames: list[Image.Image]) -> list[Image.Image]:
    """Each frame scaled to three quarters by a box filter, and back by a bicubic one."""
    box, bicubic = Image.Resampling.BOX, Image.Resampling.BICUBIC
    sizes = [(max(1, 3 * frame.width // 4), max(1, 3 * frame.height // 4)) for frame in frames]
    return [f.convert("RGB").resize(s, box).resize(f.size, bicubic) for f, s in zip(frames, sizes, strict=True)]


def backwards(frames: list[Image.Image]) -> list[Image.Image]:
    """The frames in the opposite order."""
    return frames[::-1]


REPLAYS: dict[str, Retouch] = {function.__name__: function for function in (jpeg60, rescaled, backwards)}


@dataclass(frozen=True)
class Ablation:
    """One change of all posts of a split.

    Attributes:
        kind: 'blank' leaves a modality empty (no text, no frames); 'permute' takes it from another post of the same
            pipeline and split (see `donors`); 'replay' treats the same frames in another way.
        what: one of `MODALITIES`, or of `REPLAYS`.
        seed: of the permutation.
    """

    kind: str
    what: str
    seed: int = 1

    def __post_init__(self) -> None:
        known = {"blank": MODALITIES, "permute": MODALITIES, "replay": REPLAYS}
        if self.kind not in known:
            raise RadarError(f"an ablation cannot {self.kind!r}. Known: {', '.join(known)}.")
        if self.what not in known[self.kind]:
            raise RadarError(f"there is no {self.what!r} to {self.kind}. Known: {', '.join(known[self.kind])}.")

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.what}" + (f"-own-{self.seed}" if self.kind == "permute" else "")

    def rows(self, lab: Lab, split: str) -> Rows:
        """The changed posts of a split."""
        rows = Rows(lab.posts.folder, split)
        if self.kind == "replay":
            return replace(rows, retouch=REPLAYS[self.what])
        source = None
        if self.kind == "permute":
            source = donors(lab.posts.table(split, columns=["pipeline"])["pipeline"], seed=self.seed)
        return replace(rows, sources={MODALITIES[self.what]: source})


def modalities_of(posts: Posts, split: str) -> list[str]:
    """Modalities that at least one post of the split has."""
    texts = posts.table(split, columns=list(TEXT_COLUMNS))
    frames = pc.sum(pc.list_value_length(posts.split(split).data.column(FRAMES))).as_py()
    there = {**{name: (texts[name] != "").any() for name in TEXT_COLUMNS}, FRAMES: frames > 0}
    return [name for name, column in MODALITIES.items() if there[column]]


def donors(pipelines: Sequence[str] | pd.Series, *, seed: int) -> Int[np.ndarray, " post"]:
    """For each post another one of its pipeline, by a random cyclic permutation within each.

    What is borrowed is then ordinary for the expert of that pipeline. A post that is its pipeline's only one borrows
    from any other post of the split. No post borrows from itself.

    Args:
        pipelines: of all posts of a split, in their order.

    Raises:
        RadarError: fewer than two posts.
    """
    names = np.asarray(pipelines)
    if len(names) < 2:
        raise RadarError(f"{len(names)} post cannot change places with another: permuting needs two or more.")
    random = np.random.default_rng(seed)
    out = np.empty(len(names), dtype=np.int64)
    for name in np.unique(names):
        order = random.permutation(np.flatnonzero(names == name))
        out[order] = np.roll(order, 1) if len(order) > 1 else (order + random.integers(1, len(names))) % len(names)
    return out


def ablated_posts(
    lab: Lab, backbone: str, split: str, ablation: Ablation, positions: Sequence[int]
) -> EncodedPosts:
    """Some posts of a split, changed, as `backbone` takes them.

    Where the tower's output is kept, it is taken from there, that of the other post's frames included: only text is
    encoded anew. Replayed frames and split that are streamed pass the tower again.
    """
    rows, kept = ablation.rows(lab, split), lab.encoded(backbone, split)
    if ablation.kind == "replay" or not isinstance(kept.posts, StoredPosts):
        return lab.streamed(backbone, rows, positions=positions)
    encoded = encode_blank(kept.backbone, rows.read(positions, sizes_only=True))
    owner = rows.sources.get(FRAMES, np.arange(len(rows)))
    features = [None] * len(encoded) if owner is None else [kept.posts[int(owner[i])].features for i in positions]
    posts = [replace(post, frames=(), features=its) for post, its in zip(encoded, features, strict=True)]
    return EncodedPosts.in_memory(kept.backbone, posts)


def ablated_scores(
    lab: Lab, run: Run, ablations: Iterable[Ablation], *, splits: Sequence[str] = ("test",),
    post_ids: Iterable[str] | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Scores of a finished run on changed posts, by the name of the ablation; columns as in the run's own scores.

    Each ablation is written when it is done, and later calls add only the posts that are missing.

    Args:
        lab: on the posts and checkpoints that the run was trained with.
        splits: splits that the run was scored on.
        post_ids: which of the posts that the run was scored on; None for all.

    Raises:
        RadarError: the run knows other posts, or has no scores for a post.
    """
    if run.record["inputs"]["posts"] != lab.posts.digest:
        raise RadarError(f"run {run.digest} was trained on other posts than those of {lab.posts.folder}.")
    own = run.scores()
    wanted = own[own["split"].isin(splits)]
    if post_ids is not None:
        wanted = wanted.set_index("post_id").loc[list(post_ids)].reset_index()
    out: dict[str, pd.DataFrame] = {}
    router: RadarRouter | None = None
    try:
        for ablation in ablations:
            path = run.entry.path(f"scores.{ablation.name}.parquet")
            done = read_scores(path) if path.exists() else own[:0]
            missing = wanted[~wanted["post_id"].isin(done["post_id"])]
            if len(missing):
                router = router or RadarRouter.from_pretrained(
                    run.router_folder, backbone=lab.backbone(run.spec.backbone)
                )
                done = pd.concat([done, _scored(lab, run, router, ablation, missing)], ignore_index=True)
                write_scores(
                    path, post_ids=done["post_id"].tolist(), splits=done["split"].tolist(),
                    logits=logits_for(done, done["post_id"], run.spec.categories), categories=run.spec.categories,
                )  # fmt: skip
            out[ablation.name] = done.set_index("post_id").loc[wanted["post_id"]].reset_index()
    finally:
        if router is not None:
            router.detach()
    return out


def _scored(lab: Lab, run: Run, router: RadarRouter, ablation: Ablation, missing: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for split, group in missing.groupby("split", sort=False):
        order = pd.Series(np.arange(lab.posts.splits[split]), index=lab.table(split)["post_id"])
        positions = order.loc[group["post_id"]].to_numpy()
        inputs = ablated_posts(lab, run.spec.backbone, split, ablation, positions)
        logits = predict(router, inputs, batch_size=inputs.at_once, device=lab.device)
        scored = group.copy()
        scored.iloc[:, 2:] = logits
        parts.append(scored)
    return pd.concat(parts)
