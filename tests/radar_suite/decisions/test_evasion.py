"""What authors do to posts: a person still gets it, and nothing else of the post is touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radar_lib.errors import RadarError
from radar_suite.decisions.evasion import CYRILLIC, LATIN, add_words, camouflage, crop, evasions, reencode

TEXTS = st.text(max_size=40)


def post(**own):
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    frames = [Image.fromarray(noise), Image.new("RGB", (20, 30), (200, 10, 10))]
    return {"post_id": "p", "title": "win cash", "ocr_text": "cash 20", "asr_text": "hi", "frames": frames} | own


@given(TEXTS, TEXTS)
def test_added_words_leave_the_title_where_it_ends(title, words):
    changed = add_words(post(title=title), words)
    assert changed["title"].endswith(title.strip()) and changed["title"].startswith(words.strip())


@given(st.text(alphabet=LATIN + CYRILLIC + "dgq 7ش", max_size=40))
def test_look_alikes_are_as_many_letters_and_twice_is_the_text_again(text):
    once = camouflage(post(ocr_text=text))
    assert camouflage(once)["ocr_text"] == text and len(once["ocr_text"]) == len(text)
    for was, now in zip(text, once["ocr_text"], strict=True):
        assert (was != now) == (was in LATIN + CYRILLIC)


def test_frames_are_as_large_as_before_and_differ_where_there_is_something_to_see():
    before = post()
    for change in (reencode, crop):
        after = change(before)
        assert [one.size for one in after["frames"]] == [one.size for one in before["frames"]]
        pairs = [[np.asarray(one["frames"][i].convert("RGB"), int) for one in (before, after)] for i in (0, 1)]
        noisy, flat = (np.abs(was - now) for was, now in pairs)
        assert noisy.mean() > 5 and flat.max() <= 3


def test_a_crop_keeps_the_middle_and_none_keeps_all():
    columns = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
    (kept,) = crop({"frames": [Image.fromarray(columns)]}, share=0.25)["frames"]
    row = np.asarray(kept)[50, :, 0]
    assert abs(int(row[0]) - 25) <= 1 and abs(int(row[-1]) - 74) <= 1
    (whole,) = crop({"frames": [Image.fromarray(columns)]}, share=0.0)["frames"]
    np.testing.assert_array_equal(np.asarray(whole), columns)
    with pytest.raises(RadarError, match="share"):
        crop(post(), share=0.5)


def test_each_change_touches_its_own_column_and_leaves_the_posts_given_as_they_were():
    touched = {"as they are": set(), "harmless words added": {"title"}, "look-alike letters": {"ocr_text"},
               "re-encoded": {"frames"}, "cropped": {"frames"}}  # fmt: skip
    was = post()
    before = dict(was)
    changes = evasions(["a sunny day"])
    found = {name: {column for column in was if was[column] != now[column]}
             for name, change in changes.items() for now in change([was])}  # fmt: skip
    assert found == touched and was == before
