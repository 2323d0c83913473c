"""Posts as a router takes them, or why not: checked, decoded and resized by threads, one window ahead of the model.

Windows have a fixed size, so that the batches, and with them the last bits of the logits, do not depend on how often a
run was stopped. Nothing else is kept, so memory does not grow with the number of posts.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import Any

from datasets import Dataset
from PIL import Image, ImageFile
from torch import Tensor

from radar_lib.data.frames import picture
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS
from radar_lib.errors import RadarError
from radar_lib.models.base import Backbone
from radar_lib.ranges import POSITIVE, Range, check_ranges
from radar_lib.routing import Bypass, Post

WINDOW = 64  # posts that are read ahead, and batched by length among themselves
MOST_READERS = 4
# What its source could not give (file), what is wrong with it (post_id to empty), what it took too much of (limit,
# time), and what the model could not do with it (encoding, score).
CAUSES = ("file", "post_id", "text", "frames", "frame", "empty", "limit", "time", "encoding", "score")
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
        at_most = {"frames": Range(0), "frame_bytes": Range(1), "characters": Range(0)}
        check_ranges(vars(self), at_most | {"seconds": POSITIVE})


def once(posts: Sequence[Post] | Dataset) -> Iterator[Post | Bypass]:
    """Posts; those that share an id bypass the router. A dataset's frames stay encoded: damage is its post's alone."""
    if isinstance(posts, Dataset):
        names, raw = list(posts.select_columns(["post_id"])["post_id"]), posts.with_format("arrow")
        rows: Iterable[Post] = (raw[i].to_pylist()[0] for i in range(len(posts)))
    else:
        names, rows = [_post_id(post) for post in posts], posts
    counts = Counter(names)
    for name, post in zip(names, rows, strict=True):
        yield Bypass("post_id", REPEATED, name) if name and counts[name] > 1 else post


def windows(posts: Iterable[Post | Bypass], backbone: Backbone, limits: Limits) -> Iterator[list[Post | Bypass]]:
    """All posts in order, `WINDOW` at a time: whole, decoded and resized, or why not.

    Raises:
        RadarError: Pillow was told to take torn images for whole ones.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RadarError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so that frames would pass that are partly "
                         "decoded. Turn it off.")  # fmt: skip
    readers, source = _Readers(backbone, limits), iter(posts)
    try:
        window = [readers.submit(post) for post in islice(source, WINDOW)]
        while window:
            ahead = [readers.submit(post) for post in islice(source, WINDOW)]
            yield [readers.result(job) for job in window]
            window = ahead
    finally:
        readers.jobs.put(None)


def read_post(post: Any, backbone: Backbone, limits: Limits) -> Post | Bypass:
    """A post with its frames decoded and as large as the model sees them; or what is not whole, or beyond a limit."""
    if isinstance(post, Bypass):
        return post
    name = _post_id(post)
    try:
        cause, detail = _fault(post, limits)
        if not cause:
            texts = {column: post[column] for column in TEXT_COLUMNS}
            return {"post_id": name, **texts, FRAMES: [_resized(frame, backbone) for frame in post[FRAMES]]}
    except RadarError as error:
        cause, detail = "frame", str(error)
    except BaseException as error:  # such as MemoryError; the post must not take the thread with it
        cause, detail = "encoding", f"{type(error).__name__}: {error}"
    return Bypass(cause, detail[:300], name)


def _fault(post: Any, limits: Limits) -> tuple[str, str]:
    """What is wrong with a post before its frames are decoded: cause and detail, empty if nothing is."""
    if not isinstance(post, Mapping):
        return "file", f"it is {type(post).__name__}; a post is a mapping of columns to values"
    if _post_id(post) is None:
        return "post_id", f"post_id is {post.get('post_id')!r:.60}; it must be a text that is not empty"
    for name in TEXT_COLUMNS:
        if not isinstance(post.get(name), str):
            return "text", f"{name} is {post.get(name)!r:.60}; it must be text"
    if (length := sum(len(post[name]) for name in TEXT_COLUMNS)) > limits.characters:
        return "limit", f"{length:,} characters; the limit is {limits.characters:,}"
    frames = post.get(FRAMES)
    if not isinstance(frames, list | tuple):
        return "frames", f"frames are {type(frames).__name__}; they must be a list"
    if len(frames) > limits.frames:
        return "limit", f"{len(frames):,} frames; the limit is {limits.frames:,}"
    for data in map(_data, frames):
        if isinstance(data, bytes) and len(data) > limits.frame_bytes:
            return "limit", f"a frame of {len(data):,} bytes; the limit is {limits.frame_bytes:,}"
    if not frames and not any(post[name].strip() for name in TEXT_COLUMNS):
        return "empty", "it has neither text nor frames"
    return "", ""


def _resized(frame: Any, backbone: Backbone) -> Tensor:
    data = _data(frame)
    if data is not None and not isinstance(data, bytes | Image.Image):
        raise RadarError(f"a frame is {type(data).__name__}; it must be encoded bytes.")
    return backbone.resized({FRAMES: [data if isinstance(data, Image.Image) else picture(data)]})[0]


def _data(frame: Any) -> Any:
    return frame.get("bytes") if isinstance(frame, Mapping) else frame


def _post_id(post: Any) -> str | None:
    name = post.get("post_id") if isinstance(post, Mapping) else None
    return name if isinstance(name, str) and name else None


@dataclass(eq=False)
class _Job:
    post: Any
    result: Any = None
    began: float = math.inf
    late: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class _Readers:
    """Threads that read posts. One that is at a post for too long is given up, and another takes its place."""

    def __init__(self, backbone: Backbone, limits: Limits) -> None:
        self.backbone, self.limits = backbone, limits
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(min(os.cpu_count() or 1, MOST_READERS)):
            self._start()

    def submit(self, post: Any) -> _Job:
        job = _Job(post)
        self.jobs.put(job)
        return job

    def result(self, job: _Job) -> Post | Bypass:
        """What was read, or why not; posts are asked for in the order in which they were given."""
        seconds = self.limits.seconds
        while not job.done.wait(min(seconds, max(0.0, job.began + seconds - monotonic()))):
            if monotonic() - job.began >= seconds:
                job.late = True
                self._start()
                return Bypass("time", f"its frames took more than {seconds:g} s", _post_id(job.post))
        return job.result

    def _start(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()  # a decoder that hangs must not hold up the end

    def _work(self) -> None:
        while job := self.jobs.get():
            job.began = monotonic()
            job.result = read_post(job.post, self.backbone, self.limits)
            job.done.set()
            if job.late:
                return
        self.jobs.put(None)  # for the next thread
