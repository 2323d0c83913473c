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

_STYLE = """<style>
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:12px;font:13px/1.35 sans-serif}
.gallery article{border:1px solid #ccc;border-radius:6px;padding:8px;background:#fff;color:#111}
.gallery img{height:92px;margin-right:3px;border-radius:3px}
.gallery b{display:block;margin:4px 0 2px}
.gallery p{margin:2px 0;color:#444}
.gallery i{font-style:normal;border:1px solid #666;border-radius:9px;padding:0 7px;margin-right:4px;background:#eee}
.gallery i.bad{background:#D55E00;color:#fff;border-color:#D55E00}
</style>"""


def gallery_html(
    posts: Sequence[Mapping[str, Any]], categories: Sequence[str], *, notes: Sequence[str] = (), per_post: int = 3
) -> str:
    """Cards of posts, one after the other. All text is escaped: a title is whatever its author typed.

    Args:
        posts: rows of `Posts.split`, frames as PIL images.
        categories: risks whose verified labels are shown.
        notes: one line of plain text above each post; none if empty.
        per_post: frames shown.
    """
    lines = list(notes) or [""] * len(posts)
    cards = (_card(post, categories, note, per_post) for post, note in zip(posts, lines, strict=True))
    return f'{_STYLE}<div class="gallery">{"".join(cards)}</div>'


def _card(post: Mapping[str, Any], categories: Sequence[str], note: str, per_post: int) -> str:
    frames = "".join(f'<img alt="frame" src="{_data_uri(frame)}">' for frame in post["frames"][:per_post])
    known = {c: post[LABEL_PREFIX + c] for c in categories if post[LABEL_PREFIX + c] >= 0}
    marks = "".join(f'<i class="{"bad" if v else "good"}">{escape(c)} {"violating" if v else "cleared"}</i>'
                    for c, v in known.items())  # fmt: skip
    kinds = (("on screen", "ocr_text"), ("spoken", "asr_text"))
    texts = "".join(f"<p>{name}: {escape(post[column][:140])}</p>" for name, column in kinds if post[column])
    place = f"{post['split']}, {post['pipeline']}, {post['language']}-{post['region']}"
    head = f"<p>{escape(note)}</p>" if note else ""
    title = escape(post["title"]) or "(no title)"
    return (f'<article dir="auto">{head}{frames or "<p>(no frames)</p>"}<b>{title}</b>{texts}{marks}'
            f"<p>{escape(place)}</p></article>")  # fmt: skip


def _data_uri(frame: Image.Image, side: int = 140) -> str:
    small = as_seen(frame).copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
