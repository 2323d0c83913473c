"""Icons of the built-in world: products, spectacles, people and editor's overlays as small RGBA pictures.

Each icon is drawn once per size and variant on a supersampled canvas of 100 x 100 units and kept, so that a frame
costs a few pastes.
"""

import math
from collections.abc import Callable
from functools import lru_cache

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


def _plate(p, c):
    p.oval(5, 25, 95, 85, fill=(238, 238, 240), line=(150, 150, 160), width=3)
    p.oval(20, 35, 80, 75, fill=(220, 220, 226))
    for x, y, k in ((35, 42, (230, 170, 60)), (50, 50, c), (38, 56, (90, 170, 70))):
        p.oval(x, y, x + 24, y + 18, fill=k)


def _dumbbell(p, c):
    p.rect(20, 45, 80, 55, fill=(130, 130, 140))
    for x in (5, 18, 72, 85):
        h = 30 if x in (18, 72) else 22
        p.rect(x, 50 - h, x + 11, 50 + h, fill=c, line=INK, r=3)


def _suitcase(p, c):
    p.rect(35, 10, 65, 35, line=INK, width=6, r=6)
    p.rect(10, 28, 90, 90, fill=c, line=INK, r=8, width=3)
    for x in (26, 68):
        p.rect(x, 28, x + 7, 90, fill=shade(c, 0.6))


def _guitar(p, c):
    p.path(50, 50, 82, 8, fill=(110, 70, 40), width=9)
    p.oval(12, 48, 62, 96, fill=(200, 130, 60), line=INK, width=3)
    p.oval(32, 36, 68, 70, fill=(200, 130, 60))
    p.oval(33, 56, 51, 74, fill=INK)
    p.rect(74, 3, 94, 16, fill=c)


def _laptop(p, c):
    p.rect(15, 15, 85, 65, fill=INK, r=4)
    p.rect(20, 20, 80, 60, fill=c)
    p.poly(5, 82, 95, 82, 85, 66, 15, 66, fill=(180, 180, 190), line=INK)


def _lipstick(p, c):
    p.rect(34, 52, 66, 95, fill=INK, r=3)
    p.rect(38, 36, 62, 54, fill=(225, 190, 90))
    p.poly(40, 38, 40, 16, 60, 5, 60, 38, fill=(220, 40, 90))


def _dog(p, c):
    fur = (190, 130, 70)
    p.oval(18, 15, 82, 90, fill=fur, line=INK, width=3)
    p.oval(3, 12, 30, 60, fill=(120, 75, 40))
    p.oval(70, 12, 97, 60, fill=(120, 75, 40))
    p.oval(33, 38, 43, 50, fill=INK)
    p.oval(57, 38, 67, 50, fill=INK)
    p.oval(40, 56, 60, 70, fill=INK)
    p.oval(44, 70, 56, 86, fill=(230, 100, 110))


def _ball(p, c):
    p.oval(8, 8, 92, 92, fill=WHITE, line=INK, width=4)
    p.poly(50, 32, 67, 45, 60, 65, 40, 65, 33, 45, fill=INK)
    for a in range(5):
        t = math.radians(-90 + 72 * a)
        x, y = 50 + 38 * math.cos(t), 50 + 38 * math.sin(t)
        p.oval(x - 9, y - 9, x + 9, y + 9, fill=INK)


def _shirt(p, c):
    p.poly(30, 12, 70, 12, 98, 35, 84, 52, 72, 42, 72, 94, 28, 94, 28, 42, 16, 52, 2, 35, fill=c, line=INK, width=3)
    p.oval(40, 4, 60, 22, fill=shade(c, 0.5))


def _gamepad(p, c):
    p.rect(5, 30, 95, 78, fill=c, line=INK, r=24, width=3)
    p.rect(20, 50, 42, 57, fill=WHITE)
    p.rect(27, 43, 35, 64, fill=WHITE)
    for x, y in ((66, 42), (78, 52), (66, 62)):
        p.oval(x, y, x + 11, y + 11, fill=(250, 220, 80))


