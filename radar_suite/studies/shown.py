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
from radar_suite.report.workspace import Workspace, display_figure, shown_width
from radar_suite.studies.stage import NAME

RECORDED = "cpu"  # profile whose studies are committed


@dataclass(frozen=True)
class Recorded:
    """A file of a study and its entry in the manifest; `same_posts`: made on the run's own (None: a run without)."""

    path: Path
    entry: Mapping[str, Any]
    same_posts: bool | None

    @property
    def caption(self) -> str:
        """What it shows, and where that was recorded."""
        posts = {True: ", on the posts of this run", False: ", on other posts than this run's", None: ""}
        return (f"{self.entry['caption'].rstrip('.')}. Recorded by radar studies --profile {self.entry['profile']} "
                f"on {self.entry['device']}{posts[self.same_posts]}.")  # fmt: skip

    @property
    def runs(self) -> Path | None:
        """The record of runs of whoever made it; None where there is none."""
        paths = [folder / record.FILE for folder in self.path.parents[1:3]]
        return next((path for path in paths if path.is_file()), None)

    def display(self) -> None:
        """A figure, its lettering as large in every one, with its caption."""
        from IPython.display import Image

        display_figure(Image(filename=str(self.path), width=shown_width(self.path)), self.caption)


def recorded(workspace: Workspace, name: str, *, of_posts: bool = True) -> Recorded:
    """A file that `radar studies` left, such as 'losses.csv'.

    Args:
        of_posts: it says something of the posts that it was made on, so it is shown of those only, or of another
            size of the built-in corpus; not so the map of masking, which is about the built-in world whatever posts.

    Raises:
        RadarError: neither this run nor the committed record has it.
    """
    anywhere, mine = built_in(workspace) or not of_posts, posts_digest(workspace)
    own = workspace.runs_dir / workspace.profile / NAME / "figures"
    places = [(own / name, own, Path(name).stem)]
    for root in (workspace.runs_dir.parent, Path(__file__).parents[2]):
        for folder in (root / "figures" / profile for profile in (workspace.profile, RECORDED)):
            places.append((folder / NAME / name, folder, f"{NAME}/{Path(name).stem}"))
    for path, folder, key in places:
        if path.is_file():
            entry = read_manifest(folder)["entries"].get(key)
            same = entry is not None and entry["inputs"].get("posts") == mine
            if entry is not None and (same or anywhere):
                return Recorded(path, entry, None if mine is None else same)
    command = f"`radar studies --profile {workspace.profile}` makes it, after a finished chain."
    elsewhere = "what was recorded on the built-in corpus (docs/results.md) says nothing of them."
    imported = _corpus(workspace).get("kind") == "imported"  # no profile of their own, which studies need
    raise RadarError(f"no study of these posts has left {name}: {elsewhere if imported else command}")


def posts_digest(workspace: Workspace) -> str | None:
    """Digest of the posts of a workspace's run, also where its own notebook reads none; None where none are there."""
    return workspace.inputs.get("posts") or _corpus(workspace).get("digest")


def built_in(workspace: Workspace) -> bool:
    """Whether a run's posts are the built-in corpus, as they are where none are there yet."""
    return _corpus(workspace).get("kind", "built-in") == "built-in"


def _corpus(workspace: Workspace) -> dict[str, Any]:
    path = workspace.runs_dir / workspace.profile / "01_data_audit" / "corpus.json"
    return read_json(path) if path.is_file() else {}
