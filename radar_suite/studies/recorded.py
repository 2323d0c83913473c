"""How a notebook shows a study that it does not compute: from this run's folder, else from the committed record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.report import record
from radar_suite.report.manifest import read_manifest
from radar_suite.report.workspace import Workspace, display_figure
from radar_suite.studies.stage import NAME

RECORDED = "cpu"  # profile whose studies are committed
CSS_DPI = 96  # a browser's pixels per inch: at this width a figure's letters have the size of the text around it


@dataclass(frozen=True)
class Recorded:
    """A file of a study and its entry in the manifest; `same_posts`: made on the posts of the run that shows it."""

    path: Path
    entry: Mapping[str, Any]
    same_posts: bool

    @property
    def caption(self) -> str:
        """What it shows, and where that was recorded."""
        posts = "the posts of this run" if self.same_posts else "other posts than this run's"
        return (f"{self.entry['caption'].rstrip('.')}. Recorded by `radar studies --profile {self.entry['profile']}` "
                f"on {self.entry['device']}, on {posts}.")  # fmt: skip

    @property
    def runs(self) -> Path | None:
        """The record of runs of whoever made it; None where there is none."""
        paths = [folder / record.FILE for folder in self.path.parents[1:3]]
        return next((path for path in paths if path.is_file()), None)

    def display(self) -> None:
        """A figure, its lettering as large in every one, with its caption."""
        from IPython.display import Image
        from PIL import Image as Picture

        with Picture.open(self.path) as picture:
            inches = picture.width / picture.info["dpi"][0]
        display_figure(Image(filename=str(self.path), width=round(CSS_DPI * inches)), self.caption)


def recorded(workspace: Workspace, name: str) -> Recorded:
    """A file that `radar studies` left, such as 'losses.csv'.

    Raises:
        RadarError: neither this run nor the committed record has it.
    """
    own = workspace.runs_dir / workspace.profile / NAME / "figures"
    places = [(own / name, own, Path(name).stem)]
    for root in (workspace.runs_dir.parent, Path(__file__).parents[2]):
        for folder in (root / "figures" / profile for profile in (workspace.profile, RECORDED)):
            places.append((folder / NAME / name, folder, f"{NAME}/{Path(name).stem}"))
    for path, folder, key in places:
        if path.is_file():
            entry = read_manifest(folder)["entries"].get(key)
            if entry is not None:
                return Recorded(path, entry, entry["inputs"].get("posts") == posts_digest(workspace))
    raise RadarError(
        f"no study has left {name}: `radar studies --profile {workspace.profile}` makes it, after a finished chain."
    )


def posts_digest(workspace: Workspace) -> str | None:
    """Digest of the posts of a workspace's run, also where its own notebook reads none; None where none are there."""
    corpus = workspace.runs_dir / workspace.profile / "01_data_audit" / "corpus.json"
    return workspace.inputs.get("posts") or (read_json(corpus)["digest"] if corpus.is_file() else None)