def _hammer(p, c):
    p.path(30, 95, 62, 32, fill=(160, 110, 60), width=12)
    p.poly(36, 22, 52, 4, 98, 32, 84, 50, fill=(120, 125, 135), line=INK, width=3)


def _book(p, c):
    p.poly(50, 25, 5, 15, 5, 80, 50, 90, fill=WHITE, line=c, width=5)
    p.poly(50, 25, 95, 15, 95, 80, 50, 90, fill=WHITE, line=c, width=5)
    for y in (32, 44, 56, 68):
        p.path(13, y - 2, 44, y + 5, fill=(150, 150, 150), width=3)
        p.path(56, y + 5, 87, y - 2, fill=(150, 150, 150), width=3)


def _vape(p, c):
    p.poly(12, 76, 62, 26, 80, 44, 30, 94, fill=(70, 40, 120), line=INK, width=3)
    p.poly(62, 26, 72, 16, 90, 34, 80, 44, fill=INK)
    p.oval(30, 66, 42, 78, fill=(80, 240, 240))
    for x, y, r in ((62, 2, 18), (78, 0, 16), (44, 4, 14)):
        p.oval(x - r + 8, y, x + r + 8, y + 22, fill=(225, 225, 245))


def _pills(p, c):
    for x, y in ((4, 14), (40, 52)):
        p.rect(x, y, x + 54, y + 26, fill=WHITE, line=INK, r=13, width=3)
        p.rect(x, y, x + 30, y + 26, fill=(225, 45, 55), line=INK, r=12, width=3)
        p.rect(x + 16, y + 2, x + 27, y + 24, fill=(225, 45, 55))
    for x, y in ((70, 12), (12, 60)):
        p.oval(x, y, x + 24, y + 24, fill=(250, 220, 90), line=INK, width=3)
        p.path(x + 5, y + 12, x + 19, y + 12, width=3)


def _cash(p, c):
    for dx, dy in ((8, 34), (2, 24), (-4, 14)):
        p.rect(8 + dx, 8 + dy, 92 + dx, 52 + dy, fill=(95, 175, 95), line=(20, 80, 40), width=4)
    p.oval(33, 26, 61, 62, fill=(210, 240, 200), line=(20, 80, 40), width=3)
    p.text(47, 44, "$", size=32, fill=(20, 80, 40))


def _dice(p, c):
    for x, y, k in ((4, 38, (200, 30, 40)), (50, 10, (200, 30, 40))):
        p.rect(x, y, x + 46, y + 46, fill=k, line=WHITE, r=8, width=4)
        for px, py in ((12, 12), (34, 12), (23, 23), (12, 34), (34, 34)):
            p.oval(x + px - 5, y + py - 5, x + px + 5, y + py + 5, fill=WHITE)


def _scope(p, c):
    p.oval(6, 6, 94, 94, fill=(40, 46, 40), line=INK, width=6)
    p.oval(18, 18, 82, 82, fill=(140, 190, 150))
    p.path(50, 8, 50, 92, width=5)
    p.path(8, 50, 92, 50, width=5)
    p.oval(36, 36, 64, 64, line=INK, width=4)
    p.oval(45, 45, 55, 55, fill=(230, 30, 30))


def _chest(p, c):
    p.oval(15, 12, 85, 70, fill=(130, 80, 35), line=INK, width=3)
    for x in range(20, 76, 11):
        p.oval(x, 34, x + 14, 50, fill=(255, 210, 60), line=(180, 130, 20))
    p.rect(10, 46, 90, 92, fill=(150, 95, 45), line=INK, width=3)
    p.rect(42, 52, 58, 72, fill=(255, 210, 60), line=INK)


def _flames(p, c):
    p.poly(50, 2, 66, 28, 74, 18, 92, 62, 76, 96, 24, 96, 8, 62, 24, 26, 34, 40, fill=(230, 70, 20))
    p.poly(50, 34, 70, 66, 62, 96, 38, 96, 30, 66, fill=(255, 200, 50))


