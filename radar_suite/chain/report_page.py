"""Self-contained pages: Markdown with MathML, images as data, one executed notebook as HTML without scripts."""

from __future__ import annotations

import base64
import html
import logging
import mimetypes
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.ERROR)  # nbconvert warns of every figure without a description
WIDGET = "application/vnd.jupyter.widget-view+json"
SCRIPTED = ("application/javascript", "text/vnd.mermaid")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem 4rem }
body { color: #1a1a1a }
nav { font-size: .9rem; border-bottom: 1px solid #ddd; padding-bottom: .5rem }
a { color: #0b5394 } a.anchor-link { display: none }
h1, h2, h3 { line-height: 1.25; margin-top: 1.6em }
table { border-collapse: collapse; display: block; overflow-x: auto }
table { font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e3e3; text-align: left; vertical-align: top }
td.number { text-align: right }
pre { background: #f6f7f8; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; line-height: 1.4 }
.output pre { background: none; border-left: 3px solid #ccd }
.output_stderr pre { border-color: #e6b800; color: #555 }
img { max-width: 100%; height: auto; background: white }
math[display=block] { margin: .8em 0; font-size: 1.1em }
figure { margin: 1.5rem 0 } figcaption { font-size: .9rem; color: #444 }
.note { color: #555; font-size: .9rem } .prompt { display: none }
@media print { nav { display: none } pre { white-space: pre-wrap } }
"""


def page(title: str, body: str, *, navigation: str = "") -> str:
    """A whole page. The policy forbids scripts and every request, so it looks the same without a network."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}{HtmlFormatter().get_style_defs('.highlight')}</style></head>\n"
        f"<body><nav>{navigation}</nav><main>{body}</main></body></html>\n"
    )


def mathml(tex: str, *, block: bool) -> str:
    """TeX as MathML, which browsers draw by themselves; the TeX as code where it cannot be converted."""
    try:
        from latex2mathml.converter import convert

        plain = tex.replace("{aligned}", "{split}").replace(r"\mathbb{1}", "𝟙")
        return convert(plain.strip(), display="block" if block else "inline")
    except Exception:  # not installed, or TeX that it does not know: any reader can read TeX
        return f"<{'pre' if block else 'code'}>{html.escape(tex.strip())}</{'pre' if block else 'code'}>"


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)


def markdown(source: str, attachments: dict[str, Any] | None = None) -> str:
    """Markdown as HTML, formulas as MathML."""
    renderer = _Renderer(escape=False, attachments=attachments or {}, exclude_anchor_links=True)
    return str(MarkdownWithMath(renderer=renderer).render(source))


class _Exporter(HTMLExporter):
    def default_filters(self) -> Any:
        yield from super().default_filters()
        yield "markdown2html", self._markdown

    def _markdown(self, source: str) -> str:
        return markdown(source)


def inline_image(path: Path) -> str:
    """An image file as a data URI."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _quiet(outputs: list[Any]) -> list[Any]:
    """Outputs that a page without scripts can show; a control becomes a note, a progress bar nothing."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if WIDGET in data:
            if not any(
                mark in str(data.get("text/plain", "")) for mark in ("%|", "it/s", "0it")
            ):  # tqdm's marks
                note = (
                    '<p class="note">An interactive control: open the notebook in JupyterLab to use it.</p>'
                )
                kept.append(nbformat.v4.new_output("display_data", {"text/html": note}))
            continue
        for kind in SCRIPTED:
            data.pop(kind, None)
        if "text/latex" in data and "text/html" not in data:
            data["text/html"] = mathml(str(data["text/latex"]).strip().strip("$"), block=True)
        kept.append(output)
    return kept


def notebook_body(path: Path, *, source_folder: Path, pages: set[str]) -> str:
    """An executed notebook as HTML.

    Args:
        path: executed notebook.
        source_folder: folder that relative image paths start from.
        pages: names of the notebooks that have a page of their own; links to them are kept as links to their pages.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _quiet(cell.outputs)
        elif cell.get("attachments"):
            cell.source = _with_attachments(cell.source, cell.attachments)
    exporter = _Exporter(template_name="basic", log=_LOG)
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    soup = BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    for tag in soup.find_all(["script", "link", "iframe", "object", "embed"]):
        tag.decompose()
    for image in soup.find_all("img"):
        place = str(image.get("src", ""))
        if not place.startswith("data:"):
            file = source_folder / place
            image["src"] = inline_image(file) if "://" not in place and file.is_file() else "data:,"
    for link in soup.find_all("a", href=True):
        name = Path(link["href"].split("#")[0]).stem
        if name in pages and ".ipynb" in link["href"]:
            link["href"] = f"{name}.html"
    return str(soup)


def _with_attachments(source: str, attachments: dict[str, dict[str, str]]) -> str:
    for name, kinds in attachments.items():
        kind, data = next(iter(kinds.items()))
        source = source.replace(f"attachment:{name}", f"data:{kind};base64,{data}")
    return source
