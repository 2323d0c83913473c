"""The generated parts of README.md and of the data card: what a recorded run found, between markers.

    <!-- generated: tables --> ... <!-- end -->

`radar readme` rewrites what stands between the markers from `figures/<profile>/`; nothing there is typed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text, read_json
from radar_suite.report import cards

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def timing(record: Path) -> dict[str, Any]:
    """Duration and memory of the profile's chain from nothing: a recorded run may have found its training cached."""
    return read_json(record.parents[1] / "benchmarks" / "records" / f"chain-{record.name}.json")


def facts(record: Path) -> str:
    """One line per fact of the run: device, versions, seed, duration, memory, posts."""
    stamp, run = read_json(record / "table1.json"), timing(record)
    versions = ", ".join(f"{name} {stamp['versions'][name]}" for name in ("python", "torch", "transformers", "peft"))
    slowest = max(run["notebooks"], key=lambda notebook: notebook["seconds"])
    peak = max(notebook["peak_memory_mb"] for notebook in run["notebooks"])
    return (
        f"Recorded run `figures/{record.name}/`: profile {stamp['profile']}, seed {stamp['seed']}, {stamp['device']}; "
        f"{versions}; posts `{stamp['data_digests']['posts']}`, library `{stamp['library_digest']}`. From nothing the "
        f"chain of this profile took {run['seconds'] / 60:.1f} minutes ({slowest['name']} "
        f"{slowest['seconds'] / 60:.1f}) and at most {peak / 1024:.1f} GiB "
        f"({run['date']}, {run['device']}; {run['what']}).\n"
    )


def recipes(record: Path) -> str:
    """Whether the recipe is long enough, by training posts that a run did not see; and the linear probe there."""
    found = read_json(record.parents[1] / "benchmarks" / "records" / "recipes.json")
    lines = {line["recipe"]: line for line in found["lines"]}
    used, probe = lines.pop(found["used"]), lines.pop("linear probe")
    best = max(lines.values(), key=lambda line: line["average"])

    def beside(line: Mapping[str, Any]) -> str:
        return f"{line['difference']:+.1f} points ({line['low']:+.1f} to {line['high']:+.1f})"

    return (
        "Is the router trained long enough? On halves of the training posts that a run did not see, the masked "
        f"{found['backbone']} at the recipe of the tables ({found['used']}) reaches {used['average']:.1f} average "
        f"PR-AUC, with half the steps that the tables' run has. The best of {len(lines)} other recipes on these very "
        f"posts ({best['recipe']}) differs by {beside(best)}: "
        f"{'more training would help' if best['low'] > 0 else 'no gain of more training is shown'}. A linear probe on "
        f"the frozen backbone differs by {beside(probe)}. 95 % intervals over posts, one seed "
        "([record](benchmarks/records/recipes.json), `benchmarks/recipes.py`).\n"
    )


def durations(record: Path) -> str:
    """Minutes and peak memory of each notebook of the recorded run."""
    lines = ["| notebook | minutes | peak memory (GiB) |", "| --- | ---: | ---: |"]
    for notebook in timing(record)["notebooks"]:
        memory = notebook["peak_memory_mb"] / 1024
        lines.append(f"| {notebook['name']} | {notebook['seconds'] / 60:.1f} | {memory:.1f} |")
    return "\n".join(lines) + "\n"


def table(number: int) -> Callable[[Path], str]:
    """Table 1 or 2 with its caption."""

    def render(record: Path) -> str:
        caption = read_json(record / f"table{number}.json")["caption"]
        return f"**Table {number}.** {caption}\n\n{(record / f'table{number}.md').read_text(encoding='utf-8')}"

    return render


def intervals(record: Path) -> str:
    """Both tables with their intervals, folded."""
    parts = []
    for number in (1, 2):
        name = f"table{number}_intervals"
        caption, text = read_json(record / f"{name}.json")["caption"], (record / f"{name}.md").read_text("utf-8")
        parts.append(f"<details><summary>{caption}</summary>\n\n{text}\n</details>\n")
    return "\n".join(parts)


def claims(name: str) -> Callable[[Path], str]:
    """A table of verdicts, one line per claim, with its caption."""

    def render(record: Path) -> str:
        caption = read_json(record / f"{name}.json")["caption"]
        return f"**{caption}**\n\n{(record / f'{name}.md').read_text(encoding='utf-8')}"

    return render


def found(record: Path) -> str:
    """The answer before the tables: what the run says of mask and distillation, and how sure that is."""
    verdicts, caption = pd.read_csv(record / "claims.csv"), read_json(record / "claims.json")["caption"]
    lines = [f"**What the recorded run found** ({caption.partition(': ')[2].rstrip('.')}):\n"]
    for change, rows in CHANGES.items():
        name = change.partition(" ")[0].capitalize()
        part = verdicts[verdicts["claim"].str.startswith(name)]
        ours, paper = (_changes(root, rows).mean() for root in (record, PAPER))
        sums = part[["cells", "hold", "fail", "exceptions", "paper above", "paper below"]].astype(int).sum()
        lines.append(
            f"- {name}: {sums['hold']} of {sums['cells']} comparisons hold and {sums['fail']} fail, the others are "
            f"inconclusive; {ours:+.1f} points on average (paper {paper:+.1f}). The paper's own difference lies above "
            f"our 95 % interval in {sums['paper above']} of {sums['cells'] + sums['exceptions']} cells, below it in "
            f"{sums['paper below']}."
        )
    whose = " and ".join(verdicts["about"].unique())
    lines.append(f"- How sure: each verdict is about {whose}, at 5 % after correction over its claim.")
    return "\n".join(lines) + "\n"


