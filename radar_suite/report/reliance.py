"""What does a model look at? The ranking quality lost when a modality is emptied or taken from its pipeline's posts.

An emptied modality also looks unlike anything in training; one from another post looks ordinary but belongs to nobody,
so the two answer slightly different questions; frames saved as JPEG once more say how much of a loss is noise. Losses
are paired: the same posts, scored by the same model twice. The changed scores lie in the cache, an entry per ablation.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from jaxtyping import Float, Int, Int8
from matplotlib.figure import Figure
from PIL import Image

from radar_lib import intervals
from radar_lib.data.frames import as_seen
from radar_lib.data.posts import FRAMES, TEXT_COLUMNS, Posts
from radar_lib.data.schema import group_numbers
from radar_lib.errors import RadarError
from radar_lib.files import digest_json
from radar_lib.metrics import average_precision
from radar_lib.models.router import RadarRouter
from radar_lib.sources import digest_sources
from radar_lib.training.encoded import EncodedPosts, StoredPosts
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab, Run
from radar_lib.training.scores import logits_for, read_scores, write_scores
from radar_lib.training.specs import SCORES
from radar_lib.training.streamed import Retouch, Rows, encode_blank
from radar_suite.report.drawing import panels, place_legend
from radar_suite.report.style import category_colour

MODALITIES = {"title": "title", "ocr": "ocr_text", "asr": "asr_text", "frames": FRAMES}  # and the column of each


def jpeg60(frames: list[Image.Image]) -> list[Image.Image]:
    """Each frame once more through JPEG, at quality 60."""
    out = []
    for frame in frames:
        buffer = io.BytesIO()
        as_seen(frame).save(buffer, format="JPEG", quality=60)
        out.append(Image.open(buffer))
    return out


COLUMNS = ["category", "posts", "PR-AUC", "kind", "what", "loss", "low", "high"]
REPLAYS: dict[str, Retouch] = {"jpeg60": jpeg60}


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


def ablations_for(posts: Posts, split: str) -> list[Ablation]:
    """Each modality that a post of the split has, left empty and taken from others; frames also as JPEG again."""
    texts = posts.table(split, columns=list(TEXT_COLUMNS))
    present = {name: (texts[name] != "").any() for name in TEXT_COLUMNS}
    present[FRAMES] = pc.sum(pc.list_value_length(posts.split(split).data.column(FRAMES))).as_py() > 0
    names = [name for name, column in MODALITIES.items() if present[column]]
    changes = [Ablation(kind, what) for kind in ("blank", "permute") for what in names]
    return changes + ([Ablation("replay", "jpeg60")] if "frames" in names else [])


def donors(pipelines: Sequence[str] | pd.Series, *, seed: int) -> Int[np.ndarray, " post"]:
    """For each post of a split another one of its pipeline, by a random cyclic permutation within each.

    What is borrowed is then ordinary for the expert of that pipeline. A post that is its pipeline's only one borrows
    from any other post of the split. No post borrows from itself.

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


def ablated_posts(lab: Lab, backbone: str, split: str, ablation: Ablation, positions: Sequence[int]) -> EncodedPosts:
    """Some posts of a split, changed, as `backbone` takes them.

    Where the tower's output is kept, it is taken from there, that of the other post's frames included: only text is
    encoded anew. Replayed frames and a split that is streamed pass the tower again.
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

    Each ablation of these posts is kept in the cache when it is done.

    Args:
        lab: on the posts and checkpoints that the run was trained with.
        splits: splits that the run was scored on.
        post_ids: which of the posts that the run was scored on; None for all.

    Raises:
        RadarError: the run knows other posts, or has no scores for a post.
    """
    if run.record["inputs"]["posts"] != lab.posts.digest:
        raise RadarError(f"run {run.digest} was trained on other posts than those of {lab.posts.folder}.")
    wanted = run.scores(*splits)
    if post_ids is not None:
        wanted = wanted.set_index("post_id").loc[list(post_ids)].reset_index()
    about = {"run": run.digest, "posts": digest_json(wanted["post_id"].tolist()), "code": digest_sources(__name__)}
    out: dict[str, pd.DataFrame] = {}
    router: RadarRouter | None = None
    try:
        for ablation in ablations:
            entry = lab.cache.entry("ablations", about | {"ablation": ablation.name})
            if not entry.complete:
                backbone = lab.backbone(run.spec.backbone)
                router = router or RadarRouter.from_pretrained(run.router_folder, backbone=backbone)
                entry.make(partial(_keep_scores, lab, run, router, ablation, wanted))
            out[ablation.name] = read_scores(entry.path(SCORES), digest=entry.record()["files"][SCORES])
    finally:
        if router is not None:
            router.detach()
    return out


def _keep_scores(
    lab: Lab, run: Run, router: RadarRouter, ablation: Ablation, wanted: pd.DataFrame, folder: Path
) -> None:
    """Write the scores of the posts in the lines of `wanted`, changed, in their order."""
    logits = np.empty((len(wanted), len(run.spec.categories)), np.float32)
    for split in wanted["split"].unique():
        lines = np.flatnonzero(wanted["split"] == split)
        order = pd.Series(np.arange(lab.posts.splits[split]), index=lab.table(split)["post_id"])
        positions = order.loc[wanted["post_id"].iloc[lines]].to_numpy()
        inputs = ablated_posts(lab, run.spec.backbone, split, ablation, positions)
        logits[lines] = predict(router, inputs, batch_size=inputs.at_once, device=lab.device)
    ids, splits = wanted["post_id"].tolist(), wanted["split"].tolist()
    write_scores(folder / SCORES, post_ids=ids, splits=splits, logits=logits, categories=run.spec.categories)


