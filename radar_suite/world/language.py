"""What a post says: real sentences in the post's language for every text fact, spread over title, overlay and speech.

Each language has a bank, ``banks/<code>.yaml``: sentences by fact, with slots (name, place, when, n, day, price) whose
fillers belong to the same language. Where a sentence goes (title, text on screen, speech) varies and means
nothing, except that a giveaway's terms are written on the screen and a programme is spoken.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from radar_lib.errors import RadarError
from radar_suite.world.draws import Draws

BANKS = Path(__file__).with_name("banks")
_SLOT = re.compile(r"\{(name|place|when|n|day|price)\}")
_TAGS = ("#fyp", "#viral", "#foryou", "#trending", "#video", "#reels", "#now", "#top", "#wow", "#new", "#daily",
         "#vlog", "#clip", "#mood", "#2025", "#weekend", "#diary", "#today", "#fun", "#life")
_EMOJI = "😂😍🙏🔥✨😅🎉😎🤔💚👀🎬"
Bank = Mapping[str, Any]


@lru_cache(maxsize=64)
def bank(language: str) -> Bank:
    """Sentences and fillers of a language (BCP 47 code); RadarError for a language without a bank."""
    path = BANKS / f"{language}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in BANKS.glob("*.yaml")))
        raise RadarError(f"no sentence bank for language {language!r}; the built-in corpus speaks {known}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def fill(sentence: str, words: Bank, draws: Draws) -> str:
    """The sentence with every slot filled; a number slot takes 10..99, a day of a month 1..28.

    ``last_digits`` of the language are those whose numbers go with the bank's plural forms (Russian has others for
    21 and 22).
    """

    def number() -> str:
        return f"{draws.integer(1, 9)}{draws.of(words['last_digits'])}"

    def filler(slot: re.Match) -> str:
        kind = slot.group(1)
        if kind == "n":
            return number()
        if kind == "day":
            return str(draws.integer(1, 28))
        if kind == "price":
            return draws.of(words["price"]).replace("{n}", number())
        return draws.of(words[{"name": "names", "place": "places", "when": "when"}[kind]])

    return _SLOT.sub(filler, sentence)


# Sentence group of each text fact, and the probability that it goes to (title, screen, speech).
_PLACES = {
    "offer": (0.50, 0.35, 0.15), "education": (0.75, 0.10, 0.15), "contact": (0.35, 0.50, 0.15),
    "ask": (0.35, 0.40, 0.25), "exchange": (0.65, 0.35, 0.0), "giveaway": (0.80, 0.10, 0.10), "terms": (0.0, 1.0, 0.0),
    "gate": (0.45, 0.45, 0.10), "milestone": (0.60, 0.25, 0.15), "claim": (1.0, 0.0, 0.0),
    "commentary": (0.60, 0.15, 0.25), "archive": (0.60, 0.40, 0.0), "speech": (0.0, 0.0, 1.0),
}


def _sentences(facts: Mapping[str, str], fact: str, words: Bank) -> list[str]:
    value = facts[fact]
    if fact == "offer":
        return words[value] if value in ("goods", "coded") else words["offers"][value]
    return words[fact] if value == "yes" else words[fact][value]


def write_text(facts: Mapping[str, str], draws: Draws, *, template: Draws | None = None,
               shared: Draws | None = None) -> tuple[str, str, str]:
    """Title, text on screen and speech that say exactly the text facts of one post.

    Args:
        template: draws of the campaign that a post belongs to; they choose its sentences, so that the posts of a
            campaign are worded alike and differ in names, places and numbers.
        shared: draws of the live stream that a post is a segment of; they choose its topic's sentence.
    """
    language = facts["language"]
    words, choose = bank(language), template or draws
    fields: tuple[list[str], list[str], list[str]] = ([], [], [])
    for fact, (title, screen, _) in _PLACES.items():
        present = facts[fact] not in ("no", "none")
        if present or template:  # a campaign has its wording for every fact, whichever a post has
            u, which = choose.u(), choose.u()
        if present:
            field, options = 0 if u < title else 1 if u < title + screen else 2, _sentences(facts, fact, words)
            fields[field].append(fill(options[int(which * len(options))], words, draws))
    same = shared or draws
    topic = fill(same.of(words["topics"][facts["topic"]]), words, same)
    said = facts["claim"] != "none" or len(fields[0]) > 1  # a crowded title leaves the topic to the speaker
    if shared:
        fields[0].insert(0, fill(shared.of(words["live"]), words, shared))
    if said and draws.chance(0.7):
        fields[2].append(topic)
    else:
        if same.chance(0.4):
            topic = f"{fill(same.of(words['openers']), words, same)} {topic}"
        fields[0].insert(draws.integer(0, 1) if fields[0] and not shared else len(fields[0]), topic)
    if len(fields[0]) < 3 and draws.chance(0.4):
        fields[0].append(fill(draws.of(words["closers"]), words, draws))
    if not fields[1] and draws.chance(0.35):
        fields[1].append(fill(draws.of(words["overlay"]), words, draws))
    if not fields[2] and draws.chance(0.35) or facts["speech"] == "yes":
        fields[2].append(fill(draws.of(words["spoken"]), words, draws))
    title = _join(fields[0], draws, language)
    if facts["shouting"] == "yes":
        title = f"{_upper(title, language)}{draws.of(('!!!', '!!', '?!!'))} {' '.join(draws.shuffled(_TAGS)[:4])}"
    else:
        if draws.chance(0.15):
            title = f"{title} {draws.of(_EMOJI)}"
        if draws.chance(0.15):
            title = f"{title} {draws.of(_TAGS)}"
    return title, _join(fields[1], draws, language, end=""), _join(fields[2], draws, language)


def retag(title: str, draws: Draws) -> str:
    """The title with one more tag."""
    return f"{title} {draws.of(_TAGS)}"


def _upper(text: str, language: str) -> str:
    return (text.replace("i", "İ") if language == "tr" else text).upper()


def _join(sentences: list[str], draws: Draws, language: str, *, end: str | None = None) -> str:
    """Sentences, each with a capital, separated by full stops or dashes."""
    between = draws.of((". ", ". ", " - ", "! ")) if end is None else " | "
    if between == " - ":  # a dash goes on with the sentence
        return _capital(between.join(sentences), language)
    return between.join(_capital(s, language) for s in sentences)


def _capital(sentence: str, language: str) -> str:
    return _upper(sentence[:1], language) + sentence[1:]
