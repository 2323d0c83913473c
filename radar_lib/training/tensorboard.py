"""Curves as a TensorBoard event file, written without TensorBoard: `tensorboard --logdir runs/cache/training` shows it.

A file is a sequence of records, each its length, a checksum of it, an `Event` message and a checksum of that. An
event holds few fields, so the wire format (tensorflow/core/util/event.proto, summary.proto) is spelt out here instead
of asking for 70 MB of packages. A test compares it with TensorBoard's own bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from radar_lib.training.state import History

EVENTS = "events.out.tfevents.radar"  # TensorBoard looks for "tfevents" in a name


def start_events(path: Path, history: History) -> None:
    """Write the file anew with the curves so far: what was logged after a checkpoint will be logged again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_record(_double(1, time.time()) + _bytes(3, b"brain.Event:2")))
    for entry in history.steps:
        add_events(path, int(entry["step"]), step_values(entry))
    for entry in history.epochs:
        add_events(path, int(entry["epoch"]), epoch_values(entry))


def step_values(entry: Mapping[str, float]) -> dict[str, float]:
    """One entry of `History.steps` by TensorBoard's tags; the x axis is the optimiser step."""
    return {f"train/{name}": value for name, value in entry.items() if name != "step"}


def epoch_values(entry: Mapping[str, float]) -> dict[str, float]:
    """One entry of `History.epochs` by TensorBoard's tags; the x axis is the epoch."""
    return {f"validation/{name}": value for name, value in entry.items() if name != "epoch"}


def add_events(path: Path, step: int, values: Mapping[str, float], *, wall_time: float | None = None) -> None:
    """Append one event with a scalar per value."""
    scalars = (_bytes(1, tag.encode()) + _float(2, float(value)) for tag, value in values.items())
    summary = b"".join(_bytes(1, scalar) for scalar in scalars)
    event = _double(1, time.time() if wall_time is None else wall_time) + _key(2, 0) + _varint(step)
    with open(path, "ab") as file:
        file.write(_record(event + _bytes(5, summary)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as TensorFlow's record files have it."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF)


@cache
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        return value

    return tuple(map(entry, range(256)))
