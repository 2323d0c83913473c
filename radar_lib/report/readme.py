"""The generated parts of README.md: tables, Figure 2 and the facts of a recorded run, between markers.

    <!-- generated: tables --> ... <!-- end -->

`radar readme` rewrites what stands between the markers from `figures/<profile>/`; nothing there is typed by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text, read_json

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def facts(record: Path) -> str:
    """One line per fact of the run: device, versions, seed, duration, memory, posts."""
    stamp, run = read_json(record / "table1.json"), read_json(record / "run.json")
    versions = ", ".join(f"{name} {stamp['versions'][name]}" for name in ("python", "torch", "transformers", "peft"))
    slowest = max(run["notebooks"], key=lambda notebook: notebook["seconds"])
    peak = max(notebook["peak_memory_mb"] for notebook in run["notebooks"])
    return (
        f"Recorded run `figures/{record.name}/`: profile {stamp['profile']}, seed {stamp['seed']}, {stamp['device']}; "
        f"{versions}; posts `{stamp['data_digests']['posts']}`, library `{stamp['library_digest']}`. The chain took "
        f"{run['seconds'] / 60:.1f} minutes ({slowest['name']} {slowest['seconds'] / 60:.1f}) and at most "
        f"{peak / 1024:.1f} GiB.\n"
    )


def durations(record: Path) -> str:
    """Minutes and peak memory of each notebook of the recorded run."""
    lines = ["| notebook | minutes | peak memory (GiB) |", "| --- | ---: | ---: |"]
    for notebook in read_json(record / "run.json")["notebooks"]:
        memory = notebook["peak_memory_mb"] / 1024
        lines.append(f"| {notebook['name']} | {notebook['seconds'] / 60:.1f} | {memory:.1f} |")
    return "\n".join(lines) + "\n"


def table(number: int) -> Callable[[Path], str]:
    """Table 1 or 2 with its caption."""

    def render(record: Path) -> str:
        caption = read_json(record / f"table{number}.json")["caption"]
        return f"**Table {number}.** {caption}\n\n{(record / f'table{number}.md').read_text(encoding='utf-8')}"

    return render


def figure(name: str, alternative: str) -> Callable[[Path], str]:
    """An image with its caption."""

    def render(record: Path) -> str:
        caption = read_json(record / f"{name}.json")["caption"]
        return f"![{alternative}](figures/{record.name}/{name}.png)\n\n*{caption}*\n"

    return render


PARTS: dict[str, Callable[[Path], str]] = {
    "facts": facts,
    "durations": durations,
    "table1": table(1),
    "table2": table(2),
    "rows": figure("rows_against_paper", "Ours and the paper's averages, row by row"),
}


def render(text: str, record: Path) -> str:
    """README text with every generated part renewed from the record.

    Raises:
        RadarError: a marker names no known part, or the record is missing or incomplete.
    """

    unknown = [match["name"] for match in _BLOCK.finditer(text) if match["name"] not in PARTS]
    if unknown:
        raise RadarError(f"README has a part {unknown[0]!r}; known are {', '.join(PARTS)}.")
    try:
        return _BLOCK.sub(lambda match: f"{match[1]}{PARTS[match['name']](record)}{match[3]}", text)
    except (RadarError, FileNotFoundError, KeyError) as error:
        raise RadarError(f"{record} is no complete record ({error}): run `make reproduce` first.") from error


def update(readme: Path, record: Path) -> bool:
    """Renew README's generated parts; returns whether anything changed."""
    old = readme.read_text(encoding="utf-8")
    new = render(old, record)
    if new != old:
        atomic_write_text(readme, new)
    return new != old
