"""Frames of a post: its place, people and things, the editor's overlays on top, and how badly it was recorded.

Every frame fact is visible in at least one frame. Positions, sizes, turns, colours, crops, light and grain vary and
mean nothing. Overlays that carry meaning (badge, price tag, arrow, counter, watermark, gift) are at least 22 % of the
frame wide, so that they survive 16-pixel patches at 96 px. A live stream's segments share place, light and people; a
campaign's posts share the editor's habits: where overlays sit, their size and colour, the caption's bar.
"""

import io
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from radar_suite.world.draws import Draws
from radar_suite.world.icons import HUES, SKINS, Pen, counter, icon, live_mark, person, still_mark
from radar_suite.world.scenes import background
from radar_suite.world.script import banner

Facts = Mapping[str, str]  # one post's facts, by name
# Light by time of day and lamp: golden hour, shade, midday, night, neon, overcast, lamplight, blue hour.
_TINTS = ((255, 150, 60), (60, 120, 255), (255, 255, 255), (0, 0, 0), (120, 60, 160), (150, 160, 170), (255, 200, 120),
          (30, 50, 110))
_CAMERAS = ("handheld", "handheld", "tripod", "pan", "zoom")
_OVERLAYS = ("badge", "price_tag", "gift", "arrow", "watermark", "sticker", "counter")


@lru_cache(maxsize=8)
def _grain(px: int) -> list[Image.Image]:
    """Eight fixed noise pictures around mid grey; drawing one is cheaper than drawing new noise."""
    noise = np.random.Generator(np.random.Philox(key=np.array([7, px], np.uint64))).normal(128, 14, (8, px, px, 3))
    return [Image.fromarray(tile.clip(0, 255).astype(np.uint8)) for tile in noise]


def _slots(draws: Draws) -> list[tuple[float, float]]:
    """Centres for overlays, as fractions of the frame: corners and sides, in random order."""
    return draws.shuffled([(0.17, 0.17), (0.83, 0.17), (0.17, 0.83), (0.83, 0.83), (0.50, 0.14), (0.16, 0.50),
                           (0.84, 0.50)])


def _where(draws: Draws, n: int, share: float) -> list[bool]:
    """In which of n frames something is seen: each with probability ``share``, at least in one."""
    seen = [draws.chance(share) for _ in range(n)]
    seen[draws.integer(0, n - 1)] = True
    return seen


