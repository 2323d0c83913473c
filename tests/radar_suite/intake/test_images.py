"""Encoded frames: containment, damage, size."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from radar_suite.intake import images as module
from radar_suite.intake.images import frame_fault, read_image, shrink


@pytest.fixture
def images(tmp_path, image):
    """A folder with a.png and deep/b.jpg."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(image(seed=1))
    (folder / "deep" / "b.jpg").write_bytes(image(seed=2, kind="JPEG"))
    return folder


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_sound_images_of_every_kind(image, kind):
    assert frame_fault(image(kind=kind)) == ""


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


def test_paths_stay_in_the_folder(images, tmp_path, image):
    (tmp_path / "secret.png").write_bytes(image())
    os.symlink(tmp_path / "secret.png", images / "link.png")
    os.symlink(tmp_path, images / "up")
    os.symlink(images / "a.png", images / "inside.png")
    os.symlink("loop.png", images / "loop.png")
    assert read_image(" a.png ", images) == read_image("inside.png", images) == image(seed=1)
    assert read_image("deep/../a.png", images) == image(seed=1)
    outside = ["../secret.png", "deep/../../secret.png", "link.png", "up/secret.png"]
    for path in [*outside, str(tmp_path / "secret.png"), str(images / "a.png")]:
        with pytest.raises(ValueError, match="leaves the images folder"):
            read_image(path, images)
    for path, message in {"b.png": "missing", "deep": "no file", "loop.png": "read", "a\0.png": "null",
                          "x" * 5000: "read"}.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            read_image(path, images)


def test_huge_and_unreadable_files(images, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1 << 20)
    (images / "huge.png").write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_image("huge.png", images)

    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    with pytest.raises(ValueError, match="Permission denied"):
        read_image("a.png", images)


def test_shrinking_keeps_small_images_byte_for_byte(image):
    data = image(40, 30, kind="JPEG")
    assert shrink(data, 40) is data
    with Image.open(io.BytesIO(shrink(data, 20))) as small:
        assert small.size == (20, 15) and small.format == "JPEG"
    with Image.open(io.BytesIO(shrink(image(40, 30), 20))) as small:
        assert small.size == (20, 15) and small.format == "PNG"


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "CMYK", "I;16", "1"])
def test_every_colour_mode_shrinks(mode):
    buffer = io.BytesIO()
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = Image.fromarray(np.zeros((30, 40), np.uint16)) if mode == "I;16" else Image.new(mode, (40, 30))
    picture.save(buffer, format=kind)
    with Image.open(io.BytesIO(shrink(buffer.getvalue(), 20))) as small:
        assert small.size == (20, 15) and small.mode == "RGB"


def test_shrinking_turns_a_sideways_photo_upright():
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", exif=exif)
    with Image.open(io.BytesIO(shrink(buffer.getvalue(), 20))) as small:
        assert small.size == (10, 20)
