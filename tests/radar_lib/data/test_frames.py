"""Encoded frames: what is wrong with them, their size, and the picture in memory."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from radar_lib.data.frames import as_seen, decode, frame_fault, frame_size, is_flat, picture, spread
from radar_lib.errors import RadarError


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_sound_images_of_every_kind(image, kind):
    data = image(kind=kind)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert frame_fault(data) == "" and np.array_equal(np.asarray(picture(data)), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_truncated_images_are_damaged(image, kind):
    data = image(64, 64, kind=kind)
    assert "damaged" in frame_fault(data[: len(data) // 2]) or "no image" in frame_fault(data[: len(data) // 2])


def test_bytes_that_are_no_image():
    assert "no bytes" in frame_fault(b"") and "no bytes" in frame_fault(None)
    assert "no image" in frame_fault(b"hello") and "no image" in frame_fault(b"%!PS-Adobe-3.0 EPSF-3.0\n")


@pytest.mark.parametrize("limit", [200, 100])  # Pillow warns above its limit and raises above twice the limit
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(image, monkeypatch, limit, action):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        assert "too large" in frame_fault(image(20, 12))


@pytest.fixture
def animation():
    def make(n):
        pictures = [Image.new("RGB", (20, 10), (20 * i, 255, 0)) for i in range(n)]
        buffer = io.BytesIO()
        pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:])
        return buffer.getvalue()

    return make


def test_a_frame_of_a_post_is_one_picture(animation):
    with pytest.raises(RadarError, match="animation of 5 pictures"):
        picture(animation(5))
    pictures = decode(animation(5), most=3).pictures
    assert [picture.getpixel((0, 0))[0] for picture in pictures] == [0, 40, 80]


def test_an_animation_that_is_a_bomb_as_a_whole(animation, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    data = animation(6), animation(12)
    assert len(decode(data[0], most=2).pictures) == 2
    with pytest.raises(RadarError, match="too large .12 times 20 x 10 pixels"):
        decode(data[1], most=2)


def test_a_large_jpeg_may_be_decoded_at_a_fraction(image):
    data = image(640, 320, kind="JPEG")
    assert picture(data, about=100).size == (320, 160)
    assert decode(data, about=100).size == picture(data).size == frame_size(data) == (640, 320)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 99])
def test_the_size_is_that_of_the_picture(kind, orientation):
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(buffer, kind, exif=exif)
    data = buffer.getvalue()
    assert frame_size(data) == picture(data).size == decode(data).size


def test_rgb_is_returned_as_it_is_and_nothing_is_changed_in_place():
    rgb, veil = Image.new("RGB", (4, 4), (1, 2, 3)), Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert as_seen(rgb) is rgb
    assert as_seen(veil).getpixel((0, 0)) == (127, 127, 127) and veil.getpixel((0, 0)) == (0, 0, 0, 128)


@pytest.mark.parametrize(("changed", "flat"), [(0, True), (2, True), (3, False)])
@pytest.mark.parametrize("at", [(0, 0), (63, 40)])
def test_flat_is_of_one_colour_up_to_two_levels(changed, flat, at):
    image = Image.new("RGB", (64, 48), (10, 20, 30))
    image.putpixel(at, (10, 20 + changed, 30))
    assert is_flat(image) is flat


def test_spread_keeps_both_ends():
    assert spread(5, 3) == [0, 2, 4] and spread(2, 3) == [0, 1] and spread(0, 3) == [] and spread(9, 1) == [0]
