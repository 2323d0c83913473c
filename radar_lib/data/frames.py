"""Encoded frames as pictures: what a person sees of them, and so what every model, check and audit sees.

Alpha is composited over white, as on a page, and over black where white leaves nothing to be seen; 16-bit, integer and
float values become 8 bits; EXIF orientation is applied, and damaged EXIF data ignored; an animation, or a document of
several pages, is several pictures. 8-bit RGB comes out bit for bit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

from radar_lib.errors import RadarError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # decoded by Pillow itself, with no outside program
# How others are known; the first that is found in the first bytes counts.
_OTHERS = {b"avif": "AVIF", b"avis": "AVIF", b"ftyphe": "HEIC", b"ftypmif1": "HEIC", b"ftypmsf1": "HEIC",
           b"JXL \r\n": "JPEG XL", b"jP  \r\n": "JPEG 2000",  # both go on with a box ftyp
           b"ftyp": "a video", b"<svg": "SVG", b"%PDF": "PDF"}  # fmt: skip
MOST_LONGER = 100  # a side than the other; image processors refuse 200
MOST_PICTURES = 8  # of an animation
_TURNS = dict(enumerate((None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
                         Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270,
                         Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90), start=1))  # fmt: skip
_ON_ITS_SIDE = (5, 6, 7, 8)
_GREY_LEVELS = {"1": 1, "L;2": 3, "L;4": 15, "L": 255}  # highest level in the file, by Pillow's layout of a grey PNG
_XMP = ("xmp", "XML:com.adobe.xmp")


@dataclass(frozen=True)
class Decoded:
    """An encoded image, read in full.

    Attributes:
        pictures: RGB; one, or those taken of an animation.
        size: width and height of the last of them before `about` made it smaller.
        count: pictures that it holds.
        container: as Pillow names it.
        plain: whether it holds one picture that any reader sees like this: opaque, 8 bits, upright, sound EXIF data.
    """

    pictures: list[Image.Image]
    size: tuple[int, int]
    count: int
    container: str
    plain: bool


def decode(data: bytes | None, *, most: int = 1, about: int = 0) -> Decoded:
    """Read an encoded image as a person sees it.

    Args:
        most: pictures to take of an animation, evenly spread; 1 refuses it, as a frame of a post is one picture.
        about: a large JPEG may be decoded at a fraction of its size, its sides not below this; 0: at full size.

    Raises:
        RadarError: no image of a known kind, damaged, too large to decode safely, or of extreme proportions.
    """
    with _opened(data) as image:
        container = image.format or ""
        # the other pictures of a MPO, a phone's JPEG, are depth or brightness maps of the first
        count = 1 if container == "MPO" else getattr(image, "n_frames", 1)
        if count > most == 1:
            raise RadarError(f"the frame is an animation of {count} pictures, of which import makes frames")
        pictures, plain = [], count == 1
        for place in spread(count, most):
            if count > 1:
                image.seek(place)
            _check_size(image, count)
            size = image.size
            if about:
                image.draft("RGB", (about, about))
            layout = image.tile[0].args if container == "PNG" and "transparency" in image.info else ""
            if count > 1 and layout and not layout.startswith("P") and layout != "RGB":
                raise RadarError("the frame is an animated PNG, grey or of 16 bits, whose transparent colour Pillow "
                                 "loses: save it as RGBA")  # fmt: skip
            if container == "TIFF" and image.info.pop("xmp", None):  # Pillow would turn the pixels by it
                plain = False
            image.load()
            (orientation, sound), whole = _orientation(image), image
            if layout in _GREY_LEVELS:
                image.info["transparency"] = _scaled_key(image.info["transparency"], _GREY_LEVELS[layout])
            elif layout == "RGB;16B":
                whole, plain = _keyed(image, data), False
            picture, simple = _as_seen(whole)
            turn = _TURNS.get(orientation)
            size = size[::-1] if orientation in _ON_ITS_SIDE else size
            plain = plain and simple and sound and turn is None
            if turn is not None:
                picture = picture.transpose(turn)
            pictures.append(picture.copy() if count > 1 else picture)
    return Decoded(pictures, size, count, container, plain)


def picture(data: bytes | None, *, about: int = 0) -> Image.Image:
    """The one picture of an encoded frame; see `decode`."""
    return decode(data, about=about).pictures[0]


def frame_fault(data: bytes | None) -> str:
    """What is wrong with an encoded frame, decoding all of it; empty when it is sound."""
    try:
        decode(data)
    except RadarError as error:
        return str(error)
    return ""


def frame_size(data: bytes | None) -> tuple[int, int]:
    """Width and height of `picture(data)`, from the header."""
    with _opened(data) as image:
        # Pillow turns a TIFF by itself, and gives its size so
        turned = image.format != "TIFF" and _orientation(image)[0] in _ON_ITS_SIDE
        return image.size[::-1] if turned else image.size


def as_seen(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, transparency and depth as in `decode`; RGB itself is returned as it is."""
    return _as_seen(image)[0]


def is_flat(picture: Image.Image) -> bool:
    """Whether an RGB picture is of one colour, up to 2 of 255 levels, so that nothing is to be seen in it; stray
    pixels, the darkest and the lightest 0.1 %, do not count."""
    stray = _stray(picture.width * picture.height)
    counts = np.array(picture.histogram()).reshape(-1, 256).cumsum(1)
    low = (counts <= stray).sum(1)
    high = (counts < counts[:, -1:] - stray).sum(1)
    return bool((high - low).max() <= 2)


