"""One video file: pictures at evenly spread times as a person sees them, what is written in them, what is said.

Whoever uploads a file decides what is in it, so none is trusted: two families of containers are opened, from bytes
alone, within limits of size, length, pixels and streams. What is wrong with a file is its cause, never a crash.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from PIL import Image

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_file, digest_json, read_json, write_json
from radar_suite.intake.images import encode, shrink
from radar_suite.intake.text import text_key

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # what mp4 and mov begin with, after 4 bytes
EBML = b"\x1a\x45\xdf\xa3"  # what webm and mkv begin with
CONTAINERS = "mov,mp4,matroska,webm"  # a playlist under a video's name would open other files
MOST_BYTES, MOST_PIXELS, MOST_STREAMS = 4 << 30, 1 << 25, 32  # 2^25: 8K pictures
MOST_PICTURES = 240  # a second, over the seconds that are allowed
SHORTER = (1.0, 0.05)  # seconds and share that a whole file's packets may end before its header says
SKIPS = ("h264", "hevc")  # decoders in which pictures that no other needs can be passed over, exactly
NO_INDEX = "moov atom not found"  # as the library says it
SAMPLE_RATE = 16_000  # of sound, for voice activity and speech engines
ALIKE = 0.8  # similarity of two lines of text that are one line, read twice
ENGINES = ("none", "pocketsphinx", "whisper")
PACKAGES = {"av": "av", "pdqhash": "pdqhash", "rapidocr": "rapidocr", "onnxruntime": "onnxruntime",
            "silero_vad": "silero-vad", "pocketsphinx": "pocketsphinx"}  # fmt: skip
# The linear part of a display matrix, columns first, and how PIL does the same.
_TURNS = {(-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT, (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
          (-1, 0, 0, -1): Image.Transpose.ROTATE_180, (0, 1, -1, 0): Image.Transpose.ROTATE_270,
          (0, -1, 1, 0): Image.Transpose.ROTATE_90, (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
          (0, -1, -1, 0): Image.Transpose.TRANSVERSE}  # fmt: skip


class Unreadable(Exception):
    """A file that cannot become a post; the message is the cause."""


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
        heard = ["silero_vad", "onnxruntime"] + ["pocketsphinx"] * (self.speech == "pocketsphinx")
        return ["av", "pdqhash"] + ["rapidocr", "onnxruntime"] * self.ocr + heard * (self.speech != "none")

    def missing(self) -> str:
        """What to install; '' where all is there."""
        names = [PACKAGES[name] for name in dict.fromkeys(self.packages) if find_spec(name) is None]
        return f"videos need {', '.join(names)}, missing here: pip install 'radar-notebooks[video]'" if names else ""

    def check(self) -> None:
        """Raise RadarError where a package is missing, or no such engine or model is there."""
        if missing := self.missing():
            raise RadarError(missing)
        engine, _, model = self.speech.partition(":")
        if engine not in ENGINES or (model and engine != "whisper"):
            raise RadarError(f"speech: {self.speech!r} is no engine. Use {', '.join(ENGINES)} or whisper:FOLDER.")
        if model.startswith((".", "/")) and not Path(model, "config.json").is_file():
            raise RadarError(f"speech: {model} holds no checkpoint (no config.json). Name a folder or a Hub id.")

    def digest(self) -> str:
        """Identity of the settings and of the packages that decode."""
        used = {name: version(PACKAGES[name]) for name in dict.fromkeys(self.packages)}
        return digest_json(asdict(self) | {"versions": used})


@dataclass(frozen=True)
class Track:
    """The pictures of a video stream as its container lists them, in the order of the file; times in `time_base`."""

    pts: Int64[np.ndarray, " picture"]
    key: Bool[np.ndarray, " picture"]
    end: int  # of the last picture
    time_base: float  # seconds

    @property
    def start(self) -> int:
        return int(self.pts.min())

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * self.time_base

    def shown_at_middles(self, n: int) -> list[int]:
        """Times of the pictures that are on the screen in the middle of each of `n` equal parts, without repeats."""
        middles = [self.start + (2 * i + 1) * (self.end - self.start) // (2 * n) for i in range(n)]
        order = np.sort(self.pts)
        return [int(order[i]) for i in sorted(set(np.searchsorted(order, middles, side="right") - 1))]

    def key_before(self, pts: int) -> int:
        """Place of the picture from which decoding must begin to see that of time `pts`."""
        place = int(np.flatnonzero(self.pts == pts)[0])
        before = np.flatnonzero(self.key[: place + 1] & (self.pts[: place + 1] <= pts))
        return int(before[-1]) if len(before) else 0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, list]]:
    """A container, and the list that errors of its libraries go to; whatever goes wrong inside becomes Unreadable."""
    import av
    import av.logging

    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    with av.logging.Capture() as errors:
        try:
            with open(path, "rb") as file, av.open(file, options={"format_whitelist": CONTAINERS}) as container:
                yield container, errors
        except (av.FFmpegError, OSError, ValueError) as error:
            said = errors[-1][2].strip() if errors else getattr(error, "strerror", None) or str(error)
            cut = "it is cut off: its index is missing" if said == NO_INDEX else ""
            raise Unreadable(cut or f"it cannot be decoded ({said:.100})") from error


def read_pictures(path: Path, *, count: int, max_seconds: float) -> tuple[Track, dict[str, Any], list[Image.Image]]:
    """The track, what is known of it, and the pictures of `Track.shown_at_middles(count)`.

    Between key pictures only what the wanted ones need is decoded. Where that meets an error of the decoder, the
    whole stream is decoded instead, so that the result is that of full decoding; errors that remain are the file's.

    Raises:
        Unreadable: with the cause.
    """
    import av

    with opened(path) as (container, errors):
        video = _video_stream(container, max_seconds)
        track = _list_pictures(container, video, max_seconds)
        wanted = track.shown_at_middles(count)
        about = {"seconds": round(track.seconds, 3), "pictures": len(track.pts), "codec": video.codec_context.name}
        errors.clear()
        found: dict[int, Image.Image] = {}
        with contextlib.suppress(OSError, ValueError, av.FFmpegError, Unreadable):
            found = _decode_at(container, video, track, wanted)
        if len(found) == len(wanted) and not errors:
            return track, about, [found[pts] for pts in wanted]
    with opened(path) as (container, errors):
        video = _video_stream(container, max_seconds)
        found = _decode_through(container.demux(video), video, set(wanted), skip=False)
        if errors or len(found) < len(wanted):
            said = errors[0][2].strip() if errors else "pictures are missing"
            raise Unreadable(f"its pictures are damaged ({said:.100})")
        return track, about, [found[pts] for pts in wanted]


def _video_stream(container: Any, max_seconds: float) -> Any:
    import av

    if len(container.streams) > MOST_STREAMS:
        raise Unreadable(f"it has {len(container.streams)} streams (limit {MOST_STREAMS})")
    cover = av.stream.Disposition.attached_pic
    video = next((stream for stream in container.streams.video if not stream.disposition & cover), None)
    if video is None:
        raise Unreadable("it has no video stream")
    if container.duration and container.duration / 1e6 > max_seconds:
        raise Unreadable(_too_long(container.duration / 1e6, max_seconds))
    context = video.codec_context
    if context is None:
        raise Unreadable("its codec is unknown")
    if "enc" in str(context.codec_tag)[:3]:
        raise Unreadable("it is encrypted")
    if context.width * context.height > MOST_PIXELS:
        raise Unreadable(f"its pictures have {context.width} x {context.height} pixels (limit {MOST_PIXELS:,})")
    context.thread_count = 1  # workers are processes
    context.options = {"max_pixels": str(MOST_PIXELS)}  # also of pictures that grow later
    return video


def _too_long(seconds: float, most: float) -> str:
    return f"it is {seconds:,.0f} s long (limit {most:,.0f})"


def _list_pictures(container: Any, video: Any, max_seconds: float) -> Track:
    """All packets, without decoding: the pictures, and whether the file ends where its header says."""
    pictures, ends = [], [0.0]
    for packet in container.demux():
        if packet.dts is None and packet.pts is None and not packet.size:  # the end of a stream
            continue
        if packet.is_corrupt:
            raise Unreadable("it is cut off or damaged")
        if packet.pts is not None and packet.time_base:
            ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is video and not packet.is_discard:
            if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
                raise Unreadable("it is encrypted")
            pictures.append((packet.pts, packet.is_keyframe, packet.duration or 0))
            if len(pictures) > MOST_PICTURES * max_seconds:
                raise Unreadable(f"it has more than {MOST_PICTURES * max_seconds:,.0f} pictures")
    if not pictures:
        raise Unreadable("it has no pictures")
    pts, key, durations = zip(*pictures, strict=True)
    if None in pts:
        raise Unreadable("its pictures have no times")
    shown = np.array(pts)
    order = np.sort(shown)
    last = durations[int(shown.argmax())] or (int(np.median(np.diff(order))) if len(order) > 1 else 1)
    track = Track(shown, np.array(key), int(order[-1]) + last, float(video.time_base))
    if track.seconds > max_seconds:
        raise Unreadable(_too_long(track.seconds, max_seconds))
    said = (container.duration or 0) / 1e6
    begin = (container.start_time or 0) / 1e6
    if said - (max(ends) - begin) > max(SHORTER[0], SHORTER[1] * said):
        raise Unreadable(f"it is cut off: {max(ends) - begin:,.1f} of {said:,.1f} s are there")
    return track


def _decode_at(container: Any, video: Any, track: Track, wanted: list[int]) -> dict[int, Image.Image]:
    parts: dict[int, set[int]] = {}
    for pts in wanted:
        parts.setdefault(track.key_before(pts), set()).add(pts)
    found: dict[int, Image.Image] = {}
    for start, here in parts.items():
        container.seek(int(track.pts[start]), stream=video)
        found |= _decode_through(container.demux(video), video, here, skip=video.codec_context.name in SKIPS)
    return found


def _decode_through(packets: Iterator[Any], video: Any, wanted: set[int], *, skip: bool) -> dict[int, Image.Image]:
    """Decode until the wanted pictures are found; with `skip` the others only as far as they are needed for these."""
    found: dict[int, Image.Image] = {}
    for packet in packets:
        if skip:
            video.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in packet.decode():
            if frame.pts in wanted and frame.pts not in found:
                if frame.is_corrupt:
                    raise Unreadable("its pictures are damaged")
                found[frame.pts] = _as_shown(frame, video.sample_aspect_ratio)
        if skip and len(found) == len(wanted):
            break
    return found


def _as_shown(frame: Any, aspect: Any) -> Image.Image:
    """Square pixels, upright."""
    picture = frame.to_image()
    if aspect and aspect > 0 and aspect != 1 and max(aspect, 1 / aspect) < 10:
        picture = picture.resize((max(1, round(picture.width * aspect)), picture.height), Image.Resampling.BILINEAR)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, _, c, d, *_ = np.rint(np.frombuffer(bytes(matrix), np.int32) / 65536).astype(int).tolist()
        if (turn := _TURNS.get((a, b, c, d))) is not None:
            picture = picture.transpose(turn)
    return picture


def read_sound(path: Path) -> Float32[np.ndarray, " sample"]:
    """The soundtrack, mono at `SAMPLE_RATE`, -1 to 1; empty where there is none."""
    import av

    with opened(path) as (container, _):
        if not container.streams.audio:
            return np.empty(0, np.float32)
        resampler, parts = av.AudioResampler("s16", "mono", SAMPLE_RATE), []
        for frame in (*container.decode(container.streams.audio[0]), None):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(parts).astype(np.float32) / 32768 if parts else np.empty(0, np.float32)


def voiced(sound: Float32[np.ndarray, " sample"]) -> list[Float32[np.ndarray, " sample"]]:
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


def hear(path: Path, speech: str, language: str) -> str:
    """What is said in a video. Engines of one language leave others unheard: '' for them."""
    english = language.lower().split("-")[0] in ("en", "und")
    if speech == "none" or (speech == "pocketsphinx" and not english):
        return ""
    spoken = voiced(read_sound(path))
    return " ".join(filter(None, map(_engine(speech), spoken))) if spoken else ""


@lru_cache(maxsize=1)
def _engine(speech: str) -> Callable[[np.ndarray], str]:
    engine, _, model = speech.partition(":")
    return _pocketsphinx() if engine == "pocketsphinx" else _whisper(model or "openai/whisper-small")


def _pocketsphinx() -> Callable[[np.ndarray], str]:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def words(sound: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw((sound * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        return decoder.hyp().hypstr if decoder.hyp() else ""

    return words


def _whisper(checkpoint: str) -> Callable[[np.ndarray], str]:
    import torch
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(checkpoint, use_safetensors=True).eval()

    def words(sound: np.ndarray) -> str:
        heard = processor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            return processor.batch_decode(model.generate(heard), skip_special_tokens=True)[0].strip()

    return words


def read_text(pictures: list[Image.Image]) -> str:
    """Lines written in the pictures, each once, in the order of their first sight."""
    lines: list[str] = []
    keys: list[str] = []
    for picture in pictures:
        for line in _reader()(np.asarray(picture)[..., ::-1]).txts or ():
            key = text_key(line)
            same = any(difflib.SequenceMatcher(None, key, other).ratio() >= ALIKE for other in keys)
            if key and not same:
                lines.append(line.strip())
                keys.append(key)
    return "\n".join(lines)


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "critical", **threads})


def read_video(path: Path, reading: Reading, *, language: str = "und") -> tuple[dict[str, Any], list[bytes]]:
    """What is known of a video, with its texts and the PDQ hashes of its pictures, and the pictures as JPEG.

    Raises:
        Unreadable: with the cause.
    """
    import pdqhash

    track, about, pictures = read_pictures(path, count=reading.frames, max_seconds=reading.max_seconds)
    times = [round((pts - track.start) * track.time_base, 3) for pts in track.shown_at_middles(reading.frames)]
    about |= {"width": pictures[0].width, "height": pictures[0].height, "times": times}
    pictures = [shrink(picture, reading.size) for picture in pictures]
    hashes = [pdqhash.compute(np.asarray(picture)) for picture in pictures]
    about["pdq"] = [np.packbits(bits.astype(np.uint8)).tobytes().hex() for bits, _ in hashes]
    about["pdq_quality"] = [int(quality) for _, quality in hashes]
    about["ocr_text"] = read_text(pictures) if reading.ocr else ""
    about["asr_text"] = hear(path, reading.speech, language)
    return about, [encode(picture, lossy=True) for picture in pictures]


def keep_video(path: Path, name: str, folder: Path, reading: Reading, language: str) -> str:
    """Read a video into a folder of its own below `folder`, unless it is there; returns that folder's name.

    `about.json` in it has what `read_video` knows, or the cause why there is nothing to see; pictures lie beside it.
    """
    cause = file_fault(path)
    try:
        digest = "" if cause else digest_file(path)
    except OSError as error:
        cause, digest = f"it cannot be read ({error.strerror})", ""
    place = folder / digest_json([name, digest, cause, language, reading.digest()])
    if (place / "about.json").is_file():
        return place.name
    about, pictures = {"cause": cause}, []
    if not cause:
        try:
            about, pictures = read_video(path, reading, language=language)
        except Unreadable as error:
            about = {"cause": str(error)}
        except RadarError:
            raise
        except Exception as error:  # of a library, whatever the file made it do
            about = {"cause": f"reading it failed ({type(error).__name__}: {error!s:.100})"}
    with atomic_path(place) as temporary:
        temporary.mkdir()
        names = [f"{round(1000 * t):09d}.jpg" for t in about.get("times", ())]
        for file, data in zip(names, pictures, strict=True):
            (temporary / file).write_bytes(data)
        write_json(temporary / "about.json", {"file": name, "digest": digest, **about, "frames": names})
    return place.name


def file_fault(path: Path) -> str:
    """Why a path is no file to open; '' where it is one."""
    try:
        if not path.is_file():
            return "it is no file"
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if size > MOST_BYTES:
        return f"it has {size:,} bytes (limit {MOST_BYTES:,})"
    known = head[4:] in BOXES or head[:4] == EBML
    return "" if known else "it is no mp4, mov, webm or mkv file" if size else "it is empty"


def kept(place: Path) -> dict[str, Any]:
    """What `keep_video` wrote."""
    return read_json(place / "about.json")
