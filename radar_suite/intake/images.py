"""Encoded frames: read from a folder without leaving it, judged by decoding, scaled down."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # decoded by Pillow itself, with no outside program
MAX_FILE_BYTES = 64 << 20  # no frame of a post is larger; a limit keeps a wrong path from filling the memory


def frame_fault(data: bytes | None) -> str:
    """What is wrong with an encoded image, decoding all of it; empty when it is sound."""
    if not data:
        return "the frame holds no bytes"
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"the frame is too large ({error}; limit {Image.MAX_IMAGE_PIXELS} pixels)"
    except Image.UnidentifiedImageError:
        return f"the frame is no image ({', '.join(IMAGE_FORMATS)})"
    except Exception as error:  # decoders raise many types for damaged data: OSError, SyntaxError, struct.error, ...
        return f"the frame is damaged ({error!s:.60})"
    return ""


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


def shrink(data: bytes, max_px: int) -> bytes:
    """The image as it is, or scaled down so that its longest side is `max_px`."""
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
        if max(image.size) <= max_px:
            return data
        lossy = image.format in ("JPEG", "WEBP")
        image.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
        small = ImageOps.exif_transpose(image).convert("RGB")
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG" if lossy else "PNG", **({"quality": 92} if lossy else {}))
    return buffer.getvalue()
