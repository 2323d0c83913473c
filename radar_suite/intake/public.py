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
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from radar_lib.data.posts import Posts, open_posts, write_corpus
from radar_lib.data.schema import LABEL_PREFIX
from radar_lib.errors import RadarError
from radar_lib.files import digest_bytes, digest_json, digests_below, locked
from radar_lib.sources import digest_sources
from radar_suite.intake.importer import draw_split
from radar_suite.intake.rows import RowChecker
from radar_suite.intake.texts import plain_text, text_key

CATEGORIES = ("LQC", "RCS", "FE")
ORDER = ("train", "validation", "calibration", "test")  # of splits; a near duplicate stays in the latest
YOUTUBE_FILES = tuple(
    f"Youtube0{i}-{name}.csv" for i, name in enumerate(("Psy", "KatyPerry", "LMFAO", "Eminem", "Shakira"), start=1)
)
_TAG = re.compile(r"<[^>]{1,300}>")
_WORD = re.compile(r"\w+")


class Item(NamedTuple):
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
    sources: str | Path, out: str | Path, *, seed: int = 1, max_train: int | None = None, max_test: int | None = None,
    nfkc: bool = False,
) -> Posts:  # fmt: skip
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
    most = {"train": max_train, **dict.fromkeys(ORDER[1:], max_test)}
    limits = {split: math.inf if limit is None else limit for split, limit in most.items()}
    report: dict[str, dict[str, object]] = {}
    rows: list[dict[str, object]] = []
    for source in SOURCES:
        items = pd.DataFrame(source.read(sources), columns=Item._fields, dtype=object)
        kept, dropped = drop_duplicates(items)
        kept = kept.assign(near=kept["text"].map(near_key))
        if source.name == "youtube_spam":
            kept = _split_by_video(kept, seed)
            dropped["near duplicate across videos"] = len(items) - sum(dropped.values()) - len(kept)
        else:
            kept = kept.assign(split=kept["near"].map(lambda key: draw_split(key, seed=seed)))
        in_random_order = kept.assign(rank=kept["text"].map(lambda text: _rank(text, seed))).sort_values("rank")
        limit = in_random_order["split"].map(limits)
        chosen = in_random_order[in_random_order.groupby("split").cumcount() < limit].sort_index()
        for item in chosen.itertuples():
            rows.append({
                "post_id": f"{source.name}-{digest_bytes(item.text.encode())}", "split": item.split,
                "pipeline": source.name, "region": source.region, "language": source.language,
                "created_at": item.created_at, "title": plain_text(item.text) if nfkc else item.text,
                LABEL_PREFIX + source.category: item.label,
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


def open_public(sources: str | Path, cache: str | Path, **options: Any) -> Posts:
    """`import_public` of these sources with these options, kept in a folder of `cache` that is named by the bytes of
    the sources and by the code that reads them; two that ask for it at once import it once."""
    decides = {"sources": digests_below(Path(sources)), "options": options, "code": digest_sources(__name__)}
    folder = Path(cache) / digest_json(decides)
    with locked(folder.with_suffix(".lock")):
        there = (folder / "corpus.json").exists()
        return open_posts(folder) if there else import_public(sources, folder, **options)


def near_key(text: str) -> str:
    """Key of nearly equal texts: the set of their words, without markup, digits and repeated letters.

    A text without words (emoji only) is its own `text_key`.
    """
    plain = text_key(_TAG.sub(" ", html.unescape(text)))
    words = {re.sub(r"(.)\1+", r"\1", re.sub(r"\d+", "0", word)) for word in _WORD.findall(plain)}
    return " ".join(sorted(words)) or plain


def drop_duplicates(items: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """One item for each `text_key`, the first; none where copies disagree on the label. With counts of the dropped."""
    keys = items["text"].map(text_key)
    full = items[keys != ""].assign(key=keys)
    clash = full.groupby("key")["label"].transform("nunique") > 1
    agreed = full[~clash]
    again, same = agreed.duplicated("key"), agreed.duplicated("text")
    dropped = {"empty": len(items) - len(full), "exact duplicate": int(same.sum()),
               "normalised duplicate": int((again & ~same).sum()), "conflicting labels": int(clash.sum())}  # fmt: skip
    return agreed[~again], dropped


def _split_by_video(items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Items with their splits, but those with a near duplicate in a later split, so that the test video is whole."""
    videos = sorted(set(items["part"]), key=lambda video: _rank(video, seed))
    if len(videos) < 3:
        raise RadarError(f"youtube_spam: posts of {len(videos)} videos are left; at least 3 are needed to split by it.")
    halves = items["near"].map(lambda key: "validation" if _rank(key, seed) < "8" else "calibration")
    split = halves.where(items["part"] == videos[1], "train").where(items["part"] != videos[0], "test")
    place = split.map(ORDER.index)
    return items.assign(split=split)[place == place.groupby(items["near"]).transform("max")]


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
