"""Posts that belong together: campaigns, live streams; and worlds that speak only some languages."""

import re

import numpy as np
import pytest

from radar_suite.world.draws import Draws
from radar_suite.world.facts import BLOCK, DOMAINS, LANGUAGES, WORLD, World, campaigns, sample_block
from radar_suite.world.language import bank, write_text
from radar_suite.world.pipelines import panel_votes, select_traffic, truth_of
from radar_suite.world.policies import posteriors
from radar_suite.world.regions import REGION_LANGUAGES

KEYED = {"region", "language", "topic", "day", "scene", "prop", "campaign"}  # what a campaign fixes, and its scene


def facts(world=WORLD, blocks=6, co_violation=0.9):
    parts = [sample_block(3, "groups", b, co_violation=co_violation, world=world) for b in range(blocks)]
    return {name: np.concatenate([p[name] for p in parts]) for name in DOMAINS}


def test_campaigns_are_bursts_of_one_actor_region_topic_and_good():
    f = facts(World(campaign_share=1.0))
    plan, seen = campaigns(3), np.unique(f["campaign"])
    assert len(seen) == 25
    for c in seen[1:]:
        rows = f["campaign"] == c
        for name in ("region", "language", "topic"):
            assert (f[name][rows] == plan[name][c - 1]).all()
        days = f["day"][rows]
        assert days.min() >= plan["day"][c - 1] and days.max() - days.min() < plan["days"][c - 1] <= 21
        assert len(np.unique(f["actor_quality"][rows])) == 1
        offered = f["offer"][rows & (f["offer"] > 0) & (f["offer"] < DOMAINS["offer"].index("goods"))]
        assert (offered == plan["good"][c - 1]).all()


def test_campaigns_drive_several_risks_at_once():
    f = facts(World(campaign_share=0.5), blocks=12)
    p, member = posteriors(f), f["campaign"] > 0
    several = 1 - np.prod(1 - p, 1) - sum(p[:, k] * np.prod(np.delete(1 - p, k, 1), 1) for k in range(3))
    assert several[member].mean() > 0.15 > 0.03 > several[~member].mean()


def test_a_campaign_is_worded_alike():
    base = {name: values[0] for name, values in DOMAINS.items()} | {"language": "en", "exchange": "yes"}
    texts = {who: set() for who in (None, 1, 2)}
    shapes = {s: re.compile(re.sub(r"\\{\w+\\}", ".*", re.escape(s)), re.I) for s in bank("en")["exchange"]}
    for n in range(40):
        facts = base | {"ask": DOMAINS["ask"][n % 5], "giveaway": ("no", "yes")[n % 2]}
        for who, seen in texts.items():
            said = " ".join(write_text(facts, Draws(9, n), template=None if who is None else Draws(8, who)))
            seen.update(s for s, shape in shapes.items() if shape.search(said))
    assert len(texts[1]) == len(texts[2]) == 1 and len(texts[None]) > 3


def test_campaigns_leave_every_other_fact_alone():
    without, many = facts(World(campaign_share=0.0)), facts(World(campaign_share=1.0))
    goods = {"offer", "education", "item"}  # a campaign fixes which good, not whether there is one
    for name in set(DOMAINS) - KEYED - goods:
        assert (without[name] == many[name]).all(), name
    for name in goods:
        assert ((without[name] > 0) == (many[name] > 0)).all()
    assert (facts(co_violation=0.0)["campaign"] == 0).all()  # no shared actor, no organised group


def test_live_streams_are_runs_of_segments_that_share_their_scene():
    f = facts(World(live_share=0.2))
    live = f["segment"] > 0
    assert abs(live.mean() - 0.2) < 0.02
    starts = np.flatnonzero(f["segment"] == 1)
    ends = [start + 1 + np.argmax(np.append(f["segment"][start + 1 : start + 9], 0) <= 1) for start in starts]
    assert sum(e - s for s, e in zip(starts, ends, strict=True)) == live.sum()
    for start, end in zip(starts, ends, strict=True):
        assert f["segment"][start:end].tolist() == list(range(1, end - start + 1)) and 3 <= end - start <= 8
        for name in ("actor_quality", "region", "language", "day", "topic", "scene", "prop", "people", "campaign"):
            assert len(np.unique(f[name][start:end])) == 1
    assert any(len(np.unique(f["ask"][s:e])) > 1 for s, e in zip(starts, ends, strict=True))
    assert (facts(World(live_share=0.0))["segment"] == 0).all()


@pytest.mark.parametrize("chosen", [("tr",), ("fr", "ar")])
def test_only_the_chosen_languages_are_spoken_where_they_are_spoken(chosen):
    f = facts(World(languages=chosen))
    spoken = np.array(LANGUAGES)[f["language"]]
    assert set(spoken) == set(chosen)
    assert all(code in REGION_LANGUAGES[region] for code, region in zip(spoken, f["region"], strict=True))


def test_three_reviewers_agree_as_often_as_the_posterior_says():
    s = select_traffic(5, "audit", "audit", 8 * BLOCK, co_violation=0.9, verified=True)
    p, votes = posteriors(s.facts), panel_votes(s, 5)
    assert ((votes >= s.truth) & (votes <= s.truth + 2)).all()
    assert (votes[:50] == panel_votes(s.take(slice(0, 50)), 5)).all()
    for low, high in ((0.0, 0.1), (0.3, 0.6), (0.7, 0.9)):
        rows = (p > low) & (p <= high)
        expected = (1 - p[rows] ** 3 - (1 - p[rows]) ** 3).mean()
        split = np.isin(votes[rows], (1, 2)).mean()
        assert abs(split - expected) < 4 * np.sqrt(expected * (1 - expected) / rows.sum()) + 1e-9
    middle = (np.abs(p - 0.5) < 0.2).any(axis=1).mean()
    assert 0.004 < middle < 0.04  # posts on which honest reviewers disagree exist, and are the exception


def test_truth_is_a_draw_of_the_posterior():
    f = sample_block(3, "t", 0, co_violation=0.9)
    p = posteriors(f)
    truth = truth_of(p, 3, "t", 0)
    assert (np.abs(truth.mean(0) - p.mean(0)) < 4 * np.sqrt((p * (1 - p)).sum(0)) / BLOCK).all()
