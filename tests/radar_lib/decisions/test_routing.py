"""Fail closed: whatever is wrong with a post, it goes to every module with its cause, and the others are scored."""

import math
import time

import numpy as np
import pytest
import torch
from PIL import ImageFile

from radar_lib.decisions import routing
from radar_lib.decisions.routing import Bypass, Limits, in_memory, route, score
from radar_lib.errors import RadarError

TAUS = (0.0, 0.0)


@pytest.fixture(scope="module")
def router(build):
    return build()


def test_bad_posts_of_all_kinds_are_sent_everywhere_and_stop_nobody(router, make):
    posts, causes = make.hostile(2 * (len(make.kinds) + 10))
    decisions = list(route(router, TAUS, posts))
    assert len(make.kinds) >= 25 and [d.cause for d in decisions] == causes
    for post, decision in zip(posts, decisions, strict=True):
        if decision.cause:
            assert decision.status == "bypassed" and decision.modules == ("A", "B") and decision.dispatch.all()
            assert np.isnan(decision.logits).all() and decision.detail
        else:
            assert decision.status == "scored" and np.isfinite(decision.logits).all()
        assert decision.post_id == (post["post_id"] or None)


def test_a_decision_is_eq_2(router, make):
    posts = [make.sound(i) for i in range(40)]
    logits = np.stack(list(score(router, posts)))
    taus = np.median(logits, axis=0)
    decisions = list(route(router, taus, posts))
    assert np.array_equal([d.dispatch for d in decisions], logits > taus)
    assert [d.modules for d in decisions] == [tuple(np.array(["A", "B"])[row > taus].tolist()) for row in logits]
    assert {len(d.modules) for d in decisions} >= {0, 1}


def test_observing_decides_the_same_and_sends_everything_everywhere(router, make):
    posts = [make.sound(i) for i in range(20)]
    plain, observed = (list(route(router, TAUS, posts, observe_only=on)) for on in (False, True))
    assert all(np.array_equal(a.dispatch, b.dispatch) for a, b in zip(plain, observed, strict=True))
    assert {d.modules for d in observed} == {("A", "B")} and {d.status for d in observed} == {"observed"}


@torch.inference_mode()
def test_logits_are_the_routers_own_whatever_lies_beside_a_post(router, make):
    posts, causes = make.hostile(90)
    scored = list(score(router, posts))
    alone = [post | {"frames": [routing.picture(f["bytes"]) for f in post["frames"]]} if not cause else None
             for post, cause in zip(posts, causes, strict=True)]  # fmt: skip
    for post, logits in zip(alone, scored, strict=True):
        if post:
            expected = router(router.backbone.collate(router.backbone.encode([post])))[0].numpy()
            np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_post_that_hangs_is_given_up_and_its_thread_replaced(router, make, monkeypatch):
    decode = routing.picture

    def slow(data):
        if data == b"slow":
            time.sleep(1.5)
        return decode(data)

    monkeypatch.setattr(routing, "picture", slow)
    posts = [make.sound(i) | {"frames": [b"slow"]} for i in range(5)] + [make.sound(i) for i in range(10, 40)]
    decisions = list(route(router, TAUS, posts, limits=Limits(seconds=0.3)))
    assert [d.cause for d in decisions] == ["time"] * 5 + [""] * 30


def test_logits_that_are_no_numbers_are_not_a_score(router, make, monkeypatch):
    forward = routing._forward

    def broken(router, encoded):
        out = forward(router, encoded)
        return [row if post.n_tokens % 2 else row * math.nan for row, post in zip(out, encoded, strict=True)]

    monkeypatch.setattr(routing, "_forward", broken)
    decisions = list(route(router, TAUS, [make.sound(i) for i in range(30)]))
    assert {d.cause for d in decisions} == {"", "score"}
    assert all(d.modules == ("A", "B") for d in decisions if d.cause)


@pytest.mark.parametrize("stage", ["encode", "collate"])
def test_what_the_model_cannot_take_is_one_posts_fault(router, make, monkeypatch, stage):
    real = getattr(router.backbone, stage)
    cursed = router.backbone.encode([make.sound(7) | {"frames": []}])[0].n_tokens

    def fails(posts):
        if any(p["title"].endswith(" 7") if stage == "encode" else p.n_tokens == cursed for p in posts):
            raise RuntimeError("out of memory")
        return real(posts)

    monkeypatch.setattr(router.backbone, stage, fails)
    posts = [make.sound(i) | {"frames": []} for i in range(20)]
    decisions = list(route(router, TAUS, posts))
    assert decisions[7].cause == {"encode": "encoding", "collate": "score"}[stage]
    assert sum(not d.cause for d in decisions) >= 10


def test_posts_that_share_an_id_are_all_refused(router, make):
    posts = [make.sound(i) for i in range(6)]
    posts[4] = posts[4] | {"post_id": posts[1]["post_id"]}
    decisions = list(route(router, TAUS, in_memory(posts)))
    assert [d.cause for d in decisions] == ["", "post_id", "", "", "post_id", ""]


def test_what_is_no_post_at_all(router, make):
    decisions = list(route(router, TAUS, in_memory([None, make.sound(1), {}, "post", {"post_id": "\ud800"}])))
    assert [d.cause for d in decisions] == ["file", "", "post_id", "file", "text"]
    surrogate = make.sound(1) | {"title": "\ud800"}
    assert isinstance(next(score(router, [surrogate])), Bypass)


def test_torn_images_are_not_taken_for_whole_ones(router, make, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RadarError, match="LOAD_TRUNCATED_IMAGES"):
        next(score(router, [make.sound(1)]))


def test_posts_are_taken_as_they_come(router, make):
    taken = []

    def endless():
        i = 0
        while True:
            taken.append(i)
            yield make.sound(i)
            i += 1

    stream = route(router, TAUS, endless())
    assert [next(stream).row for _ in range(10)] == list(range(10)) and len(taken) <= 2 * routing.WINDOW
    stream.close()


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"frames": -1}, {"characters": -1}, {"frame_bytes": 0}])
def test_limits_have_ranges(limits):
    with pytest.raises(RadarError, match=next(iter(limits))):
        Limits(**limits)