def pattern(record: Path) -> str:
    """How often the mask and the distillation improve a cell of the tables, here and in the paper, and by how much."""
    lines = ["| change | cells that improve | mean change, points | in the paper | mean change, points |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, rows in CHANGES.items():
        cells = [f"| {name} "]
        for change in (_changes(root, rows) for root in (record, PAPER)):
            cells.append(f"| {(change > 0).sum()} of {change.size} | {change.mean():+.2f} ")
        lines.append("".join(cells) + "|")
    return "\n".join(lines) + "\n"


def _changes(root: Path, rows: tuple[str, str]) -> np.ndarray:
    """Points by which each method's cells change from one loss to another; both tables, averages apart."""
    parts = [pd.read_csv(root / f"table{number}.csv", index_col=["loss", "method"]) for number in (1, 2)]
    table = pd.concat(parts, axis=1)
    table = table[[name for name in table if not name.startswith("avg")]]
    before, after = (table.loc[loss] for loss in rows)
    methods = after.index.intersection(before.index)
    return (after.loc[methods] - before.loc[methods]).to_numpy()


def figure(name: str, alternative: str) -> Callable[[Path], str]:
    """An image with its caption."""

    def render(record: Path) -> str:
        caption = read_json(record / f"{name}.json")["caption"]
        return f"![{alternative}](figures/{record.name}/{name}.png)\n\n*{caption}*\n"

    return render


phase = figure("studies/phase_map", "Gain of the mask over intake bias and co-violation")
controls = figure("studies/controls_gain", "Gain of nine teachers over none")
losses = figure("studies/losses_differences", "Difference of eight treatments of unverified cells from the mask")


PAPER = Path(__file__).parent / "paper"
CHANGES = {
    "mask (Masked BCE against BCE w/o Mask)": ("BCE w/o Mask", "Masked BCE"),
    "distillation (against the same backbone without it)": ("Masked BCE", "Masked BCE + Distill"),
}
Parts = Mapping[str, Callable[[Path], str]]
PARTS: Parts = {
    "found": found,
    "facts": facts,
    "durations": durations,
    "recipes": recipes,
    "table1": table(1),
    "table2": table(2),
    "intervals": intervals,
    "pattern": pattern,
    "claims": claims("claims"),
    "lambda-claims": claims("lambda_claims"),
    "phase": phase,
    "controls": controls,
    "losses": losses,
    "public1": lambda record: table(1)(record.parent / "public"),
    "public2": lambda record: table(2)(record.parent / "public"),
    "rows": figure("rows_against_paper", "Ours and the paper's averages, row by row"),
    "figure2": figure("figure2", "Figure 2: four metrics against lambda, by risk"),
}


# Documents with generated parts, by their path below the project.
DOCUMENTS: dict[str, Parts] = {"README.md": PARTS, cards.CARD: cards.CARD_PARTS}


def render(text: str, record: Path, parts: Parts = PARTS) -> str:
    """A document's text with every generated part renewed from the record.

    Raises:
        RadarError: a marker names no known part, or the record is missing or incomplete.
    """

    unknown = [match["name"] for match in _BLOCK.finditer(text) if match["name"] not in parts]
    if unknown:
        raise RadarError(f"there is a generated part {unknown[0]!r}; known are {', '.join(parts)}.")
    try:
        return _BLOCK.sub(lambda match: f"{match[1]}{parts[match['name']](record)}{match[3]}", text)
    except (RadarError, FileNotFoundError, KeyError) as error:
        raise RadarError(f"{record} is no complete record ({error}): run `make reproduce` first.") from error


def update(document: Path, record: Path, parts: Parts = PARTS) -> bool:
    """Renew a document's generated parts; returns whether anything changed."""
    return _renew(document, render(document.read_text(encoding="utf-8"), record, parts))


def update_project(project: Path, record: Path) -> dict[str, bool]:
    """Renew all generated parts and the Croissant file; returns, by document, whether it changed."""
    changed = {name: update(project / name, record, parts) for name, parts in DOCUMENTS.items()}
    croissant = json.dumps(cards.croissant(record, project / cards.RAI), indent=1, ensure_ascii=False) + "\n"
    return changed | {cards.CROISSANT: _renew(project / cards.CROISSANT, croissant)}


def _renew(path: Path, new: str) -> bool:
    changed = not path.exists() or path.read_text(encoding="utf-8") != new
    if changed:
        atomic_write_text(path, new)
    return changed
