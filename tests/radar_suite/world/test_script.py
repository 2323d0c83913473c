"""Overlays in their own script: every character has a glyph, Arabic is joined and runs from right to left."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from radar_suite.world.draws import Draws
from radar_suite.world.facts import DOMAINS, LANGUAGES
from radar_suite.world.language import bank, write_text
from radar_suite.world.script import banner, font, font_file, visual_order


def sentences(node):
    if isinstance(node, dict):
        return [s for value in node.values() for s in sentences(value)]
    return node if isinstance(node, list) else [node]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_character_has_a_glyph(language):
    """A character without one is drawn as the font's empty box, which U+FFFF is for certain."""
    letters = font(24)
    box = bytes(letters.getmask("\uffff"))
    drawn = visual_order(" ".join(sentences(bank(language))))
    characters = set(drawn) | {c for s in sentences(bank(language)) for c in s.upper()}
    assert [c for c in sorted(characters) if not c.isspace() and bytes(letters.getmask(c)) in (box, b"")] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_overlays_are_written_on_their_bar(language):
    facts = {name: values[0] for name, values in DOMAINS.items()} | {"language": language, "terms": "yes"}
    pictures = set()
    for n in range(5):
        _, ocr_text, _ = write_text(facts, Draws(1, n))
        bar = np.asarray(banner(ocr_text, 200, 30, (250, 250, 250), (20, 20, 20)))
        ink = (bar < 128).all(axis=2)
        assert 0.02 < ink.mean() < 0.4 and not ink[:, 0].any() and not ink[:, -1].any()  # written, within the bar
        pictures.add(bar.tobytes())
    assert len(pictures) > 1


def test_arabic_by_hand():
    # seen + lam-alef + meem: initial seen, the pair's final form, isolated meem (alef never joins); read from the right
    assert visual_order("\u0633\u0644\u0627\u0645") == "\ufee1\ufefc\ufeb3"
    assert visual_order("\u0628\u0628 45") == "45 \ufe90\ufe91"  # numbers keep their direction
    assert visual_order("day 12") == "day 12" and visual_order("\u0434\u0435\u043d\u044c") == "\u0434\u0435\u043d\u044c"


@pytest.mark.skipif(not features.check("raqm"), reason="needs Pillow with Raqm and FriBiDi")
def test_arabic_looks_as_a_full_shaper_draws_it():
    shaper = ImageFont.truetype(font_file(), 32, layout_engine=ImageFont.Layout.RAQM)
    words = bank("ar")
    for sentence in words["overlay"] + words["closers"] + words["gate"] + words["contact"]["phone"]:
        sentence = sentence.format(n=45, name=words["names"][0], place=words["places"][1], when=words["when"][2])
        width, pictures = 0, []
        for letters, text in ((font(32), visual_order(sentence)), (shaper, sentence)):
            image = Image.new("L", (1200, 60))
            ImageDraw.Draw(image).text((10, 8), text, 255, letters)
            columns = np.flatnonzero(np.asarray(image).any(axis=0))
            width = columns[-1] - columns[0]
            pictures.append(np.asarray(image.crop((columns[0], 0, columns[0] + 1100, 60)).resize((220, 12)), float))
        assert width > 20 and np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1] > 0.8, sentence
