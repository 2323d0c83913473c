"""Posts to decisions, failing closed: a post that cannot be read whole, in time, and scored goes to every module.

Posts pass in windows of fixed size, so that the batches, and with them the last bits of the logits, do not depend on
how often a run was stopped. Threads read (decode and resize) one window ahead of the model; nothing else is kept, so
memory does not grow with the number of posts.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Bool, Float
from PIL import Image, ImageFile
from torch import Tensor

from radar_lib.data.frames import picture
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS
from radar_lib.errors import RadarError
from radar_lib.models.base import Backbone, Encoded
from radar_lib.models.router import RadarRouter
from radar_lib.ranges import POSITIVE, Range, check_ranges
from radar_lib.thresholds import dispatched
from radar_lib.training.inference import half_precision, to_device

WINDOW = 64  # posts that are read ahead, and batched by length among themselves
BATCH = 32
MOST_READERS = 4
# Why a post was not scored: what its source could not give (file), what is wrong with it (post_id to empty), what it
# took too much of (limit, time), and what the model could not do with it (encoding, score).
CAUSES = ("file", "post_id", "text", "frames", "frame", "empty", "limit", "time", "encoding", "score")

Post = Mapping[str, Any]


class Bypass(Exception):
    """Why a post passes the router by: one of `CAUSES`, and what exactly. Its id, where there is no post to ask."""

    def __init__(self, cause: str, detail: str, post_id: str | None = None) -> None:
        super().__init__(cause, detail, post_id)
        self.cause, self.detail, self.post_id = cause, f"{detail:.300}", post_id


REPEATED = "another post has the same post_id"  # so that decisions could be taken for each other's


@dataclass(frozen=True)
class Limits:
    """What a post may have and take; one beyond it goes to every module.

    Attributes:
        frames: of a post.
        frame_bytes: of one encoded frame. (Pixels: `PIL.Image.MAX_IMAGE_PIXELS`.)
        characters: of all its texts together.
        seconds: to decode and resize its frames.
    """

    frames: int = 64
    frame_bytes: int = 64 << 20
    characters: int = 1_000_000
    seconds: float = 30.0

    def __post_init__(self) -> None:
        check_ranges(self, frames=Range(0), frame_bytes=Range(1), characters=Range(0), seconds=POSITIVE)


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


def route(
    router: RadarRouter, thresholds: Sequence[float], posts: Iterable[Post | Bypass], *,
    observe_only: bool = False, limits: Limits | None = None, first_row: int = 0,
) -> Iterator[Decision]:  # fmt: skip
    """One decision per post, in order.

    Args:
        thresholds: one logit per risk, in the router's order.
        posts: as `Backbone.encode` takes them, frames also as encoded bytes; or why one cannot be given.
        first_row: number of the first post.
    """
    categories = router.config.categories
    every = np.ones(len(categories), bool)
    waiting: deque[str | None] = deque()

    def noted() -> Iterator[Post | Bypass]:
        for post in posts:
            name = post.post_id if isinstance(post, Bypass) else _post_id(post)
            waiting.append(name)
            yield post

    for row, scored in enumerate(score(router, noted(), limits=limits), start=first_row):
        name = waiting.popleft()
        if isinstance(scored, Bypass):
            blank = np.full(len(categories), np.nan, np.float32)
            yield Decision(name, row, blank, every, categories, "bypassed", scored.cause, scored.detail)
            continue
        dispatch = dispatched(scored, np.asarray(thresholds))
        called = categories if observe_only else tuple(c for c, out in zip(categories, dispatch, strict=True) if out)
        yield Decision(name, row, scored, dispatch, called, "observed" if observe_only else "scored")


def score(
    router: RadarRouter, posts: Iterable[Post | Bypass], *, limits: Limits | None = None
) -> Iterator[Float[np.ndarray, " category"] | Bypass]:
    """Finite logits (float32) of each post, in order, or why it has none. No post stops the others.

    Raises:
        RadarError: Pillow was told to take torn images for whole ones.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RadarError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so that frames would pass that are partly "
                         "decoded. Turn it off.")  # fmt: skip
    router.eval()
    limits = limits or Limits()
    readers = _Readers(lambda post: read_post(post, router.backbone, limits), limits.seconds)
    ahead: deque[list[_Job]] = deque()
    source = iter(posts)
    try:
        while window := [readers.submit(post) for post in islice(source, WINDOW)]:
            ahead.append(window)
            if len(ahead) > 1:
                yield from _score_window(router, [readers.result(job) for job in ahead.popleft()])
        for window in ahead:
            yield from _score_window(router, [readers.result(job) for job in window])
    finally:
        readers.close()


