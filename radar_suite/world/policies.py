"""The three risks as written policies over the facts, and what each annotation pipeline's intake notices.

Each rule gives the probability that a panel of trained reviewers, knowing all facts, finds a violation; rules combine
as a noisy-or, p_k = 1 - prod_r (1 - p_kr). The true label is one Bernoulli draw of p_k, so p_k is the Bayes posterior
given the facts, and ranking by it is the ceiling ("oracle") of every metric. It is below 1 because real policies have
borderline cases and unexplained violations. Declared targets (`targets`): the oracle lies above the paper's best number
in each column of Tables 1 and 2, its average PR-AUC between .70 and .85, and traffic has the paper's test prevalences.

LQC, low-quality content. A repost that carries another platform's watermark without commentary of one's own; a title
whose sensational claim the frames contradict; pictures nobody can watch (blur with blocking, still or scribbled),
unless the text says it is archive footage; a still picture under a shouting or scribbled caption, unless it carries a
spoken programme.

RCS, regulated commercial services. An offer of a regulated good, said outright, or in code words when the good is in
the picture and can be ordered; a price tag on such a good. A licence badge in the frames excuses pills and loans
everywhere, betting where the region permits it and vapes where the region licenses them; never scopes. Awareness and
education are allowed unless they also sell.

FE, fake engagement. Trading or selling followers; a giveaway that must be liked or shared for, unless its terms are
written and its prize is shown; a counter drawn into the picture with a request, unless it celebrates a milestone; an
arrow in the picture towards a button that the text asks for. From 1 July 2025 sharing may no longer be the price of
entry: a gated giveaway violates even with its terms written and its prize shown.

On some posts honest reviewers disagree, and the probability says so: a repost with commentary under two or more
faults of recording (is that commentary enough?), code words beside the good with no way to order it, a counter that
celebrates a milestone and points to a button, a post that must be shared for nothing in particular.
"""

import numpy as np
from jaxtyping import Bool, Float

from radar_suite.world.facts import DOMAINS, GOODS, OFFER_CODED, OFFER_GOODS, Facts
from radar_suite.world.regions import BETTING_PROHIBITED, REGIONS, VAPE_LICENSABLE

CATEGORIES = ("LQC", "RCS", "FE")
GATE_BAN_DAY = 181  # 1 July, counted from 1 January: the day from which a giveaway must not be gated


def _noisy_or(*rules: Float[np.ndarray, "post"]) -> Float[np.ndarray, "post"]:
    return 1.0 - np.prod([1.0 - rule for rule in rules], axis=0)


def _when(condition: Bool[np.ndarray, "post"], p: float, otherwise=0.0) -> Float[np.ndarray, "post"]:
    return np.where(condition, p, otherwise)


def contradicts(f: Facts) -> Bool[np.ndarray, "post"]:
    """True where the title claims a spectacle that the frames do not show."""
    return (f["claim"] > 0) & (f["claim"] != f["spectacle"])


def low_quality(f: Facts) -> Float[np.ndarray, "post"]:
    """Probability of LQC given the facts."""
    on = {name: f[name] == 1 for name in ("watermark", "border", "blur", "lowbit", "static", "overlay", "shouting",
                                          "commentary", "archive", "speech")}
    repost = on["watermark"] & ~on["commentary"]
    unwatchable = on["blur"] & (on["lowbit"] | on["static"] | on["overlay"]) & ~on["archive"]
    still = on["static"] & ~on["speech"] & (on["overlay"] | on["shouting"])
    defects = sum(on[name].astype(int) for name in ("border", "blur", "lowbit", "static", "overlay"))
    return _noisy_or(
        _when(repost & (defects > 0), 0.78, _when(repost, 0.12)), _when(contradicts(f), 0.78),
        _when(unwatchable, 0.78), _when(still, 0.78),
        _when(on["watermark"] & on["commentary"] & (defects > 1), 0.38), _when((defects >= 3) & ~on["archive"], 0.43),
        np.full(len(repost), 0.001))


def licensable(f: Facts, kind) -> Bool[np.ndarray, "post"]:
    """True where a licence badge excuses an offer of the regulated good ``kind`` (1-based in GOODS) in the region."""
    return _LICENSABLE[kind, f["region"]]


