"""A corpus as backbones take it: where checkpoints are, which one is loaded, and its posts encoded, each once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from tqdm import tqdm

from radar_lib.data.posts import LABEL_PREFIX, Posts, labels
from radar_lib.errors import RadarError
from radar_lib.models.backbones import BACKBONES, Backbone, checkpoint_digest, load_backbone, resolve_checkpoint
from radar_lib.models.base import Encoded
from radar_lib.models.families import FAMILIES
from radar_lib.models.packing import Packing
from radar_lib.models.text import SHARED, TextLimit
from radar_lib.sources import digest_sources
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoded import EncodedPosts, Store, chunks, forget_stale, keep, row_chunks
from radar_lib.training.inference import predict, weights_dtype
from radar_lib.training.streamed import Rows, StreamedPosts, encoded_size, room_for, workers_for

DECIDING_PACKAGES = ("torch", "transformers", "peft")
FEATURES = "features.npy"


class Encoder:
    """Posts, checkpoints, cache and device; the backbone in use, with the posts encoded for it.

    Args:
        posts: an open corpus.
        cache: where encoded posts are kept, and runs.
        checkpoints: 'hub', a folder of checkpoint folders, or 'package:' and its name (see `resolve_checkpoint`).
        device: 'cpu' or 'cuda'.
        packing: posts end to end instead of padded, where the family can.
        bar: makes progress bars, called as tqdm is.
        encoded_bytes: the most that a split's encoded posts may take; larger ones are streamed; None: see `room_for`.
        readers: processes that read a split each at the same time, this one included; they share disk and memory.
        text: how much of a post's text is read.
    """

    def __init__(
        self, posts: Posts, cache: Cache, *, checkpoints: str = "hub", device: str = "cpu", packing: bool = False,
        bar: Callable[..., Any] = tqdm, encoded_bytes: int | None = None, readers: int = 1,
        text: TextLimit = SHARED,
    ) -> None:  # fmt: skip
        self.posts, self.cache, self.checkpoints, self.device = posts, cache, checkpoints, device
        self.packing, self.bar, self.encoded_bytes, self.readers = packing, bar, encoded_bytes, readers
        self.text = text
        self._backbone: tuple[str, Backbone] | None = None
        self._encoded: dict[str, EncodedPosts] = {}

    def checkpoint(self, backbone: str) -> str:
        """Folder or Hub id that a backbone's name stands for in this lab."""
        if backbone not in BACKBONES:
            raise RadarError(f"no backbone is called {backbone!r}. Known: {', '.join(BACKBONES)}.")
        return resolve_checkpoint(BACKBONES[backbone], self.checkpoints)

    def backbone(self, name: str) -> Backbone:
        """Load a backbone; only the latest one is kept in memory, with the posts encoded for it."""
        if self._backbone is None or self._backbone[0] != name:
            self.release()
            self._backbone = (name, self._load(name))
        return self._backbone[1]

    def _load(self, name: str) -> Backbone:
        place = {"dtype": weights_dtype(self.device), "device": self.device}
        backbone = load_backbone(self.checkpoint(name), text=self.text, **place)
        if self.packing and isinstance(backbone, Packing):
            backbone.pack(True)
        return backbone

    def release(self) -> None:
        """Forget the backbone and the posts encoded for it."""
        self._backbone, self._encoded = None, {}
        gc.collect()

    def table(self, split: str) -> pd.DataFrame:
        """`post_id` and labels of a split, in the order of its encoded posts."""
        columns = ["post_id", *(f"{LABEL_PREFIX}{category}" for category in self.posts.categories)]
        return self.posts.table(split, columns=columns)

    def labels(self, split: str, categories: Sequence[str]) -> Int8[np.ndarray, "post category"]:
        """Label matrix (1, 0, -1) of a split."""
        return labels(self.table(split), categories)

    def encoded(self, backbone: str, split: str) -> EncodedPosts:
        """The posts of a split as `backbone` takes them, through its tower once and for all where that is frozen.

        They are kept on disk (or in memory, where the tower is trained), and streamed where they are too many: the one
        rule for training, teaching and scoring.
        """
        model = self.backbone(backbone)
        if split in self._encoded:
            return self._encoded[split]
        rows, entry = Rows(self.posts.folder, split), self.encoded_entry(backbone, split)

        def fits(processes: int) -> bool:
            needed, room = encoded_size(model, rows), self.encoded_bytes
            room = room_for(model, self.cache.root) // (self.readers * processes) if room is None else room
            if needed > room:
                what = (f"{backbone}, {split}: {len(rows):,} posts would take {needed / 1e9:,.3g} GB once encoded and "
                        f"may take {room / 1e9:,.3g}: they are decoded whenever they are read.")  # fmt: skip
                tqdm.write(what, file=sys.stderr)
            return needed <= room

        def read() -> Iterator[list[Encoded]]:
            title = f"{backbone}: reading {split}"
            with self.bar(total=len(rows), desc=title, unit="post", mininterval=2) as bar:
                for chunk in chunks(model, self.posts.split(split)):
                    yield chunk
                    bar.update(len(chunk))

        kept = keep(model, read, entry, fits=fits, device=self.device)
        self._encoded[split] = self.streamed(backbone, rows) if kept is None else kept
        return self._encoded[split]

    def encode_together(self, backbones: Sequence[str], split: str) -> None:
        """Keep a split's encoded posts for several backbones, all in memory, with each frame decoded once.

        `encoded` finds them; where the disk has no room for all it has the work to do, one backbone at a time.
        """
        # in one order everywhere, as several locks are held at once
        entries = {name: self.encoded_entry(name, split) for name in sorted(backbones)}
        models = {name: self._load(name) for name, entry in entries.items() if not entry.complete}
        rows = Rows(self.posts.folder, split)
        needed = sum(encoded_size(model, rows) for model in models.values())
        rooms = [room_for(model, self.cache.root) for model in models.values()]
        if not models or needed > (min(rooms) if self.encoded_bytes is None else self.encoded_bytes) // self.readers:
            return
        with ExitStack() as opened:
            stores = []
            for name, model in models.items():
                if (said := opened.enter_context(entries[name].making())) is not None:
                    kept = opened.enter_context(Store(entries[name].workplace))
                    said["arrays"] = kept.arrays
                    stores.append((model, kept))
            for chunk in row_chunks(self.posts.split(split)) if stores else ():
                for model, kept in stores:
                    kept.add(model.cache_features(model.encode(chunk)))
        for name in models:
            forget_stale(entries[name])

    def streamed(self, backbone: str, rows: Rows, *, positions: Sequence[int] | None = None) -> StreamedPosts:
        """Posts (some, or all) that `backbone` decodes and encodes anew whenever a batch is asked for."""
        workers = workers_for(self.device)
        return StreamedPosts.open(self.backbone(backbone), rows, positions=positions, workers=workers)

    def shares_encoded(self, backbone: str) -> bool:
        """Whether a backbone's encoded posts are kept in the cache, for other runs and processes."""
        return FAMILIES[BACKBONES[backbone].family].features_cacheable

    def encoded_entry(self, backbone: str, split: str) -> Entry:
        """Cache entry of a split's encoded posts: its hash covers posts, checkpoint, device and this code."""
        return self.cache.entry("encoded", self.deciding(backbone, code=digest_sources(__name__)) | {"split": split})

    def features_entry(self, backbone: str, split: str) -> Entry:
        """Cache entry of `pooled_features`."""
        return self.cache.entry("features", self.deciding(backbone, code=digest_sources(__name__)) | {"split": split})

    def deciding(self, backbone: str, *, code: str) -> dict[str, Any]:
        """What decides any result that this code makes with a backbone: also posts and what is read of their text,
        checkpoint, device, versions."""
        return {
            "posts": self.posts.digest, "checkpoint": checkpoint_digest(self.checkpoint(backbone)),
            "text": asdict(self.text) | {"shares": list(self.text.shares)},  # as it is read back from JSON
            "device": self.device.split(":")[0], "code": code,
            "packages": {package: version(package) for package in DECIDING_PACKAGES},
        }  # fmt: skip


def pooled_features(lab: Encoder, backbone: str, split: str) -> Float[np.ndarray, "post hidden"]:
    """What a frozen backbone makes of a split's posts: the pooled vectors (float32) that a router's MLP reads.

    They are in the order of `lab.table(split)`, without any LoRA, and kept in the cache.
    """

    def work(folder: Path) -> dict[str, int]:
        inputs = lab.encoded(backbone, split)
        title = f"{backbone}: frozen features of {split}"
        vectors = predict(lab.backbone(backbone), inputs, batch_size=inputs.at_once, device=lab.device, title=title)
        np.save(folder / FEATURES, vectors.astype(np.float32), allow_pickle=False)
        return {"posts": len(vectors), "width": vectors.shape[1]}

    entry = lab.features_entry(backbone, split)
    entry.make(work)
    return np.load(entry.path(FEATURES), allow_pickle=False)