def read_post(post: Post | Bypass, backbone: Backbone, limits: Limits) -> dict[str, Any]:
    """A post with its frames decoded and as large as the model sees them.

    Raises:
        Bypass: it is not whole, or beyond a limit.
    """
    if isinstance(post, Bypass):
        raise post
    if not isinstance(post, Mapping):
        raise Bypass("file", f"it is {type(post).__name__}; a post is a mapping of columns to values")
    if _post_id(post) is None:
        raise Bypass("post_id", f"post_id is {post.get('post_id')!r:.60}; it must be a text that is not empty")
    texts = {name: post.get(name) for name in TEXT_COLUMNS}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise Bypass("text", f"{name} is {text!r:.60}; it must be text")
    if (length := sum(map(len, texts.values()))) > limits.characters:
        raise Bypass("limit", f"{length:,} characters; the limit is {limits.characters:,}")
    frames = post.get(FRAMES)
    if not isinstance(frames, list | tuple):
        raise Bypass("frames", f"frames are {type(frames).__name__}; they must be a list")
    if len(frames) > limits.frames:
        raise Bypass("limit", f"{len(frames):,} frames; the limit is {limits.frames:,}")
    if not frames and not any(text.strip() for text in texts.values()):
        raise Bypass("empty", "it has neither text nor frames")
    seen = [_resized(frame, number, backbone, limits) for number, frame in enumerate(frames, start=1)]
    return {"post_id": post["post_id"], **texts, FRAMES: seen}


def _resized(frame: Any, number: int, backbone: Backbone, limits: Limits) -> Tensor:
    data = frame.get("bytes") if isinstance(frame, Mapping) else frame
    if isinstance(data, bytes) and len(data) > limits.frame_bytes:
        raise Bypass("limit", f"frame {number}: {len(data):,} bytes; the limit is {limits.frame_bytes:,}")
    if data is not None and not isinstance(data, bytes | Image.Image):
        raise Bypass("frame", f"frame {number} is {type(data).__name__}; it must be encoded bytes")
    try:
        whole = data if isinstance(data, Image.Image) else picture(data)
    except RadarError as error:
        raise Bypass("frame", f"frame {number}: {error}") from error
    return backbone.resized({"post_id": "", FRAMES: [whole]})[0]


def _post_id(post: Post) -> str | None:
    name = post.get("post_id") if isinstance(post, Mapping) else None
    return name if isinstance(name, str) and name else None


def in_memory(posts: Sequence[Post] | Dataset) -> Iterator[Post | Bypass]:
    """Posts as `route` takes them; those that share an id bypass it.

    The frames of a dataset stay encoded, so that one that is damaged is its post's fault alone.
    """
    if isinstance(posts, Dataset):
        names, raw = list(posts.select_columns(["post_id"])["post_id"]), posts.with_format("arrow")
        rows: Iterable[Post] = (raw[i].to_pylist()[0] for i in range(len(posts)))
    else:
        names, rows = [_post_id(post) for post in posts], posts
    counts = Counter(name for name in names if name)
    for name, post in zip(names, rows, strict=True):
        yield Bypass("post_id", REPEATED, name) if counts[name] > 1 else post


def _score_window(router: RadarRouter, posts: Sequence[Post | Bypass]) -> list[Any]:
    """Logits of the posts of a window, or why not, in their order."""
    out: list[Any] = list(posts)
    whole = [i for i, post in enumerate(posts) if not isinstance(post, Bypass)]
    encoded = _halving(router.backbone.encode, [posts[i] for i in whole], "encoding")
    by_length = sorted(zip(encoded, whole, strict=True), key=lambda pair: getattr(pair[0], "n_tokens", 0))
    for encoding, i in by_length:
        out[i] = encoding
    sound = [i for encoding, i in by_length if isinstance(encoding, Encoded)]
    for start in range(0, len(sound), BATCH):
        batch = sound[start : start + BATCH]
        for i, logits in zip(batch, _halving(lambda some: _forward(router, some), [out[i] for i in batch], "score"),
                             strict=True):  # fmt: skip
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
        return list(function(items))
    except Exception as error:  # of any kind: a post must not stop the others
        if len(items) == 1:
            return [Bypass(cause, f"{type(error).__name__}: {error}")]
        half = len(items) // 2
    return _halving(function, items[:half], cause) + _halving(function, items[half:], cause)


@dataclass(eq=False)
class _Job:
    post: Any
    result: Any = None
    began: float = math.inf
    late: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class _Readers:
    """Threads that read posts. One that is at a post for too long is given up, and another takes its place."""

    def __init__(self, read: Callable[[Any], Any], seconds: float) -> None:
        self.read, self.seconds = read, seconds
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.threads = min(os.cpu_count() or 1, MOST_READERS)
        for _ in range(self.threads):
            self._start()

    def submit(self, post: Any) -> _Job:
        job = _Job(post)
        self.jobs.put(job)
        return job

    def result(self, job: _Job) -> Any:
        """What was read, or why not; posts are asked for in the order in which they were given."""
        while not job.done.wait(min(self.seconds, max(0.0, job.began + self.seconds - monotonic()))):
            if monotonic() - job.began >= self.seconds:
                job.late = True
                self._start()
                return Bypass("time", f"its frames took more than {self.seconds:g} s")
        return job.result

    def close(self) -> None:
        for _ in range(self.threads):
            self.jobs.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()  # a decoder that hangs must not hold up the end

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.began = monotonic()
            try:
                job.result = self.read(job.post)
            except Bypass as bypass:
                job.result = bypass
            except BaseException as error:  # such as MemoryError; the post must not take the thread with it
                job.result = Bypass("encoding", f"{type(error).__name__}: {error}")
            job.post = None
            job.done.set()
            if job.late:
                return
