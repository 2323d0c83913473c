"""Small videos for the tests, of every kind that goes wrong."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image


def scene(i: int, *, side: int = 64, seed: int = 0) -> np.ndarray:
    """Picture `i` of a film: soft shapes of this seed's own, and a square that moves."""
    phase = np.random.default_rng(seed).uniform(0, 6, (3, 3))
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(6 * (a * x + b * y) + c) for a, b, c in phase]
    picture = (127 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)
    at = (3 * i) % (side - 16)
    picture[at : at + 12, 2:14] = 255
    return picture


def film(
    path: Path, *, n: int = 30, rate: int = 10, side: int = 64, seed: int = 0, codec: str = "libx264", times=None,
    options=None, container=None, sound=None, pictures=None,
) -> Path:  # fmt: skip
    """Write `n` pictures; `times`: of each, in milliseconds; `sound`: samples at 16 kHz; `pictures`: instead."""
    import av

    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if times else rate)
        heard = out.add_stream("aac", rate=48_000, layout="mono") if sound is not None else None
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(pictures[i] if pictures else scene(i, side=side, seed=seed), "rgb24")
            frame.pts = times[i] if times else i
            frame.time_base = stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard is not None:
            samples = (np.repeat(sound, 3) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(heard.encode(frame))
            out.mux(heard.encode(None))
    return path


def scaled(seed: int, side: int, *, n: int = 30) -> list[np.ndarray]:
    """Pictures of a film of 128 pixels at another size."""
    return [np.asarray(Image.fromarray(scene(i, side=128, seed=seed)).resize((side, side))) for i in range(n)]


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """An mp4 whose track is to be shown turned: the matrix of its header, overwritten."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 4 + 2 + 2  # version 0: times, id, layer, volume before it
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


FAST = {"movflags": "faststart"}  # the index first, so that a cut file can still be opened


def bad_kinds() -> dict:
    """By name: a function that writes a bad file at a path. Twenty kinds."""

    def cut(share, container=None, **options):
        def write(path, seed):
            data = film(path, container=container, seed=seed, n=60, **options).read_bytes()
            path.write_bytes(data[: int(len(data) * share)])

        return write

    def raw(data):
        return lambda path, seed: path.write_bytes(data)

    def scrambled(path, seed):
        data = bytearray(film(path, container=FAST, seed=seed, n=60, side=128).read_bytes())
        start = data.index(b"mdat") + 700
        data[start:-10] = np.random.default_rng(seed).integers(0, 256, len(data) - 10 - start, dtype=np.uint8).tobytes()
        path.write_bytes(data)

    def silent(path, seed):
        import av

        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=48_000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))

    def image(path, seed):
        Image.fromarray(scene(0, seed=seed)).save(path, "JPEG")

    def still(path, seed):  # a song with a cover is no video
        import av

        silent(path, seed)
        with av.open(str(path)) as song, av.open(str(path.with_suffix(".tmp.mp4")), "w") as out:
            heard = out.add_stream_from_template(song.streams.audio[0])
            cover = out.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            out.mux(cover.encode(av.VideoFrame.from_ndarray(scene(0, seed=seed), "rgb24")))
            out.mux(cover.encode(None))
            for packet in song.demux(song.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = heard
                    out.mux(packet)
        path.with_suffix(".tmp.mp4").rename(path)

    def folder(path, seed):
        path.mkdir()

    def loop(path, seed):
        path.symlink_to(path.name)

    def outside(path, seed):
        path.symlink_to("/etc/hostname")

    def encrypted(path, seed):
        film(path, seed=seed, container={"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32,
                                         "encryption_kid": "1" * 32})  # fmt: skip

    def empty_track(path, seed):
        import av

        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            heard = out.add_stream("aac", rate=48_000)
            out.start_encoding()
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(heard.encode(frame))
            out.mux(heard.encode(None))

    def many(path, seed):
        import av

        with av.open(str(path), "w") as out:
            streams = [out.add_stream("aac", rate=48_000) for _ in range(40)]
            for stream in streams:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
                out.mux(stream.encode(frame))
                out.mux(stream.encode(None))

    hours = [0, 3_600_000, 3 * 3_600_000]
    riff = (
        b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00"
    )
    return {
        "empty": raw(b""),
        "text": raw(b"this is no video\n" * 50),
        "playlist": raw(b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n#EXT-X-ENDLIST\n"),
        "concat": raw(b"ffconcat version 1.0\nfile other.mp4\n"),
        "html": raw(b"<html><body>404</body></html>"),
        "noise": raw(np.random.default_rng(1).bytes(5000)),
        "zeros": raw(bytes(5000)),
        "magic only": raw(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"),
        "wave": raw(riff + b"data\x00\x00\x00\x00"),
        "image": image,
        "cover": still,
        "no video": silent,
        "zero frames": empty_track,
        "many streams": many,
        "encrypted": encrypted,
        "three hours": lambda path, seed: film(path, seed=seed, n=3, times=hours),
        "no index": cut(0.6),
        "cut": cut(0.6, FAST),
        "scrambled": scrambled,
        "folder": folder,
        "link to itself": loop,
        "link outside": outside,
    }
