"""Encoded frames: what is wrong with them, their size, and the picture in memory."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

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
    image.paste((10, 20 + changed, 30), (at[0] - 3, at[1] - 3, at[0] + 4, at[1] + 4))
    assert is_flat(image) is flat


@pytest.mark.parametrize("level", [0, 255])
def test_a_stray_pixel_does_not_hide_a_blank_frame(level):
    image = Image.new("RGB", (64, 48), (100, 100, 100))
    image.putpixel((5, 5), (level,) * 3)
    assert is_flat(image)


@pytest.mark.parametrize("stray", [256, 800, 1e30, -1e30])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_stray_value_does_not_blacken_a_deep_picture(stray, kind):
    values = np.tile(np.arange(256, dtype=kind), (16, 1))
    expected = values.astype(np.uint8)
    limits = np.iinfo(np.int32)
    values[3, 7] = stray if kind is np.float32 else np.clip(stray, limits.min, limits.max)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    seen = np.asarray(picture(buffer.getvalue()))[..., 0]
    assert np.array_equal(np.delete(seen, 7, 1), np.delete(expected, 7, 1))
    assert seen[3, 7] == (255 if stray > 0 else 0)


def png(depth, colour_type, size, rows, key):
    """A PNG with a transparent colour, in a layout that Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)),
              chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)),
              chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), chunk(b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("colour", "key", "seen"), [
    ((0, 0, 0xFFFF), (0, 0, 255), (0, 0, 255)),
    ((0x80FF, 0, 0), (0x8000, 0, 0), (128, 0, 0)),
    ((0x80FF, 0, 7), (0x80FF, 0, 7), (255, 255, 255)),
])  # fmt: skip
def test_the_transparent_colour_of_16_bits_a_channel_is_looked_for_at_full_depth(colour, key, seen):
    row = struct.pack(">3H", *colour) + struct.pack(">3H", 0, 0x4000, 0)
    decoded = decode(png(16, 2, (2, 1), [row], key))
    assert [decoded.pictures[0].getpixel((x, 0)) for x in (0, 1)] == [seen, (0, 64, 0)]
    assert not decoded.plain


@pytest.mark.parametrize(("depth", "row", "key", "seen"), [
    (1, 0b01000000, 1, [0, 255]), (2, 0b00011011, 1, [0, 255, 170, 255]), (2, 0b00011011, 2, [0, 85, 255, 255]),
    (4, 0x3C, 3, [255, 204]), (4, 0x3C, 12, [51, 255]), (8, 9, 9, [255]), (8, 0, 9, [0]),
])  # fmt: skip
def test_the_transparent_level_of_few_bits_is_scaled_like_the_pixels(depth, row, key, seen):
    shown = picture(png(depth, 0, (len(seen), 1), [bytes([row])], [key]))
    assert [shown.getpixel((x, 0))[0] for x in range(len(seen))] == seen


def test_jpeg_2000_and_jpeg_xl_are_no_videos():
    for sign, name in ((b"jP  ", "JPEG 2000"), (b"JXL ", "JPEG XL")):
        data = b"\0\0\0\x0c" + sign + b"\r\n\x87\n\0\0\0\x14ftyp" + sign + b"\0" * 100
        assert f"the frame is {name}, which is not read: convert it" in frame_fault(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("inside", [False, True])
def test_orientation_is_read_from_exif_alone(kind, inside):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    buffer, exif, extra = io.BytesIO(), Image.Exif(), {"xmp": xmp}
    if kind == "PNG":
        extra = {"pnginfo": PngInfo()}
        extra["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    if inside:
        exif[0x0112] = 8
    Image.new("RGB", (40, 20)).save(buffer, kind, exif=exif, **extra)
    decoded = decode(buffer.getvalue())
    size = (20, 40) if inside else (40, 20)
    assert decoded.size == decoded.pictures[0].size == frame_size(buffer.getvalue()) == size
    assert not decoded.plain  # who reads it with Pillow would turn it


def test_spread_keeps_both_ends():
    assert spread(5, 3) == [0, 2, 4] and spread(2, 3) == [0, 1] and spread(0, 3) == [] and spread(9, 1) == [0]


def animated_png(depth, colour_type, pictures, key):
    """An animation of pictures of one row, each laid over the last one, with a transparent colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = len(pictures[0]) * 8 // depth // (3 if colour_type == 2 else 1)
    body = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)),
        chunk(b"acTL", struct.pack(">II", len(pictures), 0)),
        chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)),
    ]
    for n, row in enumerate(pictures):
        body.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", max(2 * n - 1, 0), width, 1, 0, 0, 1, 10, 0, 1)))
        data = zlib.compress(b"\0" + row)
        body.append(chunk(b"fdAT", struct.pack(">I", 2 * n) + data) if n else chunk(b"IDAT", data))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*body, chunk(b"IEND", b"")])


def test_the_transparent_colour_of_an_animation_shows_the_picture_below():
    first, second = bytes([255, 0, 0, 0, 0, 255]), bytes([9, 9, 9, 0, 255, 0])
    pictures = decode(animated_png(8, 2, [first, second], (9, 9, 9)), most=2).pictures
    assert [[one.getpixel((x, 0)) for x in (0, 1)] for one in pictures] == [
        [(255, 0, 0), (0, 0, 255)], [(255, 0, 0), (0, 255, 0)]]  # fmt: skip


@pytest.mark.parametrize(("depth", "colour_type", "pictures", "key"), [
    (16, 2, [struct.pack(">6H", 0x80FF, 0, 0, 0, 0x4000, 0)] * 2, (0x80FF, 0, 0)),
    (16, 0, [struct.pack(">2H", 0x80FF, 7)] * 2, (7,)), (8, 0, [bytes([9, 200])] * 2, (9,)),
    (2, 0, [b"\x1b"] * 2, (1,)), (1, 0, [b"\x40"] * 2, (1,)),
])  # fmt: skip
def test_an_animation_whose_transparent_colour_is_lost_is_refused(depth, colour_type, pictures, key):
    with pytest.raises(RadarError, match="save it as RGBA"):
        decode(animated_png(depth, colour_type, pictures, key), most=2)


@pytest.mark.parametrize(("own", "turned"), [(None, False), (1, False), (6, True)])
def test_a_tiff_is_turned_by_its_own_tag_and_not_by_its_xmp_data(own, turned):
    about = TiffImagePlugin.ImageFileDirectory_v2()
    about[700] = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="8"/>'
    if own:
        about[274] = own
    upright, buffer = Image.new("RGB", (40, 20)), io.BytesIO()
    upright.paste((255, 0, 0), (0, 0, 20, 10))
    upright.save(buffer, "TIFF", tiffinfo=about)
    decoded = decode(buffer.getvalue())
    expected = upright.transpose(Image.Transpose.ROTATE_270) if turned else upright
    assert np.array_equal(np.asarray(decoded.pictures[0]), np.asarray(expected)) and not decoded.plain
    assert frame_size(buffer.getvalue()) == decoded.size == expected.size
