"""Speed of `radar posts from-video`: 200 H.264 files of 20 s at 360p, one in ten of them damaged.

The files are copies of a few films, each with a byte of its own at the end, so that encoding them does not take longer
than reading. What is timed is the command as users start it, its imports included. CPU seconds are those of all its
processes: on a shared machine they say more than the clock.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from radar_lib.data.posts import open_posts
from radar_suite.intake.from_video import SET_ASIDE

RATE, WIDTH, HEIGHT = 30, 640, 360
FREE = b"\x00\x00\x00\x10free"  # a box of mp4 that means nothing


def video_record(*, files: int = 200, seconds: int = 20, films: int = 4, workers: int = 2) -> dict[str, Any]:
    """One line: videos a second and CPU seconds per video, without OCR and speech."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "videos"
        folder.mkdir()
        sources = [film(Path(temporary) / f"{i}.mp4", seconds=seconds, seed=i) for i in range(films)]
        for i in range(files):
            data = sources[i % films].read_bytes()
            cut = len(data) * 2 // 3 if i % 10 == 9 else len(data)
            (folder / f"{i:04}.mp4").write_bytes(data[:cut] + (FREE + i.to_bytes(8, "big")) * (cut == len(data)))
        size = sum(path.stat().st_size for path in folder.iterdir())
        began, spent = perf_counter(), _cpu_seconds()
        out = Path(temporary) / "posts"
        options = ("--out", out, "--no-ocr", "--categories", "risk", "--workers", workers)
        command = [sys.executable, "-m", "radar_suite", "posts", "from-video", folder, *options]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        elapsed, spent = perf_counter() - began, _cpu_seconds() - spent
        posts = open_posts(out)
        aside = [json.loads(line)["file"] for line in (out / SET_ASIDE).read_text().splitlines()]
    damaged = [f"{i:04}.mp4" for i in range(9, files, 10)]
    line = {"workers": workers, "videos_per_second": round(files / elapsed, 1), "seconds": round(elapsed, 1),
            "cpu_seconds_per_video": round(spent / files, 3), "videos_per_cpu_second": round(files / spent, 1),
            "read": len(posts), "damaged": len(damaged), "damaged_and_named": len({*damaged} & {*aside})}  # fmt: skip
    return {"what": "a folder of videos into a corpus, without OCR and speech", "files": files, "films": films,
            "seconds_each": seconds, "pixels": f"{WIDTH} x {HEIGHT}", "pictures_a_second": RATE,
            "mib": round(size / 2**20), "lines": [line]}  # fmt: skip


def film(path: Path, *, seconds: int, seed: int) -> Path:
    """A camera that pans over a picture of shapes, with grain, cut every few seconds; x264 at its defaults."""
    import av

    generator = np.random.default_rng(seed)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(seconds * RATE):
            if i % (5 * RATE) == 0:
                coarse = generator.integers(0, 256, (24, 42, 3), dtype=np.uint8)
                scene = np.asarray(Image.fromarray(coarse).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC))
            x, y = 2 * (i % (5 * RATE)), i % (5 * RATE)
            grain = generator.integers(-4, 5, (HEIGHT, WIDTH, 1))
            picture = np.clip(scene[y : y + HEIGHT, x : x + WIDTH] + grain, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(os.times()[:2]) + children.ru_utime + children.ru_stime
