"""Flaws planted among the chosen posts: exact and near copies of other posts, and copies that are labelled otherwise.

A copy takes the place of a chosen post and keeps that post's identifier, pipeline and label, so sizes and prevalences
stay exactly as they were; its content, facts and truth are the original's. Calibration, test and audit posts are never
replaced. An original may be in the same split or, for a share of the copies, in another one (a leak): training posts
then copy calibration or test posts, validation and unlabelled posts copy training posts. Originals and copies carry
the same label, but for a share of the copies inside training and validation, whose label contradicts it.
"""

import io

import numpy as np
from jaxtyping import Bool, Int8, Int32
from PIL import Image

from radar_lib.data.schema import SPLITS
from radar_suite.world.draws import Draws
from radar_suite.world.facts import stream_key
from radar_suite.world.pipelines import Selection

EXACT, NEAR = 1, 2
KINDS = ("", "exact", "near")
NEAR_SHARE = 0.5
LEAKS = {"train": ("calibration", "test"), "validation": ("train",), "unlabelled": ("train",)}
Rows = Int32[np.ndarray, "row"]
Labels = Int8[np.ndarray, "row category"]


def plant_copies(plan: list[Selection], *, seed: int, rate: float, cross_split: float,
                 conflicts: float) -> list[Selection]:
    """The plan with ``rate`` of the training, validation and unlabelled posts replaced by copies, in place.

    Args:
        rate: copies per post of a split. Where too few originals with the right label exist, there are fewer.
        cross_split: share of the copies whose original is in another split.
        conflicts: share of the annotated copies inside one split whose label contradicts the original's.
    """
    splits = {s.split: s for s in plan}
    for name, sources in LEAKS.items():  # in this order: what was replaced is no original any more
        if name in splits:
            others = [splits[other] for other in sources if other in splits]
            _copy_into(splits[name], others, seed=seed, rate=rate, cross_split=cross_split, conflicts=conflicts)
    return plan


def _copy_into(s: Selection, others: list[Selection], *, seed: int, rate: float, cross_split: float,
               conflicts: float) -> None:
    rng = np.random.Generator(np.random.Philox(key=np.array([stream_key(seed, s.stream, "copies"), 0], np.uint64)))
    eligible = rng.permutation(_rows(s.facts["segment"] == 0))  # segments belong to their stream
    copies, pool = np.split(eligible, [round(rate * len(s))])
    fate, near = rng.random(len(copies)), rng.random(len(copies)) < NEAR_SHARE
    leaked = fate < cross_split if others else np.zeros(len(copies), bool)
    annotated = s.labels.max(axis=1) >= 0
    conflicting = ~leaked & annotated[copies] & (fate < cross_split + conflicts * (1 - cross_split))
    turn = np.arange(len(copies)) % max(len(others), 1)
    groups = [(leaked & (turn == i), other, 0) for i, other in enumerate(others)]
    for group, origin, flip in (*groups, (conflicting, s, 1), (~leaked & ~conflicting, s, 0)):
        free = pool if origin is s else _rows((origin.facts["segment"] == 0) & (origin.copy == 0))
        mine, among = np.flatnonzero(group), rng.permutation(free)
        i, j = _match(s.labels[copies[mine]], origin.labels[among], flip=flip)
        _replace(s, copies[mine[i]], origin, among[j])
        s.copy[copies[mine[i]]] = np.where(near[mine[i]], NEAR, EXACT)
        if origin is s:  # one copy of an original
            left = np.zeros(len(s), bool)
            left[pool] = True
            left[among[j]] = False
            pool = _rows(left)


def _rows(chosen: Bool[np.ndarray, "post"]) -> Rows:
    """Numbers of the chosen rows, four bytes each."""
    return np.flatnonzero(chosen).astype(np.int32)


def _replace(s: Selection, rows: Rows, origin: Selection, originals: Rows) -> None:
    """Give ``rows`` the content and truth of ``originals``; identifiers, pipelines and labels stay."""
    for name, values in s.facts.items():
        values[rows] = origin.facts[name][originals]
    s.truth[rows] = origin.truth[originals]
    s.origin[rows], s.origin_split[rows] = origin.index[originals], SPLITS.index(origin.split)


def _match(wanted: Labels, offered: Labels, *, flip: int) -> tuple[Rows, Rows]:
    """Positions (i, j), each j at most once, where offered[j] has the label of wanted[i], flipped or not, for the risk
    that wanted[i] is verified for; any j, where it is verified for none."""
    free, pairs = np.ones(len(offered), bool), [np.empty((0, 2), int)]
    for k, y in [(k, y) for k in range(wanted.shape[1]) for y in (0, 1)] + [(0, -1)]:
        i = np.flatnonzero(wanted[:, k] == y if y >= 0 else (wanted < 0).all(axis=1))
        j = np.flatnonzero(free & (offered[:, k] == (y ^ flip)) if y >= 0 else free)
        n = min(len(i), len(j))
        pairs.append(np.stack([i[:n], j[:n]], axis=1))
        free[j[:n]] = False
    both = np.concatenate(pairs)
    return both[:, 0], both[:, 1]


def disguise(frames: list[bytes], draws: Draws, *, crop: bool) -> list[bytes]:
    """Frames of a near copy: encoded again at a lower quality, and cropped by up to 3 % on each side if asked for."""
    quality, cut = draws.integer(45, 70), [draws.between(0.005, 0.03) if crop else 0.0 for _ in range(4)]

    def again(data: bytes) -> bytes:
        picture, buffer = Image.open(io.BytesIO(data)).convert("RGB"), io.BytesIO()
        w, h = picture.size
        box = (cut[0] * w, cut[1] * h, (1 - cut[2]) * w, (1 - cut[3]) * h)
        picture.resize((w, h), Image.Resampling.BILINEAR, box=box).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    altered = {data: again(data) for data in dict.fromkeys(frames)}
    return [altered[data] for data in frames]
