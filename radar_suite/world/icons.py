"""Icons of the built-in world: products, spectacles, people and editor's overlays as small RGBA pictures.

Each icon is a list of drawing steps in ``icons.yaml``, drawn once per size and variant on a supersampled canvas of
100 x 100 units and kept, so that a frame costs a few pastes.
"""

from functools import lru_cache
from pathlib import Path

import yaml
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
INK: Colour = (30, 30, 38)
WHITE: Colour = (250, 250, 250)
HUES: tuple[Colour, ...] = ((214, 69, 65), (52, 120, 200), (60, 160, 90), (235, 160, 50), (140, 80, 180), (60, 70, 90))
SKINS: tuple[Colour, ...] = ((255, 219, 185), (236, 188, 145), (198, 140, 95), (141, 85, 54), (92, 56, 38))


class Pen:
    """ImageDraw in units of 1/100 of the canvas; None for ``fill`` or ``line`` leaves it out."""

    def __init__(self, image: Image.Image):
        self._draw, self._s = ImageDraw.Draw(image), image.width / 100

    def _box(self, box):
        return [v * self._s for v in box]

    def _w(self, width):
        return max(1, round(width * self._s))

    def rect(self, *box, fill=None, line=None, width=2, r=0):
        if r:
            self._draw.rounded_rectangle(self._box(box), r * self._s, fill, line, self._w(width))
        else:
            self._draw.rectangle(self._box(box), fill, line, self._w(width))

    def oval(self, *box, fill=None, line=None, width=2):
        self._draw.ellipse(self._box(box), fill, line, self._w(width))

    def poly(self, *points, fill=None, line=None, width=2):
        self._draw.polygon(self._box(points), fill, line, self._w(width))

    def path(self, *points, fill=INK, width=4):
        self._draw.line(self._box(points), fill, self._w(width), joint="curve")

    def arc(self, *box, start, end, fill=INK, width=4):
        self._draw.arc(self._box(box), start, end, fill, self._w(width))

    def text(self, x, y, text, *, size, fill=WHITE, anchor="mm"):
        font = _font(max(4, round(size * self._s)))
        self._draw.text((x * self._s, y * self._s), text, fill, font, anchor)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def shade(colour: Colour, factor: float) -> Colour:
    """``colour`` times ``factor``, clipped to 0..255."""
    return tuple(min(255, max(0, int(c * factor))) for c in colour)


@lru_cache(maxsize=1)
def _steps() -> dict[str, list]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(Path(__file__).with_name("icons.yaml").read_text(encoding="utf-8"), loader)


def _colour(name: str, hue: Colour) -> Colour:
    if name.startswith("#"):
        return tuple(bytes.fromhex(name[1:]))
    base, _, factor = name.partition("*")
    colour = {"ink": INK, "white": WHITE, "hue": hue}[base]
    return shade(colour, float(factor)) if factor else colour


@lru_cache(maxsize=4096)
def icon(name: str, size: int, *, hue: int = 0, turn: int = 0) -> Image.Image:
    """RGBA picture of ``name``, ``size`` pixels square, turned by ``turn`` degrees; ``hue`` indexes HUES."""
    image = _drawn(name, 2 * size, hue)
    if turn:
        image = image.rotate(turn, Image.Resampling.BILINEAR)
    return image.reduce(2)


@lru_cache(maxsize=1024)
def _drawn(name: str, size: int, hue: int) -> Image.Image:
    image = Image.new("RGBA", (2 * size, 2 * size))
    pen = Pen(image)
    for shape, coordinates, style in _steps()[name]:
        style = {key: _colour(v, HUES[hue]) if key in ("fill", "line") else v for key, v in style.items()}
        getattr(pen, shape)(*coordinates, **style)
    return image.reduce(2)


@lru_cache(maxsize=2048)
def person(height: int, *, skin: int, shirt: int, hair: int, pose: int) -> Image.Image:
    """RGBA picture of a standing person, ``height`` pixels square; pose 0 arms down, 1 one up, 2 both up."""
    big = 4 * height
    image = Image.new("RGBA", (big, big))
    p, flesh = Pen(image), SKINS[skin]
    for side in (0, 1):
        up = pose > side
        x = 34 if side == 0 else 66
        out = -16 if side == 0 else 16
        p.path(x, 44, x + out, 22 if up else 68, fill=flesh, width=8)
    p.rect(36, 66, 48, 100, fill=(50, 55, 80))
    p.rect(52, 66, 64, 100, fill=(50, 55, 80))
    p.rect(32, 36, 68, 74, fill=HUES[shirt], r=8)
    p.oval(37, 6, 63, 36, fill=shade((90, 60, 40), 0.4 + 0.7 * hair))
    p.oval(39, 11, 61, 37, fill=flesh)
    p.oval(44, 20, 47, 24, fill=INK)
    p.oval(53, 20, 56, 24, fill=INK)
    return image.reduce(4)


@lru_cache(maxsize=64)
def still_mark(width: int) -> Image.Image:
    """RGBA picture of a player's photo mark, shown where a post is one still picture: three dots in a dark pill."""
    image = Image.new("RGBA", (4 * width, 4 * width))
    p = Pen(image)
    p.rect(0, 0, 100, 32, fill=(20, 20, 24), line=WHITE, r=15, width=3)
    for x in (18, 42, 66):
        p.oval(x, 8, x + 16, 24, fill=WHITE if x == 18 else (130, 130, 140))
    return image.resize((width, width), Image.Resampling.LANCZOS).crop((0, 0, width, round(0.34 * width)))


@lru_cache(maxsize=1024)
def counter(width: int, number: str) -> Image.Image:
    """RGBA picture of an editor's follower counter: a heart and ``number`` in a bright pill, ``width`` x .45 width."""
    image = Image.new("RGBA", (4 * width, 4 * width))
    p = Pen(image)
    p.rect(1, 1, 99, 45, fill=(255, 40, 110), line=WHITE, r=14, width=4)
    p.oval(9, 12, 22, 26, fill=WHITE)
    p.oval(19, 12, 32, 26, fill=WHITE)
    p.poly(9, 21, 32, 21, 20, 36, fill=WHITE)
    p.text(64, 24, number, size=30)
    return image.resize((width, width), Image.Resampling.LANCZOS).crop((0, 0, width, round(0.47 * width)))


@lru_cache(maxsize=64)
def live_mark(width: int) -> Image.Image:
    """RGBA picture of a player's mark on a live stream: LIVE in a red pill, ``width`` x .42 width."""
    image = Image.new("RGBA", (4 * width, 4 * width))
    p = Pen(image)
    p.rect(0, 0, 100, 38, fill=(225, 20, 40), r=8)
    p.oval(7, 13, 19, 25, fill=WHITE)
    p.text(60, 19, "LIVE", size=30)
    return image.resize((width, width), Image.Resampling.LANCZOS).crop((0, 0, width, round(0.42 * width)))
