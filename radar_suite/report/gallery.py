"""Galleries of posts as HTML: frames, title, texts and labels, in any script that the reader's browser can show."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from radar_lib.data.frames import as_seen
from radar_lib.data.schema import LABEL_PREFIX

PER_ROW = 3
CARD = "width:310px;vertical-align:top;text-align:left;border:1px solid #ccc;padding:8px;background:#fff;color:#111"
MARK = "border:1px solid #666;padding:0 7px;margin-right:4px;color:{};background:{}"
MARKS = (MARK.format("#111", "#eee"), MARK.format("#fff", "#D55E00"))  # cleared, violating


def gallery_html(
    posts: Sequence[Mapping[str, Any]], categories: Sequence[str], *, notes: Sequence[str] = (), per_post: int = 3
) -> str:
    """Cards of posts, row by row. All text is escaped: a title is whatever its author typed.

    A plain table with inline styles: a notebook that is not trusted drops style sheets.

    Args:
        posts: rows of `Posts.split`, frames as PIL images.
        categories: risks whose verified labels are shown.
        notes: plain text above each post, a paragraph a line; none if empty.
        per_post: frames shown.
    """
    lines = list(notes) or [""] * len(posts)
    cards = [_card(post, categories, note, per_post) for post, note in zip(posts, lines, strict=True)]
    rows = ("".join(cards[start : start + PER_ROW]) for start in range(0, len(cards), PER_ROW))
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _card(post: Mapping[str, Any], categories: Sequence[str], note: str, per_post: int) -> str:
    frames = "".join(f'<img alt="frame" height="92" src="{_data_uri(frame)}"> ' for frame in post["frames"][:per_post])
    known = {c: post[LABEL_PREFIX + c] for c in categories if post[LABEL_PREFIX + c] >= 0}
    marks = "".join(f'<span style="{MARKS[v]}">{escape(c)} {"violating" if v else "cleared"}</span> '
                    for c, v in known.items())  # fmt: skip
    kinds = (("on screen", "ocr_text"), ("spoken", "asr_text"))
    texts = "".join(f"<p>{name}: {escape(post[column][:140])}</p>" for name, column in kinds if post[column])
    place = f"{post['split']}, {post['pipeline']}, {post['language']}-{post['region']}"
    head = "".join(f"<p>{escape(line)}</p>" for line in note.splitlines())
    title = escape(post["title"]) or "(no title)"
    return (f'<td dir="auto" style="{CARD}">{head}{frames or "<p>(no frames)</p>"}<p><b>{title}</b></p>{texts}{marks}'
            f"<p>{escape(place)}</p></td>")  # fmt: skip


def _data_uri(frame: Image.Image, side: int = 140) -> str:
    small = as_seen(frame).copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
