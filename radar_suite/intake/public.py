"""Three public sources as one corpus: real posts, each source labelled for one risk only.

    stop_clickbait   headlines, label_LQC = clickbait           github.com/bhargaviparanjape/clickbait
    judol            video comments, label_RCS = gambling       github.com/gbennnn/judol-comment-classification
    youtube_spam     video comments, label_FE = spam            UCI Machine Learning Repository, data set 380

A post's pipeline is its source, and only its source's risk is verified. The text goes into `title`; no frames.
Duplicates are dropped before splitting and near duplicates stay together, so that no split leaks into another.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter, defaultdict
from pathlib import Path

from radar_lib.data.posts import Posts, write_corpus
from radar_lib.data.schema import LABEL_PREFIX
from radar_lib.data.text import plain_text, text_key
from radar_lib.errors import RadarError
from radar_lib.files import digest_bytes
from radar_suite.intake.check import Checker, Problems
from radar_suite.intake.importers import draw_split
from radar_suite.intake.sources import SOURCES, Item, Source

CATEGORIES = ("LQC", "RCS", "FE")
EVALUATED = ("validation", "calibration", "test")
_TAG = re.compile(r"<[^>]{1,300}>")
_WORD = re.compile(r"\w+")


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
        kept, dropped = without_duplicates(items)
        splits = _split_by_video(kept, seed) if source.name == "youtube_spam" else _split_by_group(kept, seed)
        if source.name == "youtube_spam":
            kept, splits, dropped["near duplicate across videos"] = _without_leaks(kept, splits)
        chosen = _sample(kept, splits, seed=seed, max_train=max_train, max_test=max_test)
        rows += [_row(source, kept[i], splits[i], nfkc=nfkc) for i in chosen]
        dropped["left out by max_train or max_test"] = len(kept) - len(chosen)
        report[source.name] = {"url": source.url, "licence": source.licence, "rows": len(items), "dropped": dropped}
    checker, problems = Checker(CATEGORIES), Problems()
    for row in rows:
        checker.count({**dict.fromkeys((LABEL_PREFIX + c for c in CATEGORIES), -1), **row})
    problems.finish(checker, str(sources))
    extra = {"sources": report, "seed": seed, "max_train": max_train, "max_test": max_test, "nfkc": nfkc}
    return write_corpus(out, rows, name="public", kind="public", categories=CATEGORIES, extra=extra)


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
        "title": plain_text(item.text) if nfkc else item.text,
        f"label_{source.category}": item.label,
    }
