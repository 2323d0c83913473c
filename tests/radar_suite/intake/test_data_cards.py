"""The cards of the corpora, and the page on own posts, agree with the code."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard

from radar_lib.data.schema import SPLITS, features
from radar_lib.files import read_json
from radar_lib.models.backbones import BACKBONES
from radar_suite.intake.public import SOURCES

CARDS = Path(__file__).parents[3] / "data_cards"


def card(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_source_has_a_card_with_its_licence_language_and_origin(source):
    front, body = card(source.name)
    assert front["license"].replace("-", " ") == source.licence.lower().replace("-", " ")
    assert front["language"] == [source.language] and front["size_categories"] and front["pretty_name"]
    assert source.url in body and source.category in body and f"({source.name}.md)" in card("public")[1]


# Values that the Hub's dataset card specification lists.
CREATORS = {"found", "crowdsourced", "expert-generated", "machine-generated", "no-annotation", "other"}
SIZES = {"n<1K": 1_000, "1K<n<10K": 10_000, "10K<n<100K": 100_000, "100K<n<1M": 1_000_000}
ALL_CARDS = sorted(path.stem for path in CARDS.glob("*.md"))


@pytest.mark.parametrize("name", ALL_CARDS)
def test_front_matter_is_what_the_hub_reads(name):
    front, _ = card(name)
    data = DatasetCard((CARDS / f"{name}.md").read_text(encoding="utf-8")).data
    assert data.pretty_name and data.license and data.task_categories and data.tags
    assert set(front["annotations_creators"]) <= CREATORS and set(front["language_creators"]) <= CREATORS
    assert set(front["size_categories"]) <= set(SIZES) and set(front["source_datasets"]) <= {"original", "extended"}
    assert front["license"] != "other" or front["license_name"]


def test_the_built_in_card_agrees_with_the_record():
    front, _ = card("built_in_corpus")
    record = read_json(CARDS.parent / "figures" / "cpu" / "corpus_record.json")
    (size,) = front["size_categories"]
    assert SIZES[size] / 10 <= record["posts"] < SIZES[size]
    assert set(front["language"]) == {tag.split("-")[0] for tag in record["languages"]}
    files = {item["split"]: item["path"] for item in front["configs"][0]["data_files"]}
    assert files == {split: f"data/{split}-*" for split in record["splits"]}


def test_the_page_on_own_posts_names_every_column_split_and_checkpoint_folder():
    page = (CARDS.parent / "docs" / "your_data.md").read_text(encoding="utf-8")
    columns = [*features((), captions=True, streams=True), "label_<category>"]
    for name in (*columns, *SPLITS, *(spec.folder for spec in BACKBONES.values())):
        assert f"`{name}`" in page, name
