"""The report of a run, `<run>/report/index.html`: what was found first, then a link per notebook and per file.

The folder is whole: pages beside the index, copies of figures and tables in `files/`.
"""

import base64
import html
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from radar_lib.files import atomic_path, atomic_write_text, digest_json
from radar_lib.sources import digest_sources
from radar_suite.chain.exits import UsageError
from radar_suite.chain.ledger import EXECUTED, FIGURES, Ledger
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.progress import duration
from radar_suite.report.manifest import MANIFEST, read_manifest

FIRST = ("forest", "figure2", "phase_summary", "cells_beside_record")  # figures of the index, in this order
OF_THE_WORLD = ("phase_summary", "cells_beside_record")  # nothing that was found in other posts
LEGEND = """<ul>
<li><b>Size.</b> Each claim has one endpoint: the mean, over the rows that it compares, of the difference in average
PR-AUC. The claim about traffic has its own, average APR@R95 less 80 %. Intervals are over test posts, and from three
seeds of each row on over seeds as well; <i>about</i> says which.</li>
<li><b>What is excluded.</b> Where the paper's number lies above or below our interval, an effect of its size is
excluded on these posts with these checkpoints. They differ from the paper's, so it is not refuted.</li>
<li><b>Test.</b> <i>Interval</i> says whether the endpoint's own leaves zero out, one test per claim. <i>Above zero</i>
and <i>below zero</i> count cells (a pair of rows, one risk, one metric) after Holm's correction over the claim.</li>
<li><b>By construction</b> is what the built-in world was chosen for: shown, but never tested nor counted.</li>
</ul>"""
STUDIES = "studies"  # what `radar studies` leaves beside the notebooks


@dataclass(frozen=True)
class Exhibit:
    """A figure or table that a notebook left: its files lie in `folder`."""

    name: str
    notebook: str
    folder: Path
    caption: str
    device: str
    files: tuple[str, ...]

    def path(self, *suffixes: str) -> Path | None:
        """Its file with the first of these suffixes that there is."""
        there = [file for suffix in suffixes for file in self.files if file.endswith(suffix)]
        return self.folder / there[0] if there else None


def exhibits(folder: Path, notebook: str) -> list[Exhibit]:
    """What `folder/manifest.json` enters; nothing where there is none."""
    entries = read_manifest(folder)["entries"] if (folder / MANIFEST).is_file() else {}
    return [
        Exhibit(name, notebook, folder, str(entry.get("caption", name)), str(entry.get("device", "")), files)
        for name, entry in entries.items()
        if (files := tuple(f for f in entry.get("files", ()) if Path(f).name == f and _is_own(folder / f)))
    ]


def _is_own(path: Path) -> bool:
    """Whether a run wrote this file: a link leads to what somebody else did."""
    return path.is_file() and not path.is_symlink()


def stand_ins(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is real in a run and what stands in for it, from its parameters: (what, which) for posts and checkpoints."""
    lines = []
    if "posts" in parameters or "public_sources" in parameters:
        own, public = parameters.get("posts"), parameters.get("public_sources")
        built = "built-in corpus, in place of the paper's 1.7 million private posts"
        sources = "three public sources, one per pipeline, in place of the paper's private posts"
        lines.append(("posts", f"yours, {Path(own).name}" if own else sources if public else built))
    if models := parameters.get("checkpoints"):
        known = {"standins": "small stand-ins of the same model classes, not the paper's weights",
                 "hub": "the published ones, from the Hub"}  # fmt: skip
        lines.append(("checkpoints", known.get(models, f"yours, {Path(models).name}")))
    return lines


def write_report(run_dir: Path, notebooks: Sequence[Notebook]) -> Path:
    """Write the report of a run's finished notebooks; keeps what is there when nothing has changed.

    Returns:
        Path of index.html.

    Raises:
        UsageError: no notebook has finished, or an executed one was changed since.
    """
    ledger = Ledger(run_dir)
    finished = [book for book in notebooks if ledger.done(book) and (run_dir / book.name / EXECUTED).exists()]
    if not finished:
        raise UsageError(f"{run_dir}: no notebook has finished yet. `radar reproduce` runs them.")
    for book in finished:
        executed = f"{book.name}/{EXECUTED}"
        if ledger.entries[book.name]["kept"].get(executed) != ledger.digest(executed):
            raise UsageError(f"{run_dir / executed} is not what the chain left: `radar reproduce` makes it again.")
    index, left = run_dir / "report" / "index.html", []
    for name in [*(book.name for book in finished), STUDIES]:
        left += exhibits(run_dir / name / FIGURES, name)
    sizes = [[e.name, [[file, (e.folder / file).stat().st_mtime_ns] for file in e.files]] for e in left]
    code = digest_sources(__name__, "radar_suite.chain.notebook_page")
    key = digest_json([ledger.entries, code, [book.title for book in notebooks], sizes])
    if index.exists() and key in index.read_text(encoding="utf-8")[-100:]:
        return index
    sys.modules.setdefault("rfc3987_syntax", None)  # three seconds of nbformat's import, for URI checks it never makes
    from radar_suite.chain.notebook_page import notebook_page, page

    pages = frozenset(book.name for book in finished)
    for before, book, after in zip([None, *finished], finished, [*finished[1:], None], strict=False):
        links = [("index", "report")] + [(other.name, other.name) for other in (before, after) if other]
        navigation = " · ".join(_link(f"{name}.html", text) for name, text in links)
        text = notebook_page(run_dir / book.name / EXECUTED, book.title, navigation=navigation, pages=pages)
        atomic_write_text(index.parent / f"{book.name}.html", text)
    with atomic_path(index.parent / "files") as temporary:
        for one in left:
            (temporary / one.notebook).mkdir(parents=True, exist_ok=True)
            for file in one.files:
                shutil.copyfile(one.folder / file, temporary / one.notebook / file)
        temporary.mkdir(exist_ok=True)
    title, body = f"RADAR, profile {run_dir.name}", _index(run_dir, notebooks, ledger, left)
    atomic_write_text(index, page(title, f"<h1>{html.escape(title)}</h1>{body}") + f"<!-- {key} -->\n")
    return index


def _index(run_dir: Path, notebooks: Sequence[Notebook], ledger: Ledger, left: Sequence[Exhibit]) -> str:
    done = {book.name: ledger.entries[book.name] for book in notebooks if ledger.done(book)}
    parameters = {name: value for entry in done.values() for name, value in entry["parameters"].items()}
    seconds, by_name = sum(entry["seconds"] for entry in done.values()), {one.name: one for one in left}
    devices = sorted({one.device for one in left if one.device}) or [str(parameters.get("device", "not recorded"))]
    machine = f"{os.cpu_count()} processors, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}"
    facts = [
        ("device", "; ".join(devices)), ("machine", machine),
        ("seed", parameters.get("seed", "not recorded")),
        ("finished", max(entry["finished"] for entry in done.values())),
        ("time", f"{duration(seconds)} in {len(done)} of {len(notebooks)} notebooks"),
        ("peak memory", f"{max(entry['peak_memory_mb'] for entry in done.values()):,} MiB, the largest process tree"),
    ]  # fmt: skip
    other = parameters.get("posts") or parameters.get("public_sources")
    first = [name for name in FIRST if name in by_name and not (other and name in OF_THE_WORLD)]
    parts = [*_notices(by_name), _table((), stand_ins(parameters)), *_findings(by_name)]
    parts += [*(_figure(by_name[name]) for name in first), *_tables(by_name), "<h2>This run</h2>", _table((), facts)]
    lines = []
    for book in notebooks:
        entry = done.get(book.name)
        state = ledger.entries.get(book.name, {"state": "not run"})["state"]
        times = [duration(entry["seconds"]), f"{entry['peak_memory_mb']:,} MiB", "done"] if entry else ["", "", state]
        lines.append([_link(f"{book.name}.html", book.name) if entry else book.name, book.title, *times])
    parts += ["<h2>Notebooks</h2>", _table(("notebook", "title", "time", "peak memory", "state"), lines)]
    files = [[one.name, _link(f"{one.notebook}.html", one.notebook) if one.notebook in done else one.notebook,
              _Html(" ".join(_link(f"files/{quote(f'{one.notebook}/{file}')}", Path(file).suffix[1:])
                             for file in one.files)), one.caption] for one in left]  # fmt: skip
    parts += ["<h2>Figures and tables</h2>", _table(("name", "notebook", "files", "caption"), files)]
    users: dict[tuple[str, str], list[str]] = {}
    for notebook, entry in done.items():
        for name, value in entry["parameters"].items():
            users.setdefault((name, repr(value)), []).append(notebook[:2])
    given = [[name, value, " ".join(numbers)] for (name, value), numbers in sorted(users.items())]
    versions = sorted({pair for entry in done.values() for pair in entry["packages"].items()})
    parts += ["<details><summary>Parameters and versions</summary>", _table(("name", "value", "notebooks"), given),
              _table((), versions), "</details>"]  # fmt: skip
    return "\n".join(parts)


def _read(by_name: Mapping[str, Exhibit], *names: str) -> dict[str, Any]:
    import pandas as pd

    return {name: pd.read_csv(path) for name in names if name in by_name and (path := by_name[name].path(".csv"))}


def _notices(by_name: Mapping[str, Exhibit]) -> list[str]:
    """What has to be read first, as a reference row that beats all others."""
    read = _read(by_name, "intervals", "claims")
    if not read:
        return []
    from radar_suite.report.notices import of_run

    return of_run(read.get("intervals"), read.get("claims"))


def _findings(by_name: Mapping[str, Exhibit]) -> list[str]:
    """Each claim's size, the paper's, and what is counted; then what routers gain over simple rows."""
    import pandas as pd

    from radar_suite.report import claims

    read = _read(by_name, "claims", "lambda_claims", "gains")
    parts = ["<h2>What was found</h2>"] if read else []
    if lines := [read[name] for name in ("claims", "lambda_claims") if name in read]:
        parts += [_frame(claims.findings(pd.concat(lines, ignore_index=True))), LEGEND]
    if "gains" in read:
        parts += [
            "<p>What routers gain over rows that need none, in points of average PR-AUC:</p>",
            _frame(read["gains"]),
        ]
    return parts


def _tables(by_name: Mapping[str, Exhibit]) -> list[str]:
    """Tables 1 and 2, with the paper's numbers beside where the risks are the paper's."""
    from radar_suite.report import tables

    read, parts = _read(by_name, "intervals"), []
    if "intervals" in read:
        rows = read["intervals"]
        paper = tables.paper_results()
        same = set(rows["category"]) == set(paper["category"])
        for number, title in tables.TITLES.items():
            spread = tables.wide(rows, number, "sd") if "sd" in rows else None
            styled = tables.style_table(tables.wide(rows, number), tables.wide(paper, number) if same else None, spread)
            styled = styled.format(escape="html").format_index(escape="html").format_index(escape="html", axis=1)
            note = "%; the paper's in brackets" if same else "%"
            parts += [f"<h2>Table {number}. {title} ({note})</h2>", styled.to_html(table_uuid=f"table{number}")]
    return parts


def _figure(one: Exhibit) -> str:
    from radar_suite.report.workspace import shown_width  # which imports matplotlib

    if (path := one.path(".png")) is None:
        return ""
    source = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    caption, width = html.escape(one.caption), shown_width(path)
    return (f'<figure id="{html.escape(one.name)}"><img src="{source}" alt="{caption}"'
            + (f' width="{width}">' if width else ">")
            + f"<figcaption>{caption} {_link(f'{one.notebook}.html', one.notebook)}</figcaption></figure>")  # fmt: skip


class _Html(str):
    """Text that is already HTML."""


def _link(target: str, text: str) -> _Html:
    return _Html(f'<a href="{html.escape(target)}">{html.escape(text)}</a>')


def _frame(frame: Any) -> str:
    return frame.to_html(index=False, escape=True, border=0, na_rep="", float_format="{:g}".format)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        texts = (cell if isinstance(cell, _Html) else html.escape(str(cell)) for cell in cells)
        return "<tr>" + "".join(f"<{tag}>{text}</{tag}>" for text in texts) + "</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    return f"<table>{top}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
