"""Posts as videos and back: the error rates, and that a video holds what was put in."""

from __future__ import annotations

import io
import wave
from functools import lru_cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from radar_suite.intake import roundtrip
from radar_suite.intake.roundtrip import PX, RATE, SHOWN, SPEAKER_RATE, edit_distance, sample_rows, write_video
from radar_suite.intake.video import read_pictures, read_sound

TEXTS = st.text("abc", max_size=7)


@given(TEXTS, TEXTS)
def test_edit_distance_is_that_of_its_definition(a, b):
    @lru_cache(None)
    def by_definition(i, j):
        if not i or not j:
            return i + j
        return min(by_definition(i - 1, j) + 1, by_definition(i, j - 1) + 1,
                   by_definition(i - 1, j - 1) + (a[i - 1] != b[j - 1]))  # fmt: skip

    assert (
        edit_distance(a, b) == by_definition(len(a), len(b)) == edit_distance(a.split(), b.split()) or " " not in a + b
    )
    parts = [b[i:j] for i in range(len(b) + 1) for j in range(i, len(b) + 1)]
    assert edit_distance(a, b, within=True) == min(edit_distance(a, part) for part in parts)


def test_a_post_becomes_a_video_of_its_frames(films, tmp_path):
    rows = sample_rows(3, seed=1)
    assert len({row["language"] for row in rows}) == 3 and all(row["ocr_text"] for row in rows)
    row, spoken = rows[0], io.BytesIO()
    with wave.open(spoken, "wb") as file:
        file.setparams((1, 2, SPEAKER_RATE, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(np.arange(SPEAKER_RATE) / 10)).astype("<i2").tobytes())
    write_video(tmp_path / "a.mp4", row, sound=spoken.getvalue())
    about, pictures = read_pictures(tmp_path / "a.mp4", count=len(row["frames"]), max_seconds=60)
    assert about["pictures"] == len(row["frames"]) * SHOWN * RATE and pictures[0].size == (PX, PX)
    assert abs(about["seconds"] - len(row["frames"]) * SHOWN) < 0.01
    assert abs(len(read_sound(tmp_path / "a.mp4")) - 16_000) < 1_600


def test_a_whole_text_is_on_the_bar():
    text = "one two three four five six seven eight nine ten"
    bar = roundtrip.text_bar(text)
    assert bar.width == PX and bar.height == 2 * 48
