"""One video read with these settings: pictures, texts and hashes, kept on disk so that it is read once.

What a worker process imports, so it is light.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_file, digest_json, read_json, write_json
from radar_suite.intake.images import encode
from radar_suite.intake.recognition import check_engine, hears, read_speech, read_text
from radar_suite.intake.video import Unreadable, check_file, read_pictures, read_sound

ABOUT = "about.json"  # in a video's folder

About = dict[str, Any]  # what is known of a video, or its `cause` alone


@dataclass(frozen=True)
class Reading:
    """How videos are read.

    Attributes:
        frames: pictures per video.
        size: longest side of a picture, pixels.
        ocr: whether text in the pictures is read.
        speech: engine that hears: 'none', 'pocketsphinx' (English), 'whisper' or 'whisper:FOLDER_OR_ID'.
        max_seconds: longer videos are set aside.
    """

    frames: int = 4
    size: int = 512
    ocr: bool = True
    speech: str = "none"
    max_seconds: float = 600.0

    @property
    def packages(self) -> list[str]:
        """Modules of the extra `video` that this needs."""
        seen = ["rapidocr", "onnxruntime"] * self.ocr
        heard = ["silero_vad", "onnxruntime"] + ["pocketsphinx"] * (self.speech == "pocketsphinx")
        return list(dict.fromkeys(["av", "pdqhash"] + seen + heard * (self.speech != "none")))

    def missing(self) -> str:
        """What to install; '' where all is there."""
        names = ", ".join(name for name in self.packages if find_spec(name) is None)
        return f"videos need {names}, missing here: pip install 'radar-notebooks[video]'" if names else ""

    def check(self) -> None:
        """Raise RadarError where a package is missing, or no such engine or checkpoint is there."""
        if missing := self.missing():
            raise RadarError(missing)
        check_engine(self.speech)

    def versions(self) -> dict[str, str]:
        """Versions of these packages."""
        return {name: version(name) for name in self.packages}

    @lru_cache(maxsize=1)  # noqa: B019 (a worker has one)
    def digest(self) -> str:
        """Identity of the settings and of the packages that decode."""
        return digest_json(asdict(self) | {"versions": self.versions()})


def keep_video(path: Path, name: str, folder: Path, reading: Reading, language: str) -> About:
    """What is known of a video, or only the `cause` why nothing is. It is read once: what is known, and the pictures,
    lie in a folder of its own below `folder`, the `place`; its `frames` are the pictures' names.

    Raises:
        RadarError: a checkpoint does not load, or `folder` cannot be written.
    """
    try:
        check_file(path)
        digest = digest_file(path)
        place = folder / digest_json([name, digest, language, reading.digest()])
        if (place / ABOUT).is_file():
            return read_json(place / ABOUT)
        about, pictures = read_video(path, reading, language=language)
    except Unreadable as error:
        return {"cause": str(error)}
    except RadarError:
        raise
    except Exception as error:  # of a library, whatever the file made it do
        return {"cause": f"reading it failed ({type(error).__name__}: {error!s:.100})"}
    names = [f"{round(1000 * t):09d}.jpg" for t in about["times"]]
    about = {"file": name, "place": place.name, "digest": digest, **about, "frames": names}
    with atomic_path(place) as temporary:
        temporary.mkdir()
        for file, data in zip(names, pictures, strict=True):
            (temporary / file).write_bytes(data)
        write_json(temporary / ABOUT, about)
    return about


def read_video(path: Path, reading: Reading, *, language: str = "und") -> tuple[About, list[bytes]]:
    """As `read_pictures`, with pdq (hexadecimal), pdq_quality, ocr_text, asr_text; the pictures as JPEG.

    Raises:
        Unreadable: with the cause.
    """
    import pdqhash

    about, pictures = read_pictures(path, count=reading.frames, size=reading.size,
                                    max_seconds=reading.max_seconds)  # fmt: skip
    hashes = [pdqhash.compute(np.asarray(picture)) for picture in pictures]
    about["pdq"] = [np.packbits(bits.astype(np.uint8)).tobytes().hex() for bits, _ in hashes]
    about["pdq_quality"] = [int(quality) for _, quality in hashes]
    about["ocr_text"] = read_text(pictures) if reading.ocr else ""
    about["asr_text"] = read_speech(read_sound(path), reading.speech) if hears(reading.speech, language) else ""
    return about, [encode(picture, lossy=True) for picture in pictures]
