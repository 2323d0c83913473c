"""Where a notebook reads and writes: `runs/<profile>/<notebook>/`, with one manifest of what it states."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from radar_lib.data.posts import Posts, open_posts
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, atomic_write_text, digest_file, digest_json, read_json, write_json
from radar_lib.ranges import check_ranges
from radar_suite.places import CACHE, check_run_name
from radar_suite.report import style
from radar_suite.report.manifest import MANIFEST
from radar_suite.report.parameter_ranges import RANGES

STAMPED_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "scikit-learn", "matplotlib")
CHECKOUT = Path(__file__).parents[2]  # where this library lies beside its notebooks
CORPUS = "01_data_audit/corpus.json"  # of the run: which posts it is about
CSS_DPI = 96  # a browser's pixels per inch
POSTS_OF = {"built-in": "the built-in corpus", "public": "public posts"}
MODELS_OF = {"standins": "small stand-in checkpoints", "hub": "the published checkpoints"}


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


def device_name(device: str) -> str:
    """Human name of a device: the GPU's own, or the processor with its number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number may depend on."""
    installed = {"python": platform.python_version()}
    for package in STAMPED_PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "absent"
    return installed


@dataclass
class Workspace:
    """One notebook's folder in one profile.

    Attributes:
        name: the notebook's name, which is also the name of its folder.
        runs_dir: folder that holds every profile and the shared cache.
        profile: profile of this run.
        seed: the run's seed.
        device: resolved device, 'cpu' or 'cuda'.
        parameters: all parameters of the notebook.
        inputs: digests of what the results were computed from, by name; fill it with `uses`.
    """

    name: str
    runs_dir: Path
    profile: str
    seed: int
    device: str = "cpu"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    _kinds: dict[str, str] = field(default_factory=dict)  # of what this notebook entered, by name

    @classmethod
    def open(cls, name: str, names: Mapping[str, Any]) -> Workspace:
        """Open (and create) the folder `runs_dir/profile/name`, and draw figures in the project's style.

        A relative `runs_dir` starts at the notebook's own folder, wherever its kernel was started.

        Args:
            names: the notebook's parameters; in its first cell after them `globals()`, of which all that is no plain
                value is left out.

        Raises:
            RadarError: a parameter lies outside its range.
        """
        parameters = {key: value for key, value in names.items() if _is_parameter(key, value)}
        check_ranges(parameters, RANGES)
        runs, profile = (_home(name) / parameters["runs_dir"]).resolve(), check_run_name(parameters["profile"])
        (runs / profile / name).mkdir(parents=True, exist_ok=True)
        style.use()
        device = resolve_device(parameters.get("device", "auto"))
        return cls(name, runs, profile, parameters["seed"], device, parameters)

    @property
    def folder(self) -> Path:
        return self.runs_dir / self.profile / self.name

    @property
    def cache_dir(self) -> Path:
        """Root of the content-addressed cache, shared by all profiles."""
        return self.runs_dir / CACHE

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

    def open_corpus(self) -> Posts:
        """The posts that notebook 01 read.

        Raises:
            RadarError: the posts have changed since that notebook ran.
        """
        about = self.read(CORPUS)
        posts = open_posts(self.runs_dir / about["folder"])
        if posts.digest != about["digest"]:
            raise RadarError(f"{posts.folder} has changed since {CORPUS} was written: run that notebook again.")
        self.uses(posts=posts.digest)
        return posts

    @cached_property
    def about(self) -> str:
        """For captions: what the posts and the checkpoints really are."""
        posts, checkpoints = self.open_corpus(), self.parameters.get("checkpoints", "standins")
        return f"{posts_note(posts)}, {MODELS_OF.get(checkpoints, f'checkpoints of {Path(checkpoints).name}')}"

    def uses(self, **digests: str) -> None:
        """Record digests of the data that the results depend on; they go into every entry from here on."""
        self.inputs.update(digests)

    def stamp(self) -> dict[str, Any]:
        """Provenance of what is being written now."""
        chosen = {key: value for key, value in self.parameters.items() if key != "runs_dir"}
        return {
            "notebook": self.name,
            "command": f"radar reproduce --profile {self.profile} --only {self.name[:2]}",
            "code": os.environ.get("RADAR_NOTEBOOK_DIGEST", "interactive session"),
            "inputs": dict(sorted(self.inputs.items())),
            "parameters": digest_json(chosen),
            "profile": self.profile,
            "seed": self.seed,
            "device": device_name(self.device),
            "versions": versions(),
        }

    def write_json(self, name: str, value: Any) -> None:
        """Write one of this notebook's artefacts as JSON."""
        write_json(self.path(name), value)

    def save_figure(self, figure: Figure, name: str, *, caption: str, measured: bool = False) -> None:
        """Write `figures/<name>.png`, enter it in the manifest, and show the figure with its caption.

        Args:
            caption: gives units and n.
            measured: it shows times or costs, which differ from run to run.
        """
        path = self.path(f"figures/{name}.png")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata={"Software": None}, bbox_inches="tight")
        self.enter(name, [path], kind="figure", caption=caption, measured=measured)
        display_figure(figure, caption)

    def save_table(
        self, table: pd.DataFrame | str, name: str, *, caption: str, tex: str | None = None, measured: bool = False
    ) -> None:
        """Write `figures/<name>.csv` (and `.tex`) and enter it in the manifest.

        Args:
            table: a frame, whose numbers are written in full, or CSV text.
            measured: as of `save_figure`.
        """
        text = table if isinstance(table, str) else to_csv(table)
        texts = {"csv": text} | ({} if tex is None else {"tex": tex})
        files = [self.path(f"figures/{name}.{suffix}") for suffix in texts]
        for path, content in zip(files, texts.values(), strict=True):
            atomic_write_text(path, content)
        self.enter(name, files, kind="table", caption=caption, measured=measured)

    def enter(self, name: str, files: Iterable[Path], *, kind: str, caption: str, measured: bool = False) -> None:
        """Enter files of this notebook's `figures` folder in its manifest, `figures/manifest.json`.

        An entry's `tolerance` is what a rerun may differ by: 0, or null for what is measured.

        Raises:
            RadarError: a table and a figure have one name, of which only one could be published.
        """
        if (other := self._kinds.setdefault(name, kind)) != kind:
            raise RadarError(f"there is a {other} named {name}: give this {kind} another name.")
        digests = {path.name: digest_file(path) for path in files}
        about = {"kind": kind, "files": digests, "caption": caption, "tolerance": None if measured else 0}
        self._entries[name] = about | self.stamp()
        write_json(self.path(f"figures/{MANIFEST}"), {"entries": dict(sorted(self._entries.items()))})


