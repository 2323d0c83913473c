"""Posts of the built-in world as real videos, and back: what do OCR and speech recognition lose, by language?

Every frame shows the post's text on the screen on a bar of its own, in lines that fit; the words are spoken by
espeak-ng where it is installed, else the videos are silent and no word error is measured.
"""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from radar_lib.data.schema import LABEL_PREFIX
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, write_json
from radar_suite.intake.from_video import import_videos
from radar_suite.intake.one_video import Reading
from radar_suite.intake.texts import text_key
from radar_suite.world.build import CorpusConfig, plan_corpus, render_posts
from radar_suite.world.facts import DOMAINS
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.script import banner

PX, RATE, SHOWN = 512, 5, 2  # side, pictures a second, seconds that each frame is shown
LINE = 28  # characters of a line on the screen
SPEAKER, SPEAKER_RATE = "espeak-ng", 22_050  # samples a second
CANDIDATES = 2_000  # posts of traffic that are looked at
SIDECAR = ("post_id", "region", "language", "title", "pipeline", *(LABEL_PREFIX + name for name in CATEGORIES))


def edit_distance(wanted: Sequence[Any], read: Sequence[Any], *, within: bool = False) -> int:
    """Least insertions, deletions and substitutions that make `read` of `wanted` (Levenshtein, 1966).

    Args:
        within: what is read before and after `wanted` costs nothing.

    >>> edit_distance("kitten", "sitting"), edit_distance("kitten", "a mitten!", within=True)
    (3, 1)
    """
    row = [0] * (len(read) + 1) if within else list(range(len(read) + 1))
    for i, one in enumerate(wanted, start=1):
        before, row = row, [i]
        for j, other in enumerate(read):
            row.append(min(before[j] + (one != other), before[j + 1] + 1, row[j] + 1))
    return min(row) if within else row[-1]


def roundtrip(n: int, out: str | Path, *, reading: Reading, seed: int = 1, workers: int = 2) -> dict[str, Any]:
    """Render `n` posts as mp4, read them back with `reading`, and compare their texts.

    Returns:
        `lines`, one per language and '*' for all: posts, characters, character_error_rate (of the text on the screen,
        within all that was read in the frames; unread text counts in full), words, word_error_rate (None where
        nothing was spoken or heard). Case, spaces and Unicode styling do not count.

    Raises:
        RadarError: a package is missing, or `out` is taken.
    """
    out = Path(out)
    reading.check()
    if out.exists() and any(out.iterdir()):
        raise RadarError(f"{out} is taken. Choose a new folder.")
    speaks = shutil.which(SPEAKER) is not None
    rows = sample_rows(n, seed=seed)
    for row in tqdm(rows, desc="rendering videos", unit="video", disable=None):
        path = out / "videos" / f"{row['post_id']}.mp4"
        with atomic_path(path) as temporary:
            write_video(temporary, row, sound=speak(row["asr_text"], row["language"]) if speaks else b"")
        write_json(path.with_suffix(".json"), {name: row[name] for name in SIDECAR})
    posts = import_videos(out / "videos", out / "posts", reading=reading, workers=workers)
    read = posts.table().set_index("post_id").loc[[row["post_id"] for row in rows]]
    heard = speaks and reading.speech != "none"
    table = pd.DataFrame([_errors(row, *texts) for row, texts in zip(rows, read[["ocr_text", "asr_text"]].to_numpy(),
                                                                     strict=True)])  # fmt: skip
    lines = []
    for language, own in (("*", table), *table.groupby("language")):
        sums = own.drop(columns="language").sum().astype(int)
        rates = {f"{unit}_error_rate": round(float(sums[f"{unit}_errors"] / sums[f"{unit}s"]), 4)
                 if measured and sums[f"{unit}s"] else None
                 for unit, measured in (("character", reading.ocr), ("word", heard))}  # fmt: skip
        lines.append({"language": language, "posts": len(own), "characters": int(sums["characters"]),
                      "words": int(sums["words"]), **rates})  # fmt: skip
    return {"what": "posts of the built-in world as videos, read back", "posts": n, "px": PX, "seed": seed,
            "ocr": reading.ocr, "speech": reading.speech, "spoken": speaks, "lines": lines}  # fmt: skip


def _errors(row: dict[str, Any], seen: str, said: str) -> dict[str, Any]:
    """Characters and words of a post, and how many of them are read and heard wrongly."""
    text, words = text_key(row["ocr_text"]), text_key(row["asr_text"]).split()
    return {"language": row["language"], "characters": len(text), "words": len(words),
            "character_errors": edit_distance(text, text_key(seen), within=True),
            "word_errors": edit_distance(words, text_key(said).split())}  # fmt: skip


def sample_rows(n: int, *, seed: int) -> list[dict[str, Any]]:
    """Rows of `n` posts of traffic with text on the screen, the languages in turn."""
    sizes = dict.fromkeys(("train_posts", "validation_posts", "test_posts", "calibration_posts", "audit_posts"), 0)
    config = CorpusConfig(seed=seed, **sizes, unlabelled_posts=max(CANDIDATES, 10 * n), frame_px=PX)
    chosen = plan_corpus(config)[-1]
    languages = np.array(DOMAINS["language"])[chosen.facts["language"]]

    def shown(language: str) -> Iterator[dict[str, Any]]:
        for i in np.flatnonzero(languages == language).tolist():
            row = next(render_posts(config, chosen, i, i + 1))
            if row["ocr_text"] and row["frames"]:
                yield row

    turns = itertools.zip_longest(*map(shown, sorted(set(languages.tolist()))))
    return list(itertools.islice(filter(None, itertools.chain.from_iterable(turns)), n))


def write_video(path: Path, row: dict[str, Any], *, sound: bytes = b"") -> None:
    """A post as mp4 (H.264): each frame for `SHOWN` seconds, its text on the screen; `sound`: of a wave file."""
    import av

    bar = text_bar(row["ocr_text"])
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = PX, PX, "yuv420p"
        heard = out.add_stream("aac", rate=SPEAKER_RATE, layout="mono") if sound else None
        for i in range(len(row["frames"]) * SHOWN * RATE):
            picture = Image.open(io.BytesIO(row["frames"][i // (SHOWN * RATE)])).convert("RGB")
            picture.paste(bar, (0, PX - bar.height))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard is not None:
            with av.open(io.BytesIO(sound), format="wav") as wave:
                for frame in (*wave.decode(audio=0), None):
                    out.mux(heard.encode(frame))


def text_bar(text: str) -> Image.Image:
    """The whole text in white on black, as wide as a frame, a line for every `LINE` characters."""
    lines = textwrap.wrap(text, LINE)
    bar = Image.new("RGB", (PX, 48 * len(lines)))
    for i, line in enumerate(lines):
        bar.paste(banner(line, PX, 48, (0, 0, 0), (255, 255, 255)), (0, 48 * i))
    return bar


def speak(text: str, language: str) -> bytes:
    """The words as a wave file; empty where there are none, or the speaker knows no such voice."""
    command = [SPEAKER, "-v", language.split("-")[0], "--stdout", "--", text]
    return subprocess.run(command, capture_output=True, check=False).stdout if text else b""
