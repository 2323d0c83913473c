"""The files of the three public sources, in the layouts of their own repositories, as labelled texts."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from radar_lib.errors import RadarError

YOUTUBE_FILES = tuple(
    f"Youtube0{i}-{name}.csv" for i, name in enumerate(("Psy", "KatyPerry", "LMFAO", "Eminem", "Shakira"), start=1)
)


@dataclass(frozen=True)
class Item:
    """One labelled text; `part` is the file that it came from (for YouTube: the video)."""

    text: str
    label: int
    part: str
    created_at: datetime | None = None


@dataclass(frozen=True)
class Source:
    """One public source: where it comes from and what its label means."""

    name: str
    category: str
    url: str
    licence: str
    language: str
    region: str
    read: Callable[[Path], Iterator[Item]]


def _read_clickbait(folder: Path) -> Iterator[Item]:
    for name, label in (("clickbait_data", 1), ("non_clickbait_data", 0)):
        path = _find(folder, "stop_clickbait", f"{name}.gz", name, f"{name}.txt")
        for line in _decoded(path).splitlines():
            if line.strip():
                yield Item(line.strip(), label, name)


def _read_judol(folder: Path) -> Iterator[Item]:
    path = _find(folder, "judol", "dataset_judol_labelled.csv")
    for row, cells in _csv_rows(path, text="comment_text", label="label"):
        yield Item(cells["comment_text"], _label(path, row, "label", cells["label"]), path.name)


def _read_youtube(folder: Path) -> Iterator[Item]:
    for name in YOUTUBE_FILES:
        path = _find(folder, "youtube_spam", name)
        for row, cells in _csv_rows(path, text="CONTENT", label="CLASS"):
            moment = _date(path, row, cells.get("DATE") or "")
            yield Item(cells["CONTENT"], _label(path, row, "CLASS", cells["CLASS"]), name, moment)


def _find(folder: Path, source: str, *names: str) -> Path:
    """The first of `names` in `folder`, its sub-folders or theirs (a cloned repository keeps its data one deeper)."""
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            if found := sorted(path for path in folder.glob(pattern) if path.is_file()):
                return found[0]
    url = next(s.url for s in SOURCES if s.name == source)
    raise RadarError(f"{folder / source / names[0]} is missing. Download it from {url} into {folder / source}.")


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RadarError(f"{path}: damaged archive ({error}). Download it again.") from error


def _decoded(path: Path) -> str:
    data = _unpacked(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RadarError(f"{path}, line {line}: not UTF-8. Download it again.") from error


def _csv_rows(path: Path, *, text: str, label: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""))
    for column in (text, label):
        if column not in (reader.fieldnames or ()):
            raise RadarError(f"{path}, row 1: no column {column}. Use the file as its repository has it.")
    for row, cells in enumerate(reader, start=2):
        if cells[text] is None or cells[label] is None:
            raise RadarError(f"{path}, row {row}, column {label}: the row is cut short. Download the file again.")
        yield row, cells


def _label(path: Path, row: int, column: str, value: str) -> int:
    if value.strip() not in ("0", "1"):
        raise RadarError(f"{path}, row {row}, column {column}: {value!r:.40} is no label. Use 0 or 1.")
    return int(value)


def _date(path: Path, row: int, value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if value.strip() else None
    except ValueError as error:
        raise RadarError(f"{path}, row {row}, column DATE: {value!r:.40} is no ISO 8601 time. Correct it.") from error


CLICKBAIT_URL = "https://github.com/bhargaviparanjape/clickbait"
JUDOL_URL = "https://github.com/gbennnn/judol-comment-classification"
YOUTUBE_URL = "https://archive.ics.uci.edu/dataset/380/youtube+spam+collection"
SOURCES = (
    Source("stop_clickbait", "LQC", CLICKBAIT_URL, "MIT", "en", "ZZ", _read_clickbait),
    Source("judol", "RCS", JUDOL_URL, "MIT", "id", "ID", _read_judol),
    Source("youtube_spam", "FE", YOUTUBE_URL, "CC BY 4.0", "en", "ZZ", _read_youtube),
)
