"""Variety: titles differ, and so do pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from radar_suite.world.dials import CorpusConfig, plan_corpus
from radar_suite.world.draws import Draws
from radar_suite.world.facts import DOMAINS, stream_key
from radar_suite.world.language import write_text
from radar_suite.world.rendering import draw_frames


def test_titles_differ():
    s = next(s for s in plan_corpus(CorpusConfig(train_posts=4250)) if s.split == "train")
    key, own = stream_key(1, "train", "text"), np.flatnonzero((s.copy == 0) & (s.facts["segment"] == 0))
    titles = set()
    for n in own:
        facts = {name: values[s.facts[name][n]] for name, values in DOMAINS.items()}
        titles.add(write_text(facts, Draws(key, int(s.index[n]), chunk=64))[0])
    assert len(titles) >= 0.93 * len(own)


@pytest.mark.parametrize("px", [96, 224])
def test_one_set_of_facts_gives_many_pictures(px):
    facts = {name: values[0] for name, values in DOMAINS.items()} | {"scene": "street", "people": "1"}
    first = [np.asarray(Image.open(io.BytesIO(draw_frames(facts, "", Draws(1, n), px=px, n_frames=2)[0])).resize(
        (24, 24)), float) for n in range(12)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(first) for b in first[:i]]
    assert first[0].shape == (24, 24, 3) and min(apart) > 8 and np.median(apart) > 25