def sample(labels: Int8[np.ndarray, " post"], *, most: int, seed: int) -> Int[np.ndarray, " sample"]:
    """Positions, ascending, of at most `most` violating and as many cleared posts, drawn at random."""
    random = np.random.default_rng(seed)
    return np.sort(np.concatenate([random.permutation(np.flatnonzero(labels == y))[:most] for y in (0, 1)]))


def reliance(
    lab: Lab, run: Run, ablations: Sequence[Ablation], *, most: int = 200, seed: int = 1
) -> pd.DataFrame:
    """What a run loses to each ablation on test posts, one line per category and ablation.

    Args:
        most: violating posts per category, and cleared ones. The share of violations is therefore higher than in the
            split, and so is PR-AUC.

    Returns:
        `COLUMNS`: PR-AUC as the posts are; loss, low and high in fractions. No lines where no post holds anything.
    """
    ids = lab.table("test")["post_id"].to_numpy()
    labels = lab.labels("test", run.spec.categories)
    samples = [sample(column, most=most, seed=seed) for column in labels.T]
    changed = ablated_scores(lab, run, ablations, splits=["test"], post_ids=ids[np.unique(np.concatenate(samples))])
    own, groups, lines = run.scores("test"), group_numbers(lab.posts.table("test")), []
    for k, (category, chosen) in enumerate(zip(run.spec.categories, samples, strict=True)):
        truth = labels[chosen, k]
        if len(np.unique(truth)) < 2:
            continue
        clean = logits_for(own, ids[chosen], [category])[:, 0]
        shared = None if groups is None else groups[chosen]
        about = {"category": category, "posts": len(chosen), "PR-AUC": average_precision(truth, clean)}
        for ablation in ablations:
            ablated = logits_for(changed[ablation.name], ids[chosen], [category])[:, 0]
            loss = precision_lost(truth, clean, ablated, groups=shared)
            line = {"kind": ablation.kind, "what": ablation.what, "loss": loss.estimate}
            lines.append(about | line | {"low": loss.low, "high": loss.high})
    return pd.DataFrame(lines, columns=COLUMNS)


def precision_lost(
    truth: Int8[np.ndarray, " post"], clean: Float[np.ndarray, " post"], ablated: Float[np.ndarray, " post"], *,
    groups: intervals.Groups = None,
) -> intervals.Difference:  # fmt: skip
    """PR-AUC lost; where the ablated posts all look alike (their only modality is empty), what is left is chance."""
    if np.ptp(ablated) > 0:
        return intervals.average_precision_difference(truth, clean, ablated, groups=groups)
    centred = truth - truth.mean()
    parts = (intervals.average_precision_influence(truth, clean) - centred) / len(truth)
    error = intervals.standard_error(intervals.sum_within(parts, groups), intervals.count_groups(groups))
    return intervals.student_difference(average_precision(truth, clean) - truth.mean(), error)


def in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Losses in points with their intervals: one line per modality and kind, one column per category."""
    cells = 100 * table[["loss", "low", "high"]].to_numpy()
    text = ["-" if np.isnan(loss) else f"{loss:.1f} [{low:.1f}, {high:.1f}]" for loss, low, high in cells]
    wide = table.assign(text=text).pivot(index=["what", "kind"], columns="category", values="text")
    return wide.loc[table[["what", "kind"]].drop_duplicates().agg(tuple, axis=1).tolist(), table["category"].unique()]


def figure(table: pd.DataFrame) -> Figure:
    """Losses with their intervals, one panel per category, one line per modality; right is worse."""
    looks = {"blank": ("o", 0.12, "left empty"), "permute": ("s", -0.12, "from another post"),
             "replay": ("D", 0.0, "same, as JPEG")}  # marker, height within its line, label  # fmt: skip
    categories, rows = list(dict.fromkeys(table["category"])), list(dict.fromkeys(table["what"]))[::-1]
    drawn, axes = panels(len(categories), size=(3.6, 0.5 * len(rows) + 1.6), sharey=True)
    for axis, category in zip(axes, categories, strict=True):
        axis.axvline(0, color="#999999", linewidth=0.9, linestyle=":")
        for position, (kind, part) in enumerate(table[table["category"] == category].groupby("kind", sort=False)):
            marker, offset, label = looks[kind]
            height = np.array([rows.index(what) for what in part["what"]]) + offset
            ends = 100 * np.stack([part["loss"] - part["low"], part["high"] - part["loss"]])
            axis.errorbar(100 * part["loss"], height, xerr=np.maximum(ends, 0), fmt=marker, markersize=5,
                          linestyle="", color=category_colour(position), label=label)  # fmt: skip
        axis.set(title=f"expert {category}", xlabel="PR-AUC lost (points)", yticks=range(len(rows)), yticklabels=rows)
    place_legend(drawn, *axes[0].get_legend_handles_labels(), loc="lower center", most=3)
    return drawn
