"""Writing on the screen: overlay text in its own script, drawn with DejaVu Sans, which ships with matplotlib.

DejaVu Sans covers Latin, Cyrillic, Greek and Arabic. Arabic letters change their form with their neighbours and run
from right to left; both are done here (Unicode's presentation forms, then reversal), because Pillow can do it only
where the system happens to have FriBiDi, and a corpus must have the same bytes everywhere.
"""

import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from radar_lib.errors import RadarError

FONT = "DejaVuSans.ttf"
_LAM = "\u0644"


@lru_cache(maxsize=1)
def font_file() -> Path:
    """Where DejaVu Sans lies; RadarError if matplotlib is not installed."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise RadarError("matplotlib is missing; its font DejaVu Sans writes the built-in corpus' overlays")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / FONT


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of ``size`` pixels."""
    return ImageFont.truetype(font_file(), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _forms() -> dict[str, dict[str, str]]:
    """Presentation forms of Arabic letters and of lam-alef pairs: {letters: {'isolated' | 'initial' | ...: form}}."""
    forms: dict[str, dict[str, str]] = {}
    for code in range(0xFE70, 0xFEFD):
        kind, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        letters = "".join(chr(int(letter, 16)) for letter in letters)
        if kind and (len(letters) == 1 or letters[0] == _LAM) and " " not in letters:
            forms.setdefault(letters, {})[kind.strip("<>")] = chr(code)
    return forms


def _joined(text: str) -> str:
    """Every Arabic letter in the form that its neighbours give it, in logical order."""
    forms, units, i = _forms(), [], 0
    while i < len(text):
        pair = text[i : i + 2]
        units.append(pair if len(pair) == 2 and pair in forms else text[i])
        i += len(units[-1])
    out = []
    for n, unit in enumerate(units):
        before = n > 0 and "initial" in forms.get(units[n - 1], {})
        after = n + 1 < len(units) and "final" in forms.get(units[n + 1], {}) and "initial" in forms.get(unit, {})
        kind = {(False, False): "isolated", (False, True): "initial", (True, True): "medial",
                (True, False): "final"}[before and "final" in forms.get(unit, {}), after]
        out.append(forms.get(unit, {}).get(kind, unit))
    return "".join(out)


def visual_order(text: str) -> str:
    """``text`` as its glyphs stand from left to right: unchanged, but for Arabic joined and reversed.

    Runs of Latin letters and digits inside Arabic keep their direction (a plain case of Unicode's rules: no
    brackets, no nesting; the sentence banks need no more).
    """
    if not any(unicodedata.bidirectional(c) == "AL" for c in text):
        return text
    runs: list[str] = []
    for c in _joined(text):
        left_to_right = unicodedata.bidirectional(c) in ("L", "EN", "ES", "ET", "CS") and c not in ":,."
        if left_to_right and runs and runs[-1][-1].isascii() and runs[-1][-1].isalnum():
            runs[-1] += c
        else:
            runs.append(c)
    return "".join(reversed(runs))


def banner(text: str, width: int, height: int, ground: tuple, ink: tuple) -> Image.Image:
    """RGB picture of one line of text on a coloured bar; small where it is long, cut where it still does not fit."""
    image, line = Image.new("RGB", (width, height), ground), visual_order(text)
    for letters in (font(max(6, round(height * share))) for share in (0.66, 0.52)):
        if letters.getlength(line) <= 0.96 * width:
            break
    while len(text) > 1 and (length := letters.getlength(line)) > 0.96 * width:
        text = text[: min(len(text) - 1, int(len(text) * 0.96 * width / length))].rstrip(" |,،:-")
        line = visual_order(text)
    ImageDraw.Draw(image).text((width / 2, height * 0.48), line, ink, letters, "mm")
    return image
