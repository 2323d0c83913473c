"""Backgrounds of the built-in world: fourteen places, each with its own composition, palette and clutter."""

from PIL import Image

from radar_suite.world.draws import Draws
from radar_suite.world.icons import HUES, INK, Pen, shade

_WALLS = ((226, 214, 190), (205, 220, 226), (232, 200, 188), (200, 214, 190), (222, 222, 222), (190, 184, 206))
_WOODS = ((150, 100, 60), (110, 76, 50), (186, 140, 92), (96, 84, 76))


def _kitchen(p: Pen, d: Draws) -> None:
    wall, wood = d.of(_WALLS), d.of(_WOODS)
    p.rect(0, 0, 100, 100, fill=wall)
    for x in range(0, 100, 12):
        p.path(x, 30, x, 62, fill=shade(wall, 0.86), width=1)
    for y in (38, 46, 54):
        p.path(0, y, 100, y, fill=shade(wall, 0.86), width=1)
    n = d.integer(2, 4)
    for i in range(n):
        p.rect(i * 100 / n + 1, 0, (i + 1) * 100 / n - 1, 26, fill=wood, line=shade(wood, 0.6), width=1)
    p.rect(0, 62, 100, 68, fill=(90, 92, 98))
    p.rect(0, 68, 100, 100, fill=shade(wood, 0.85))
    x = d.integer(5, 70)
    p.rect(x, 42, x + 18, 62, fill=d.of(HUES), r=3)


def _street(p: Pen, d: Draws) -> None:
    sky = d.of(((150, 195, 235), (245, 190, 140), (60, 70, 110), (190, 200, 205)))
    p.rect(0, 0, 100, 70, fill=sky)
    x = -d.integer(0, 10)
    while x < 100:
        w, top, c = d.integer(16, 28), d.integer(8, 42), d.of(((150, 140, 135), (120, 90, 85), (170, 160, 120)))
        p.rect(x, top, x + w - 1, 72, fill=c)
        for wx in range(x + 3, x + w - 4, 7):
            for wy in range(top + 4, 64, 10):
                p.rect(wx, wy, wx + 3, wy + 5, fill=(250, 235, 160) if d.chance(0.4) else shade(c, 0.6))
        x += w
    p.rect(0, 72, 100, 100, fill=(78, 78, 84))
    for x in range(d.integer(0, 10), 100, 22):
        p.rect(x, 85, x + 11, 88, fill=(240, 240, 240))


def _gym(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 100, fill=d.of(((70, 74, 84), (96, 84, 84), (60, 80, 92))))
    p.rect(8, 10, 92, 58, fill=(150, 165, 178), line=(210, 215, 220))
    p.path(20, 10, 60, 58, fill=(176, 190, 202), width=6)
    for y in (64, 74):
        p.rect(0, y, 100, y + 3, fill=(30, 30, 34))
        for x in range(d.integer(2, 8), 96, 14):
            p.oval(x, y - 6, x + 9, y + 3, fill=d.of(HUES))
    p.rect(0, 82, 100, 100, fill=(44, 44, 50))


def _beach(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 45, fill=d.of(((135, 206, 250), (255, 180, 120), (170, 220, 240))))
    x = d.integer(8, 76)
    p.oval(x, 6, x + 16, 22, fill=(255, 240, 150))
    y = d.integer(38, 46)
    p.rect(0, y, 100, 66, fill=d.of(((30, 120, 180), (40, 160, 170))))
    for wy in range(y + 5, 64, 6):
        p.path(d.integer(0, 30), wy, d.integer(50, 100), wy, fill=(220, 240, 250), width=1)
    p.rect(0, 63, 100, 100, fill=(238, 214, 160))
    x = d.integer(4, 88)
    p.path(x, 68, x + d.integer(-6, 6), 24, fill=(120, 84, 50), width=5)
    for dx, dy in ((-18, 8), (-12, -6), (12, -6), (18, 8)):
        p.path(x, 24, x + dx, 24 + dy, fill=(40, 130, 60), width=6)


