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
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from radar_lib.data.posts import Posts, write_corpus
from radar_lib.data.schema import LABEL_PREFIX
from radar_lib.data.text import plain_text, text_key
from radar_lib.errors import RadarError
from radar_lib.files import digest_bytes
from radar_suite.intake.importer import draw_split
from radar_suite.intake.rows import RowChecker

CATEGORIES = ("LQC", "RCS", "FE")
ORDER = ("train", "validation", "calibration", "test")  # of splits; a near duplicate stays in the latest
YOUTUBE_FILES = tuple(
    f"Youtube0{i}-{name}.csv" for i, name in enumerate(("Psy", "KatyPerry", "LMFAO", "Eminem", "Shakira"), start=1)
)
_TAG = re.compile(r"<[^>]{1,300}>")
_WORD = re.compile(r"\w+")


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
        nfkc: write texts in Unicode form NFKC (styled letters become plain) and without zero-width characters, rather
            than as they are.

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
        kept, dropped = drop_duplicates(items)
        if source.name == "youtube_spam":
            kept, splits = _split_by_video(kept, seed)
            dropped["near duplicate across videos"] = len(items) - sum(dropped.values()) - len(kept)
        else:
            splits = [draw_split(near_key(item.text), seed=seed) for item in kept]
        limits = {split: max_train if split == "train" else max_test for split in ORDER}
        chosen = _sample(kept, splits, seed=seed, limits=limits)
        for item, split in ((kept[i], splits[i]) for i in chosen):
            rows.append({
                "post_id": f"{source.name}-{digest_bytes(item.text.encode())}", "split": split, "pipeline": source.name,
                "region": source.region, "language": source.language, "created_at": item.created_at,
                "title": plain_text(item.text) if nfkc else item.text, LABEL_PREFIX + source.category: item.label,
            })  # fmt: skip
        dropped["left out by max_train or max_test"] = len(kept) - len(chosen)
        report[source.name] = {"url": source.url, "licence": source.licence, "rows": len(items), "dropped": dropped}
    unverified = {LABEL_PREFIX + category: -1 for category in CATEGORIES}
    checker = RowChecker(list(unverified))
    for number, row in enumerate(rows):
        checker.admit(str(sources), number, unverified | row, [])
    checker.finish(str(sources))
    extra = {"sources": report, "seed": seed, "max_train": max_train, "max_test": max_test, "nfkc": nfkc}
    return write_corpus(out, rows, name="public", kind="public", categories=CATEGORIES, extra=extra)


def near_key(text: str) -> str:
    """Key of nearly equal texts: the set of their words, without markup, digits and repeated letters.

    A text without words (emoji only) is its own `text_key`.
    """
    plain = text_key(_TAG.sub(" ", html.unescape(text)))
    words = {re.sub(r"(.)\1+", r"\1", re.sub(r"\d+", "0", word)) for word in _WORD.findall(plain)}
    return " ".join(sorted(words)) or plain


def drop_duplicates(items: list[Item]) -> tuple[list[Item], dict[str, int]]:
    """One item for each `text_key`, the first; none where copies disagree on the label. With counts of the dropped."""
    copies_of: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        copies_of[text_key(item.text)].append(item)
    dropped = {"empty": len(copies_of.pop("", ()))} | dict.fromkeys(
        ("exact duplicate", "normalised duplicate", "conflicting labels"), 0
    )
    kept = []
    for copies in copies_of.values():
        if len({item.label for item in copies}) > 1:
            dropped["conflicting labels"] += len(copies)
            continue
        kept.append(copies[0])
        distinct = len({item.text for item in copies})
        dropped["exact duplicate"] += len(copies) - distinct
        dropped["normalised duplicate"] += distinct - 1
    return kept, dropped


