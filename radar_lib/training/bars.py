"""Bars of other processes in one bar of this one. They speak by datagram: nothing waits, and no file is left behind."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

Address = tuple[str, int]


@contextmanager
def follow(bar: Any, unit: str) -> Iterator[Address]:
    """The address for `remote_bar`s that move `bar` while the block runs, where they count the same unit."""
    ended, texts = threading.Event(), {}

    def listen() -> None:
        while True:
            last = ended.is_set()  # what was sent before is here already
            try:
                message = json.loads(channel.recv(1 << 16))
            except TimeoutError:
                if last:
                    return
                continue
            bar.update(message["steps"] if message["unit"] == unit else 0)
            texts[message["title"]] = message["text"]
            bar.set_postfix_str("; ".join(f"{title} {text}" for title, text in texts.items() if text))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))
        channel.settimeout(0.1)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield channel.getsockname()
        finally:
            ended.set()
            thread.join()


def remote_bar(address: Address, *, desc: str = "", unit: str = "", initial: int = 0, **_: Any) -> tqdm:
    """Stands in for tqdm in a process whose bar is elsewhere."""

    def send(steps: int = 0, text: str = "") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            message = {"title": desc, "unit": unit, "steps": steps, "text": text}
            channel.sendto(json.dumps(message).encode(), tuple(address))

    bar, texts = tqdm(disable=True), [""]
    bar.set_postfix_str = lambda text: texts.append(text)
    bar.update = lambda steps=1: send(steps, texts[-1])
    bar.close = send
    bar.update(initial)
    return bar
