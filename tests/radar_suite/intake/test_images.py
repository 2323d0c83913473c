"""Image files: containment, and what is kept of them."""

import io
import os

import pytest
from PIL import Image

from radar_suite.intake import images as module
from radar_suite.intake.images import frames_of, read_image


@pytest.fixture
def images(tmp_path, image):
    """A folder with a.png and deep/b.jpg."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(image(seed=1))
    (folder / "deep" / "b.jpg").write_bytes(image(seed=2, kind="JPEG"))
    return folder


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


def test_plain_images_are_kept_byte_for_byte_and_large_ones_are_scaled_down(image):
    data = image(40, 30, kind="JPEG")
    assert frames_of(data, 40)[0][0] is data
    for kind, (frames, notes) in {"JPEG": frames_of(data, 20), "PNG": frames_of(image(40, 30), 20)}.items():
        with Image.open(io.BytesIO(frames[0])) as small:
            assert small.size == (20, 15) and small.format == kind and notes["rewritten"] == 1


def test_what_is_written_anew_says_nothing_of_the_file_it_comes_from():
    picture, exif, buffer = Image.new("RGB", (40, 20)), Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, "a phone"
    picture.save(buffer, format="JPEG", exif=exif, comment=b"secret", icc_profile=b"profile")
    for max_px, size in ((40, (20, 40)), (20, (10, 20))):
        with Image.open(io.BytesIO(frames_of(buffer.getvalue(), max_px)[0][0])) as small:
            assert small.size == size and not small.getexif() and not {"comment", "icc_profile"} & set(small.info)
