"""A log's parts made by Ray Data actors (extra `ray`): each opens the bundle once, and writes as a local run does.

A part is written whole or not at all, so a task that Ray repeats after a worker's death writes the same part again.
Bundle, posts and log lie where all machines see them; `RAY_ADDRESS` names a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_suite.decisions import log
from radar_suite.decisions.bundle import Bundle, open_bundle
from radar_suite.decisions.source import Source

MISSING = "routing on several machines needs ray: pip install 'radar-notebooks[ray]'"


class PartRouter:
    """An actor: a bundle, and the posts that it routes parts of."""

    def __init__(self, folder: Path, device: str, digest: str, source: Source, parts: Path) -> None:
        self.bundle, self.source, self.parts = open_bundle(folder, device=device), source, parts
        if self.bundle.digest != digest:
            raise RadarError(f"{folder} was changed since this run began. Begin again.")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make the parts of a batch of numbers."""
        list(log.write_parts(self.bundle, self.source, self.parts, batch["item"].tolist()))
        return batch


def write_parts(bundle: Bundle, source: Source, parts: Path, wanted: Sequence[int], *, actors: int) -> Iterator[int]:
    """`log.write_parts` by so many actors; an actor that dies is replaced.

    Raises:
        RadarError: ray is not installed.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise RadarError(MISSING) from error
    device = bundle.router.backbone.device.type
    absolute = Source({path.absolute(): digest for path, digest in source.digests.items()})
    about = (bundle.folder.absolute(), device, bundle.digest, absolute, parts.absolute())
    tasks = ray.data.from_items(list(wanted), override_num_blocks=max(1, len(wanted)))
    made = tasks.map_batches(PartRouter, fn_constructor_args=about, batch_size=1, num_gpus=int(device == "cuda"),
                             compute=ActorPoolStrategy(size=actors))  # fmt: skip
    for row in made.iter_rows():
        yield int(row["item"])
