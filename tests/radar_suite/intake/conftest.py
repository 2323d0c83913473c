"""Small posts, tables and images for the tests of the data folder."""

from __future__ import annotations

import csv
import io
import json
import runpy
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


class Workplace:
    """A folder with images and the tables that a test writes."""

    def __init__(self, folder: Path, image, sound) -> None:
        self.sound = sound
        self.folder, self.images, self.out = folder, folder / "images", folder / "corpus"
        (self.images / "deep").mkdir(parents=True)
        (self.images / "a.png").write_bytes(image(seed=1))
        (self.images / "deep" / "b.jpg").write_bytes(image(seed=2, kind="JPEG"))

    def rows(self, n=20):
        rows = self.sound(n, frames=False)
        for i, row in enumerate(rows):
            row["frames"] = ("", "a.png", "a.png|deep/b.jpg")[i % 3]
        return rows

    def csv(self, rows, *, name="posts.csv", delimiter=",", encoding="utf-8"):
        header = list(dict.fromkeys(key for row in rows for key in row))
        path = self.folder / name
        with open(path, "w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, header, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    def jsonl(self, rows, *, name="posts.jsonl"):
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path


@pytest.fixture
def place(tmp_path, image, sound):
    return Workplace(tmp_path, image, sound)


def reposted(post, rng, *, near):
    """The post again: as it is, or as reposting leaves it (cropped, scaled, re-encoded; case, emoji, hashtags)."""
    copy = dict(post)
    if near:
        title = post["title"]
        copy["title"] = str(rng.choice([title.upper(), title + " \U0001f525\U0001f525", "#fyp " + title]))
        copy["frames"] = [_handed_on(frame, rng) for frame in post["frames"]]
    return copy


def _handed_on(frame, rng):
    with Image.open(io.BytesIO(frame)) as image:
        picture = image.convert("RGB")
    left, top, right, bottom = rng.uniform(0, 0.03, 4) * np.tile(picture.size, 2)
    picture = picture.crop((round(left), round(top), round(picture.width - right), round(picture.height - bottom)))
    scale = rng.uniform(0.8, 1.15)
    buffer = io.BytesIO()
    picture.resize((round(picture.width * scale), round(picture.height * scale))).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def scene(rng, side=64):
    """A picture with large shapes, as JPEG: what a perceptual hash is made for, and noise is not."""
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for _ in range(7):
        (x, y), (w, h) = rng.integers(0, side, 2), rng.integers(side // 6, side // 2, 2)
        pen.ellipse((int(x - w), int(y - h), int(x + w), int(y + h)), fill=tuple(rng.integers(0, 256, 3).tolist()))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def repost():
    return reposted


@pytest.fixture
def draw():
    return scene


@pytest.fixture(scope="session")
def films():
    """Makers of small videos, `films.py`; skips where the extra `video` is not installed."""
    for name in ("av", "pdqhash"):
        pytest.importorskip(name, reason="the extra `video` is not installed")
    return types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("films.py"))))
