"""Latent facts of a post and their documented joint distribution.

A fact is something that is true of the post: what its frames show (``FRAME_FACTS``), what its text says
(``TEXT_FACTS``) and where it comes from (``CONTEXT_FACTS``). Frames, text, caption, risks and intake cues are all
functions of the facts, so the truth of every post is known.

The joint distribution has one hidden cause, the *actor* (an ordinary user, a merchant, a growth account, ...). A post
has three facets, quality, commerce and engagement; each is drawn given an actor. With probability ``co_violation``
the facets share one actor (a growth account also reposts and also sells), otherwise each facet has an actor of its
own. The dial therefore moves how often violations coincide and leaves every facet's own distribution exactly alone.

Some posts belong together. A *campaign* is a group of accounts of one actor that posts, within days and from one
region, about one topic and one regulated good; its posts keep the rates of that actor's facts, so they break several
rules at once as often as the actor does. A *live stream* is a run of three to eight neighbouring posts, its segments,
that share actor, region, day, topic, place and people; what is said and shown differs by segment.

Facts come in blocks of ``BLOCK`` posts from counter-based generators keyed by (seed, stream, block): post i depends
on (seed, stream, i) and on nothing else.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int16, Integer

from radar_suite.world.regions import REGION_LANGUAGES, REGION_SHARES, REGIONS

BLOCK = 4096
Facts = dict[str, Integer[np.ndarray, "post"]]  # positions in DOMAINS


@dataclass(frozen=True)
class World:
    """Dials of the facts beside ``co_violation``.

    ``campaign_share``: of the posts whose facets share an organised actor (reseller, growth account, aggregator), the
    share that belongs to a campaign. ``live_share``: of all posts, the share that is a segment of a live stream.
    ``languages``: only these (BCP 47), and only regions that speak one of them; empty for all.
    """

    campaign_share: float = 0.12
    live_share: float = 0.03
    languages: tuple[str, ...] = ()


WORLD = World()
ACTORS = ("ordinary", "creator", "merchant", "brand", "reseller", "growth", "aggregator")
ACTOR_SHARES = (0.663, 0.17, 0.055, 0.02, 0.042, 0.036, 0.014)
TOPICS = ("cooking", "fitness", "travel", "music", "tech", "beauty", "pets", "football", "fashion", "gaming", "diy",
          "study")
PROPS = ("plate", "dumbbell", "suitcase", "guitar", "laptop", "lipstick", "dog", "ball", "shirt", "gamepad", "hammer",
         "book")  # PROPS[t] is what a post about TOPICS[t] has at hand
SCENES = ("kitchen", "street", "gym", "beach", "stage", "shop", "desk", "park", "stadium", "bedroom", "car",
          "classroom", "workshop", "bathroom")
GOODS = ("vape", "pills", "loans", "betting", "scopes")  # goods and services under regulation
CLAIMS = ("treasure", "fire", "ghost", "shark")
TOPIC_SCENES = {  # where posts about a topic are filmed, most likely first (shares .6, .25, .1; .05 anywhere)
    "cooking": ("kitchen", "street", "park"), "fitness": ("gym", "park", "bedroom"),
    "travel": ("beach", "street", "car"), "music": ("stage", "bedroom", "street"), "tech": ("desk", "shop", "bedroom"),
    "beauty": ("bathroom", "bedroom", "shop"), "pets": ("park", "bedroom", "street"),
    "football": ("stadium", "park", "street"), "fashion": ("shop", "street", "bedroom"),
    "gaming": ("bedroom", "desk", "stage"), "diy": ("workshop", "car", "kitchen"),
    "study": ("classroom", "desk", "bedroom"),
}
CAMPAIGNS, MAX_SEGMENTS = 24, 8
_ORGANISED = tuple(ACTORS.index(name) for name in ("reseller", "growth", "aggregator"))
_FLAG = ("no", "yes")
FRAME_FACTS: dict[str, tuple[str, ...]] = {
    "scene": SCENES, "prop": ("none", *PROPS), "people": ("0", "1", "2", "3"), "item": ("none", *GOODS),
    "spectacle": ("none", *CLAIMS), "badge": _FLAG, "price_tag": _FLAG, "gift": _FLAG, "counter": _FLAG,
    "arrow": _FLAG, "watermark": _FLAG, "border": _FLAG, "blur": _FLAG, "lowbit": _FLAG, "static": _FLAG,
    "overlay": _FLAG, "sticker": _FLAG, "n_frames": ("1", "2", "3", "4", "5"),
}
TEXT_FACTS: dict[str, tuple[str, ...]] = {
    "topic": TOPICS, "offer": ("none", *GOODS, "goods", "coded"), "education": ("none", *GOODS),
    "contact": ("none", "dm", "link", "phone"), "ask": ("none", "like", "share", "follow", "tag"),
    "exchange": _FLAG, "giveaway": _FLAG, "terms": _FLAG, "gate": _FLAG, "milestone": _FLAG,
    "claim": ("none", *CLAIMS), "commentary": _FLAG, "archive": _FLAG, "speech": _FLAG, "shouting": _FLAG,
}
LANGUAGES = tuple(dict.fromkeys(code for codes in REGION_LANGUAGES for code in codes))
CONTEXT_FACTS: dict[str, tuple[str, ...]] = {
    "region": REGIONS, "language": LANGUAGES, "actor_quality": ACTORS, "actor_commerce": ACTORS,
    "actor_engagement": ACTORS, "day": tuple(str(d) for d in range(365)),
    "campaign": ("", *(f"c{n:02d}" for n in range(1, CAMPAIGNS + 1))),
    "segment": tuple(str(n) for n in range(MAX_SEGMENTS + 1)),  # 0: not live
}
DOMAINS = {**FRAME_FACTS, **TEXT_FACTS, **CONTEXT_FACTS}
OFFER_GOODS, OFFER_CODED = DOMAINS["offer"].index("goods"), DOMAINS["offer"].index("coded")

# Rate of a flag by actor, in the order of ACTORS.
_QUALITY = {
    "watermark": (0.006, 0.008, 0.03, 0.01, 0.17, 0.24, 0.78), "border": (0.03, 0.02, 0.06, 0.01, 0.18, 0.22, 0.50),
    "blur": (0.03, 0.01, 0.05, 0.01, 0.20, 0.18, 0.25), "lowbit": (0.03, 0.015, 0.06, 0.01, 0.20, 0.17, 0.35),
    "static": (0.04, 0.05, 0.19, 0.10, 0.37, 0.37, 0.30), "overlay": (0.01, 0.01, 0.12, 0.02, 0.34, 0.34, 0.30),
    "shouting": (0.03, 0.025, 0.15, 0.02, 0.36, 0.36, 0.30),
}
_CLAIM_RATE = (0.0145, 0.024, 0.02, 0.01, 0.09, 0.18, 0.33)
_CLAIM_SHOWN = (0.85, 0.85, 0.60, 0.80, 0.35, 0.25, 0.25)
_OFFER = {  # probability of (a regulated offer, ordinary goods, a coded offer) by actor
    "regulated": (0.006, 0.009, 0.26, 0.20, 0.60, 0.06, 0.025), "goods": (0.015, 0.030, 0.45, 0.40, 0.10, 0.05, 0.030),
    "coded": (0.007, 0.007, 0.04, 0.00, 0.32, 0.05, 0.020),
}
_BADGE_REGULATED = (0.10, 0.15, 0.60, 0.80, 0.12, 0.05, 0.05)
_EDUCATION = (0.015, 0.050, 0.010, 0.040, 0.010, 0.005, 0.010)
_ENGAGEMENT = {
    "exchange": (0.003, 0.004, 0.005, 0.000, 0.06, 0.32, 0.05),
    "giveaway": (0.005, 0.033, 0.05, 0.150, 0.05, 0.27, 0.03),
    "counter": (0.010, 0.050, 0.02, 0.020, 0.06, 0.34, 0.08), "arrow": (0.012, 0.030, 0.04, 0.030, 0.10, 0.36, 0.10),
}
_ASK_RATE = (0.09, 0.22, 0.15, 0.20, 0.20, 0.45, 0.25)
_HONEST_GIVEAWAY = (0.45, 0.65, 0.65, 0.90, 0.20, 0.12, 0.20)
_MILESTONE_COUNTER = (0.55, 0.65, 0.50, 0.60, 0.15, 0.10, 0.10)


def stream_key(seed: int, *names: str) -> int:
    """64-bit key of a named random stream, a hash of ``seed`` and ``names``."""
    return int.from_bytes(hashlib.sha256(repr((int(seed), *names)).encode()).digest()[:8], "little")


class _Columns:
    """Hands out the columns of one block of uniforms, each once, in the order of the calls below."""

    def __init__(self, uniforms: Float[np.ndarray, "post column"]):
        self._uniforms, self._next = uniforms, 0

    def take(self) -> Float[np.ndarray, "post"]:
        self._next += 1
        return self._uniforms[:, self._next - 1]

    def flag(self, rate) -> Int16[np.ndarray, "post"]:
        return (self.take() < rate).astype(np.int16)

    def choice(self, n: int) -> Int16[np.ndarray, "post"]:
        return (self.take() * n).astype(np.int16)

    def pick(self, shares) -> Int16[np.ndarray, "post"]:
        cdf = np.cumsum(shares) / np.sum(shares)
        return np.searchsorted(cdf[:-1], self.take(), side="right").astype(np.int16)


def _by(actor: Int16[np.ndarray, "post"], rates) -> Float[np.ndarray, "post"]:
    return np.asarray(rates, np.float32)[actor]


def sample_block(seed: int, stream: str, block: int, *, co_violation: float, world: World = WORLD) -> Facts:
    """Facts of posts ``block * BLOCK ... (block + 1) * BLOCK - 1`` of a stream.

    ``co_violation`` in [0, 1]: probability that the three facets of a post share one actor.
    """
    uniforms, more = (_uniforms(seed, stream, kind, block, columns) for kind, columns in (("facts", 80), ("groups", 8)))
    segment = _segments(more[:, 0], more[:, 1], world.live_share)
    first = np.arange(BLOCK) - np.maximum(segment - 1, 0)
    uniforms[:, :SHARED_COLUMNS] = uniforms[first, :SHARED_COLUMNS]
    col, group = _Columns(uniforms), _Columns(more[first, 2:])
    shared, actors = col.flag(co_violation), [col.pick(ACTOR_SHARES) for _ in range(4)]
    quality, commerce, engagement = (np.where(shared, actors[0], own) for own in actors[1:])
    f: Facts = {"actor_quality": quality, "actor_commerce": commerce, "actor_engagement": engagement,
                "segment": segment}
    shares, spoken, counts = _speakers(world.languages)
    f["region"] = col.pick(shares)
    f["language"] = _language(spoken, counts, f["region"], col.take())
    f["day"] = col.choice(365)
    f["topic"] = col.choice(len(TOPICS))
    plan = campaigns(seed, world.languages)
    joins = (shared == 1) & np.isin(actors[0], _ORGANISED) & (group.flag(world.campaign_share) == 1)
    which = group.choice(CAMPAIGNS // len(_ORGANISED)) * len(_ORGANISED) + np.maximum(actors[0] - _ORGANISED[0], 0)
    f["campaign"] = np.where(joins, 1 + which, 0)
    days = group.take()
    for name in ("region", "language", "topic"):
        f[name] = np.where(joins, plan[name][which], f[name])
    f["day"] = np.where(joins, plan["day"][which] + (days * plan["days"][which]).astype(int), f["day"])
    f["scene"] = _scene(f["topic"], col.take(), col.choice(len(SCENES)))
    f["prop"] = np.where(col.flag(0.7), f["topic"] + 1, 0)
    f["people"] = col.pick((0.30, 0.40, 0.20, 0.10))
    f["n_frames"] = col.pick((0.07, 0.12, 0.62, 0.12, 0.07))
    f["sticker"] = col.flag(0.08)
    _quality(f, col, quality)
    # A single frame cannot show that it stands still.
    f["n_frames"] = np.where((f["static"] == 1) & (f["n_frames"] == 0), 2, f["n_frames"])
    _commerce(f, col, commerce, kind=np.where(joins, plan["good"][which], 0))
    _engagement(f, col, engagement)
    return {name: f[name].astype(np.int16) for name in DOMAINS}


SHARED_COLUMNS = 13  # uniforms of a live stream's segments that are the first segment's: shared flag to people


def _uniforms(seed: int, stream: str, kind: str, block: int, columns: int) -> Float[np.ndarray, "post column"]:
    bits = np.random.Philox(key=np.array([stream_key(seed, stream, kind), block], np.uint64))
    return np.random.Generator(bits).random((BLOCK, columns), np.float32)


def _segments(starts, length, live_share: float) -> Int16[np.ndarray, "post"]:
    """Segment number of each post, 0 where it is not live: in some windows of eight posts the first 3 to 8."""
    row = np.arange(BLOCK)
    window = row - row % MAX_SEGMENTS
    n = 3 + (length[window] * (MAX_SEGMENTS - 2)).astype(int)
    mean = (3 + MAX_SEGMENTS) / 2
    live = (starts[window] < live_share * MAX_SEGMENTS / mean) & (row - window < n)
    return np.where(live, row - window + 1, 0).astype(np.int16)


@lru_cache(maxsize=64)
def campaigns(seed: int, languages: tuple[str, ...] = ()) -> dict[str, Int16[np.ndarray, "campaign"]]:
    """The campaigns of a world, the same in all its splits: region, language, topic, good, first day, length in days.

    Campaign n has the organised actor n modulo 3.
    """
    bits = np.random.Philox(key=np.array([stream_key(seed, "campaigns"), 0], np.uint64))
    col = _Columns(np.random.Generator(bits).random((CAMPAIGNS, 8), np.float32))
    shares, spoken, counts = _speakers(languages)
    plan = {"region": col.pick(shares), "topic": col.choice(len(TOPICS)), "good": 1 + col.choice(len(GOODS)),
            "days": 4 + col.choice(18)}
    plan["language"] = _language(spoken, counts, plan["region"], col.take())
    plan["day"] = (col.take() * (365 - plan["days"])).astype(np.int16)
    return plan


@lru_cache(maxsize=64)
def _speakers(languages: tuple[str, ...]):
    """Shares of the regions, and their languages as a table (padded) with counts, where only some are spoken."""
    spoken = [[LANGUAGES.index(c) for c in codes if not languages or c in languages] for codes in REGION_LANGUAGES]
    counts = np.array([len(codes) for codes in spoken])
    table = np.array([[codes[min(j, len(codes) - 1)] if codes else 0 for j in range(counts.max())] for codes in spoken])
    return np.where(counts > 0, REGION_SHARES, 0.0), table, counts


def _language(table, counts, region, u):
    """The first language of a region with probability .85 (1 where it has one), else one of the others."""
    others = 1 + ((u - 0.85) / 0.15 * np.maximum(counts[region] - 1, 1)).astype(int)
    return table[region, np.where(u < 0.85, 0, np.minimum(others, counts[region] - 1))]


def _scene(topic, u, anywhere):
    table = np.array([[SCENES.index(s) for s in TOPIC_SCENES[t]] for t in TOPICS])
    rank = np.searchsorted((0.60, 0.85, 0.95), u, side="right")
    return np.where(rank < 3, table[topic, np.minimum(rank, 2)], anywhere)


def _quality(f: Facts, col: _Columns, actor) -> None:
    for name, rates in _QUALITY.items():
        f[name] = col.flag(_by(actor, rates))
    shady = actor >= ACTORS.index("reseller")
    f["claim"] = np.where(col.flag(_by(actor, _CLAIM_RATE)), 1 + col.choice(len(CLAIMS)), 0)
    another = 1 + (f["claim"] - 1 + 1 + col.choice(len(CLAIMS) - 1)) % len(CLAIMS)
    contradicting = np.where(col.flag(0.35), another, 0)  # another spectacle, or an ordinary scene
    shown = np.where(col.flag(_by(actor, _CLAIM_SHOWN)), f["claim"], contradicting)
    unclaimed = np.where(col.flag(0.02), 1 + col.choice(len(CLAIMS)), 0)
    f["spectacle"] = np.where(f["claim"] > 0, shown, unclaimed)
    f["commentary"] = col.flag(np.where(f["watermark"], np.where(shady, 0.18, 0.50), 0.03))
    f["archive"] = col.flag(np.where(f["blur"] | f["lowbit"], np.where(shady, 0.06, 0.25), 0.02))
    f["speech"] = col.flag(np.where(f["static"], np.where(shady, 0.10, 0.60), 0.06))


def _commerce(f: Facts, col: _Columns, actor, *, kind) -> None:
    """``kind``: the good (1-based) where a campaign fixes it, else 0."""
    u, own = col.take(), 1 + col.choice(len(GOODS))
    kind = np.where(kind > 0, kind, own)
    regulated, goods, coded = (_by(actor, _OFFER[name]) for name in ("regulated", "goods", "coded"))
    f["offer"] = np.select([u < regulated, u < regulated + goods, u < regulated + goods + coded],
                           [kind, OFFER_GOODS, OFFER_CODED], 0)
    is_regulated, is_coded = (f["offer"] > 0) & (f["offer"] < OFFER_GOODS), f["offer"] == OFFER_CODED
    teaches = (f["offer"] == 0) & (col.flag(_by(actor, _EDUCATION)) == 1)
    f["education"] = np.where(teaches, kind, 0)
    f["contact"] = np.where(
        col.flag(np.select([is_regulated | is_coded, f["offer"] > 0, teaches], [0.6, 0.5, 0.10], 0.01)),
        1 + col.choice(3), 0)
    seen = col.flag(np.select([is_regulated, is_coded, teaches, f["offer"] > 0], [0.60, 0.60, 0.50, 0.02], 0.018))
    f["item"] = np.where(seen, kind, 0)
    f["badge"] = col.flag(np.where(is_regulated | is_coded, _by(actor, _BADGE_REGULATED),
                                   np.where(f["offer"] > 0, 0.08, 0.02)))
    f["price_tag"] = col.flag(np.select(
        [is_regulated | is_coded, f["offer"] > 0, teaches, f["item"] > 0], [0.40, 0.45, 0.08, 0.15], 0.01))


def _engagement(f: Facts, col: _Columns, actor) -> None:
    for name, rates in _ENGAGEMENT.items():
        f[name] = col.flag(_by(actor, rates))
    f["ask"] = np.where(col.flag(_by(actor, _ASK_RATE)), 1 + col.choice(4), 0)
    honest = np.where(f["giveaway"], _by(actor, _HONEST_GIVEAWAY), 0)
    f["terms"] = col.flag(honest) * f["giveaway"]
    f["gift"] = col.flag(np.where(f["giveaway"], 0.15 + 0.75 * honest, 0.012))
    growth = actor == ACTORS.index("growth")
    f["gate"] = col.flag(np.where(f["giveaway"], np.where(growth, 0.75, 0.45), np.where(growth, 0.12, 0.004)))
    f["milestone"] = col.flag(np.where(f["counter"], _by(actor, _MILESTONE_COUNTER), 0.01))