def _stray(n: int) -> int:
    """How many of `n` pixels at either end of the range do not count: 0.1 %, at least one but in a tiny picture."""
    return -(-n // 1000) if n >= 64 else 0


def _blank(picture: Image.Image) -> bool:
    return max(high - low for low, high in picture.getextrema()) <= 2


def spread(n: int, most: int) -> list[int]:
    """Places of at most `most` of `n` frames: the first, the last, and others evenly between them.

    >>> spread(5, 3)
    [0, 2, 4]
    """
    return list(range(n)) if n <= most else sorted({round(i * (n - 1) / max(most - 1, 1)) for i in range(most)})


@contextmanager
def _opened(data: bytes | None) -> Iterator[Image.Image]:
    """The image behind these bytes, its pixels not read yet; whatever goes wrong with it becomes a RadarError."""
    if not data:
        raise RadarError("the frame holds no bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except RadarError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RadarError(f"the frame is too large ({error}; limit {Image.MAX_IMAGE_PIXELS} pixels)") from error
    except Image.UnidentifiedImageError as error:
        name = next((name for sign, name in _OTHERS.items() if sign in data[:256]), "")
        what = f"{name}, which is not read: convert it to JPEG or PNG" if name else f"no image ({', '.join(FORMATS)})"
        raise RadarError(f"the frame is {what}") from error
    except Exception as error:  # decoders raise many types for damaged data: OSError, SyntaxError, struct.error, ...
        raise RadarError(f"the frame is damaged ({error!s:.60})") from error


def _check_size(image: Image.Image, count: int) -> None:
    (short, long), limit = sorted(image.size), Image.MAX_IMAGE_PIXELS or float("inf")
    if short * long > limit or short * long * count > 10 * limit:
        many = f"{count} times " if count > 1 else ""
        raise Image.DecompressionBombError(f"{many}{image.width} x {image.height} pixels")
    if long > MOST_LONGER * short:
        raise RadarError(f"the frame is a strip of {image.width} x {image.height} pixels, one side more than "
                         f"{MOST_LONGER} times the other")  # fmt: skip


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """EXIF orientation, 1 to 8, and whether the EXIF data could be read, and XMP data, which Pillow heeds and browsers
    do not, says nothing else."""
    try:
        heeded = image.getexif().get(ExifTags.Base.Orientation, 1)
        if not any(image.info.get(name) for name in _XMP):
            return heeded, True
        bare = Image.new("1", (1, 1))
        bare.info = {name: value for name, value in image.info.items() if name not in _XMP}
        orientation = bare.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation, orientation == heeded
    except Exception:  # zeros, text or a torn header: SyntaxError, struct.error, ...
        return 1, False


def _as_seen(image: Image.Image) -> tuple[Image.Image, bool]:
    """The RGB picture, and whether a plain conversion would give the same."""
    simple = image.mode not in ("I", "F") and not image.mode.startswith("I;16")
    if not simple:
        image = _eight_bits(image)
    if image.has_transparency_data:
        clear = image.info.get("transparency")
        if isinstance(clear, tuple) and max(clear) > 255:  # of 8 bits: the bits above are no part of it
            image = image.copy()
            image.info["transparency"] = tuple(value & 255 for value in clear)
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            return _over_ground(image), False
    return image if image.mode == "RGB" else image.convert("RGB"), simple


def _scaled_key(key: int | bytes, top: int) -> int | bytes:
    """The transparent level of a grey PNG, which counts to `top`, as the level of Pillow's pixels."""
    return (key & top) * 255 // top if isinstance(key, int) else key


def _keyed(image: Image.Image, data: bytes | None) -> Image.Image:
    """A PNG of 16 bits a channel as RGBA, its transparent colour looked for at full depth: Pillow keeps the high bytes
    of the pixels, so they are read once more for the low ones."""
    with Image.open(io.BytesIO(data or b""), formats=["PNG"]) as again:
        again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    whole = image.copy()
    clear = (values == np.array(whole.info.pop("transparency"))).all(-1)
    whole.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    return whole


def _over_ground(image: Image.Image) -> Image.Image:
    over = [Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
            for ground in ("white", "black")]  # fmt: skip
    return over[_blank(over[0]) and not _blank(over[1])]  # the least thing to be seen decides


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey values as L, or LA. 16 bits have a range of their own; integers and floats have that of the first of
    1, 8 and 16 bits that holds them, and else run from their smallest to their largest; stray values are clipped."""
    values = np.asarray(image).astype(np.float64)
    low, high = 0.0, 65535.0
    if not image.mode.startswith("I;16"):
        finite = np.sort(values[np.isfinite(values)])
        stray = _stray(len(finite))
        low, high = (finite[stray], finite[-1 - stray]) if len(finite) else (0.0, 1.0)
        if low >= 0 and (top := next((top for top in (1, 255, 65535) if high <= top), None)):
            low, high = 0.0, float(top)
    scaled = np.nan_to_num((values - low) * (255 / max(high - low, 1e-300)), nan=0, posinf=255, neginf=0)
    grey = Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey
