"""What the columns of a table are: of the data contract, of no meaning here, or content under a name of their own.

Content that is left out is a post that nobody sees, so a column that looks like content by its name or by what it holds
has to be renamed, or left out by name.
"""

import difflib
import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radar_lib.data.schema import DEFAULTS, FRAMES, LABEL_PREFIX, TEXT_COLUMNS, categories_of
from radar_lib.errors import RadarError
from radar_lib.labels import check_categories

KNOWN = ("post_id", "split", *DEFAULTS, FRAMES)
OPTIONAL = ("group", "caption", "stream_id", "segment")  # a corpus has them only where the table does
CONTENT = (*TEXT_COLUMNS, FRAMES)
LETTERS, WORDS = 20, 3  # of a text, rather than of a name or a code
_TELLING = set(
    "text texts description desc body content contents caption captions comment comments message messages post tweet "
    "headline summary transcript transcription subtitle subtitles speech hashtags overlay ocr asr image images img "
    "imgs photo photos picture pictures pic pics frame thumbnail thumb cover media video videos audio url urls link "
    "links file files filename path paths".split()
)
_ABOUT = set("id ids count counts n num number length len width height size type kind date time at hash lang language "
             "name user author likes views score".split())  # fmt: skip


def check_header(file: str, header: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Categories, and the names of columns that mean nothing here.

    Raises:
        RadarError: a column is missing, there twice, or has a name that looks like a slip.
    """

    def require(good: Any, what: str, remedy: str) -> None:
        if not good:
            raise RadarError(f"{file}, header: {what}. {remedy}.")

    categories = categories_of(header)
    for name in header:
        require(header.count(name) == 1, f"column {name!r} is there twice", "Keep one")
        require(name.isprintable(), f"{name!r:.60} is no name of a column", "Save the table as UTF-8")
    names = ", ".join(header)[:200]
    require("post_id" in header, f"no column post_id among {names}", "Give every post a unique post_id")
    labels = "Add label_<category> for each risk: 1 violating, 0 cleared, -1 not verified"
    require(LABEL_PREFIX not in header, f"column {LABEL_PREFIX!r} names no risk", "Write label_<category>")
    require(categories, "no label column", labels)
    try:
        check_categories(categories)
    except ValueError as error:
        raise RadarError(f"{file}, header: {error}") from None
    ignored = [name for name in header if name not in KNOWN and not name.startswith(LABEL_PREFIX)]
    rename = f"rename what holds content: {', '.join(ignored)[:200]}" if ignored else "add one"
    require(set(header) & set(CONTENT), "posts without text and frames", f"Use {', '.join(CONTENT)}; {rename}")
    require("segment" not in header or "stream_id" in header, "segment without stream_id", "Add stream_id")
    for name in ignored:
        near = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.8)
        if not near and difflib.get_close_matches(name.lower()[: len(LABEL_PREFIX)], [LABEL_PREFIX], cutoff=0.8):
            near = [LABEL_PREFIX + "<category>"]
        require(not near, f"unknown column {name!r}", f"Did you mean {''.join(near)}? Rename it, or leave it out "
                                                      f"knowingly with --ignore {name}")  # fmt: skip
    return categories, ignored


def require_no_content(file: str, ignored: Mapping[str, Iterable[Any]]) -> None:
    """Raise RadarError where columns that would be left out look like content, by name or by these values of theirs."""
    found = {name: what for name, values in ignored.items() if (what := content_of(name, values))}
    if found:
        said = "; ".join(f"{name!r} ({what})" for name, what in found.items())
        raise RadarError(
            f"{file}, header: columns that are not read, but look like content: {said}. Rename them to "
            f"{', '.join(CONTENT)}, or leave them out knowingly with --ignore {' '.join(found)}."
        )


def content_of(name: str, values: Iterable[Any]) -> str:
    """What kind of content a column seems to hold, with an example; empty where it holds none."""
    texts = [text for value in values if (text := text_of(value))]
    if not texts:
        return ""
    example = f"such as {texts[0]!r:.60}"
    if 2 * sum(map(_names_media, texts)) >= len(texts):
        return f"files {example}"
    if 2 * sum(map(_is_prose, texts)) >= len(texts) and 2 * len(set(texts)) >= len(texts):
        return f"texts {example}"
    parts = set(re.split(r"[\W\d_]+", re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()))
    return f"its name says so; {example}" if parts & _TELLING and not parts & _ABOUT else ""


def text_of(value: Any) -> str:
    """What a cell says; empty where it has no letter."""
    value = "|".join(map(str, value)) if isinstance(value, list) else value
    return value.strip() if isinstance(value, str) and re.search(r"[^\W\d_]", value) else ""


def _names_media(value: str) -> bool:
    """A file name or address (the first, of several) of a picture, a video or a sound."""
    kind, _ = mimetypes.guess_type(value.split("|")[0].split("?")[0], strict=False)
    return value.startswith("data:image/") or (kind or "").startswith(("image/", "video/", "audio/"))


def _is_prose(value: str) -> bool:
    """Mostly letters, and of several words; scripts without spaces have letters only."""
    letters = sum(map(str.isalpha, value))
    return 2 * letters >= len(value) and letters >= LETTERS and (len(value.split()) >= WORDS or not value.isascii())
