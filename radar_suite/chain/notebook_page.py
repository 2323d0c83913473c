"""Pages that carry all they show and ask nobody for anything: an executed notebook by nbconvert, formulas as MathML.

Whatever a page is made of, posts, risks, outputs or prose, goes through `safe` as a whole: only elements that lay out
text stay elements, only images that are data stay images, and the rest is shown as the text that it is.
"""

from __future__ import annotations

import html
import logging
import re
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from bleach.sanitizer import Cleaner
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor

# No script and no request, whatever posts, risks or notebooks bring along; images are data.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
ELEMENTS = frozenset(
    "a abbr article b blockquote br caption cite code col colgroup dd del details div dl dt em figcaption figure h1 h2 "
    "h3 h4 h5 h6 hr i img kbd li mark ol p pre s samp section small span strong sub summary sup table tbody td tfoot "
    "th thead tr u ul var math mfrac mi mmultiscripts mn mo mover mpadded mphantom mroot mrow ms mspace msqrt mstyle "
    "msub msubsup msup mtable mtd mtext mtr munder munderover".split())  # fmt: skip
ATTRIBUTES = frozenset(
    "alt border class colspan dir display fence form height id lang lspace mathsize mathvariant maxsize minsize open "
    "rowspan rspace scope separator start stretchy style title valign width xmlns".split())  # fmt: skip
