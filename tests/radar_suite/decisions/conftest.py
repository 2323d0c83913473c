"""A router whose logits spread, its bundle, and bad posts of many kinds."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.decisions.bundle import calibrate
from radar_suite.decisions.source import COLUMNS
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny
from tests.radar_lib.models.conftest import one_thread  # noqa: F401

CATEGORIES = ("A", "B")
WORDS = ["cheap loans today", "a calm walk", "follow me to win", "cooking rice at home", "مرحبا بالجميع", "день ног"]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int = 0, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def sound_post(i: int) -> dict:
    frames = [picture(i + j) for j in range(i % 3)]
    return {"post_id": f"p{i:05d}", "title": f"{WORDS[i % 6]} {i}", "ocr_text": WORDS[i % 5] * (i % 4), "asr_text": "",
            "frames": frames}  # fmt: skip


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it is 60,000 pixels square."""
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")


def animation() -> bytes:
    buffer, frames = io.BytesIO(), [Image.fromarray(np.full((20, 20), v, np.uint8)) for v in (0, 100, 200)]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def broken(data: bytes) -> bytes:
    """Bytes in the middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes(255 - b for b in data[middle : middle + 40]) + data[middle + 40 :]


JPEG, PNG = picture(1, (200, 150), "JPEG"), picture(2, (200, 150))
FRAMES = {
    "torn jpeg": JPEG[: len(JPEG) // 2],
    "torn png": PNG[: len(PNG) // 2],
    "torn bmp": picture(3, kind="BMP")[:900],
    "torn tiff": picture(3, kind="TIFF")[:700],
    "torn webp": picture(3, (90, 90), "WEBP")[:200],
    "changed png": broken(PNG),
    "no bytes": b"",
    "null bytes": None,
    "text": b"this is no image at all",
    "html": b"<html><body>404 not found</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "heic": b"\x00\x00\x00\x18ftypheic" + bytes(60),
    "video": b"\x00\x00\x00\x20ftypisom" + bytes(60),
    "pdf": b"%PDF-1.7 ...",
    "zip": b"PK\x03\x04" + bytes(40),
    "header only": JPEG[:20],
    "animation": animation(),
    "bomb": bomb(),
    "strip": picture(4, (3000, 2)),
}
# what is wrong with a post -> what it holds, and the cause that it must have
HOSTILE: dict[str, tuple[dict, str]] = {
    **{f"frame: {name}": ({"frames": [{"bytes": data, "path": "/etc/passwd"}]}, "frame")
       for name, data in FRAMES.items()},
    "second frame torn": ({"frames": [{"bytes": JPEG}, {"bytes": FRAMES["torn jpeg"]}]}, "frame"),
    "null frame": ({"frames": [{"bytes": PNG}, None]}, "frame"),
    "null frames": ({"frames": None}, "frames"),
    "too many frames": ({"frames": [{"bytes": picture(1, (4, 4))}] * 65}, "limit"),
    "too much text": ({"asr_text": "blah " * 250_000}, "limit"),
    "null title": ({"title": None}, "text"),
    "null ocr": ({"ocr_text": None}, "text"),
    "null asr": ({"asr_text": None}, "text"),
    "nothing": ({"title": " \n", "ocr_text": "", "frames": []}, "empty"),
    "null id": ({"post_id": None}, "post_id"),
    "empty id": ({"post_id": ""}, "post_id"),
}  # fmt: skip
# bad for people, sound for a router: these are scored
ODD = {
    "special tokens": {"title": "<|im_end|><image><|vision_start|>" * 3},
    "nul and bell": {"title": "a\0b\a"},
    "right to left": {"title": "\u202eabc\u2066"},
    "emoji": {"title": "🙂" * 50},
    "grey frame": {"frames": [{"bytes": picture(5, (1, 1))}]},
    "palette": {"frames": [{"bytes": picture(6, kind="GIF")}]},
}


def hostile_posts(n: int) -> tuple[list[dict], list[str]]:
    """So many posts, a sound one after each bad one, and the cause of each; "" for those to be scored."""
    kinds = [*HOSTILE.values(), *(({}, ""),), *((odd, "") for odd in ODD.values())]
    posts, causes = [], []
    for i in range(n):
        change, cause = kinds[(i // 2) % len(kinds)] if i % 2 == 0 else ({}, "")
        post = sound_post(i) | {"title": f"{WORDS[i % 6]} {i}"}
        post["frames"] = [{"bytes": data, "path": None} for data in post["frames"]]
        posts.append(post | change)
        causes.append(cause)
    return posts, causes


def write_posts(path, posts, *, group_rows=50, **columns):
    """Posts as a Parquet file, whatever they hold."""
    schema = pa.schema([(name, pa.list_(STRUCT) if name == "frames" else pa.string()) for name in COLUMNS])
    rows = [{**post, "frames": _frames(post["frames"])} for post in posts]
    table = pa.Table.from_pylist(rows, schema=schema)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def _frames(frames):
    return frames and [{"bytes": f, "path": None} if isinstance(f, bytes) else f for f in frames]


@pytest.fixture(scope="session")
def make():
    """The functions above, for tests in other files."""
    import types

    return types.SimpleNamespace(
        sound=sound_post, hostile=hostile_posts, write=write_posts, picture=picture, kinds=HOSTILE
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "qwen3-vl-2b"
    write_random_standin(folder, folder.name, WORDS * 20, geometry=tiny(GEOMETRIES[folder.name]), vocabulary=380)
    return folder


@pytest.fixture(scope="session")
def build(checkpoint):
    """Makes routers, each on a backbone of its own, whose weights are as if trained."""

    def router(seed: int = 1, categories=CATEGORIES) -> RadarRouter:
        made = RadarRouter(load_backbone(checkpoint), RouterConfig(categories, lora_rank=2), seed=seed).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in made.trainable_parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        return made

    return router


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """220 calibration posts, a quarter violating per risk."""
    rows = [
        sound_post(i) | {"split": "calibration", "pipeline": "traffic", "region": "BR" if i % 3 else "FI",
                         "label_A": int(i % 4 == 0), "label_B": int(i % 4 == 1) if i % 5 else -1}
        for i in range(220)
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("corpus") / "posts"
    return write_corpus(folder, rows, name="toy", kind="imported", categories=CATEGORIES)


@pytest.fixture(scope="session")
def bundle(build, corpus, tmp_path_factory):
    return calibrate(build(), corpus, tmp_path_factory.mktemp("bundles") / "bundle", recall=0.8)
