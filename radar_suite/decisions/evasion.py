"""What an author can do to a post so that a person still gets it and a router may not: post in, changed post out.

None of it looks at a router: these are habits of authors and platforms, not attacks that search for the weakest spot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from PIL import Image

from radar_lib.data.schema import FRAMES
from radar_lib.ranges import Range, check_ranges
from radar_lib.routing import Post
from radar_suite.report.reliance import jpeg60

LATIN, CYRILLIC = "aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ"  # pairs that look alike in most typefaces
LOOK_ALIKES = str.maketrans(LATIN + CYRILLIC, CYRILLIC + LATIN)


def add_words(post: Post, words: str) -> dict[str, Any]:
    """The post with words before its title, as an author would who knows that long texts are cut."""
    return {**post, "title": f"{words} {post['title']}".strip()}


def camouflage(post: Post) -> dict[str, Any]:
    """The text on screen as OCR reads it once its letters were set in others that look alike (Latin for Cyrillic and
    back; other scripts have none here). Twice gives the post again.

    >>> camouflage({"ocr_text": "cash 20"})["ocr_text"] == "cash 20"
    False
    """
    return {**post, "ocr_text": post["ocr_text"].translate(LOOK_ALIKES)}


def reencode(post: Post) -> dict[str, Any]:
    """The post with its frames saved as JPEG once more, at quality 60."""
    return {**post, FRAMES: jpeg60(list(post[FRAMES]))}


def crop(post: Post, *, share: float = 0.1) -> dict[str, Any]:
    """The post with `share` of each frame's width and height cut away on either side, as large as before.

    Raises:
        RadarError: a share that is not from 0 to below 1/2.
    """
    check_ranges({"share": share}, {"share": Range(0, 0.49)})

    def cut(frame: Image.Image) -> Image.Image:
        w, h = frame.size
        box = (share * w, share * h, (1 - share) * w, (1 - share) * h)
        return frame.convert("RGB").resize((w, h), Image.Resampling.BILINEAR, box=box)

    return {**post, FRAMES: [cut(frame) for frame in post[FRAMES]]}


def evasions(words: Sequence[str]) -> dict[str, Callable[[Sequence[Post]], list[dict[str, Any]]]]:
    """By name, what is done to some posts; `words`: harmless ones for each of them."""

    def each(change: Callable[[Post], dict[str, Any]], posts: Sequence[Post]) -> list[dict[str, Any]]:
        return [change(post) for post in posts]

    return {
        "as they are": partial(each, dict),
        "harmless words added": lambda posts: list(map(add_words, posts, words)),
        "look-alike letters": partial(each, camouflage),
        "re-encoded": partial(each, reencode),
        "cropped": partial(each, crop),
    }
