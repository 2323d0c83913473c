"""Variety: titles differ, no sentence is in more than one post in a hundred, pictures differ."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from radar_suite.world import language
from radar_suite.world.dials import CorpusConfig, plan_corpus
from radar_suite.world.draws import Draws
from radar_suite.world.facts import DOMAINS, stream_key
from radar_suite.world.rendering import draw_frames

DEFAULT = CorpusConfig(train_posts=4250, validation_posts=500, unlabelled_posts=1000, audit_posts=1000)


@pytest.mark.parametrize("split", ["train", "test"])
def test_titles_differ_and_no_template_is_common(split, monkeypatch):
    used, now, fill = collections.Counter(), set(), language.fill
    monkeypatch.setattr(language, "fill", lambda s, words, draws: (now.add(s), fill(s, words, draws))[1])
    s = next(s for s in plan_corpus(DEFAULT) if s.split == split)
    titles, key = set(), stream_key(1, split, "text")
    own = np.flatnonzero((s.copy == 0) & (s.facts["segment"] == 0))
    for n in own:
        now.clear()
        facts = {name: values[s.facts[name][n]] for name, values in DOMAINS.items()}
        titles.add(language.write_text(facts, Draws(key, int(s.index[n]), chunk=64))[0])
        used.update(now)
    assert len(titles) >= 0.93 * len(own)
    assert used.most_common(1)[0][1] <= 0.01 * len(own), used.most_common(5)


@pytest.mark.parametrize("px", [96, 224])
def test_one_set_of_facts_gives_many_pictures(px):
    facts = {name: values[0] for name, values in DOMAINS.items()} | {"scene": "street", "people": "1"}
    first = [np.asarray(Image.open(io.BytesIO(draw_frames(facts, "", Draws(1, n), px=px, n_frames=2)[0])).resize(
        (24, 24)), float) for n in range(12)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(first) for b in first[:i]]
    assert first[0].shape == (24, 24, 3) and min(apart) > 8 and np.median(apart) > 25
