"""A batch of posts to decisions (Eq. 2), failing closed: what is not encoded and scored goes to every module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from radar_lib.models.base import Encoded
from radar_lib.models.router import RadarRouter
from radar_lib.thresholds import dispatched
from radar_lib.training.inference import half_precision, to_device

BATCH = 32  # posts of one forward pass

Post = Mapping[str, Any]


@dataclass(frozen=True)
class Bypass:
    """Why a post passes the router by.

    Attributes:
        cause: one word; `route_batch` itself gives "encoding" and "score".
        detail: what exactly.
        post_id: None where it has none that can be read.
    """

    cause: str
    detail: str
    post_id: str | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of one post.

    Attributes:
        post_id: None where it has none that can be read.
        row: its place in the input, from 0.
        logits: NaN where it was not scored.
        dispatch: whether each risk's module is to see it, by Eq. 2; all, where it was not scored.
        modules: names of the risks whose modules are called: those, or all while only observing.
        status: "scored"; "observed": scored, and sent to all modules whatever was decided; "bypassed": not scored.
        cause, detail: of a bypass; else empty.
    """

    post_id: str | None
    row: int
    logits: Float[np.ndarray, " category"]
    dispatch: Bool[np.ndarray, " category"]
    modules: tuple[str, ...]
    status: Literal["scored", "observed", "bypassed"]
    cause: str = ""
    detail: str = ""


def route_batch(
    router: RadarRouter, thresholds: Sequence[float], posts: Sequence[Post | Bypass], *, observe_only: bool = False,
    first_row: int = 0,
) -> list[Decision]:  # fmt: skip
    """One decision per post, in order. No post stops the others.

    Args:
        thresholds: one logit per risk, in the router's order.
        posts: as `Backbone.encode` takes them, with a `post_id`; or why one cannot be given.
        first_row: number of the first post.
    """
    categories = router.config.categories
    blank, every = np.full(len(categories), np.nan, np.float32), np.ones(len(categories), bool)

    def decide(row: int, post: Post | Bypass, scored: Float[np.ndarray, " category"] | Bypass) -> Decision:
        name = post.post_id if isinstance(post, Bypass) else post["post_id"]
        if isinstance(scored, Bypass):
            return Decision(name, row, blank, every, categories, "bypassed", scored.cause, scored.detail)
        dispatch = dispatched(scored, np.asarray(thresholds))
        if observe_only:
            return Decision(name, row, scored, dispatch, categories, "observed")
        return Decision(name, row, scored, dispatch, tuple(np.array(categories)[dispatch].tolist()), "scored")

    return list(map(decide, range(first_row, first_row + len(posts)), posts, _score(router, posts)))


def _score(router: RadarRouter, posts: Sequence[Post | Bypass]) -> list[Any]:
    """Finite logits (float32) of each post, or why it has none."""
    router.eval()
    out: list[Any] = list(posts)
    whole = [i for i, post in enumerate(posts) if not isinstance(post, Bypass)]
    for i, encoded in zip(whole, _halving(router.backbone.encode, [posts[i] for i in whole], "encoding"), strict=True):
        out[i] = encoded
    sound = sorted((i for i in whole if not isinstance(out[i], Bypass)), key=lambda i: out[i].n_tokens)
    for start in range(0, len(sound), BATCH):
        batch = sound[start : start + BATCH]
        scored = _halving(lambda some: _forward(router, some), [out[i] for i in batch], "score")
        for i, logits in zip(batch, scored, strict=True):
            finite = isinstance(logits, Bypass) or np.isfinite(logits).all()
            out[i] = logits if finite else Bypass("score", f"logits are {logits.tolist()}")
    return out


@torch.inference_mode()
def _forward(router: RadarRouter, encoded: Sequence[Encoded]) -> list[Float[np.ndarray, " category"]]:
    device = router.backbone.device
    with half_precision(device):
        return list(router(to_device(router.backbone.collate(encoded), device)).float().cpu().numpy())


def _halving(function: Callable[[list[Any]], list[Any]], items: list[Any], cause: str) -> list[Any]:
    """`function(items)`, one result each; where it fails, of halves, down to the item that it fails for."""
    if not items:
        return []
    try:
        if len(results := list(function(items))) != len(items):
            raise RuntimeError(f"{len(results)} results for {len(items)} posts")
        return results
    except Exception as error:  # of any kind: a post must not stop the others
        if len(items) == 1:
            return [Bypass(cause, f"{type(error).__name__}: {error}"[:300])]
        half = len(items) // 2
    return _halving(function, items[:half], cause) + _halving(function, items[half:], cause)
