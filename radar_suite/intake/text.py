"""Texts of a post, in one piece and in plain form."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from radar_lib.data.schema import TEXT_COLUMNS

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
