"""The cards of the public sources agree with the importer."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from radar_lib.data.sources import SOURCES

CARDS = Path(__file__).parents[2] / "data_cards"


def card(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_source_has_a_card_with_its_licence_language_and_origin(source):
    front, body = card(source.name)
    assert front["license"].replace("-", " ") == source.licence.lower().replace("-", " ")
    assert front["language"] == [source.language] and front["size_categories"] and front["pretty_name"]
    assert source.url in body and source.category in body and "## Traps" in body


def test_the_trio_names_its_parts():
    front, body = card("public")
    assert set(front["language"]) == {source.language for source in SOURCES}
    for source in SOURCES:
        assert f"({source.name}.md)" in body and f"| {source.name} | {source.category} |" in body
