"""Fail closed: whatever is wrong with a post, it goes to every module with its cause, and the others are scored."""

import math
import time

import numpy as np
import pytest
import torch
from PIL import ImageFile

from radar_lib import routing
from radar_lib.errors import RadarError
from radar_suite.decisions import windows
from radar_suite.decisions.bundle import route
from radar_suite.decisions.windows import Limits, once

TAUS = (0.0, 0.0)


@pytest.fixture(scope="module")
def router(build):
    return build()


@torch.inference_mode()
def test_bad_posts_of_all_kinds_are_sent_everywhere_and_stop_nobody(router, make):
    posts, causes = make.hostile(2 * (len(make.kinds) + 10))
    decisions = list(route(router, TAUS, posts))
    assert len(make.kinds) >= 25 and [d.cause for d in decisions] == causes
    for post, decision in zip(posts, decisions, strict=True):
        assert decision.post_id == (post["post_id"] or None)
        if decision.cause:
            assert decision.status == "bypassed" and decision.modules == ("A", "B") and decision.dispatch.all()
            assert np.isnan(decision.logits).all() and decision.detail
        else:  # as if it had been alone
            pictures = [windows.picture(frame["bytes"]) for frame in post["frames"]]
            batch = router.backbone.collate(router.backbone.encode([post | {"frames": pictures}]))
            np.testing.assert_allclose(decision.logits, router(batch)[0].numpy(), atol=1e-4)
            assert decision.status == "scored"


def test_a_decision_is_eq_2_and_observing_decides_the_same(router, make):
    posts = [make.sound(i) for i in range(40)]
    logits = np.stack([d.logits for d in route(router, TAUS, posts)])
    taus = np.median(logits, axis=0)
    plain, observed = (list(route(router, taus, posts, observe_only=on)) for on in (False, True))
    assert np.array_equal([d.dispatch for d in plain], logits > taus)
    assert [d.modules for d in plain] == [tuple(c for c, out in zip("AB", row > taus, strict=True) if out)
                                          for row in logits]  # fmt: skip
    assert {len(d.modules) for d in plain} >= {0, 1}
    assert all(np.array_equal(a.dispatch, b.dispatch) for a, b in zip(plain, observed, strict=True))
    assert {d.modules for d in observed} == {("A", "B")} and {d.status for d in observed} == {"observed"}


def test_a_threshold_that_is_no_number_releases_nothing(router, make):
    assert all(d.modules == ("A", "B") for d in route(router, (math.nan, -math.inf), [make.sound(i) for i in range(9)]))


def test_a_post_that_hangs_is_given_up_and_its_thread_replaced(router, make, monkeypatch):
    decode = windows.picture

    def slow(data):
        if data == b"slow":
            time.sleep(3)
        return decode(data)

    monkeypatch.setattr(windows, "picture", slow)
    posts = [make.sound(i) | {"frames": [b"slow"]} for i in range(5)] + [make.sound(i) for i in range(10, 40)]
    decisions = list(route(router, TAUS, posts, limits=Limits(seconds=1)))
    assert [d.cause for d in decisions] == ["time"] * 5 + [""] * 30
    assert [d.post_id for d in decisions] == [post["post_id"] for post in posts]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_not_a_score(router, make, monkeypatch, broken):
    forward = routing._forward

    def bad(router, encoded):
        rows = zip(forward(router, encoded), encoded, strict=True)
        return [row if post.n_tokens % 2 else row * [broken, 1] for row, post in rows]

    monkeypatch.setattr(routing, "_forward", bad)
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
    decisions = list(route(router, TAUS, [make.sound(i) | {"frames": []} for i in range(20)]))
    assert decisions[7].cause == {"encode": "encoding", "collate": "score"}[stage]
    assert sum(not d.cause for d in decisions) >= 10


def test_a_model_that_loses_a_post_scores_none(router, make, monkeypatch):
    monkeypatch.setattr(routing, "_forward", lambda router, encoded: [np.zeros(2, np.float32)] * (len(encoded) // 2))
    assert {d.cause for d in route(router, TAUS, [make.sound(i) for i in range(4)])} == {"score"}


def test_ids_that_repeat_and_what_is_no_post_at_all(router, make):
    posts = [make.sound(1), make.sound(2), None, {}, "post", {"post_id": "\ud800"}, make.sound(1)]
    decisions = list(route(router, TAUS, once([*posts, make.sound(3) | {"title": "\ud800"}])))
    assert [d.cause for d in decisions[:-1]] == ["post_id", "", "file", "post_id", "file", "text", "post_id"]
    assert decisions[-1].cause and [d.row for d in decisions] == list(range(8))


def test_torn_images_are_not_taken_for_whole_ones(router, make, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RadarError, match="LOAD_TRUNCATED_IMAGES"):
        next(route(router, TAUS, [make.sound(1)]))


def test_posts_are_taken_as_they_come(router, make):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield make.sound(taken[-1])

    stream = route(router, TAUS, endless())
    assert [next(stream).row for _ in range(10)] == list(range(10)) and len(taken) <= 2 * windows.WINDOW
    stream.close()


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"frames": -1}, {"characters": -1}, {"frame_bytes": 0}])
def test_limits_have_ranges(limits):
    with pytest.raises(RadarError, match=next(iter(limits))):
        Limits(**limits)
