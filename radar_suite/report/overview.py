"""Figure 1 of the paper, drawn by code: how RADAR routes a post (solid) and how it is trained (dashed)."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from radar_suite.report import style

SIZE = (11.0, 5.4)  # inches; the texts are set for it
_FROZEN = "#eeeeee"
_DASHES = (0, (4, 2.5))


def draw_overview(ax: Axes, *, categories: Sequence[str] = ("LQC", "RCS", "FE")) -> None:
    """Draw the overview into `ax` (Figure 1): inference along the top, training below.

    More than four categories are drawn as the first two, dots, and the last. The texts are plain Unicode: names
    may hold any character, and matplotlib's formulas would take most of the time.

    Args:
        ax: empty axes of a figure of about `SIZE` inches; its axis lines are switched off.
        categories: names of the K risks.
    """
    ax.set(xlim=(0, 22), ylim=(0, 11.2))
    ax.axis("off")
    _inference(ax, categories if len(categories) <= 4 else [*categories[:2], None, categories[-1]])
    _training(ax)
    ax.plot([], [], color=style.BLACK, marker="", label="inference: every post")
    ax.plot([], [], color=style.ORANGE, marker="", ls=_DASHES, label="training: hard labels, masked (Eq. 4-5)")
    ax.plot([], [], color=style.BLUE, marker="", ls=_DASHES, label="training: experts' soft labels (Eq. 6)")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, -0.06), ncols=3, handlelength=3)


def _inference(ax: Axes, names: Sequence[str | None]) -> None:
    _box(ax, 1.7, 8.0, 3.0, 2.6, "Post x\n\nframes\ntitle, OCR, ASR", face="#ffffff")
    _box(ax, 6.2, 8.0, 3.0, 2.6, "Backbone\n(compact MLLM)\n+ LoRA", face="#dcebf5")
    _box(ax, 9.7, 8.0, 1.6, 2.6, "MLP", face="#dcebf5")
    _arrow(ax, (3.2, 8.0), (4.7, 8.0))
    _arrow(ax, (7.7, 8.0), (8.9, 8.0), text="last\nhidden\nstate")
    lowest = max(8.0 - 1.15 * (len(names) - 1) / 2, 6.85)
    for k, name in enumerate(names):
        y = lowest + 1.15 * (len(names) - 1 - k)
        if name is None:
            ax.text(12.1, y, "...", ha="center", va="center")
            continue
        _box(ax, 12.1, y, 1.9, 0.85, f"{_cut(name, 6)}: pₖ", face="#dcebf5")
        _arrow(ax, (10.5, 8.0), (11.15, y))
        _box(ax, 15.0, y, 2.3, 0.85, "pₖ > τₖ ?", face="#ffffff")
        _arrow(ax, (13.05, y), (13.85, y))
        _box(ax, 19.6, y, 4.2, 0.85, f"vertical module {_cut(name, 14)}", face=_FROZEN)
        _arrow(ax, (16.15, y), (17.5, y), text="yes")
    _box(ax, 19.6, lowest - 1.75, 4.2, 1.25, "that module is skipped;\nK times no: released", face="#dff2ea")
    _arrow(ax, (15.0, lowest - 0.43), (17.5, lowest - 1.75), bend=0.28)
    ax.text(15.45, lowest - 1.55, "no", ha="center", va="center", fontsize=8)
    ax.text(12.1, lowest + 1.15 * (len(names) - 0.5) + 0.05, "K heads", ha="center", va="bottom", fontsize=9)


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _training(ax: Axes) -> None:
    _box(ax, 1.7, 2.5, 3.0, 1.5, "annotation\npipelines", face=_FROZEN)
    _box(ax, 6.2, 1.6, 3.0, 1.3, "labels yₖ\n1, 0, or −1", face="#ffffff")
    _box(ax, 10.0, 1.6, 2.5, 1.3, "mask mₖ\nyₖ ≠ −1", face="#fbe6d9")
    _box(ax, 6.2, 4.4, 3.0, 1.5, "K experts\n(8B, one per risk)", face=_FROZEN)
    _box(ax, 10.0, 4.4, 2.5, 1.3, "soft labels tₖ\nin every cell", face="#dcebf5")
    _box(ax, 15.9, 3.0, 5.4, 1.5, "(1 − λ) masked BCE  +  λ KL(tₖ ‖ pₖ)\n(Eq. 7)", face="#ffffff")
    for start, end in (((1.7, 6.7), (1.7, 3.25)), ((3.2, 2.2), (4.7, 1.7)), ((7.7, 1.6), (8.75, 1.6)),
                       ((11.25, 1.7), (13.2, 2.7)), ((6.2, 2.25), (6.2, 3.65))):  # fmt: skip
        _arrow(ax, start, end, colour=style.ORANGE, line=_DASHES)
    ax.text(6.35, 2.95, "own column", fontsize=8, ha="left", va="center")
    for start, end, bend in (((2.6, 6.7), (4.7, 4.7), 0.2), ((7.7, 4.4), (8.75, 4.4), 0.0),
                             ((11.25, 4.3), (13.2, 3.3), 0.0)):  # fmt: skip
        _arrow(ax, start, end, colour=style.BLUE, line=_DASHES, bend=bend)
    _arrow(ax, (14.6, 3.75), (9.4, 6.65), line=":", bend=0.08)
    ax.text(13.0, 5.35, "gradient to LoRA,\nMLP and heads", fontsize=8, ha="left", va="center", linespacing=0.95)


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, *, face: str) -> None:
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.18"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, fc=face, ec="#333333", lw=1.0, zorder=2))
    ax.text(x, y, text, ha="center", va="center", fontsize=9, zorder=3, linespacing=1.25, parse_math=False)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], *, text: str = "", colour: str = style.BLACK,
    line: Any = "-", bend: float = 0.0,
) -> None:  # fmt: skip
    look = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "ls": line, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look | {"connectionstyle": f"arc3,rad={bend}"}, zorder=1)
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
        ax.text(*middle, text, ha="center", va="bottom", fontsize=8, linespacing=0.95)
