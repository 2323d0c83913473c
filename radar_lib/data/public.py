"""Three public sources as one corpus: real posts, each source labelled for one risk only.

    stop_clickbait   headlines, label_LQC = clickbait           github.com/bhargaviparanjape/clickbait
    judol            video comments, label_RCS = gambling       github.com/gbennnn/judol-comment-classification
    youtube_spam     video comments, label_FE = spam            UCI Machine Learning Repository, data set 380

A post's pipeline is its source, and only its source's risk is verified. The text goes into `title`; no frames.
Duplicates are dropped before splitting and near duplicates stay together, so that no split leaks into another.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import io
import re
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from radar_lib.data.importers import draw_split
from radar_lib.data.posts import Posts, write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import digest_bytes

CATEGORIES = ("LQC", "RCS", "FE")
EVALUATED = ("validation", "calibration", "test")
YOUTUBE_FILES = tuple(
    f"Youtube0{i}-{name}.csv" for i, name in enumerate(("Psy", "KatyPerry", "LMFAO", "Eminem", "Shakira"), start=1)
)
_ZERO_WIDTH = re.compile("[\u200b-\u200f\u2060\ufeff]")
_TAG = re.compile(r"<[^>]{1,300}>")
_WORD = re.compile(r"\w+")


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


@dataclass(frozen=True)
class Item:
    """One labelled text; `part` is the file that it came from (for YouTube: the video)."""

    text: str
    label: int
    part: str
    created_at: datetime | None = None


def import_public(
    sources: str | Path,
    out: str | Path,
    *,
    seed: int = 1,
    max_train: int | None = None,
    max_test: int | None = None,
    nfkc: bool = False,
) -> Posts:
    """Import the three sources, in the layout of their own repositories, from sub-folders of `sources`.

    Headlines and gambling comments are split at random (.6 / .1 / .1 / .2) by group of near duplicates; YouTube
    comments by video: three train, one is shared by validation and calibration, one tests. Near duplicates of a later
    split's comments are taken out of the earlier YouTube splits. corpus.json tells, per source, what was dropped.

    Args:
        seed: draws splits, the videos' roles, and the subsamples.
        max_train: at most so many training posts per source; a smaller sample is part of each larger one.
        max_test: the same for each of validation, calibration and test.
        nfkc: keep texts in Unicode form NFKC (styled letters become plain ones) rather than as they are.

    Raises:
        RadarError: a file is missing (with where to get it) or is not in its repository's layout.
    """
    sources = Path(sources)
    if not sources.is_dir():
        raise RadarError(f"{sources} is no folder. Put the three public sources into one and name it.")
    report: dict[str, dict[str, object]] = {}
    rows: list[dict[str, object]] = []
    for source in SOURCES:
        items = list(source.read(sources))
        kept, dropped = without_duplicates(items)
        splits = _split_by_video(kept, seed) if source.name == "youtube_spam" else _split_by_group(kept, seed)
        if source.name == "youtube_spam":
            kept, splits, dropped["near duplicate across videos"] = _without_leaks(kept, splits)
        chosen = _sample(kept, splits, seed=seed, max_train=max_train, max_test=max_test)
        rows += [_row(source, kept[i], splits[i], nfkc=nfkc) for i in chosen]
        dropped["left out by max_train or max_test"] = len(kept) - len(chosen)
        report[source.name] = {"url": source.url, "licence": source.licence, "rows": len(items), "dropped": dropped}
    extra = {"sources": report, "seed": seed, "max_train": max_train, "max_test": max_test, "nfkc": nfkc}
    return write_corpus(out, rows, name="public", kind="public", categories=CATEGORIES, extra=extra)


def text_key(text: str) -> str:
    """Key of equal texts: NFKC, no zero-width characters, case-folded, single spaces."""
    text = _ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(text.casefold().split())


def near_key(text: str) -> str:
    """Key of nearly equal texts: the set of their words, without markup, digits and repeated letters.

    A text without words (emoji only) is its own `text_key`.
    """
    plain = text_key(_TAG.sub(" ", html.unescape(text)))
    words = {re.sub(r"(.)\1+", r"\1", re.sub(r"\d+", "0", word)) for word in _WORD.findall(plain)}
    return " ".join(sorted(words)) or plain


def without_duplicates(items: list[Item]) -> tuple[list[Item], dict[str, int]]:
    """One item for each `text_key`, the first; none where copies disagree on the label. With counts of the dropped."""
    found: dict[str, list[Item]] = defaultdict(list)
    dropped: Counter[str] = Counter(
        {"empty": 0, "exact duplicate": 0, "normalised duplicate": 0, "conflicting labels": 0}
    )
    for item in items:
        if key := text_key(item.text):
            found[key].append(item)
        else:
            dropped["empty"] += 1
    kept = []
    for copies in found.values():
        if len({item.label for item in copies}) > 1:
            dropped["conflicting labels"] += len(copies)
            continue
        kept.append(copies[0])
        distinct = len({item.text for item in copies})
        dropped["exact duplicate"] += len(copies) - distinct
        dropped["normalised duplicate"] += distinct - 1
    return kept, dict(dropped)


def _split_by_group(items: list[Item], seed: int) -> list[str]:
    return [draw_split(near_key(item.text), seed=seed) for item in items]


def _split_by_video(items: list[Item], seed: int) -> list[str]:
    videos = sorted({item.part for item in items}, key=lambda video: _rank(video, seed))
    if len(videos) < 3:
        raise RadarError(
            f"youtube_spam: posts of {len(videos)} videos are left; at least 3 are needed to split by video."
        )
    tested, shared = videos[:2]
    splits = []
    for item in items:
        half = "validation" if _rank(near_key(item.text), seed) < "8" else "calibration"
        splits.append("test" if item.part == tested else half if item.part == shared else "train")
    return splits


def _without_leaks(items: list[Item], splits: list[str]) -> tuple[list[Item], list[str], int]:
    """Drop an item whose near duplicate lies in a later split, so that the test video stays whole."""
    order = {split: rank for rank, split in enumerate(("train", *EVALUATED))}
    last: dict[str, int] = {}
    keys = [near_key(item.text) for item in items]
    for key, split in zip(keys, splits, strict=True):
        last[key] = max(last.get(key, 0), order[split])
    keep = [i for i, (key, split) in enumerate(zip(keys, splits, strict=True)) if order[split] == last[key]]
    return [items[i] for i in keep], [splits[i] for i in keep], len(items) - len(keep)


def _sample(
    items: list[Item], splits: list[str], *, seed: int, max_train: int | None, max_test: int | None
) -> list[int]:
    """Indices of the items kept, in order: per split, those that come first in a seeded order."""
    chosen = []
    for split in ("train", *EVALUATED):
        members = [i for i, s in enumerate(splits) if s == split]
        limit = max_train if split == "train" else max_test
        chosen += sorted(members, key=lambda i: _rank(items[i].text, seed))[:limit]
    return sorted(chosen)


def _rank(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{text}".encode()).hexdigest()


def _row(source: Source, item: Item, split: str, *, nfkc: bool) -> dict[str, object]:
    return {
        "post_id": f"{source.name}-{digest_bytes(item.text.encode())}",
        "split": split,
        "pipeline": source.name,
        "region": source.region,
        "language": source.language,
        "created_at": item.created_at,
        "title": unicodedata.normalize("NFKC", item.text) if nfkc else item.text,
        f"label_{source.category}": item.label,
    }


# ---- the files of each source


def _read_clickbait(folder: Path) -> Iterator[Item]:
    for name, label in (("clickbait_data", 1), ("non_clickbait_data", 0)):
        path = _find(folder, "stop_clickbait", f"{name}.gz", name, f"{name}.txt")
        for line in _decoded(path, _unpacked(path)).splitlines():
            if line.strip():
                yield Item(line.strip(), label, name)


def _read_judol(folder: Path) -> Iterator[Item]:
    path = _find(folder, "judol", "dataset_judol_labelled.csv")
    for row, cells in _csv_rows(path, path.read_bytes(), text="comment_text", label="label"):
        yield Item(cells["comment_text"], _label(path, row, "label", cells["label"]), path.name)


def _read_youtube(folder: Path) -> Iterator[Item]:
    for name in YOUTUBE_FILES:
        path = _find(folder, "youtube_spam", name, "youtube+spam+collection.zip")
        data = path.read_bytes() if path.name == name else _zipped(path, name)
        for row, cells in _csv_rows(path, data, text="CONTENT", label="CLASS"):
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
    """A file's bytes; those of the only member if it is a gzip or a gzipped tar archive."""
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        data = gzip.decompress(data)
        if data[257:262] != b"ustar":
            return data
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            member = next(member for member in archive if member.isfile())
            return archive.extractfile(member).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError, StopIteration) as error:
        raise RadarError(f"{path}: damaged archive ({error}). Download it again.") from error


def _zipped(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise RadarError(f"{path}: {name} cannot be read from it ({error}). Download it again.") from error


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RadarError(f"{path}, line {line}: not UTF-8. Download it again.") from error


def _csv_rows(path: Path, data: bytes, *, text: str, label: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(_decoded(path, data), newline=""))
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


SOURCES = (
    Source("stop_clickbait", "LQC", "https://github.com/bhargaviparanjape/clickbait", "MIT", "en", "ZZ", _read_clickbait),
    Source("judol", "RCS", "https://github.com/gbennnn/judol-comment-classification", "MIT", "id", "ID", _read_judol),
    Source(
        "youtube_spam", "FE", "https://archive.ics.uci.edu/dataset/380/youtube+spam+collection", "CC BY 4.0", "en", "ZZ",
        _read_youtube,
    ),
)  # fmt: skip
