"""Data cards from a record: the counts of the built-in corpus' card and its Croissant file.

Notebook 01 leaves `corpus_record.json` beside its figures; `radar results` renews from it what stands between the
markers of the card (see `report.results`) and `data_cards/built_in_corpus.croissant.json`. Prose is written by hand, in
the card and in `built_in_corpus.rai.yaml`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from radar_lib import __version__
from radar_lib.data.posts import Posts
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, TEXT_COLUMNS
from radar_lib.files import read_json
from radar_suite.intake.audit import prevalence

RECORD = "corpus_record.json"
CARD = "data_cards/built_in_corpus.md"
CROISSANT = "data_cards/built_in_corpus.croissant.json"
RAI = "data_cards/built_in_corpus.rai.yaml"

_TYPES = {"created_at": "sc:Date", "segment": "sc:Integer", FRAMES: "sc:ImageObject"}
_MEANING = {
    "post_id": "Unique; tells nothing of split, order or label.",
    "split": "pretrain, train, validation, calibration, test, audit or unlabelled.",
    "pipeline": "The annotation pipeline that owns the post, or 'traffic'.",
    "region": "ISO 3166-1 alpha-2.",
    "language": "BCP 47.",
    "created_at": "When the post was made (invented).",
    FRAMES: "Frames in order, as encoded images.",
}
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {name: f"cr:{name}" for name in (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")}  # fmt: skip


def corpus_record(
    posts: Posts, table: pd.DataFrame, columns: Sequence[str], truth: pd.DataFrame | None
) -> dict[str, Any]:
    """What cards say of a corpus, counted.

    Args:
        table: `posts.table()`.
        columns: names of the posts' columns, frames included.
        truth: hidden truth of all posts, in their order; None if there is none.
    """
    rates = prevalence(table, posts.categories).query("verified > 0").rename(columns={"group": "split"})
    record: dict[str, Any] = {
        "name": posts.name, "digest": posts.digest, "config": posts.info.get("config", {}),
        "posts": len(posts), "splits": posts.splits, "categories": list(posts.categories), "columns": list(columns),
        "training_pipelines": table.loc[table["split"] == "train", "pipeline"].value_counts().to_dict(),
        "labels": rates[["split", "category", "verified", "positives"]].to_dict("records"),
        "languages": table["language"].value_counts().to_dict(),
        "regions": table["region"].nunique(), "distinct_titles": table["title"].nunique(),
        "shard_bytes": sum(path.stat().st_size for path in posts.shards()),
    }  # fmt: skip
    if truth is not None:
        record["planted"] = _planted(table, truth, posts.categories)
    return record


def _planted(table: pd.DataFrame, truth: pd.DataFrame, categories: Sequence[str]) -> dict[str, int]:
    counts = {}
    for category in categories:
        label = table[LABEL_PREFIX + category]
        counts[f"wrong {category} labels"] = int(((label >= 0) & (truth[f"true_{category}"] != label)).sum())
    for kind in ("exact", "near") if "duplicate_kind" in truth else ():
        counts[f"{kind} copies"] = int((truth["duplicate_kind"] == kind).sum())
    for column, name in (("campaign", "posts of campaigns"), ("stream_id", "segments of live streams")):
        if column in truth:
            counts[name] = int(truth[column].astype(str).ne("").sum())
    return counts


def counts(record: Path) -> str:
    """Posts per split, verified labels and violations per risk."""
    about = read_json(record / RECORD)
    labels = {(row["split"], row["category"]): row for row in about["labels"]}

    def cell(split: str, category: str) -> str:
        row = labels.get((split, category), {"verified": 0, "positives": 0})
        n, violating = row["verified"], row["positives"]
        return f"{n:,}, {violating:,} ({violating / n:.1%})" if n else "none"

    rows = [["split", "posts", *(f"{category}: verified, violating" for category in about["categories"])]]
    rows += [[split, f"{n:,}", *(cell(split, c) for c in about["categories"])] for split, n in about["splits"].items()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- " + "| ---: " * (len(rows[0]) - 1) + "|")
    pipelines = ", ".join(f"{name} {n:,}" for name, n in about["training_pipelines"].items())
    return "\n".join(lines) + (
        f"\n\nSeed {about['config']['seed']}, digest `{about['digest']}`. Training posts by pipeline: {pipelines}.\n"
        f"{about['regions']} regions; {about['distinct_titles'] / about['posts']:.0%} of the titles are distinct; "
        f"{about['shard_bytes'] / 2**20:.0f} MiB.\n"
    )


def languages(record: Path) -> str:
    """Posts per language."""
    about = read_json(record / RECORD)
    return ", ".join(f"{name} {n / about['posts']:.1%}" for name, n in about["languages"].items()) + ".\n"


def planted(record: Path) -> str:
    """Flaws that the truth file knows of."""
    about = read_json(record / RECORD)
    return "\n".join(f"- {name}: {n:,}" for name, n in about.get("planted", {}).items()) + "\n"


CARD_PARTS: dict[str, Callable[[Path], str]] = {"counts": counts, "languages": languages, "planted": planted}


def croissant(record: Path, rai: Path) -> dict[str, Any]:
    """The corpus folder in Croissant 1.0 with its responsible-AI part (JSON-LD), to lie beside `data/`.

    Args:
        record: folder with `corpus_record.json`.
        rai: YAML with name, description, url, keywords, cite_as, and the RAI properties by their names.
    """
    about, words = read_json(record / RECORD), yaml.safe_load(rai.read_text(encoding="utf-8"))
    return {
        "@context": _CONTEXT, "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": about["name"], "description": words["description"].strip(),
        "license": "https://www.apache.org/licenses/LICENSE-2.0", "url": words["url"], "version": __version__,
        "datePublished": str(words["date_published"]), "keywords": words["keywords"],
        "inLanguage": list(about["languages"]), "citeAs": words["cite_as"],
        "creator": {"@type": "sc:Organization", "name": words["creator"], "url": words["url"]},
        **{f"rai:{name}": value for name, value in words["rai"].items()},
        "distribution": [
            {"@type": "cr:FileSet", "@id": "shards", "name": "shards", "encodingFormat": "application/x-parquet",
             "includes": "data/*.parquet",
             "description": f"{about['posts']:,} posts in the default size: "
             + ", ".join(f"{n:,} {split}" for split, n in about["splits"].items()) + "."}
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "posts", "name": "posts", "key": {"@id": "posts/post_id"},
             "description": "One post per record.",
             "field": [_field(name, about["categories"]) for name in about["columns"]]}
        ],
    }  # fmt: skip


def _field(name: str, categories: Sequence[str]) -> dict[str, Any]:
    risk = name.removeprefix(LABEL_PREFIX)
    label = name.startswith(LABEL_PREFIX) and risk in categories
    meaning = f"{risk}: 1 violating, 0 cleared, -1 not verified." if label else _MEANING.get(name)
    if name in TEXT_COLUMNS:
        meaning = f"{name.replace('_', ' ')}; may be empty."
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": name}}
    if name == FRAMES:
        source["transform"] = {"jsonPath": "[*].bytes"}
    kind = "sc:Integer" if label else _TYPES.get(name, "sc:Text")
    field = {"@type": "cr:Field", "@id": f"posts/{name}", "name": name, "dataType": kind, "source": source}
    return field | ({"repeated": True} if name == FRAMES else {}) | ({"description": meaning} if meaning else {})