def _may_be_licensed(good: str, region: str) -> bool:
    return (good in ("pills", "loans") or (good == "betting" and region not in BETTING_PROHIBITED)
            or (good == "vape" and region in VAPE_LICENSABLE))


_LICENSABLE = np.array([[_may_be_licensed(good, region) for region in REGIONS] for good in ("", *GOODS)])


def regulated_services(f: Facts) -> Float[np.ndarray, "post"]:
    """Probability of RCS given the facts."""
    outright = (f["offer"] > 0) & (f["offer"] < OFFER_GOODS)
    coded = (f["offer"] == OFFER_CODED) & (f["item"] > 0) & ((f["contact"] > 0) | (f["price_tag"] == 1))
    teaches = (f["education"] > 0) & (((f["price_tag"] == 1) & (f["item"] > 0)) | (f["contact"] > 0))
    tagged = (f["offer"] == 0) & (f["education"] == 0) & (f["item"] > 0) & (f["price_tag"] == 1)
    licensed = (f["badge"] == 1) & licensable(f, np.where(outright, f["offer"], f["item"]))
    return _noisy_or(
        _when(outright, 1.0) * np.where(licensed, 0.03, 0.82), _when(coded, 1.0) * np.where(licensed, 0.03, 0.80),
        _when((f["offer"] == OFFER_CODED) & ~coded, np.where((f["item"] > 0) & ~licensed, 0.38, 0.05)),
        _when(teaches, 0.74),
        _when(tagged, 1.0) * np.where(licensed, 0.03, 0.74), np.full(len(coded), 0.001))


def fake_engagement(f: Facts) -> Float[np.ndarray, "post"]:
    """Probability of FE given the facts."""
    on = {name: f[name] == 1 for name in ("exchange", "giveaway", "terms", "gift", "gate", "counter", "arrow",
                                          "milestone")}
    excused = on["terms"] & on["gift"] & (f["day"] < GATE_BAN_DAY)
    asks = np.isin(f["ask"], [DOMAINS["ask"].index(a) for a in ("like", "share", "follow")])
    return _noisy_or(
        _when(on["exchange"], 0.75), _when(on["giveaway"] & on["gate"] & ~excused, 0.72),
        _when(on["giveaway"] & ~on["gate"] & ~on["terms"], 0.10),
        _when(on["counter"] & ~on["milestone"] & ((f["ask"] > 0) | on["arrow"]), 0.72),
        _when(on["counter"] & on["milestone"] & on["arrow"], 0.38), _when(on["arrow"] & asks, 0.72),
        _when(on["gate"] & ~on["giveaway"], 0.34), np.full(len(asks), 0.0007))


def posteriors(f: Facts) -> Float[np.ndarray, "post category"]:
    """p_k given the facts, columns in the order of CATEGORIES."""
    return np.stack([low_quality(f), regulated_services(f), fake_engagement(f)], axis=1)


# What each pipeline's recall models notice: keyword lists and simple detectors, so hits are not violations.
_CUES = (
    {"blur": 0.35, "watermark": 0.40, "border": 0.30, "static": 0.30, "overlay": 0.30, "lowbit": 0.25, "claim": 0.45,
     "shouting": 0.25, "spectacle": 0.10},
    {"regulated": 0.65, "goods": 0.12, "coded": 0.45, "education": 0.40, "item": 0.35, "price_tag": 0.30,
     "contact": 0.15, "badge": 0.05},
    {"ask": 0.15, "exchange": 0.70, "giveaway": 0.50, "gate": 0.50, "counter": 0.45, "arrow": 0.35, "milestone": 0.15,
     "gift": 0.15},
)


def intake_cues(f: Facts) -> Float[np.ndarray, "post category"]:
    """cue_k(x) in [0, 1]: strength with which pipeline k's recall models respond, capped sum of detector weights."""
    seen = {**f, "regulated": (f["offer"] > 0) & (f["offer"] < OFFER_GOODS), "goods": f["offer"] == OFFER_GOODS,
            "coded": f["offer"] == OFFER_CODED}
    sums = [sum(weight * (seen[name] > 0) for name, weight in cues.items()) for cues in _CUES]
    return np.minimum(np.stack(sums, axis=1), 1.0)
