"""Image files: read from a folder without leaving it, and kept as frames that any reader sees as a person does."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from PIL import Image

from radar_lib.data.frames import MOST_PICTURES, decode, is_flat

MAX_FILE_BYTES = 64 << 20  # no frame of a post is larger; a limit keeps a wrong path from filling the memory
LOSSY = ("JPEG", "MPO", "WEBP")
# What `frames_of` counts.
NOTES = {
    "animations": f"animations became frames, at most {MOST_PICTURES} each",
    "rewritten": "frames were written anew: transparent, deep, turned, too large, or with damaged EXIF data",
    "flat": "frames are of one colour: nothing is to be seen in them (`radar posts check` names their posts)",
}


def frames_of(data: bytes, max_px: int) -> tuple[list[bytes], Counter[str]]:
    """Frames of an image file: its bytes where they are plain and small enough, or else its pictures written anew.

    Args:
        max_px: larger pictures are scaled down, their longest side to this.

    Returns:
        Encoded frames (JPEG from lossy files, else PNG), several of an animation; and counts of what `NOTES` names.

    Raises:
        RadarError: what is wrong with the image, see `decode`.
    """
    image = decode(data, most=MOST_PICTURES)
    flat = sum(map(is_flat, image.pictures))
    if image.plain and max(image.pictures[0].size) <= max_px:
        return [data], Counter(flat=flat)
    frames = [encode(_shrink(picture, max_px), lossy=image.container in LOSSY) for picture in image.pictures]
    return frames, Counter(animations=int(image.count > 1), rewritten=len(frames), flat=flat)


def _shrink(picture: Image.Image, max_px: int) -> Image.Image:
    short, long = sorted(picture.size)
    if long <= max_px:
        return picture
    other = -(-short * max_px // long)  # rounded up: no picture becomes longer and thinner
    size = (max_px, other) if picture.width == long else (other, max_px)
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def encode(picture: Image.Image, *, lossy: bool) -> bytes:
    buffer, bare = io.BytesIO(), picture.copy()
    bare.info = {}  # profile, comment, EXIF data: of the file that it comes from
    bare.save(buffer, **({"format": "JPEG", "quality": 92} if lossy else {"format": "PNG"}))
    return buffer.getvalue()


def read_image(path: str, base: Path) -> bytes:
    """Bytes of the file `path` below the folder `base`.

    Raises:
        ValueError: no such file, or one outside `base` (absolute, by `..`, or through a link); says which.
    """
    root, relative = base.resolve(), path.strip()
    try:
        target = (root / relative).resolve()  # follows links, so that none can lead out
        if Path(relative).is_absolute() or not target.is_relative_to(root):
            raise ValueError("leaves the images folder")
        if not target.exists():
            raise ValueError("is missing")
        if not target.is_file():
            raise ValueError("is no file")
        if target.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
        return target.read_bytes()
    except (OSError, RuntimeError) as error:  # no permission, too long a name, a loop of links
        raise ValueError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