def _split_by_video(items: list[Item], seed: int) -> tuple[list[Item], list[str]]:
    """Items and their splits, without those that have a near duplicate in a later split: the test video stays whole."""
    videos = sorted({item.part for item in items}, key=lambda video: _rank(video, seed))
    if len(videos) < 3:
        raise RadarError(f"youtube_spam: posts of {len(videos)} videos are left; at least 3 are needed to split by it.")
    tested, shared = videos[:2]
    splits: list[str] = []
    last: dict[str, int] = {}
    keys = [near_key(item.text) for item in items]
    for item, key in zip(items, keys, strict=True):
        half = "validation" if _rank(key, seed) < "8" else "calibration"
        splits.append("test" if item.part == tested else half if item.part == shared else "train")
        last[key] = max(last.get(key, 0), ORDER.index(splits[-1]))
    keep = [i for i, key in enumerate(keys) if ORDER.index(splits[i]) == last[key]]
    return [items[i] for i in keep], [splits[i] for i in keep]


def _sample(items: list[Item], splits: list[str], *, seed: int, limits: dict[str, int | None]) -> list[int]:
    """Indices of the items kept, in order: per split, those that come first in a seeded order."""
    chosen = []
    for split in ORDER:
        members = [i for i, s in enumerate(splits) if s == split]
        chosen += sorted(members, key=lambda i: _rank(items[i].text, seed))[: limits[split]]
    return sorted(chosen)


def _rank(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{text}".encode()).hexdigest()


def _read_clickbait(folder: Path) -> Iterator[Item]:
    for name, label in (("clickbait_data", 1), ("non_clickbait_data", 0)):
        path = _find(folder, "stop_clickbait", f"{name}.gz", name, f"{name}.txt")
        yield from (Item(line.strip(), label, name) for line in _decode(path).splitlines() if line.strip())


def _read_judol(folder: Path) -> Iterator[Item]:
    yield from _read_csv(_find(folder, "judol", "dataset_judol_labelled.csv"), text="comment_text", label="label")


def _read_youtube(folder: Path) -> Iterator[Item]:
    for name in YOUTUBE_FILES:
        yield from _read_csv(_find(folder, "youtube_spam", name), text="CONTENT", label="CLASS", date="DATE")


def _find(folder: Path, source: str, *names: str) -> Path:
    """The first of `names` in `folder`, its sub-folders or theirs (a cloned repository keeps its data one deeper)."""
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            if files := sorted(path for path in folder.glob(pattern) if path.is_file()):
                return files[0]
    url = next(s.url for s in SOURCES if s.name == source)
    raise RadarError(f"{folder / source / names[0]} is missing. Download it from {url} into {folder / source}.")


def _decode(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RadarError(f"{path}: damaged archive ({error}). Download it again.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RadarError(f"{path}, line {line}: not UTF-8. Download it again.") from error


def _read_csv(path: Path, *, text: str, label: str, date: str = "") -> Iterator[Item]:
    reader = csv.DictReader(io.StringIO(_decode(path), newline=""))
    for column in (text, label):
        if column not in (reader.fieldnames or ()):
            raise RadarError(f"{path}, row 1: no column {column}. Use the file as its repository has it.")
    for row, cells in enumerate(reader, start=2):
        where = f"{path}, row {row}, column"
        if cells[text] is None or cells[label] is None:
            raise RadarError(f"{where} {label}: the row is cut short. Download the file again.")
        if cells[label].strip() not in ("0", "1"):
            raise RadarError(f"{where} {label}: {cells[label]!r:.40} is no label. Use 0 or 1.")
        moment = cells.get(date) or ""
        try:
            created_at = datetime.fromisoformat(moment) if moment.strip() else None
        except ValueError as error:
            raise RadarError(f"{where} {date}: {moment!r:.40} is no ISO 8601 time. Correct it.") from error
        yield Item(cells[text], int(cells[label]), path.name, created_at)


SOURCES = (
    Source("stop_clickbait", "LQC", "https://github.com/bhargaviparanjape/clickbait", "MIT", "en", "ZZ",
           _read_clickbait),
    Source("judol", "RCS", "https://github.com/gbennnn/judol-comment-classification", "MIT", "id", "ID", _read_judol),
    Source("youtube_spam", "FE", "https://archive.ics.uci.edu/dataset/380/youtube+spam+collection", "CC BY 4.0", "en",
           "ZZ", _read_youtube),
)  # fmt: skip
