"""The world's facts, policies, texts, captions and frames."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from radar_lib.errors import RadarError
from radar_suite.world.captions import caption
from radar_suite.world.draws import Draws
from radar_suite.world.facts import BLOCK, DOMAINS, FRAME_FACTS, LANGUAGES, TEXT_FACTS, sample_block
from radar_suite.world.language import BANKS, bank, write_text
from radar_suite.world.pipelines import Intake, select_annotated
from radar_suite.world.policies import CATEGORIES, posteriors
from radar_suite.world.regions import REGION_SHARES, REGIONS
from radar_suite.world.rendering import draw_frames


def named(facts, n):
    return {name: values[facts[name][n]] for name, values in DOMAINS.items()}


def one(**changes):
    """An innocent post with some facts changed, as arrays of length 1 and by name."""
    values = {name: domain[0] for name, domain in DOMAINS.items()} | {"region": "US", "n_frames": "3"} | changes
    return {name: np.array([DOMAINS[name].index(value)], np.int16) for name, value in values.items()}, values


def p(category, **changes):
    return posteriors(one(**changes)[0])[0, CATEGORIES.index(category)]


@pytest.fixture(scope="module")
def block():
    return sample_block(1, "test", 0, co_violation=0.9)


def test_facts_depend_on_seed_stream_and_block_alone(block):
    again = sample_block(1, "test", 0, co_violation=0.9)
    assert all((block[name] == again[name]).all() for name in DOMAINS)
    for other in ((2, "test", 0), (1, "train", 0), (1, "test", 1)):
        assert (sample_block(*other, co_violation=0.9)["scene"] != block["scene"]).any()
    for name, domain in DOMAINS.items():
        assert block[name].shape == (BLOCK,) and block[name].min() >= 0 and block[name].max() < len(domain)


def test_co_violation_leaves_each_facet_alone_and_ties_them_together():
    rates = {}
    for dial in (0.0, 1.0):
        blocks = [sample_block(3, "dial", b, co_violation=dial) for b in range(20)]
        facts = {name: np.concatenate([b[name] for b in blocks]) for name in DOMAINS}
        risk = posteriors(facts)
        rates[dial] = risk.mean(axis=0), (risk[:, 0] * risk[:, 2]).mean() / risk[:, 2].mean()
    # RCS and FE use one facet each; LQC has none but its own.
    assert np.abs(rates[0.0][0] - rates[1.0][0]).max() < 0.012
    assert rates[1.0][1] > 3 * rates[0.0][1]


def test_policies_and_their_exceptions():
    assert max(p(c) for c in CATEGORIES) < 0.01
    repost = {"watermark": "yes", "border": "yes"}
    assert p("LQC", **repost) > 0.65 > 0.1 > p("LQC", **repost, commentary="yes")
    assert p("LQC", claim="ghost") > 0.65 > 0.1 > p("LQC", claim="ghost", spectacle="ghost")
    assert p("LQC", claim="ghost", spectacle="shark") > 0.65
    assert p("LQC", blur="yes", lowbit="yes") > 0.65 > 0.1 > p("LQC", blur="yes", lowbit="yes", archive="yes")
    assert p("LQC", static="yes", shouting="yes") > 0.65 > 0.1 > p("LQC", static="yes", shouting="yes", speech="yes")
    assert p("RCS", offer="loans") > 0.65 > 0.1 > p("RCS", offer="loans", badge="yes")
    assert p("RCS", offer="scopes", badge="yes") > 0.65
    assert p("RCS", offer="betting", badge="yes", region="US") < 0.1 < 0.65 < p(
        "RCS", offer="betting", badge="yes", region="TR")
    assert p("RCS", offer="vape", badge="yes", region="DE") < 0.1 < 0.65 < p(
        "RCS", offer="vape", badge="yes", region="US")
    assert p("RCS", offer="coded", item="vape", contact="dm") > 0.65 > 0.1 > p("RCS", offer="coded", contact="dm")
    assert p("RCS", education="pills", item="pills") < 0.1 < 0.65 < p("RCS", education="pills", contact="link")
    assert p("RCS", offer="goods", contact="link", price_tag="yes") < 0.1
    prize = {"giveaway": "yes", "gate": "yes"}
    genuine = {**prize, "terms": "yes", "gift": "yes"}
    assert p("FE", **prize) > 0.65 > 0.1 > p("FE", **genuine)
    assert p("FE", **genuine, day="180") < 0.1 < 0.65 < p("FE", **genuine, day="181")  # the rule of 1 July
    assert p("FE", **prize, terms="yes") > 0.65  # the prize is shown nowhere
    assert p("FE", counter="yes", ask="like") > 0.65 > 0.1 > p("FE", counter="yes", ask="like", milestone="yes")
    assert p("FE", arrow="yes", ask="like") > 0.65 > 0.1 > max(p("FE", arrow="yes"), p("FE", ask="like"))
    assert p("FE", exchange="yes") > 0.65


def test_on_some_posts_honest_reviewers_disagree():
    assert 0.3 < p("LQC", watermark="yes", commentary="yes", blur="yes", border="yes") < 0.7
    unorderable = {"offer": "coded", "item": "pills"}
    assert 0.3 < p("RCS", **unorderable) < 0.7 and p("RCS", **unorderable, badge="yes") < 0.1
    assert 0.3 < p("FE", counter="yes", milestone="yes", arrow="yes") < 0.7 and 0.3 < p("FE", gate="yes") < 0.7


def test_every_language_has_a_complete_bank():
    assert {path.stem for path in BANKS.glob("*.yaml")} == set(LANGUAGES) and len(LANGUAGES) >= 8

    def shape(node):
        return {k: shape(v) for k, v in node.items()} if isinstance(node, dict) else None

    def sentences(node):
        parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        return [node] if parts is None else [s for part in parts for s in sentences(part)]

    for language in LANGUAGES:
        assert shape(bank(language)) == shape(bank("en"))
        every = sentences(bank(language))
        assert all(isinstance(s, str) and s.strip() == s and s for s in every)
        slots = {slot for s in every for slot in re.findall(r"\{(.*?)\}", s)}
        assert slots <= {"name", "place", "when", "n", "day", "price"}
    with pytest.raises(RadarError, match="tlh"):
        bank("tlh")


def test_texts_are_filled_in_and_distinct(block):
    texts = [write_text(named(block, n), Draws(5, n, chunk=64)) for n in range(2000)]
    assert not any("{" in field for text in texts for field in text)
    assert all(title for title, _, _ in texts)
    assert len({title for title, _, _ in texts}) > 0.9 * len(texts)
    assert texts[7] == write_text(named(block, 7), Draws(5, 7, chunk=64))


def test_captions_say_every_fact_and_never_judge():
    base = one()[1]
    plain = caption(base, language_name="English")
    context = {"region", "day", "n_frames", "actor_quality", "actor_commerce", "actor_engagement", "language",
               "campaign", "segment"}
    variants = {caption(base | {name: value}, language_name="English")
                for name, domain in DOMAINS.items() if name not in context for value in domain[1:]}
    assert len(variants) == sum(len(d) - 1 for name, d in DOMAINS.items() if name not in context)
    for other_part, domains in enumerate((TEXT_FACTS, FRAME_FACTS)):
        for name, value in ((name, value) for name, domain in domains.items() for value in domain[1:]):
            other = caption(base | {name: value}, language_name="English")
            assert other.split(" Read:")[other_part] == plain.split(" Read:")[other_part]
    words = {w for text in variants for w in re.findall("[a-z]+", text.lower())}
    banned = ("lqc", "rcs", "fe", "risk", "violat", "fake", "spam", "bait", "illegal", "quality", "regulated", "fraud",
              "engagement", "mislead", "harm", "bad", "low")
    assert not [w for w in words for b in banned if (w == b if len(b) <= 3 else b in w)]
    assert len(words) < 250


@pytest.mark.parametrize("px", [32, 97, 224])
def test_frames_at_any_size(block, px):
    for n in range(12):
        facts = named(block, n)
        frames = draw_frames(facts, "wait for it", Draws(9, n), px=px, n_frames=3)
        assert len(frames) == 3 and frames == draw_frames(facts, "wait for it", Draws(9, n), px=px, n_frames=3)
        for frame in frames:
            image = Image.open(io.BytesIO(frame))
            assert image.format == "JPEG" and image.size == (px, px) and image.mode == "RGB"


def pixels(**changes):
    frame = draw_frames(one(**changes)[1], "", Draws(9, 4), px=96, n_frames=2)[0]
    return np.asarray(Image.open(io.BytesIO(frame)), np.float32)


@pytest.mark.parametrize("name", ["badge", "price_tag", "gift", "counter", "arrow", "watermark", "border", "blur",
                                  "lowbit", "static", "overlay"])
def test_every_flag_of_the_frames_is_visible(name):
    assert np.abs(pixels(**{name: "yes"}) - pixels()).mean() > 0.5


@pytest.mark.parametrize("px", [96, 224])
def test_one_set_of_facts_gives_many_pictures(px):
    facts = one(scene="street", people="1")[1]
    first = [np.asarray(Image.open(io.BytesIO(draw_frames(facts, "", Draws(1, n), px=px, n_frames=2)[0])).resize(
        (24, 24)), float) for n in range(12)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(first) for b in first[:i]]
    assert first[0].shape == (24, 24, 3) and min(apart) > 8 and np.median(apart) > 25


def test_a_still_post_repeats_one_frame_and_another_does_not():
    still, moving = (draw_frames(one(static=s)[1], "", Draws(9, 4), px=64, n_frames=4) for s in ("yes", "no"))
    assert len(set(still)) == 1 and len(set(moving)) == 4


def test_both_modalities_matter_and_the_oracle_is_not_perfect():
    """Probes on facts: joint beats frames and text alone on each risk; the posterior is the ceiling."""
    sizes, prevalence = (2500, 2500, 2500), (0.25, 0.18, 0.12)
    dials = {"co_violation": 0.9, "noisy": False}
    train = select_annotated(1, "probe-train", "train", sizes, prevalence, intake=Intake(3.0), **dials)
    test = select_annotated(1, "probe-test", "test", (6000, 6000, 6000), (0.044, 0.048, 0.033), intake=Intake(),
                            **dials)
    oracle = posteriors(test.facts)

    def one_hot(s, names, rows):
        return np.concatenate([np.eye(len(DOMAINS[n]), dtype=np.float32)[s.facts[n][rows]] for n in names], axis=1)

    for k in range(3):
        fit, score = np.flatnonzero(train.pipeline == k), np.flatnonzero(test.pipeline == k)
        y, ap = test.labels[score, k], {}
        probes = {"frames": [*FRAME_FACTS], "text": [*TEXT_FACTS], "joint": [*FRAME_FACTS, *TEXT_FACTS]}
        for probe, names in probes.items():
            model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=12, random_state=0)
            with threadpool_limits(1):
                model.fit(one_hot(train, names, fit), train.labels[fit, k])
                ap[probe] = average_precision_score(y, model.predict_proba(one_hot(test, names, score))[:, 1])
        ceiling = average_precision_score(y, oracle[score, k])
        assert ap["joint"] > max(ap["frames"], ap["text"]) + 0.03, (CATEGORIES[k], ap)
        assert min(ap["frames"], ap["text"]) > 2 * y.mean(), (CATEGORIES[k], ap)
        assert 0.65 < ceiling < 0.92 and ap["joint"] > 0.8 * ceiling, (CATEGORIES[k], ap, ceiling)


def test_more_than_a_hundred_regions_with_a_long_tail():
    shares = np.array(REGION_SHARES) / np.sum(REGION_SHARES)
    assert len(set(REGIONS)) == len(REGIONS) > 100 and shares[0] > 50 * shares[-1]
    assert all(re.fullmatch("[A-Z]{2}", code) for code in REGIONS)
