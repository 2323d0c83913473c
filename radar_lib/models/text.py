"""A post's text as backbones read it: one line per field, and what of it is left within a limit of tokens.

Each field is sure of its share of the limit, so that a long title cannot push out what is read or said in the post;
what a field does not need goes to the others, the most telling first. A text within the limit is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from radar_lib.errors import RadarError

TEXT_FIELDS = (("title", "Title"), ("ocr_text", "OCR"), ("asr_text", "ASR"))
DEFAULT_TEXT_TOKENS = 512  # for checkpoints whose tokenizer states no practical limit; our choice, not the paper's


@dataclass(frozen=True)
class TextLimit:
    """How much of a post's text is read.

    Attributes:
        tokens: the most tokens; None for what the checkpoint's tokenizer states, at most 512. A checkpoint with fewer
            positions reads fewer.
        shares: of them, what title, OCR and ASR are each sure of. Without shares, ASR is cut before OCR before title.
    """

    tokens: int | None = None
    shares: tuple[float, ...] = (0.4, 0.3, 0.3)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        if self.tokens is not None and self.tokens < 1:
            raise RadarError(f"a limit of {self.tokens} tokens leaves no text; use 1 or more, or None.")
        if len(self.shares) != len(TEXT_FIELDS) or min(self.shares) < 0 or sum(self.shares) > 1 + 1e-9:
            raise RadarError(f"shares are {self.shares}; use one for each of {len(TEXT_FIELDS)} fields, together 1.")


SHARED = TextLimit()
TITLE_FIRST = TextLimit(shares=(0.0, 0.0, 0.0))


def text_lines(post: Mapping[str, Any]) -> list[str]:
    """A post's text, one line per field; empty where the field is."""
    lines = [(label, " ".join(str(post.get(field) or "").split())) for field, label in TEXT_FIELDS]
    return [f"{label}: {text}" if text else "" for label, text in lines]


def join_lines(lines: Sequence[str]) -> str:
    """The lines that are not empty."""
    return "\n".join(filter(None, lines))


def post_text(post: Mapping[str, Any]) -> str:
    """A post's whole text, the most telling field first."""
    return join_lines(text_lines(post))


def allot(
    counts: Int[np.ndarray, "*post field"], limit: int, shares: Sequence[float]
) -> Int[np.ndarray, "*post field"]:
    """How many of each field's tokens are read: each field's share at least, then what is left, in their order.

    >>> allot(np.array([100, 10, 30]), 80, (0.4, 0.3, 0.3)).tolist()
    [46, 10, 24]
    """
    kept = np.minimum(counts, (limit * np.asarray(shares) + 1e-9).astype(np.int64))
    for field in range(counts.shape[-1]):
        room = limit - kept.sum(axis=-1)
        kept[..., field] += np.minimum(counts[..., field] - kept[..., field], room)
    return kept


def field_tokens(lines: Sequence[str], spans: Sequence[tuple[int, int]]) -> Int[np.ndarray, " field"]:
    """Tokens of each line of a text, told by where they begin; a line break is the next line's.

    Args:
        spans: where in the joined lines each token begins and ends.
    """
    return np.diff(np.searchsorted([begin for begin, _ in spans], _ends(lines)), prepend=0)


def cut(lines: Sequence[str], kept: Sequence[int], spans: Sequence[tuple[int, int]]) -> str:
    """The joined lines with this many tokens of each, as `field_tokens` counts them."""
    text, out = join_lines(lines), ""
    first, begin = 0, 0  # token and character that come next
    for count, most, end in zip(field_tokens(lines, spans), kept, _ends(lines), strict=True):
        if most:
            stop = spans[first + most - 1][1]
            out += text[begin:stop]
            begin = stop
        if most < count:
            begin = end  # the next line as a whole, though one token may have held its first letters and our last
        first += count
    return out.removeprefix("\n")


def _ends(lines: Sequence[str]) -> Int[np.ndarray, " field"]:
    """Where each of the joined lines ends."""
    return np.cumsum([len(line) + bool(line) for line in lines]) - 1
