"""Texts of a post: in one piece, in plain form, and how much of them is read."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from radar_lib.data.posts import Posts
from radar_lib.data.schema import TEXT_COLUMNS
from radar_lib.models.text import TextLimit

OWN_TEXT_TOKENS = 256  # all of 99 % of three public sources' posts; the stand-ins' own limit cuts a fifth of one's
_ZERO_WIDTH = re.compile("[\u200b-\u200f\u2060\ufeff]")


def plain_text(text: str) -> str:
    """Unicode form NFKC (styled letters become plain ones) without zero-width characters."""
    return text if text.isascii() else _ZERO_WIDTH.sub("", unicodedata.normalize("NFKC", text))


def text_key(text: str) -> str:
    """Key of texts that are equal but for Unicode styling, case and spaces."""
    return " ".join(plain_text(text).casefold().split())


def all_text(table: pd.DataFrame) -> pd.Series:
    """Title, OCR and ASR text of each post, in lines."""
    first, *others = TEXT_COLUMNS
    return table[first].str.cat([table[name] for name in others], sep="\n").str.strip()


def text_limit(posts: Posts, tokens: int = 0) -> TextLimit:
    """How much of a post's text the chain reads; each field has its share.

    Args:
        tokens: the profile's `text_tokens`; 0 leaves it to the checkpoint (built-in posts) or to `OWN_TEXT_TOKENS`.
    """
    return TextLimit(tokens or (None if posts.kind == "built-in" else OWN_TEXT_TOKENS))
