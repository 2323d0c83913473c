"""The report of a run: `<run>/report/index.html` and a page per notebook, readable without a network.

nbconvert's own pages load MathJax, require.js and widgets from elsewhere; these carry everything they show.
"""

from __future__ import annotations

import csv
import html
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from radar_lib.files import atomic_write_text, digest_json, read_json
from radar_lib.sources import digest_sources
from radar_suite.chain.exits import UsageError
from radar_suite.chain.ledger import EXECUTED, FIGURES, Ledger
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.progress import duration

IMAGES = (".svg", ".png", ".jpg")
LARGE = 2 * 2**20  # bytes; a larger SVG is shown as its PNG


def stand_ins(parameters: Mapping[str, Any]) -> list[str]:
    """What is real in a run and what stands in for it, from its parameters."""
    lines = []
    if "posts" in parameters or "public_sources" in parameters:
        if parameters.get("posts"):
            lines.append(f"Posts: yours, from the folder `{Path(parameters['posts']).name}`.")
        elif parameters.get("public_sources"):
            lines.append(
                "Posts: three public sources, one per pipeline, in place of the paper's private posts."
            )
        else:
            lines.append("Posts: the built-in corpus stands in for the paper's 1.7 million private posts.")
    match parameters.get("checkpoints"):
        case None:
            pass
        case "standins":
            lines.append(
                "Backbones: small stand-in checkpoints of the same model classes, not the paper's weights."
            )
        case "hub":
            lines.append("Backbones: the published checkpoints, from the Hub.")
        case folder:
            lines.append(f"Backbones: checkpoints from the folder `{Path(folder).name}`.")
    return lines


def write_report(run_dir: Path, notebooks: Sequence[Notebook]) -> Path:
    """Write the report of a run's finished notebooks; keeps what is there when nothing has changed.

    Returns:
        Path of index.html.

    Raises:
        UsageError: no notebook has finished.
    """
    ledger = Ledger(run_dir)
    finished = [book for book in notebooks if ledger.done(book) and (run_dir / book.name / EXECUTED).exists()]
    if not finished:
        raise UsageError(f"{run_dir}: no notebook has finished yet. `radar reproduce` runs them.")
    index = run_dir / "report" / "index.html"
    code = digest_sources(__name__)
    key = digest_json([ledger.entries, code, [book.title for book in notebooks]])
    if index.exists() and key in index.read_text(encoding="utf-8")[-100:]:
        return index
    sys.modules.setdefault(
        "rfc3987_syntax", None
    )  # three seconds of nbformat's import, for URI checks it never makes
    from radar_suite.chain.report_page import notebook_body, page

    pages = {book.name for book in finished}
    for before, book, after in zip([None, *finished], finished, [*finished[1:], None], strict=False):
        links = [("index", "report")] + [(other.name, other.name) for other in (before, after) if other]
        navigation = " · ".join(f'<a href="{name}.html">{html.escape(text)}</a>' for name, text in links)
        body = notebook_body(run_dir / book.name / EXECUTED, source_folder=book.path.parent, pages=pages)
        atomic_write_text(index.parent / f"{book.name}.html", page(book.title, body, navigation=navigation))
    body = _index(run_dir, notebooks, ledger)
    atomic_write_text(index, page(f"RADAR · {run_dir.name}", body) + f"<!-- {key} -->\n")
    return index