def _home(name: str) -> Path:
    """Where a notebook lies: in the current folder, in `notebooks` there, or in this library's checkout."""
    here = Path.cwd()
    places = (here, here / "notebooks", CHECKOUT / "notebooks")
    return next((place for place in places if (place / f"{name}.ipynb").is_file()), here)


def _is_parameter(name: str, value: Any) -> bool:
    plain = value is None or isinstance(value, bool | int | float | str)
    plain = plain or (isinstance(value, list | tuple) and all(isinstance(x, bool | int | float | str) for x in value))
    return plain and not name.startswith("_") and name not in ("In", "Out")


def posts_note(posts: Posts) -> str:
    """For captions: what the posts are."""
    return POSTS_OF.get(posts.kind, f"imported posts ({posts.name})")


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as canonical CSV: no index, numbers in full, Unix line ends."""
    return frame.to_csv(index=False, lineterminator="\n")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines of a frame as JSON values: what is missing or not defined is None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def shown_width(path: Path) -> int | None:
    """Width in a browser at which a PNG's letters are as large as drawn; None where it does not say how large."""
    from PIL import Image

    with Image.open(path) as image:
        dots, _ = image.info.get("dpi", (0, 0))
        return round(CSS_DPI * image.width / dots) if dots else None


def display_figure(figure: Any, caption: str) -> None:
    """Show a figure (or an image) in a notebook with its caption below, and close it; elsewhere nothing happens."""
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        return
    display(figure, HTML(f'<p style="font-size: 90%; max-width: 60em">{html.escape(caption)}</p>'))
    if isinstance(figure, Figure):
        plt.close(figure)  # or the cell would show it again
