"""For all tests: small posts and images, and no deadline for generated examples, since a busy machine is no error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def encoded(width=20, height=12, *, seed=0, kind="PNG", **options):
    """An image of noise, as bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def sound_rows(n=24, *, categories=("A", "B"), frames=True):
    """Posts of all kinds of splits, with both labels of each category in train and in test."""
    splits = ("train", "test", "validation", "calibration", "unlabelled")
    rows = []
    for i in range(n):
        row = {"post_id": f"p{i}", "split": splits[i % len(splits)], "title": f'héllo, "{i}"\nline', "region": "BR"}
        row |= {f"label_{c}": (i // len(splits) + k) % 2 for k, c in enumerate(categories)}
        if row["split"] == "unlabelled":
            row |= {f"label_{c}": -1 for c in categories}
        if frames:
            row["frames"] = [encoded(seed=i + j) for j in range(i % 3)]
        rows.append(row)
    return rows


@pytest.fixture
def image():
    return encoded


@pytest.fixture
def sound():
    return sound_rows