def _index(run_dir: Path, notebooks: Sequence[Notebook], ledger: Ledger) -> str:
    done = {book.name: ledger.entries[book.name] for book in notebooks if ledger.done(book)}
    parameters = {name: value for entry in done.values() for name, value in entry["parameters"].items()}
    stamps = {book.name: _stamps(run_dir / book.name / FIGURES) for book in notebooks if book.name in done}
    devices = sorted(
        {stamp["device"] for found in stamps.values() for stamp in found.values() if "device" in stamp}
    )
    peak = max(entry["peak_memory_mb"] for entry in done.values())
    seconds, memory = sum(entry["seconds"] for entry in done.values()), psutil.virtual_memory().total
    facts = [
        ("profile", run_dir.name),
        ("finished", max(entry["finished"] for entry in done.values())),
        ("time", f"{duration(seconds)} in {len(done)} of {len(notebooks)} notebooks"),
        ("peak memory", f"{peak:,} MiB (largest process tree, sum of resident sizes)"),
        ("device", "; ".join(devices) or str(parameters.get("device", "not recorded"))),
        ("seed", parameters.get("seed", "not recorded")),
        ("machine", f"{os.cpu_count()} processors, {memory / 2**30:.0f} GiB, {platform.system()}"),
    ]
    parts = [f"<h1>RADAR, profile {html.escape(run_dir.name)}</h1>", _table([], facts)]
    told = [f"<li>{html.escape(line)}</li>" for line in stand_ins(parameters)]
    if told:
        parts.append(f"<h2>What is real and what stands in</h2><ul>{''.join(told)}</ul>")
    parts.append("<h2>Notebooks</h2>")
    parts.append(
        _table(["notebook", "title", "time", "peak memory", "state"], _notebook_rows(notebooks, ledger))
    )
    for kind, title in (("table", "Tables"), ("figure", "Figures")):
        shown = [
            _exhibit(run_dir / name / FIGURES, stem, stamp, name, kind)
            for name, found in stamps.items()
            for stem, stamp in found.items()
        ]
        if any(shown):
            parts.append(f"<h2>{title}</h2>" + "".join(shown))
    parts += ["<h2>Parameters</h2>", _table(["name", "value", "notebooks"], _parameter_rows(done))]
    versions = {(name, value) for entry in done.values() for name, value in entry["packages"].items()}
    parts += ["<h2>Versions</h2>", _table([], sorted(versions))]
    return "\n".join(parts)


class _Html(str):
    """Text that is already HTML."""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = value if isinstance(value, _Html) else html.escape(str(value))
        return f"<td{' class=number' if number else ''}>{text}</td>"

    top = (
        "<thead><tr>" + "".join(f"<th>{html.escape(text)}</th>" for text in head) + "</tr></thead>"
        if head
        else ""
    )
    return (
        f"<table>{top}<tbody>"
        + "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
        + "</tbody></table>"
    )


def _notebook_rows(notebooks: Sequence[Notebook], ledger: Ledger) -> Iterable[list[Any]]:
    for book in notebooks:
        entry = ledger.entries.get(book.name, {"state": "not run"})
        if ledger.done(book):
            link = _Html(f'<a href="{book.name}.html">{html.escape(book.name)}</a>')
            yield [link, book.title, duration(entry["seconds"]), f"{entry['peak_memory_mb']:,} MiB", "done"]
        else:
            yield [book.name, book.title, "", "", entry["state"]]


def _parameter_rows(done: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    users: dict[tuple[str, str], list[str]] = {}
    for notebook, entry in done.items():
        for name, value in entry["parameters"].items():
            users.setdefault((name, repr(value)), []).append(notebook[:2])
    return [[name, value, " ".join(numbers)] for (name, value), numbers in sorted(users.items())]


def _stamps(folder: Path) -> dict[str, dict[str, Any]]:
    """By name of each figure or table in a folder: its provenance stamp, or {} when it has none."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file() and not path.name.startswith(".")]
    stems = dict.fromkeys(path.stem for path in files if path.suffix in (*IMAGES, ".md", ".csv"))
    stamps = {
        stem: read_json(folder / f"{stem}.json") if (folder / f"{stem}.json").exists() else {}
        for stem in stems
    }
    return {stem: stamp if isinstance(stamp, dict) else {} for stem, stamp in stamps.items()}


def _exhibit(folder: Path, stem: str, stamp: Mapping[str, Any], notebook: str, kind: str) -> str:
    """One figure or table with its caption; empty when it is of the other kind."""
    from radar_suite.chain.report_page import inline_image, markdown

    files = {suffix: folder / f"{stem}{suffix}" for suffix in (*IMAGES, ".md", ".csv")}
    images = [path for suffix, path in files.items() if suffix in IMAGES and path.is_file()]
    if (kind == "figure") != bool(images):
        return ""
    caption = str(stamp.get("caption", stem))
    if images:
        small = [path for path in images if path.stat().st_size <= LARGE] or images[-1:]
        content = f'<img src="{inline_image(small[0])}" alt="{html.escape(caption)}">'
    elif files[".md"].is_file():
        content = markdown(files[".md"].read_text(encoding="utf-8"))
    else:
        rows = list(csv.reader(files[".csv"].read_text(encoding="utf-8").splitlines()))
        content = _table(rows[0], rows[1:]) if rows else ""
    source = f'<a href="{notebook}.html">{html.escape(notebook)}</a>'
    return f'<figure id="{html.escape(stem)}">{content}<figcaption>{markdown(caption)}{source}</figcaption></figure>'