def _stage(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 100, fill=(24, 18, 40))
    for _ in range(d.integer(2, 4)):
        x, c = d.integer(5, 95), d.of(((200, 60, 160), (70, 110, 240), (240, 190, 60), (70, 200, 150)))
        to = x + d.integer(-30, 30)
        p.poly(x - 2, 0, x + 2, 0, to + 16, 78, to - 16, 78, fill=shade(c, 0.6))
    c = d.of(((130, 20, 40), (60, 20, 90)))
    for x in (0, 88):
        p.rect(x, 0, x + 12, 80, fill=c)
    p.rect(0, 78, 100, 100, fill=(90, 60, 44))
    for x in range(0, 100, 9):
        p.oval(x, 92, x + 9, 106, fill=(12, 10, 18))


def _shop(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 100, fill=(236, 232, 224))
    for y in (22, 46, 70):
        x = 0
        while x < 100:
            w = d.integer(6, 14)
            p.rect(x, y - d.integer(9, 17), x + w - 1, y, fill=d.of(HUES))
            x += w + d.integer(0, 4)
        p.rect(0, y, 100, y + 4, fill=d.of(_WOODS))
    p.rect(0, 86, 100, 100, fill=(170, 170, 176))


def _desk(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 70, fill=shade(d.of(_WALLS), 0.9))
    p.rect(0, 70, 100, 100, fill=d.of(_WOODS))
    x = d.integer(15, 45)
    p.rect(x, 18, x + 42, 50, fill=INK, r=2)
    p.rect(x + 2, 20, x + 40, 47, fill=d.of(((90, 140, 200), (60, 160, 130), (200, 200, 210))))
    p.rect(x + 18, 50, x + 24, 68, fill=INK)
    lamp = 6 if x > 30 else 80
    p.path(lamp + 6, 70, lamp + 6, 40, lamp + 12, 30, fill=(60, 60, 60), width=2)
    p.poly(lamp, 34, lamp + 14, 24, lamp + 16, 38, fill=d.of(HUES))
    p.rect(x + 4, 76, x + 36, 84, fill=(210, 210, 214), r=2)


def _park(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 50, fill=d.of(((160, 210, 240), (200, 215, 225), (250, 205, 160))))
    p.rect(0, 50, 100, 100, fill=d.of(((96, 168, 80), (120, 176, 70), (150, 150, 70))))
    for _ in range(d.integer(2, 4)):
        x, s = d.integer(0, 90), d.integer(20, 34)
        p.rect(x + s / 2 - 2, 40, x + s / 2 + 2, 62, fill=(100, 70, 44))
        p.oval(x, 44 - s, x + s, 50, fill=d.of(((46, 120, 60), (70, 140, 60), (190, 130, 50))))
    p.poly(40, 100, 70, 100, 54, 52, 50, 52, fill=(214, 196, 160))


def _stadium(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 34, fill=(90, 92, 110))
    for y in range(3, 32, 5):
        for x in range(d.integer(0, 4), 100, 6):
            p.oval(x, y, x + 3, y + 3, fill=d.of(HUES))
    p.rect(0, 32, 100, 38, fill=(240, 240, 240))
    for i in range(5):
        p.rect(0, 38 + i * 13, 100, 51 + i * 13, fill=(50, 140, 60) if i % 2 else (62, 156, 70))
    p.oval(30, 56, 70, 82, line=(240, 250, 240))
    p.path(50, 38, 50, 100, fill=(240, 250, 240), width=2)


def _bedroom(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 66, fill=d.of(_WALLS))
    p.rect(0, 66, 100, 100, fill=shade(d.of(_WOODS), 1.1))
    x = d.integer(0, 40)
    c = d.of(HUES)
    p.rect(x, 44, x + 62, 84, fill=shade(c, 1.2), r=3)
    p.rect(x, 34, x + 6, 88, fill=(90, 60, 40))
    p.rect(x + 7, 40, x + 24, 54, fill=(250, 250, 250), r=4)
    fx = d.integer(50, 72)
    p.rect(fx, 6, fx + 22, 28, fill=d.of(HUES), line=(250, 250, 250), width=3)