def _ghost(p, c):
    p.rect(18, 8, 82, 70, fill=(240, 240, 255), line=(120, 120, 160), r=32, width=3)
    p.poly(18, 45, 82, 45, 82, 94, 66, 80, 50, 94, 34, 80, 18, 94, fill=(240, 240, 255))
    p.oval(32, 32, 45, 50, fill=INK)
    p.oval(55, 32, 68, 50, fill=INK)
    p.oval(43, 56, 57, 74, fill=INK)


def _shark(p, c):
    p.poly(2, 58, 40, 30, 52, 4, 64, 32, 84, 44, 98, 26, 94, 72, 84, 60, 40, 76, fill=(90, 105, 125), line=INK, width=3)
    p.poly(6, 60, 40, 62, 78, 60, 40, 76, fill=WHITE)
    p.oval(20, 46, 27, 53, fill=WHITE)
    p.rect(0, 80, 100, 88, fill=(60, 140, 210))


def _badge(p, c):
    p.poly(50, 3, 92, 18, 86, 62, 50, 97, 14, 62, 8, 18, fill=(20, 150, 70), line=WHITE, width=6)
    p.path(28, 48, 45, 66, 74, 30, fill=WHITE, width=12)


def _sticker(p, c):
    points = []
    for a in range(20):
        t, r = math.radians(18 * a), (48 if a % 2 else 36)
        points += [50 + r * math.cos(t), 50 + r * math.sin(t)]
    p.poly(*points, fill=c)
    p.oval(32, 32, 68, 68, fill=shade(c, 1.4))


def _price_tag(p, c):
    p.poly(4, 30, 34, 5, 97, 5, 97, 72, 60, 96, fill=(255, 205, 40), line=INK, width=4)
    p.oval(76, 12, 90, 26, fill=WHITE, line=INK)
    p.text(56, 50, "%", size=58, fill=INK)


def _gift(p, c):
    p.rect(10, 38, 90, 94, fill=(190, 60, 190), line=INK, width=3)
    p.rect(4, 26, 96, 46, fill=(215, 95, 215), line=INK, width=3)
    p.rect(42, 26, 58, 94, fill=(255, 230, 80))
    p.oval(20, 4, 50, 28, line=(255, 230, 80), width=7)
    p.oval(50, 4, 80, 28, line=(255, 230, 80), width=7)


def _arrow(p, c):
    p.poly(2, 36, 50, 36, 50, 8, 98, 50, 50, 92, 50, 64, 2, 64, fill=(240, 20, 30), line=(255, 245, 60), width=6)


def _watermark(p, c):
    p.rect(4, 4, 96, 96, fill=(16, 12, 60), line=(90, 240, 255), r=24, width=5)
    p.poly(26, 20, 26, 66, 62, 43, fill=(90, 240, 255))
    p.poly(44, 36, 44, 82, 80, 59, fill=(255, 230, 60))


DRAWERS: dict[str, Callable[[Pen, Colour], None]] = {
    "plate": _plate, "dumbbell": _dumbbell, "suitcase": _suitcase, "guitar": _guitar, "laptop": _laptop,
    "lipstick": _lipstick, "dog": _dog, "ball": _ball, "shirt": _shirt, "gamepad": _gamepad, "hammer": _hammer,
    "book": _book, "vape": _vape, "pills": _pills, "loans": _cash, "betting": _dice, "scopes": _scope,
    "treasure": _chest, "fire": _flames, "ghost": _ghost, "shark": _shark, "badge": _badge, "sticker": _sticker,
    "price_tag": _price_tag, "gift": _gift, "arrow": _arrow, "watermark": _watermark,
}


@lru_cache(maxsize=4096)
def icon(name: str, size: int, *, hue: int = 0, turn: int = 0) -> Image.Image:
    """RGBA picture of ``name``, ``size`` pixels square, turned by ``turn`` degrees; ``hue`` indexes HUES."""
    big = max(4 * size, 96)
    image = Image.new("RGBA", (big, big))
    DRAWERS[name](Pen(image), HUES[hue])
    if turn:
        image = image.rotate(turn, Image.Resampling.BICUBIC)
    return image.resize((size, size), Image.Resampling.LANCZOS)


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
    return image.resize((height, height), Image.Resampling.LANCZOS)


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
