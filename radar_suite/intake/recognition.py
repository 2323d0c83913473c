"""What is written in pictures (OCR) and said in sound (speech recognition), by the engine that is named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from radar_lib.errors import RadarError
from radar_suite.intake.video import SAMPLE_RATE

ALIKE = 0.8  # similarity of two lines of text that are one line, read twice
ENGINES = ("none", "pocketsphinx", "whisper")
WHISPER = "openai/whisper-small"  # where no checkpoint is named

Sound = Float32[np.ndarray, " sample"]


def read_text(pictures: Sequence[Image.Image]) -> str:
    """Lines written in the pictures, each once, in the order of their first sight."""
    from radar_suite.intake.texts import text_key  # brings pandas, a second of each worker's

    lines: dict[str, str] = {}  # by `text_key`
    for picture in pictures:
        for line in _reader()(np.asarray(picture)[..., ::-1]).txts or ():
            if (key := text_key(line)) and not difflib.get_close_matches(key, lines, 1, ALIKE):
                lines[key] = line.strip()
    return "\n".join(lines.values())


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "critical", **threads})


def check_engine(speech: str) -> None:
    """Raise RadarError where there is no such engine, or not the checkpoint that it is to load."""
    engine, _, checkpoint = speech.partition(":")
    if engine not in ENGINES or (checkpoint and engine != "whisper"):
        raise RadarError(f"speech: {speech!r} is no engine. Use {', '.join(ENGINES)} or whisper:FOLDER.")
    if engine == "whisper":
        from transformers import AutoConfig

        try:
            AutoConfig.from_pretrained(checkpoint or WHISPER)
        except (OSError, ValueError) as error:
            raise RadarError(f"speech: no checkpoint {checkpoint or WHISPER}. Name a folder or a Hub id.") from error


def hears(speech: str, language: str) -> bool:
    """Whether an engine knows a language (BCP 47); pocketsphinx takes an unknown one (`und`) to be English."""
    return speech.startswith("whisper") or (speech != "none" and language.lower().split("-")[0] in ("en", "und"))


def read_speech(sound: Sound, speech: str) -> str:
    """What is said in `sound`, by an engine; '' where nobody speaks."""
    spoken = voiced(sound)
    return " ".join(filter(None, map(_engine(speech), spoken))) if spoken else ""


def voiced(sound: Sound) -> list[Sound]:
    """Stretches in which somebody speaks (Silero VAD), at most 30 s each."""
    if not len(sound):
        return []
    import torch
    from silero_vad import get_speech_timestamps

    spans = get_speech_timestamps(torch.from_numpy(sound), _voice_activity(), sampling_rate=SAMPLE_RATE,
                                  max_speech_duration_s=30)  # fmt: skip
    return [sound[span["start"] : span["end"]] for span in spans]


@lru_cache(maxsize=1)
def _voice_activity() -> Any:
    from silero_vad import load_silero_vad

    return load_silero_vad(onnx=True)


@lru_cache(maxsize=1)
def _engine(speech: str) -> Callable[[Sound], str]:
    engine, _, checkpoint = speech.partition(":")
    if engine == "whisper":
        from transformers import pipeline

        recogniser = pipeline("automatic-speech-recognition", checkpoint or WHISPER, device="cpu",
                              model_kwargs={"use_safetensors": True})  # fmt: skip
        return lambda sound: recogniser(sound)["text"].strip()
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def words(sound: Sound) -> str:
        decoder.start_utt()
        decoder.process_raw((sound * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        return decoder.hyp().hypstr if decoder.hyp() else ""

    return words
