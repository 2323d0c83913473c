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
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from radar_lib.data.schema import LABEL_PREFIX
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, write_json
from radar_suite.intake.from_video import import_videos
from radar_suite.intake.text import text_key
from radar_suite.intake.video import Reading
from radar_suite.world.build import CorpusConfig, plan_corpus, render_posts
from radar_suite.world.facts import DOMAINS
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.script import banner

PX, RATE, SHOWN = 512, 5, 2  # side, pictures a second, seconds that each frame is shown
LINE = 28  # characters of a line on the screen
SPEAKER = "espeak-ng"
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
    speaks = shutil.which(SPEAKER)
    rows = sample_rows(n, seed=seed)
    for row in tqdm(rows, desc="rendering videos", unit="video", disable=None):
        path = out / "videos" / f"{row['post_id']}.mp4"
        with atomic_path(path) as temporary:
            write_video(temporary, row, sound=speak(row["asr_text"], row["language"]) if speaks else None)
        write_json(path.with_suffix(".json"), {name: row[name] for name in SIDECAR})
    posts = import_videos(out / "videos", out / "posts", reading=reading, workers=workers)
    read = posts.table().set_index("post_id")
    heard = bool(speaks) and reading.speech != "none"
    languages = sorted({row["language"] for row in rows})
    lines = [_errors(rows, read, language, ocr=reading.ocr, heard=heard) for language in ("*", *languages)]
    return {"what": "posts of the built-in world as videos, read back", "posts": n, "px": PX, "seed": seed,
            "ocr": reading.ocr, "speech": reading.speech, "spoken": bool(speaks), "lines": lines}  # fmt: skip


def sample_rows(n: int, *, seed: int) -> list[dict[str, Any]]:
    """Rows of `n` posts of traffic with text on the screen, the languages in turn."""
    sizes = dict.fromkeys(("train_posts", "validation_posts", "test_posts", "calibration_posts", "audit_posts"), 0)
    config = CorpusConfig(seed=seed, **sizes, unlabelled_posts=max(CANDIDATES, 10 * n), frame_px=PX)
    chosen = plan_corpus(config)[-1]
    languages = np.array(DOMAINS["language"])[chosen.facts["language"]]
    queues = {language: iter(np.flatnonzero(languages == language)) for language in sorted(set(languages.tolist()))}
    rows: list[dict[str, Any]] = []
    for language in itertools.cycle(list(queues)):
        if len(rows) == n or not queues:
            return rows
        if language in queues:
            drawn = (next(render_posts(config, chosen, int(i), int(i) + 1)) for i in queues[language])
            row = next((row for row in drawn if row["ocr_text"] and row["frames"]), None)
            if row is None:
                del queues[language]
            else:
                rows.append(row)
    return rows


def write_video(path: Path, row: dict[str, Any], *, sound: np.ndarray | None) -> None:
    """A post as mp4 (H.264): each frame for `SHOWN` seconds, its text on the screen; `sound`: int16 at 16 kHz."""
    import av

    bar = text_bar(row["ocr_text"])
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = PX, PX, "yuv420p"
        heard = out.add_stream("aac", rate=48_000) if sound is not None else None
        for i in range(len(row["frames"]) * SHOWN * RATE):
            picture = Image.open(io.BytesIO(row["frames"][i // (SHOWN * RATE)])).convert("RGB")
            picture.paste(bar, (0, PX - bar.height))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard is not None:
            frame = av.AudioFrame.from_ndarray(np.repeat(sound, 3)[None], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(heard.encode(frame))
            out.mux(heard.encode(None))


def text_bar(text: str) -> Image.Image:
    """The whole text in white on black, as wide as a frame, a line for every `LINE` characters."""
    lines = textwrap.wrap(text, LINE)
    bar = Image.new("RGB", (PX, 48 * len(lines)))
    for i, line in enumerate(lines):
        bar.paste(banner(line, PX, 48, (0, 0, 0), (255, 255, 255)), (0, 48 * i))
    return bar


def speak(text: str, language: str) -> np.ndarray | None:
    """The words as int16 samples at 16 kHz; None where there are none, or the speaker knows no such voice."""
    import av

    if not text:
        return None
    command = [SPEAKER, "-v", language.split("-")[0], "--stdout", "--", text]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode or not done.stdout:
        return None
    resampler, parts = av.AudioResampler("s16", "mono", 16_000), []
    with av.open(io.BytesIO(done.stdout), format="wav") as wave:
        for frame in (*wave.decode(audio=0), None):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(parts) if parts else None


def _errors(rows: Sequence[dict[str, Any]], read: Any, language: str, *, ocr: bool, heard: bool) -> dict[str, Any]:
    """One line of the record."""
    own = [row for row in rows if language in ("*", row["language"])]
    characters = words = character_errors = word_errors = 0
    for row in own:
        seen, said = read.loc[row["post_id"], ["ocr_text", "asr_text"]]
        wanted, spoken = text_key(row["ocr_text"]), text_key(row["asr_text"]).split()
        characters, words = characters + len(wanted), words + len(spoken)
        character_errors += edit_distance(wanted, text_key(seen), within=True) if ocr else 0
        word_errors += edit_distance(spoken, text_key(said).split()) if heard else 0
    return {"language": language, "posts": len(own), "characters": characters, "words": words,
            "character_error_rate": round(character_errors / characters, 4) if ocr and characters else None,
            "word_error_rate": round(word_errors / words, 4) if heard and words else None}  # fmt: skip
