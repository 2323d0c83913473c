"""What is to be seen in an image file is what everybody downstream sees of it, or the import refuses it by name."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from radar_lib.errors import RadarError
from radar_lib.models.backbones import load_backbone
from radar_lib.models.base import FrameProcessor
from radar_suite.chain.cli import main
from radar_suite.intake.check import check_posts
from radar_suite.intake.importer import import_table
from radar_suite.intake.scan import scan_frames
from radar_suite.world.standins import locate_checkpoints

W, H = 48, 32
STANDIN = f"{locate_checkpoints('standins')}/{{}}"
TURN = Image.Transpose
# By EXIF orientation: how a camera's file differs from the scene.
FILED = {2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE, 6: TURN.ROTATE_90,
         7: TURN.TRANSVERSE, 8: TURN.ROTATE_270}  # fmt: skip


def scene():
    """Four quarters of four colours: no turn and no exchange of channels leaves it as it is."""
    pixels = np.empty((H, W, 3), np.uint8)
    pixels[: H // 2, : W // 2], pixels[: H // 2, W // 2 :] = (200, 40, 40), (40, 160, 60)
    pixels[H // 2 :, : W // 2], pixels[H // 2 :, W // 2 :] = (50, 60, 210), (230, 220, 90)
    return Image.fromarray(pixels)


def quarters(picture):
    pixels = np.asarray(picture.convert("RGB").resize((W, H)), float)
    return np.stack([pixels[y : y + 8, x : x + 12].mean((0, 1)) for y in (4, H - 12) for x in (6, W - 18)])


def save(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_png(pixels, colour_type, *extra):
    """A 16-bit PNG, which Pillow writes for grey only."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def veiled():
    """The scene with its right half transparent, hiding other colours."""
    image = scene().convert("RGBA")
    alpha = np.zeros((H, W), np.uint8)
    alpha[:, : W // 2] = 255
    image.putalpha(Image.fromarray(alpha))
    return image


def on_white():
    image = scene()
    image.paste((255, 255, 255), (W // 2, 0, W, H))
    return image


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def with_exif(data, block):
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk(b"eXIf", block) + data[place:]


GREY = scene().convert("L")
LEVELS = np.asarray(GREY).astype(float) / 255
GREY_RGB = GREY.convert("RGB")
BLOCKS = Image.fromarray(np.kron(np.array([[0, 255], [255, 255]], np.uint8), np.ones((H // 2, W // 2), np.uint8)))
MIDDLE = (20_000 + 25_000 * LEVELS).astype(np.uint16)
MIDDLE_SEEN = Image.fromarray((MIDDLE / 257).astype(np.uint8))
SIGNED = (40 * LEVELS - 20).astype(np.float32)
SIGNED[0, 0], SIGNED[0, 1] = np.nan, np.inf
PALETTE = scene().quantize(4)
CORNER = PALETTE.getpixel((0, 0))  # the index of the red quarter
NO_RED = scene()
NO_RED.paste((255, 255, 255), (0, 0, W // 2, H // 2))
LETTERS = Image.new("RGBA", (W, H), (255, 255, 255, 0))  # white on nothing, seen on dark pages
LETTERS.paste((255, 255, 255, 255), (0, 0, W // 2, H))
LETTERS_SEEN = Image.new("RGB", (W, H))
LETTERS_SEEN.paste((255, 255, 255), (0, 0, W // 2, H))
STRETCHED = Image.fromarray((255 * (LEVELS - LEVELS.min()) / np.ptp(LEVELS)).round().astype(np.uint8)).convert("RGB")

# name: file, picture, levels that it may be off
KINDS = {
    "png": (save(scene(), "PNG"), scene(), 0),
    "jpeg": (save(scene(), "JPEG"), scene(), 6),
    "webp": (save(scene(), "WEBP"), scene(), 6),
    "bmp": (save(scene(), "BMP"), scene(), 0),
    "tiff": (save(scene(), "TIFF"), scene(), 0),
    "gif": (save(scene(), "GIF"), scene(), 0),
    "grey": (save(GREY, "JPEG"), GREY_RGB, 4),
    "one bit": (save(BLOCKS.convert("1"), "PNG"), BLOCKS.convert("RGB"), 0),
    "palette": (save(PALETTE, "PNG"), scene(), 0),
    "palette, one clear": (save(PALETTE, "PNG", transparency=CORNER), NO_RED, 0),
    "palette with alpha": (save(PALETTE, "PNG", transparency=bytes([0 if i == CORNER else 255 for i in range(4)])),
                           NO_RED, 0),  # fmt: skip
    "gif, one clear": (save(PALETTE, "GIF", transparency=CORNER), NO_RED, 0),
    "grey with alpha": (save(veiled().convert("LA"), "PNG"), on_white().convert("L").convert("RGB"), 1),
    "alpha": (save(veiled(), "PNG"), on_white(), 0),
    "alpha, webp": (save(veiled(), "WEBP", lossless=True), on_white(), 6),
    "alpha, tiff": (save(veiled(), "TIFF"), on_white(), 0),
    "white on nothing": (save(LETTERS, "PNG"), LETTERS_SEEN, 0),
    "16 bits": (save(Image.fromarray((65535 * LEVELS).astype(np.uint16)), "PNG"), GREY_RGB, 1),
    "16 bits, middle values": (save(Image.fromarray(MIDDLE), "PNG"), MIDDLE_SEEN, 1),
    "16 bits, tiff, other end": (save(Image.fromarray(MIDDLE.astype(">u2")), "TIFF"), MIDDLE_SEEN, 1),
    "16 bits a channel": (deep_png(np.asarray(scene()).astype(int) * 257, 2), scene(), 1),
    "16 bits a channel, one clear": (deep_png(np.asarray(scene()).astype(int) * 257, 2, chunk(
        b"tRNS", struct.pack(">HHH", *(257 * v for v in (200, 40, 40))))), NO_RED, 1),  # fmt: skip
    "integers": (save(Image.fromarray((65535 * LEVELS).astype(np.int32)), "TIFF"), GREY_RGB, 1),
    "floats to 1": (save(Image.fromarray(LEVELS.astype(np.float32)), "TIFF"), GREY_RGB, 1),
    "floats to 255": (save(Image.fromarray((255 * LEVELS).astype(np.float32)), "TIFF"), GREY_RGB, 1),
    "floats of any range": (save(Image.fromarray(SIGNED), "TIFF"), STRETCHED, 3),
    "cmyk": (save(scene().convert("CMYK"), "JPEG", quality=95), scene(), 6),
    "cmyk, tiff": (save(scene().convert("CMYK"), "TIFF"), scene(), 2),
    **{f"orientation {n}": (save(scene().transpose(turn), "JPEG", exif=exif(n)), scene(), 6)
       for n, turn in FILED.items()},
    **{f"orientation 6, {kind}": (save(scene().transpose(FILED[6]), kind, exif=exif(6)), scene(), 6)
       for kind in ("PNG", "WEBP", "TIFF")},
    "torn exif": (with_exif(save(scene(), "PNG"), b"\0" * 10), scene(), 0),
    "exif of text": (with_exif(save(scene(), "PNG"), b"0123456789"), scene(), 0),
    "empty exif": (with_exif(save(scene(), "PNG"), b"II*\0\0\0\0\0"), scene(), 0),
    "torn exif, webp": (save(scene(), "WEBP", exif=b"\0" * 10), scene(), 6),
    "phone": (save(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (W, H))]), scene(), 6),
}  # fmt: skip


def imported(folder, files):
    """A corpus in which each file is the only frame of four posts: both splits with both labels."""
    rows = []
    for i, (name, data) in enumerate(files.items()):
        (folder / f"{i}").write_bytes(data)
        rows += [{"post_id": f"{name}/{split}{label}", "split": split, "title": "t", "frames": f"{i}", "label_A": label}
                 for split in ("train", "test") for label in (0, 1)]  # fmt: skip
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_table(folder / "posts.jsonl", None, folder / "corpus")


@pytest.fixture(scope="module")
def posts(tmp_path_factory):
    """Every kind, imported."""
    return imported(tmp_path_factory.mktemp("kinds"), {kind: data for kind, (data, *_) in KINDS.items()})


@pytest.fixture(scope="module")
def light(posts):
    """What the audit sees of each."""
    return scan_frames(posts, "test").table.set_index("post_id")["brightness"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_seen_as_a_person_sees_it(posts, light, kind):
    _, picture, off = KINDS[kind]
    at = 2 * list(KINDS).index(kind)
    (seen,) = posts.split("test")[at]["frames"]
    assert seen.size == picture.size
    assert np.abs(quarters(seen) - quarters(picture)).max() <= off
    (stored,) = posts.split("test").with_format("arrow")[at]["frames"][0].as_py()
    with Image.open(io.BytesIO(stored["bytes"])) as anyone:  # who reads the corpus with nothing but Pillow
        assert np.array_equal(np.asarray(anyone.convert("RGB")), np.asarray(seen))
    assert abs(light[f"{kind}/test0"] - np.asarray(picture.convert("L"), float).mean()) <= off + 1


def test_what_was_imported_passes_the_check(posts):
    assert len(check_posts(posts.folder).posts) == 4 * len(KINDS)


@pytest.mark.parametrize("backbone", ["siglip2", "qwen3-vl-2b", "llava-ov-0.5b", "gemma3-4b"])
def test_every_family_sees_it_too(posts, backbone):
    model, rows = load_backbone(STANDIN.format(backbone), device="meta"), posts.split("test")
    for i, (kind, (_, picture, off)) in enumerate(KINDS.items()):
        (frame,), (expected,) = (model.encode([{**rows[2 * i], **change}])[0].frames
                                 for change in ({}, {"frames": [picture]}))  # fmt: skip
        assert (frame.float() - expected.float()).abs().mean() <= off + 1, kind


@pytest.mark.parametrize(("kind", "options"), [
    ("GIF", {"duration": 50}), ("WEBP", {"lossless": True}), ("PNG", {"duration": 50}), ("TIFF", {}),
])  # fmt: skip
def test_an_animation_becomes_frames(tmp_path, kind, options):
    pictures = [Image.new("RGB", (W, H), (i * 20, i * 5 + 100, 0)) for i in range(12)]
    for i, picture in enumerate(pictures):
        picture.paste((255, 255, 255), (i, 0, i + 2, H))
    data = save(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)
    posts = imported(tmp_path, {"moving": data, "still": KINDS["png"][0]})
    rows = posts.split("test")
    assert [len(row["frames"]) for row in rows] == [8, 8, 1, 1]
    first, *_, last = rows[0]["frames"]
    for seen, there in ((first, pictures[0]), (last, pictures[-1])):
        assert np.abs(np.asarray(seen, float) - np.asarray(there, float)).mean() < 6
    assert posts.info["frames"]["animations"] == 4
    assert len(check_posts(posts.folder).posts) == 8


FOREIGN = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200,
    "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0" * 200,
    "AVIF by its other name": b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + b"\0" * 200,
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 200,
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "a video": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0" * 200,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_container_that_is_not_read_is_named_with_the_remedy(tmp_path, what):
    name = what.split(" by ")[0]
    with pytest.raises(RadarError, match=f"column frames.*the frame is {name}, .*convert it to JPEG or PNG"):
        imported(tmp_path, {what: FOREIGN[what]})


@pytest.mark.parametrize("size", [(1000, 4), (4, 1000)])
def test_a_strip_that_an_image_processor_would_refuse_is_refused_at_once(tmp_path, size):
    with pytest.raises(RadarError, match=f"column frames.*strip of {size[0]} x {size[1]} pixels"):
        imported(tmp_path, {"strip": save(Image.new("RGB", size), "PNG")})


def test_frames_of_one_colour_are_counted_and_named(tmp_path):
    hidden = scene().convert("RGBA")
    hidden.putalpha(0)
    files = {"hidden": save(hidden, "PNG"), "black": save(Image.new("L", (W, H)), "PNG"), "fine": KINDS["png"][0]}
    posts = imported(tmp_path, files)
    assert posts.info["frames"] == {"flat": 8, "rewritten": 4}
    report = str(check_posts(posts.folder))
    assert "8 frames" in report and "hidden/train0" in report and "black/test1" in report and "fine" not in report


def test_a_strip_stays_within_the_limit_when_it_is_scaled_down(tmp_path):
    posts = imported(tmp_path, {"a": save(Image.new("RGB", (5000, 51)), "PNG")})
    assert posts.split("test")[0]["frames"][0].size == (512, 6)
    check_posts(posts.folder)


@pytest.mark.parametrize("backbone", ["siglip2", "qwen3-vl-2b"])
def test_check_runs_every_post_through_a_checkpoint(tmp_path, backbone, monkeypatch):
    posts = imported(tmp_path, {"fine": KINDS["png"][0], "small": save(scene().resize((1, 1)), "PNG")})
    checkpoint = STANDIN.format(backbone)
    assert len(check_posts(posts.folder, checkpoint=checkpoint).posts) == 8

    def picky(self, frame, resize=FrameProcessor.resize):
        if frame.size == (1, 1):
            raise ValueError("too small for me")
        return resize(self, frame)

    monkeypatch.setattr(FrameProcessor, "resize", picky)
    check_posts(posts.folder)
    with pytest.raises(RadarError, match=r"(?s)4 problems.*'small/train0'.*frame 1 .*too small for me"):
        check_posts(posts.folder, checkpoint=checkpoint)


@pytest.mark.parametrize(("tokens", "limit"), [(0, 256), (40, 40)])
def test_a_checkpoint_is_given_as_much_text_as_in_the_chain(posts, monkeypatch, tokens, limit):
    made = []
    load = lambda *args, **options: made.append(load_backbone(*args, **options)) or made[-1]  # noqa: E731
    monkeypatch.setattr("radar_lib.models.backbones.load_backbone", load)
    command = ["posts", "check", str(posts.folder), "--checkpoint", "standin:qwen3-vl-2b"]
    assert main([*command, "--text-tokens", str(tokens)]) == 0
    assert [one.max_text_tokens for one in made] == [limit]
