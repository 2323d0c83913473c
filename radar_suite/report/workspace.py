"""Where a notebook reads and writes: `runs/<profile>/<notebook>/`, with a provenance stamp beside each figure."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from radar_lib.data.posts import Posts, open_posts
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, atomic_write_text, read_json, write_json
from radar_lib.sources import digest_sources

STAMPED_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "scikit-learn", "matplotlib")


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` where there is a CUDA device, else `cpu`; other names are returned after a check.

    Raises:
        RadarError: a CUDA device is asked for and none is visible.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RadarError(f"device={device!r}, but torch sees no CUDA device. Use device='auto', or run `radar doctor`.")
    return device


def describe_device(device: str) -> str:
    """Human name of a device: the GPU's own, or the processor with its number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"CPU {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number may depend on."""
    found = {"python": platform.python_version()}
    for package in STAMPED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


@dataclass
class Workspace:
    """One notebook's folder in one profile.

    Attributes:
        name: the notebook's name, which is also the name of its folder.
        runs_dir: folder that holds every profile and the shared cache.
        profile: profile of this run.
        seed: the run's seed.
        device: resolved device, 'cpu' or 'cuda'.
        parameters: the notebook's parameters, for the stamp.
        data: digests of what the results were computed from, by name; fill it with `uses`.
    """

    name: str
    runs_dir: Path
    profile: str
    seed: int
    device: str = "cpu"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        runs_dir: str | Path,
        profile: str,
        seed: int,
        device: str = "auto",
        parameters: Mapping[str, Any] | None = None,
    ) -> Workspace:
        """Open (and create) the folder `runs_dir/profile/name`."""
        runs = Path(runs_dir).resolve()
        (runs / profile / name).mkdir(parents=True, exist_ok=True)
        return cls(name, runs, profile, seed, resolve_device(device), dict(parameters or {}))

    @property
    def folder(self) -> Path:
        return self.runs_dir / self.profile / self.name

    @property
    def cache_dir(self) -> Path:
        """Root of the content-addressed cache, shared by all profiles."""
        return self.runs_dir / "cache"

    def path(self, name: str) -> Path:
        """Path of one of this notebook's own artefacts."""
        return self.folder / name

    def upstream(self, name: str) -> Path:
        """Path of an earlier notebook's artefact, e.g. '01_data_audit/corpus.json'.

        Raises:
            RadarError: it does not exist yet; the message names the notebook to run first.
        """
        path = self.runs_dir / self.profile / name
        if not path.exists():
            notebook = name.split("/")[0]
            raise RadarError(
                f"{path} does not exist: run notebook {notebook} first "
                f"(`radar reproduce --profile {self.profile} --only {notebook}` does it)."
            )
        return path

    def read(self, name: str) -> Any:
        """Content of an earlier notebook's JSON artefact."""
        return read_json(self.upstream(name))

    def open_corpus(self, name: str) -> Posts:
        """The posts that an earlier notebook's artefact points to, e.g. '01_data_audit/corpus.json'.

        Raises:
            RadarError: the posts have changed since that notebook ran.
        """
        about = self.read(name)
        posts = open_posts(self.runs_dir / about["folder"])
        if posts.digest != about["digest"]:
            raise RadarError(f"{posts.folder} has changed since {name} was written: run that notebook again.")
        self.uses(posts=posts.digest)
        return posts

    def uses(self, **digests: str) -> None:
        """Record digests of the data that the results depend on; they go into every stamp from here on."""
        self.data.update(digests)

    def stamp(self, **extra: Any) -> dict[str, Any]:
        """Provenance of what is being written now."""
        return {
            "notebook": self.name,
            "notebook_digest": os.environ.get("RADAR_NOTEBOOK_DIGEST", "interactive session"),
            "library_digest": digest_sources("radar_suite.report.references", "radar_suite.report.claims"),
            "data_digests": dict(sorted(self.data.items())),
            "profile": self.profile,
            "seed": self.seed,
            "device": describe_device(self.device),
            "versions": versions(),
            "parameters": {name: value for name, value in self.parameters.items() if name != "runs_dir"},
            **extra,
        }

    def write_json(self, name: str, value: Any) -> None:
        """Write one of this notebook's artefacts as JSON."""
        write_json(self.path(name), value)

    def save_figure(self, figure: Figure, name: str, *, caption: str) -> None:
        """Write `figures/<name>.svg`, `.png` and the stamp `.json`; the caption gives units and n.

        In a notebook the figure is shown with its caption below.
        """
        folder = self.folder / "figures"
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            with atomic_path(folder / f"{name}.{suffix}") as temporary:
                temporary.parent.mkdir(exist_ok=True)
                figure.savefig(temporary, metadata=metadata, bbox_inches="tight")
        write_json(folder / f"{name}.json", self.stamp(kind="figure", caption=caption))
        show_captioned(figure, caption)

    def save_table(self, name: str, renderings: Mapping[str, str], *, caption: str) -> None:
        """Write `figures/<name>.<suffix>` for each rendering (md, tex, csv) and the stamp beside them."""
        for suffix, text in renderings.items():
            atomic_write_text(self.folder / "figures" / f"{name}.{suffix}", text)
        write_json(
            self.folder / "figures" / f"{name}.json",
            self.stamp(kind="table", caption=caption, formats=sorted(renderings)),
        )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines of a frame as JSON values: what is missing or not defined is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def show_captioned(figure: Any, caption: str) -> None:
    """Show a figure (or an image) in a notebook with its caption below, and close it; elsewhere nothing happens."""
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        return
    display(figure, HTML(f'<p style="font-size: 90%; max-width: 60em">{html.escape(caption)}</p>'))
    if isinstance(figure, Figure):
        plt.close(figure)  # or the cell would show it again


def say(text: str) -> None:
    """Show a sentence that the run computed as Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(text))
