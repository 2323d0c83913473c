"""How much of a post's text is read: within the limit all of it, beyond it something of every field."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radar_lib.errors import RadarError
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.models.text import TITLE_FIRST, TextLimit, allot, cut, field_tokens, join_lines, post_text

NAMES = ("qwen3-vl-2b", "gemma3-4b", "siglip2")
CHINESE = "今天在健身房练腿然后和朋友一起去吃火锅真的很开心欢迎大家关注我的频道谢谢大家支持一起加油"  # 45 letters


def post(title, ocr_text="", asr_text=""):
    return {"title": title, "ocr_text": ocr_text, "asr_text": asr_text, "frames": []}


@given(
    counts=st.lists(st.integers(0, 300), min_size=3, max_size=3),
    limit=st.integers(1, 300),
    shares=st.sampled_from([(0.4, 0.3, 0.3), (0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)]),
)
def test_every_field_is_sure_of_its_share_and_nothing_is_left_over(counts, limit, shares):
    counts = np.array(counts)
    kept = allot(counts, limit, shares)
    assert kept.sum() == min(limit, counts.sum()) and (kept <= counts).all()
    assert (kept >= np.minimum(counts, np.floor(limit * np.array(shares)))).all()
    if not any(shares):  # the end is cut
        assert kept.tolist() == np.diff(np.minimum(counts.cumsum(), limit), prepend=0).tolist()


@given(lines=st.lists(st.text("ab \u4eca", max_size=12), min_size=3, max_size=3), limit=st.integers(1, 40))
def test_cutting_at_the_end_is_cutting_the_text(lines, limit):
    """Each letter a token, as a tokenizer might make them: a line break may share one with what follows."""
    text = join_lines(lines)
    spans = [(i, i + 1) for i in range(len(text))]
    kept = allot(field_tokens(lines, spans), limit, TITLE_FIRST.shares)
    assert cut(lines, kept, spans) == text[:limit].removeprefix("\n")


def test_a_line_after_a_cut_one_keeps_its_name():
    lines = ["Title: aaaa", "OCR: b", ""]
    spans = [(0, 6), (6, 9), (9, 16), (16, 18)]  # 'Title:', ' aa', 'aa\nOCR:', ' b'
    assert field_tokens(lines, spans).tolist() == [3, 1, 0]
    assert cut(lines, [2, 1, 0], spans) == "Title: aa\nOCR: b"
    assert cut(lines, [3, 1, 0], spans) == join_lines(lines)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_or_said_counts_after_a_long_title(loaded, name):
    backbone = loaded(name)
    posts = [post(CHINESE), post(CHINESE, "gana un premio"), post(CHINESE, "", "hallo zusammen")]
    ids = [encoded.input_ids.tolist() for encoded in backbone.encode(posts)]
    assert len({tuple(row) for row in ids}) == 3
    with torch.no_grad():
        vectors = backbone(backbone.collate(backbone.encode(posts)))
    assert (vectors[0] - vectors[1]).abs().max() > 1e-4 and (vectors[0] - vectors[2]).abs().max() > 1e-4
    tokens, read = backbone.tokens_read(posts)
    assert (read.sum(axis=1) <= backbone.max_text_tokens).all() and (read[:, 0] < tokens[:, 0]).all()
    assert (read[1, 1], read[2, 2]) == (tokens[1, 1], tokens[2, 2])


@pytest.mark.parametrize("name", NAMES)
def test_a_short_text_is_the_same_whatever_the_limit(checkpoints, loaded, awkward_posts, name):
    roomy = load_backbone(checkpoints / name, device="meta", text=TextLimit(300, (0.0, 0.5, 0.5)))
    for ours, theirs in zip(roomy.encode(awkward_posts[:5]), loaded(name).encode(awkward_posts[:5]), strict=True):
        assert torch.equal(ours.input_ids, theirs.input_ids)
    assert roomy.texts([awkward_posts[3]]) == [post_text(awkward_posts[3])]


def test_the_limit_follows_what_is_asked_and_what_the_checkpoint_has_positions_for(checkpoints, awkward_posts):
    limits = {}
    for name in ("qwen3-vl-2b", "siglip2"):
        for tokens in (None, 30, 256, 100_000):
            backbone = load_backbone(checkpoints / name, device="meta", text=TextLimit(tokens))
            limits[name, tokens] = backbone.max_text_tokens
    assert [limits["qwen3-vl-2b", tokens] for tokens in (None, 30, 256, 100_000)] == [80, 30, 256, 512]
    assert [limits["siglip2", tokens] for tokens in (None, 30, 256, 100_000)] == [63, 30, 63, 63]
    long = awkward_posts[5] | {"title": "follow me", "asr_text": "day after day " * 40}
    wide, narrow = (load_backbone(checkpoints / "qwen3-vl-2b", device="meta", text=TextLimit(n)) for n in (256, 30))
    assert wide.encode([long])[0].n_tokens > narrow.encode([long])[0].n_tokens + 100


def test_a_saved_router_remembers_what_it_reads(checkpoints, tmp_path):
    limit = TextLimit(30, (0.2, 0.4, 0.4))
    router = RadarRouter(load_backbone(checkpoints / "qwen3-vl-2b", text=limit), RouterConfig(("A",), 2, 4))
    router.save_pretrained(tmp_path / "router")
    again = RadarRouter.from_pretrained(tmp_path / "router")
    assert again.backbone.text == limit and again.backbone.max_text_tokens == 30
    with pytest.raises(RadarError, match="tokens=30"):
        RadarRouter.from_pretrained(tmp_path / "router", backbone=load_backbone(checkpoints / "qwen3-vl-2b"))


@pytest.mark.parametrize(("tokens", "shares"), [(0, (0.4, 0.3, 0.3)), (-1, (0.4, 0.3, 0.3)), (9, (0.5, 0.5)),
                                                (9, (0.9, 0.9, 0.1)), (9, (-0.1, 0.3, 0.3))])  # fmt: skip
def test_limits_that_are_none(tokens, shares):
    with pytest.raises(RadarError, match="use "):
        TextLimit(tokens, shares)
