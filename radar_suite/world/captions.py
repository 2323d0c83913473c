"""Captions: a plain description of what is to be seen and read in a post, in a closed English vocabulary.

``Seen: ...`` follows from the frames alone, ``Read: ...`` from title, screen text and speech alone. A caption states
facts and never judges: no risk, policy or verdict occurs in it. Every value of every fact has a wording of its own.
"""

from collections.abc import Mapping

_SEEN = {
    "badge": "licence badge", "price_tag": "price tag", "gift": "gift box", "counter": "follower counter",
    "arrow": "red arrow", "watermark": "platform watermark", "border": "black borders", "blur": "blurry picture",
    "lowbit": "blocky picture", "static": "still picture", "overlay": "scribbled overlay", "sticker": "round sticker",
}
_PEOPLE = {"0": "nobody", "1": "one person", "2": "two people", "3": "three people"}
_ITEM = {"vape": "vaporizer", "pills": "capsules", "loans": "banknotes", "betting": "dice", "scopes": "crosshair"}
_SPECTACLE = {"treasure": "wooden chest", "fire": "orange flames", "ghost": "white phantom", "shark": "grey fin"}
_READ = {
    "exchange": "followers traded", "giveaway": "prize giveaway", "terms": "written terms", "gate": "sharing required",
    "milestone": "milestone thanks", "commentary": "own commentary", "archive": "archive footage",
    "speech": "spoken programme", "shouting": "shouted capitals",
}
_CONTACT = {"dm": "private message", "link": "profile link", "phone": "phone number"}


def caption(facts: Mapping[str, str], *, language_name: str) -> str:
    """Describe one post given its facts by name."""
    seen = [facts["scene"], _PEOPLE[facts["people"]]]
    if facts["prop"] != "none":
        seen.append(facts["prop"])
    if facts["item"] != "none":
        seen.append(_ITEM[facts["item"]])
    if facts["spectacle"] != "none":
        seen.append(_SPECTACLE[facts["spectacle"]])
    seen += [words for fact, words in _SEEN.items() if facts[fact] == "yes"]
    read = [f"about {facts['topic']}"]
    if facts["offer"] != "none":
        read.append("coded menu" if facts["offer"] == "coded" else f"{facts['offer']} offered")
    if facts["education"] != "none":
        read.append(f"lesson on {facts['education']}")
    if facts["contact"] != "none":
        read.append(_CONTACT[facts["contact"]])
    if facts["ask"] != "none":
        read.append(f"please {facts['ask']}")
    if facts["claim"] != "none":
        read.append(f"{facts['claim']} announced")
    read += [words for fact, words in _READ.items() if facts[fact] == "yes"]
    return f"Seen: {'; '.join(seen)}. Read: {'; '.join(read)}; in {language_name}."
