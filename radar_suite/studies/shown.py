"""How a notebook shows a study that it does not compute: from this run's folder, else from the committed record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.report import record
from radar_suite.report.workspace import Workspace, display_figure
from radar_suite.studies.stage import NAME

RECORDED = "cpu"  # profile whose studies are committed
CSS_DPI = 96  # a browser's pixels per inch: at this width a figure's letters have the size of the text around it


@dataclass(frozen=True)
class Shown:
    """A file of a study, and the stamp of the run that made it."""

    path: Path
    stamp: dict[str, Any]
    where: str
    note: str

    @property
    def runs(self) -> Path | None:
        """The record of runs of whoever made it; None where there is none."""
        paths = [folder / record.FILE for folder in self.path.parents[1:3]]
        return next((path for path in paths if path.is_file()), None)

    def display(self) -> None:
        """A figure, its lettering as large in every one, with its caption and where it is from."""
        from IPython.display import Image
        from PIL import Image as Picture

        with Picture.open(self.path) as picture:
            inches = picture.width / picture.info["dpi"][0]
        image = Image(filename=str(self.path), width=round(CSS_DPI * inches))
        display_figure(image, f"{self.stamp['caption'].rstrip('.')}. This figure is {self.note}.")


def shown(workspace: Workspace, name: str) -> Shown:
    """A file that `radar studies` left, such as 'losses.csv', with a sentence for captions on where it is from.

    Raises:
        RadarError: neither this run nor the committed record has it.
    """
    own = workspace.runs_dir / workspace.profile / NAME / "figures" / name
    project = Path(__file__).parents[2]
    roots = [root / "figures" for root in (workspace.runs_dir.parent, project)]
    committed = [root / profile / NAME / name for root in roots for profile in (workspace.profile, RECORDED)]
    for path in (own, *committed):
        if path.is_file() and path.with_suffix(".json").is_file():
            stamp = read_json(path.with_suffix(".json"))
            same = stamp["data_digests"].get("posts") == posts_of(workspace)
            where = "the posts of this run" if same else "other posts than this run's"
            note = f"recorded by `radar studies --profile {stamp['profile']}` on {stamp['device']}, on {where}"
            return Shown(path, stamp, where, note)
    raise RadarError(
        f"no study has left {name}: `radar studies --profile {workspace.profile}` makes it, after a finished chain."
    )


def posts_of(workspace: Workspace) -> str | None:
    """Digest of the posts of a workspace's run, also where its own notebook reads none; None where none are there."""
    corpus = workspace.runs_dir / workspace.profile / "01_data_audit" / "corpus.json"
    return workspace.inputs.get("posts") or (read_json(corpus)["digest"] if corpus.is_file() else None)


def listed(names: Iterable[str]) -> str:
    """Names in words.

    >>> listed("abc"), listed("a"), listed([])
    ('a, b and c', 'a', '')
    """
    *most, last = list(names) or [""]
    return f"{', '.join(most)} and {last}" if most else last
