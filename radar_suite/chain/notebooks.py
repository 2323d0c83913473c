"""The notebooks, their order and their graph, read from the files themselves.

A notebook is `NN_name.ipynb`; its metadata `radar` says what it reads (files of earlier notebooks, relative to the
run's folder) and writes (relative to its own). Every read must be a write of an earlier notebook, so the order of
the numbers is an order of the graph.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radar_lib.files import digest_json
from radar_suite.chain.exits import UsageError
from radar_suite.chain.parameters import Parameter, parse_parameters
from radar_suite.chain.profiles import nearest
from radar_suite.places import Below

FILE_NAME = re.compile(r"\d\d_\w+\.ipynb")
DEFAULT_LIMIT_MIN = 60.0


Minutes = Annotated[float, Field(gt=0)]


class Declarations(BaseModel):
    """A notebook's metadata `radar`."""

    model_config = ConfigDict(strict=True)
    title: str
    reads: list[Below] = []
    shows: list[Below] = []
    writes: list[Below] = []
    time_limit_min: Minutes | dict[str, Minutes] = DEFAULT_LIMIT_MIN


@dataclass(frozen=True)
class Notebook:
    """One notebook's declarations; nothing of its results.

    Attributes:
        reads: paths relative to the run's folder, e.g. '01_data_audit/corpus.json'.
        shows: paths relative to the run's folder that it shows where they exist, such as the record of `radar studies`.
        writes: paths relative to the notebook's own folder, e.g. 'corpus.json' or 'scores' (a folder).
        code: digest of the code cells other than the parameters cell; prose does not count.
        sources: those code cells.
        limits: minutes after which it is stopped, by profile; 'default' for those not named.
    """

    path: Path
    title: str
    reads: tuple[str, ...]
    shows: tuple[str, ...]
    writes: tuple[str, ...]
    limits: dict[str, float]
    parameters: dict[str, Parameter]
    code: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the notebooks that it reads from, in order."""
        return tuple(dict.fromkeys(PurePosixPath(read).parts[0] for read in self.reads))

    def limit_s(self, profile: str) -> float:
        """Seconds that it may take in a profile."""
        return 60 * self.limits.get(profile, self.limits["default"])


def discover(folder: Path) -> list[Notebook]:
    """All notebooks of a folder in their order, with a checked graph.

    Raises:
        UsageError: there are none, one cannot be read, or a read is nobody's write.
    """
    paths = sorted(path for path in folder.glob("*.ipynb") if FILE_NAME.fullmatch(path.name))
    if not paths:
        raise UsageError(f"{folder}: no notebooks named like 01_name.ipynb. Name their folder with --notebooks.")
    notebooks = [read_notebook(path) for path in paths]
    check_graph(notebooks)
    return notebooks


def read_notebook(path: Path) -> Notebook:
    """Declarations of one notebook file.

    Raises:
        UsageError: not a notebook, not exactly one cell tagged `parameters`, or bad metadata.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        radar = Declarations.model_validate(content["metadata"].get("radar"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors())
        needs = "its metadata needs `radar`: title, reads, writes, time_limit_min"
        raise UsageError(f"{path.name}: {needs}. {wrong}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name}: not a notebook in format 4 ({error}).") from None
    tagged = [cell for cell in code if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise UsageError(f"{path.name}: {len(tagged)} cells are tagged `parameters`; it needs exactly one.")
    limits = radar.time_limit_min if isinstance(radar.time_limit_min, dict) else {"default": radar.time_limit_min}
    sources = tuple("".join(cell["source"]) for cell in code if cell is not tagged[0])
    return Notebook(
        path=path, title=radar.title, reads=tuple(radar.reads), shows=tuple(radar.shows), writes=tuple(radar.writes),
        limits={"default": DEFAULT_LIMIT_MIN, **limits},
        parameters=parse_parameters("".join(tagged[0]["source"]), notebook=path.stem),
        code=digest_json(sources), sources=sources,
    )  # fmt: skip


def check_graph(notebooks: Sequence[Notebook]) -> None:
    """Every read is a write (or lies in a written folder) of an earlier notebook.

    Raises:
        UsageError: one is not; the message names the nearest write there is.
    """
    every = [f"{notebook.name}/{write}" for notebook in notebooks for write in notebook.writes]
    for notebook in notebooks:
        earlier = [path for path in every if path.split("/")[0] < notebook.name]
        for read in notebook.reads:
            if not _covers(earlier, read):
                late = _covers(every, read)
                why = "is written only later." if late else f"is written by no notebook.{nearest(read, earlier)}"
                raise UsageError(f"{notebook.path.name} reads {read!r}, which {why}")


def _covers(written: Iterable[str], read: str) -> bool:
    return any(read == path or read.startswith(f"{path}/") for path in written)


def find(name: str, notebooks: Sequence[Notebook]) -> Notebook:
    """The notebook called `name`: its number, its name, or its file.

    Raises:
        UsageError: there is none; the message names the nearest and lists all.
    """
    stem = Path(name).name.removesuffix(".ipynb")
    for notebook in notebooks:
        if stem == notebook.name or (stem.isdigit() and int(stem) == int(notebook.name[:2])):
            return notebook
    names = [notebook.name for notebook in notebooks]
    raise UsageError(f"no notebook {name!r}.{nearest(stem, names)} Notebooks: {', '.join(names)}.")


def select(notebooks: Sequence[Notebook], *, start: str | None = None, only: Iterable[str] = ()) -> list[Notebook]:
    """The notebooks that a command is about, in order: all; from `start` on; or `only` these."""
    if start is not None:
        return list(notebooks[notebooks.index(find(start, notebooks)) :])
    chosen = {find(name, notebooks).name for name in only}
    return [notebook for notebook in notebooks if not chosen or notebook.name in chosen]
