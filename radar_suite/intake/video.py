"""Pictures and sound of one video file, as a person sees and hears it.

Whoever uploads a file decides what is in it, so none is trusted: two families of containers are opened, from bytes
alone, within limits of size, length, pixels and streams. What is wrong with a file is its cause, never a crash.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # what mp4 and mov begin with, after 4 bytes
EBML = b"\x1a\x45\xdf\xa3"  # what webm and mkv begin with
CONTAINERS = "mov,mp4,matroska,webm"  # a playlist under a video's name would open other files
MOST_BYTES, MOST_PIXELS, MOST_STREAMS = 4 << 30, 1 << 25, 32  # 2^25: 8K pictures
MOST_PICTURES = 240  # a second, over the seconds that are allowed
SHORTER = (1.0, 0.05)  # seconds and share that a whole file's packets may end before its header says
SKIPS = ("h264", "hevc")  # decoders in which pictures that no other needs can be passed over, exactly
NO_INDEX = "moov atom not found"  # as the library says it
SAMPLE_RATE = 16_000  # of sound

Times = Int64[np.ndarray, " picture"]  # in the stream's time base


class Unreadable(Exception):
    """A file that cannot become a post; the message is the cause."""


def check_file(path: Path) -> None:
    """Raise Unreadable where a path is no file to open."""
    if not path.is_file():
        raise Unreadable("it is no file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise Unreadable(f"it has {size:,} bytes (limit {MOST_BYTES:,})")
    with open(path, "rb") as file:
        head = file.read(8)
    if head[4:] not in BOXES and head[:4] != EBML:
        raise Unreadable("it is no mp4, mov, webm or mkv file" if size else "it is empty")


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


def shown_at_middles(pts: Times, end: int, n: int) -> list[int]:
    """Times of the pictures that are on the screen in the middle of each of `n` equal parts, without repeats.

    Args:
        pts: when each picture appears, in any order.
        end: when the last one goes.
    """
    order = np.sort(pts)
    middles = [int(order[0]) + (2 * i + 1) * (end - int(order[0])) // (2 * n) for i in range(n)]
    return np.unique(order[np.searchsorted(order, middles, side="right") - 1]).tolist()


def read_pictures(
    path: Path, *, count: int, max_seconds: float, size: int = 512
) -> tuple[dict[str, Any], list[Image.Image]]:
    """What is known of a video stream, and the pictures of `shown_at_middles`, no side longer than `size` pixels.

    Between key pictures only what the wanted ones need is decoded. Where that meets an error of the decoder, the
    whole stream is decoded instead, so that the result is that of full decoding; errors that remain are the file's.

    Returns:
        seconds, pictures (number of all), codec, width and height (as stored), times (seconds
        from the first picture); the pictures.

    Raises:
        Unreadable: with the cause.
    """
    import av

    found: dict[int, Image.Image] = {}
    with opened(path) as (container, errors):
        video = _video_stream(container, max_seconds)
        pts, keys, end = _list_pictures(container, video, max_seconds)
        wanted, start, unit = shown_at_middles(pts, end, count), int(pts.min()), float(video.time_base)
        about = {"seconds": round((end - start) * unit, 3), "pictures": len(pts), "codec": video.codec_context.name,
                 "width": video.codec_context.width, "height": video.codec_context.height,
                 "times": [round((t - start) * unit, 3) for t in wanted]}  # fmt: skip
        errors.clear()
        with contextlib.suppress(OSError, ValueError, av.FFmpegError, Unreadable):
            found = _decode_at(container, video, keys, wanted, size)
        clean = not errors and len(found) == len(wanted)
    if not clean:
        with opened(path) as (container, errors):
            video = _video_stream(container, max_seconds)
            found = _decode_through(container.demux(video), video, set(wanted), size, skip=False)
            if errors or len(found) < len(wanted):
                said = errors[0][2].strip() if errors else "pictures are missing"
                raise Unreadable(f"its pictures are damaged ({said:.100})")
    return about, [found[t] for t in wanted]


def _video_stream(container: Any, max_seconds: float) -> Any:
    import av

    if len(container.streams) > MOST_STREAMS:
        raise Unreadable(f"it has {len(container.streams)} streams (limit {MOST_STREAMS})")
    cover = av.stream.Disposition.attached_pic
    video = next((stream for stream in container.streams.video if not stream.disposition & cover), None)
    if video is None:
        raise Unreadable("it has no video stream")
    _limit((container.duration or 0) / 1e6, max_seconds)
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


def _limit(seconds: float, most: float) -> None:
    if seconds > most:
        raise Unreadable(f"it is {seconds:,.0f} s long (limit {most:,.0f})")


def _list_pictures(container: Any, video: Any, max_seconds: float) -> tuple[Times, Times, int]:
    """Times of all pictures, of the key pictures among them, and the end of the last one, without decoding.

    A file whose packets end before its header says is cut off.
    """
    pictures: list[tuple[int, bool, int]] = []
    ends: dict[Any, int] = {}  # by stream
    for packet in container.demux():
        if packet.dts is None and packet.pts is None and not packet.size:  # the end of a stream
            continue
        if packet.is_corrupt:
            raise Unreadable("it is cut off or damaged")
        if packet.pts is not None:
            ends[packet.stream] = max(packet.pts + (packet.duration or 0), ends.get(packet.stream, 0))
        if packet.stream is video and not packet.is_discard:
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                raise Unreadable("it is encrypted")
            if packet.pts is None:
                raise Unreadable("its pictures have no times")
            pictures.append((packet.pts, packet.is_keyframe, packet.duration or 0))
            if len(pictures) > MOST_PICTURES * max_seconds:
                raise Unreadable(f"it has more than {MOST_PICTURES * max_seconds:,.0f} pictures")
    if not pictures:
        raise Unreadable("it has no pictures")
    pts, key, durations = map(np.array, zip(*pictures, strict=True))
    gap = int(np.median(np.diff(np.sort(pts)))) if len(pts) > 1 else 1
    end = int(pts.max()) + (int(durations[pts.argmax()]) or gap)
    there = (
        max(float(end * stream.time_base) for stream, end in ends.items()) - (container.start_time or 0) / 1e6
    )  # of sound and pictures
    _limit(max(there, (end - int(pts.min())) * float(video.time_base)), max_seconds)
    said = (container.duration or 0) / 1e6
    if said - there > max(SHORTER[0], SHORTER[1] * said):
        raise Unreadable(f"it is cut off: {there:,.1f} of {said:,.1f} s are there")
    return pts, pts[key], end


def _decode_at(container: Any, video: Any, keys: Times, wanted: list[int], size: int) -> dict[int, Image.Image]:
    parts: dict[int, set[int]] = {}  # by the key picture that is shown last before
    for pts in wanted:
        parts.setdefault(int(keys[keys <= pts].max()), set()).add(pts)
    found: dict[int, Image.Image] = {}
    for key, here in parts.items():
        container.seek(key, stream=video)
        found |= _decode_through(container.demux(video), video, here, size, skip=video.codec_context.name in SKIPS)
    return found


def _decode_through(
    packets: Iterator[Any], video: Any, wanted: set[int], size: int, *, skip: bool
) -> dict[int, Image.Image]:
    """Decode until the wanted pictures are found; with `skip` the others only as far as they are needed for these."""
    found: dict[int, Image.Image] = {}
    for packet in packets:
        if skip:
            video.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in packet.decode():
            if frame.pts in wanted and frame.pts not in found:
                if frame.is_corrupt:
                    raise Unreadable("its pictures are damaged")
                found[frame.pts] = _as_shown(frame, video.sample_aspect_ratio or 1, size)
        if len(found) == len(wanted):
            break
    return found


def _as_shown(frame: Any, aspect: Fraction | int, size: int) -> Image.Image:
    """Square pixels, upright, at most `size` of them on a side."""
    width = frame.width * (aspect if 0.25 < aspect < 4 else 1)
    scale = min(1.0, size / max(width, frame.height))
    shape = {"width": max(1, round(width * scale)), "height": max(1, round(frame.height * scale))}
    filters = {"interpolation": "AREA" if scale < 1 else "BILINEAR", "threads": 1}
    picture = Image.fromarray(frame.to_ndarray(format="rgb24", **shape, **filters))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:  # columns first, in 16.16; a point (x, y) is shown at (a x + c y, b x + d y)
        a, b, _, c, d, *_ = np.rint(np.frombuffer(bytes(matrix), np.int32) / 65536).astype(int).tolist()
        if abs(a * d - b * c) == 1 and a * b == 0 == c * d:  # turned by quarters or mirrored, nothing else
            seen = np.asarray(picture)
            seen = seen.swapaxes(0, 1) if b else seen
            picture = Image.fromarray(np.ascontiguousarray(seen[:: b + d, :: a + c]))
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
