"""What has to be read before any table, where it applies: when it does is computed, the words were written by people.

Notebooks show notices where they know, the report at its head.
"""

import html
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report.claims import UNTESTABLE
from radar_suite.report.references import CHANCE, PROBE, REFERENCE, WORDS
from radar_suite.report.tables import in_percent


class Notice(NamedTuple):
    """A sentence to be seen, and what to do."""

    title: str
    text: str


WHAT_TO_DO = (
    "So no comparison among the rows of the tables says anything of use on these posts yet. Small stand-in checkpoints "
    "know nothing but the built-in world: on other posts run the published ones, or your own (`checkpoints`, see "
    "docs/your_data.md). With real checkpoints already, train on more posts, longer, or at another rate. Intervals are "
    "over test posts; where they overlap, other test posts may turn the order round."
)
BEATEN: Mapping[str, Notice] = {  # by reference row, the simplest first; the oracle is a ceiling and not here
    CHANCE: Notice("A random order is better than every trained row", f"Nothing was learned. {WHAT_TO_DO}"),
    WORDS: Notice(
        "Words alone beat every trained row",
        f"A regression on runs of letters, which sees no frame, ranks these posts better than all models. {WHAT_TO_DO}",
    ),
    PROBE: Notice(
        "A linear probe of a frozen backbone beats every trained row",
        f"A regression on what one backbone makes of a post before any fine-tuning ranks better. {WHAT_TO_DO}",
    ),
}
NOTHING_TO_MASK = Notice(
    "There is nothing to mask in these posts",
    "Every training post is verified for every risk, as it always is with one risk. Masked and unmasked training are "
    "then one and the same: the rows with and without the mask are one run under two names, no weight lies on "
    "unverified cells, and what the paper says of the mask is not testable here.",
)
BUILT_IN = Notice(
    "Nothing below is about the posts of this run",
    "This notebook turns dials of the built-in world, whose three risks and generated posts have nothing to do with "
    "the posts that the other notebooks read. It says when a mask can matter, not whether it does on those.",
)


def ahead(results: pd.DataFrame) -> pd.DataFrame:
    """Reference rows whose average PR-AUC lies above that of every trained row, best first, then the best of those.

    Args:
        results: with reference rows (`references.reference_results`), or what was read from their CSV file.

    Returns:
        Columns loss, method, value, low, high (fractions); no line where a trained row is as good as any reference.
    """
    area = results[(results["category"] == AVERAGE) & (results["metric"] == AREA)]
    beside = area["loss"] == REFERENCE
    best = area[~beside].nlargest(1, "value")
    above = area[beside & area["method"].isin(list(BEATEN)) & (area["value"] > best["value"].max())]
    lines = pd.concat([above.sort_values("value", ascending=False), best if len(above) else best[:0]])
    return lines.reindex(columns=["loss", "method", "value", "low", "high"]).reset_index(drop=True)


def headlines(results: pd.DataFrame) -> list[str]:
    """As HTML, one notice for the simplest reference row that beats every trained row, with all their numbers."""
    lines = ahead(results)
    if not len(lines):
        return []
    ends = (100 * lines[["value", "low", "high"]].astype(float)).to_numpy().tolist()
    shown = pd.DataFrame({
        "row": lines["loss"].where(lines["loss"] != REFERENCE, "beside the tables") + ", " + lines["method"],
        "average PR-AUC (%)": [f"{in_percent(value, 1)} [{in_percent(low, 1)}, {in_percent(high, 1)}]"
                               for value, low, high in ends]})  # fmt: skip
    simplest = next(name for name in BEATEN if name in set(lines["method"]))
    return [to_html(BEATEN[simplest], shown.to_html(index=False, border=0, escape=True))]


def of_run(results: pd.DataFrame | None, claims: pd.DataFrame | None) -> list[str]:
    """The notices of a run as HTML, from its `intervals.csv` and `claims.csv` where it has them."""
    notices = [] if results is None else headlines(results)
    if claims is not None and (claims["verdict"] == UNTESTABLE).any():
        notices.append(to_html(NOTHING_TO_MASK))
    return notices


def to_html(notice: Notice, more: str = "") -> str:
    """A notice in a frame; `more` is HTML to stand below it."""
    style = "border: 2px solid #D55E00; padding: 0 1em; margin: 1em 0; max-width: 60em"
    title, text = (html.escape(part) for part in notice)
    return f'<div class="notice" style="{style}"><h2>{title}</h2><p>{text}</p>{more}</div>'


def show(*notices: Notice | str) -> None:
    """Show notices, or their HTML, in a notebook."""
    from IPython.display import HTML, display

    for notice in notices:
        display(HTML(notice if isinstance(notice, str) else to_html(notice)))