def _car(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 100, fill=(40, 42, 48))
    p.poly(8, 8, 92, 8, 100, 50, 0, 50, fill=d.of(((170, 205, 235), (240, 180, 130), (60, 70, 100))))
    p.poly(40, 50, 60, 50, 54, 28, 46, 28, fill=(100, 100, 104))
    p.rect(0, 50, 100, 62, fill=(64, 62, 66))
    x = d.integer(4, 40)
    p.oval(x, 52, x + 46, 98, line=(16, 16, 18), width=7)
    p.oval(x + 17, 69, x + 29, 81, fill=(120, 120, 126))
    p.rect(66, 66, 92, 82, fill=d.of(HUES), r=3)


def _classroom(p: Pen, d: Draws) -> None:
    p.rect(0, 0, 100, 100, fill=d.of(_WALLS))
    p.rect(10, 8, 90, 54, fill=d.of(((36, 92, 66), (40, 70, 60))), line=(150, 110, 70), width=4)
    for y in (18, 28, 38, 46):
        p.path(18, y, d.integer(40, 84), y, fill=(220, 230, 220), width=2)
    for x in (2, 36, 70):
        p.rect(x, 70, x + 28, 77, fill=(196, 150, 96))
        p.rect(x + 3, 77, x + 6, 100, fill=(90, 90, 96))
        p.rect(x + 22, 77, x + 25, 100, fill=(90, 90, 96))


def _workshop(p: Pen, d: Draws) -> None:
    board = d.of(((200, 170, 120), (150, 150, 156)))
    p.rect(0, 0, 100, 64, fill=board)
    for x in range(4, 100, 8):
        for y in range(4, 60, 8):
            p.oval(x, y, x + 1.5, y + 1.5, fill=shade(board, 0.6))
    for _ in range(d.integer(4, 6)):
        x, y = d.integer(2, 88), d.integer(4, 36)
        p.rect(x, y, x + 3, y + 20, fill=d.of(HUES))
        p.rect(x - 3, y, x + 6, y + 5, fill=(110, 112, 120))
    p.rect(0, 64, 100, 74, fill=(120, 80, 46))
    p.rect(0, 74, 100, 100, fill=(80, 56, 36))


def _bathroom(p: Pen, d: Draws) -> None:
    c = d.of(((200, 228, 234), (226, 226, 232), (216, 234, 214)))
    p.rect(0, 0, 100, 100, fill=c)
    for v in range(0, 101, 11):
        p.path(v, 0, v, 100, fill=shade(c, 0.88), width=1)
        p.path(0, v, 100, v, fill=shade(c, 0.88), width=1)
    x = d.integer(18, 46)
    p.oval(x, 6, x + 36, 50, fill=(180, 205, 225), line=d.of(_WOODS), width=4)
    p.rect(x - 8, 66, x + 44, 78, fill=(250, 250, 252), line=(180, 180, 190), r=5)
    p.path(x + 18, 66, x + 18, 56, x + 26, 56, fill=(130, 130, 140), width=3)


DRAWERS = {
    "kitchen": _kitchen, "street": _street, "gym": _gym, "beach": _beach, "stage": _stage, "shop": _shop,
    "desk": _desk, "park": _park, "stadium": _stadium, "bedroom": _bedroom, "car": _car, "classroom": _classroom,
    "workshop": _workshop, "bathroom": _bathroom,
}


def background(scene: str, px: int, draws: Draws) -> Image.Image:
    """RGB picture of a place, ``px`` pixels square; its palette and clutter come from ``draws``."""
    image = Image.new("RGB", (px, px))
    DRAWERS[scene](Pen(image), draws)
    return image