def _paste(frame: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
    px = frame.width
    frame.paste(sprite, (round(x * px - sprite.width / 2), round(y * px - sprite.height / 2)), sprite)


def _scribble(frame: Image.Image, draws: Draws) -> None:
    """An overlay nobody can read: many overlapping lines of dense strokes."""
    pen, colour = Pen(frame), draws.of(((255, 255, 0), (0, 255, 120), (255, 255, 255), (255, 60, 220)))
    for row in range(draws.integer(5, 7)):
        y, x, points = 22 + row * 9 + draws.between(-1, 1), 8.0, []
        while x < 92:
            w = draws.between(3, 8)
            points += (x, y + draws.between(-3, 3), x + w, y + draws.between(-3, 3), x + w / 2, y)
            x += w
        pen.path(*points, fill=colour, width=2.6)


_BARS = (((250, 250, 250), (40, 40, 46)), ((20, 20, 24), (240, 240, 240)), ((250, 225, 70), (60, 40, 20)))


@lru_cache(maxsize=8)
def _black(px: int) -> Image.Image:
    return Image.new("RGB", (px, px))


@lru_cache(maxsize=8)
def _vignette(px: int) -> Image.Image:
    """Mask of the darkening that cheap lenses leave in the corners."""
    axis = np.linspace(-1, 1, px)
    far = np.clip(np.hypot(axis[:, None], axis[None, :]) - 0.75, 0, 1)
    return Image.fromarray((far * 200).astype(np.uint8))


def _view(place: Image.Image, camera: str, n: int, px: int, draws: Draws) -> Image.Image:
    """What the camera sees of a place in frame ``n``: ``px`` square."""
    room = place.width - px
    if camera == "zoom":
        edge = min(room / 2, n * room / 6 + draws.between(0, room / 8))
        return place.resize((px, px), Image.Resampling.BILINEAR, (edge, edge, place.width - edge, place.width - edge))
    dx, dy = {"handheld": (draws.integer(0, room), draws.integer(0, room)), "tripod": (room // 2, room // 2),
              "pan": (min(room, n * room // 3), room // 2)}[camera]
    return place.crop((dx, dy, dx + px, dy + px))


def draw_frames(facts: Facts, ocr_text: str, draws: Draws, *, px: int, n_frames: int,
                shared: Draws | None = None, look: Draws | None = None) -> list[bytes]:
    """JPEG bytes of the post's frames, ``px`` pixels square.

    Args:
        shared: draws of the live stream that the post is a segment of, for place, light and people.
        look: draws of the campaign that the post belongs to, for the editor's overlays.
    """
    same, edit = shared or draws, look or draws
    on = {name for name in (*_OVERLAYS, "border", "blur", "lowbit", "static", "overlay") if facts[name] == "yes"}
    wide = round(px * 1.16)
    place = background(facts["scene"], wide, same)
    place = Image.blend(place, Image.new("RGB", place.size, same.of(_TINTS)), same.between(0.0, 0.26))
    if same.chance(0.5):
        place = ImageOps.mirror(place)
    cast = [dict(height=round(px * same.of((0.50, 0.58, 0.66))), skin=same.integer(0, len(SKINS) - 1),
                 shirt=same.integer(0, len(HUES) - 1), hair=same.integer(0, 2)) for _ in range(int(facts["people"]))]
    for member, x in zip(cast, same.shuffled((0.22, 0.50, 0.78)), strict=False):
        member["x"] = x + same.between(-0.06, 0.06)
    camera, vignette = same.of(_CAMERAS), same.chance(0.25)
    exposure = same.of((0.0, 0.0, 0.0, 0.16, 0.08, -0.08, -0.16))
    things = [(facts[kind], size) for kind, size in (("prop", 0.30), ("item", 0.38), ("spectacle", 0.40))
              if facts[kind] != "none"]
    spots = draws.shuffled(((0.30, 0.72), (0.70, 0.72), (0.50, 0.45)))
    stage = [(name, max(8, round(px * size * draws.of((0.9, 1.0, 1.15)))), draws.integer(0, len(HUES) - 1),
              draws.of((-20, -10, 0, 10, 20)), spot) for (name, size), spot in zip(things, spots, strict=False)]
    n_drawn = 1 if "static" in on else n_frames
    seen = {name: _where(draws, n_drawn, 0.8) for name in _OVERLAYS if name in on}
    shown = [_where(draws, n_drawn, 0.85) for _ in stage]
    spot_of = dict(zip([name for name in _OVERLAYS if name in on], _slots(edit), strict=False))
    bars, slim = edit.of(("letterbox", "pillarbox")), edit.of((0.13, 0.16, 0.19))
    captioned, colours, bar_y = edit.chance(0.5), edit.of(_BARS), edit.of((0.64, 0.72, 0.30))
    bar = banner(ocr_text, round(0.92 * px), round(0.14 * px), *colours) if ocr_text and captioned else None
    number, hue = edit.of(("9K", "50K", "99K", "1M", "777", "10K")), edit.integer(0, len(HUES) - 1)
    size = {name: max(8, round(px * edit.of((0.26, 0.29, 0.32)))) for name in _OVERLAYS}
    turn = edit.of((0, 90, 180, 270))
    encoded = []
    for n in range(n_drawn):
        frame = _view(place, camera, n, px, draws)
        for member in cast:
            figure = person(member["height"], skin=member["skin"], shirt=member["shirt"], hair=member["hair"],
                            pose=draws.integer(0, 2))
            _paste(frame, figure, member["x"] + draws.between(-0.04, 0.04), 0.98 - 0.5 * member["height"] / px)
        for (name, side, colour, angle, (x, y)), frames in zip(stage, shown, strict=True):
            if frames[n]:
                _paste(frame, icon(name, side, hue=colour, turn=angle), x + draws.between(-0.04, 0.04),
                       y + draws.between(-0.04, 0.04))
        frame = Image.blend(frame, draws.of(_grain(px)), 0.12 if "lowbit" not in on else 0.2)
        if exposure:  # below 0 it brightens
            frame = Image.blend(frame, _black(px), exposure)
        if vignette:
            frame.paste((0, 0, 0), mask=_vignette(px))
        if "blur" in on:
            frame = frame.filter(ImageFilter.BoxBlur(px * draws.of((0.026, 0.034))))
        if "border" in on:
            edge = round(px * slim)
            for box in (((0, 0, px, edge), (0, px - edge, px, px)) if bars == "letterbox"
                        else ((0, 0, edge, px), (px - edge, 0, px, px))):
                frame.paste((0, 0, 0), box)
        if "overlay" in on:
            _scribble(frame, draws)
        if bar and draws.chance(0.7):
            frame.paste(bar, (round(0.04 * px), round(bar_y * px)))
        for name, (x, y) in spot_of.items():
            if seen[name][n]:
                sprite = (counter(round(1.5 * size[name]), number) if name == "counter" else
                          icon(name, size[name], hue=hue, turn=turn if name == "arrow" else 0))
                _paste(frame, sprite, min(max(x, 0.24), 0.76) if name == "counter" else x, y)
        if "static" in on:
            _paste(frame, still_mark(round(px * 0.30)), 0.5, 0.93)
        if facts["segment"] != "0":
            frame.paste(mark := live_mark(round(px * 0.24)), (round(0.02 * px), round(0.015 * px)), mark)
        quality = draws.integer(11, 16) if "lowbit" in on else draws.integer(72, 88)
        encoded.append(_jpeg(frame, quality))
    return encoded * n_frames if "static" in on else encoded


def _jpeg(frame: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