DATA_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
LINK = re.compile(r"https?://.*|#.*|(?![/\\]|\.\.)[^:]*", re.DOTALL)  # the web, the page, a file of the report
STYLE_BLOCK = re.compile(r"<style[^<>]*>([^<]*)</style>")  # of pandas' tables
ASKS = re.compile(r"[@\\]|url\(|image\(|image-set|expression", re.IGNORECASE)  # a style sheet that does is left out
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN = ["text/html", "text/markdown", "image/png", "image/jpeg", "text/plain"]
STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 94rem; margin: 0 auto; padding: 1rem 1.25rem 4rem }
body { color: #1a1a1a }
nav { font-size: .9rem; border-bottom: 1px solid #ddd; padding-bottom: .5rem }
a { color: #0b5394 } h1, h2, h3 { line-height: 1.25; margin: 1.4em 0 .5em } h1 { margin-top: .6em }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .88rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; margin: .5rem 0 1rem }
th, td { padding: .22rem .45rem; border-bottom: 1px solid #e3e3e3; text-align: left; vertical-align: top }
[id^=T_] td, [id^=T_] th, .dataframe td { white-space: nowrap }
[id^=T_table] { font-size: .75rem } [id^=T_table] th.row_heading { font-weight: normal }
caption, figcaption, .note { text-align: left; color: #444; font-size: .88rem }
pre { background: #f6f7f8; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; line-height: 1.4 }
.output pre { background: none; border-left: 3px solid #ccd }
.output_stderr pre { border-color: #e6b800; color: #555 }
img, svg { max-width: 100%; height: auto } figure { margin: 1rem 0 }
.prompt, .anchor-link { display: none }
math[display=block] { margin: .8em 0; font-size: 1.1em }
@media print { nav { display: none } pre { white-space: pre-wrap } }
"""


def page(title: str, body: str, *, navigation: str = "", style: str = "") -> str:
    """A whole page under `POLICY`; `body` and `navigation` are HTML, from anywhere."""
    navigation, _ = safe(navigation)
    body, own = safe(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{style}{own}</style></head>\n"
        f"<body><nav>{navigation}</nav><main>{body}</main></body></html>\n"
    )


def safe(text: str) -> tuple[str, str]:
    """HTML with what is no layout escaped, and the style sheets that stood in it, but for those that ask for files."""
    sheets = [sheet for sheet in STYLE_BLOCK.findall(text) if not ASKS.search(sheet)]
    return _cleaner().clean(STYLE_BLOCK.sub("", text)), "".join(sheets)


@cache
def _cleaner() -> Cleaner:
    def allowed(element: str, attribute: str, value: str) -> bool:
        if attribute in ("src", "href"):
            pattern = {("img", "src"): DATA_IMAGE, ("a", "href"): LINK}.get((element, attribute))
            return pattern is not None and pattern.fullmatch(value) is not None
        return attribute in ATTRIBUTES

    styles = CSSSanitizer(allowed_css_properties=ALLOWED_CSS_PROPERTIES | {"max-width", "padding", "margin", "border"})
    return Cleaner(ELEMENTS, allowed, protocols={"http", "https", "data"}, css_sanitizer=styles)


def mathml(tex: str, *, block: bool) -> str:
    """TeX as MathML, which browsers draw by themselves; the TeX as code where it cannot be converted."""
    try:
        from latex2mathml.converter import convert

        plain = tex.replace("{aligned}", "{split}").replace(r"\mathbb{1}", "𝟙")
        return convert(plain.strip(), display="block" if block else "inline")
    except Exception:  # not installed, or TeX that it does not know: any reader can read TeX
        return f"<{'pre' if block else 'code'}>{html.escape(tex.strip())}</{'pre' if block else 'code'}>"


class _Renderer(IPythonRenderer):
    """Markdown whose links work from the report's folder alone: notebooks' pages, the page itself, the web."""

    pages: frozenset[str] = frozenset()

    def link(self, text: str, url: str, title: str | None = None) -> str:
        file = url.partition("#")[0]
        if file.endswith(".ipynb") and Path(file).stem in self.pages:
            url = f"{Path(file).stem}.html"
        elif not url.startswith(("https://", "http://", "#")):
            return text
        return super().link(text, url, title)

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body, block=False)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)


class _Exporter(HTMLExporter):
    pages: frozenset[str] = frozenset()

    def default_filters(self) -> Any:
        yield from super().default_filters()
        yield "markdown2html", self._markdown

    @pass_context
    def _markdown(self, context: Any, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _Renderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        renderer.pages = self.pages
        return str(MarkdownWithMath(renderer=renderer).render(source))


def notebook_page(path: Path, title: str, *, navigation: str, pages: frozenset[str]) -> str:
    """An executed notebook as a page of its own; `pages` names the notebooks that have one."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell["outputs"] = [_still(output) for output in cell.get("outputs", [])] if cell.cell_type == "code" else []
        if cell.cell_type != "code":
            del cell["outputs"]
    quiet = logging.getLogger(__name__)
    quiet.setLevel(logging.ERROR)  # nbconvert warns of every figure without a description
    exporter = _Exporter(template_name="basic", log=quiet)
    exporter.pages, exporter.display_data_priority = pages, SHOWN
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    body, resources = exporter.from_notebook_node(notebook)
    return page(title, body, navigation=navigation, style="".join(resources["inlining"]["css"]))


def _still(output: Any) -> Any:
    """An output that needs no script: a control becomes a note, a progress bar nothing, TeX MathML."""
    data = output.get("data", {})
    if WIDGET in data:
        progress = any(mark in str(data.get("text/plain", "")) for mark in ("%|", "it/s", "0it"))  # tqdm's
        note = '<p class="note">An interactive control: open the notebook in JupyterLab to use it.</p>'
        output["data"] = {"text/html": "" if progress else note}
    elif "text/latex" in data and "text/html" not in data:
        data["text/html"] = mathml(str(data["text/latex"]).strip().strip("$"), block=True)
    elif "image/svg+xml" in data and "text/html" not in data:  # as an image, in which nothing runs
        encoded = b64encode("".join(data["image/svg+xml"]).encode()).decode()
        data["text/html"] = f'<img alt="figure" src="data:image/svg+xml;base64,{encoded}">'
    if "data" in output:
        output["data"] = {kind: output["data"][kind] for kind in SHOWN if kind in output["data"]}
    return output
