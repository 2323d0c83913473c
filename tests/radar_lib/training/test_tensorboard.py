"""The event file against bytes that TensorBoard 2.21's own RecordWriter wrote for the same scalars."""

from __future__ import annotations

import struct

from radar_lib.training.state import History
from radar_lib.training.tensorboard import add_events, start_events

BY_TENSORBOARD = (
    "34000000000000005e33175c0900000000004a934010ac022a260a110a0a747261696e2f6c6f7373150000203f"
    "0a110a0a747261696e2f72617465156f12833aa79b3568"
)


def test_an_event_is_what_tensorboard_writes(tmp_path):
    add_events(tmp_path / "events", 300, {"train/loss": 0.625, "train/rate": 1e-3}, wall_time=1234.5)
    assert (tmp_path / "events").read_bytes().hex() == BY_TENSORBOARD


def test_a_resumed_run_logs_what_followed_the_checkpoint_once(tmp_path):
    path = tmp_path / "run" / "events"
    kept = History([{"step": 10, "loss": 0.5}], [{"epoch": 1, "LQC": 0.7}])
    start_events(path, kept)
    before = path.stat().st_size
    add_events(path, 20, {"train/loss": 0.4})
    start_events(path, kept)
    data = path.read_bytes()
    assert len(data) == before
    (length,) = struct.unpack("<Q", data[:8])
    assert data[12 : 12 + length].endswith(b"brain.Event:2")
    assert data.count(b"train/loss") == 1 and data.count(b"validation/LQC") == 1
