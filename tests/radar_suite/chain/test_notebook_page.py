"""Whatever outputs, prose, risks and posts bring along, a page holds what the run made, and the rest as text."""

import json
import re

import pytest
from bs4 import BeautifulSoup

from radar_suite.chain.htmlreport import exhibits
from radar_suite.chain.notebook_page import notebook_page, page

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ATTACKS = [
    "<script>alert(1)</script>", "<img src='/etc/hostname'>", "<img src=file:///etc/hostname>",
    "<img src=x onerror=go()>",
    "<iframe src='/etc/hostname'></iframe>", "<object data=/etc/hostname></object>", "<embed src=/etc/hostname>",
    "<svg onload=go()><script>go()</script></svg>", "<a href='javascript:go()'>x</a>", "<a href='/etc/hostname'>x</a>",
    "<a href='data:text/html,x'>x</a>", "<meta http-equiv=refresh content='0;url=//e.org'>", "<base href=//e.org>",
    "<link rel=stylesheet href=//e.org/x.css>", "<form action=//e.org><input></form>",
    "</main></body><script>go()</script>",
    "<style>b { background: url(/etc/hostname) }</style>", "<style>@import '//e.org'</style>", "<style><script>go()",
    "<p style='background: url(//e.org)'>x</p>", "<img src='data:text/html;base64,eHg='>", "<video src=/etc/hostname>",
    "<math><mtext><style><img src=x onerror=go()></style></mtext></math>", "![f](/etc/hostname)",
    "![f](file:///etc/hostname)",
    "<!-- <img src=x> --><noscript><p title='</noscript><img src=x onerror=go()>'></noscript>",
]  # fmt: skip
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "nav", "main", "div", "span", "pre", "p", "b", "em", "a",
            "img", "table", "thead", "tbody", "tr", "th", "td", "code", "h1", "math", "mtext", "mi", "mn", "mo", "mrow",
            "mfrac"}  # fmt: skip


def harmless(text: str) -> BeautifulSoup:
    """The page's elements, of which none runs, asks for, or embeds anything but data."""
    soup = BeautifulSoup(text, "html.parser")
    assert {element.name for element in soup.find_all(True)} <= ELEMENTS
    assert all(meta.parent.name == "head" for meta in soup.find_all("meta")) and len(soup.find_all("main")) == 1
    for element in soup.find_all(True):
        assert not any(name.startswith("on") for name in element.attrs), element
        assert "url(" not in element.get("style", "")
        if "src" in element.attrs:
            assert re.match(r"data:image/(png|svg\+xml);base64,", element["src"]), element
        if "href" in element.attrs:
            assert re.match(r"https://|#|[a-z_0-9]+\.html", element["href"]), element
    for style in soup.find_all("style"):
        assert style.parent.name == "head" and "url(" not in style.text and "@import" not in style.text
    return soup


@pytest.fixture
def written(project):
    """The page of a notebook with these outputs and cells."""

    def write(*outputs, markdown: str = "# Title", raw: str = "") -> BeautifulSoup:
        shown = [{"output_type": "display_data", "metadata": {}, "data": data} for data in outputs]
        cells = [{"cell_type": "markdown", "metadata": {}, "source": markdown, "id": "a"},
                 {"cell_type": "raw", "metadata": {"raw_mimetype": "text/html"}, "source": raw, "id": "b"},
                 {"cell_type": "code", "metadata": {}, "source": "1", "id": "c", "execution_count": 1,
                  "outputs": shown}]  # fmt: skip
        path = project.runs / "executed.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        return harmless(notebook_page(path, "T", navigation="", pages=frozenset()))

    return write


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_foreign_reaches_a_page_by_any_way(attack, written):
    written({"text/html": f"<b>before</b>{attack}"}, {"text/markdown": f"*before*\n\n{attack}\n"},
            {"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{attack}</svg>"},
            {"image/png": f'{PIXEL}">{attack}'}, {"application/javascript": attack, "text/plain": attack},
            {"text/latex": f"$x \\text{{{attack}}}$"}, markdown=f"# Title\n\n{attack}\n", raw=attack)  # fmt: skip
    harmless(page(attack, f"<p>{attack}</p>", navigation=attack))


def test_markup_in_a_text_is_shown_as_the_text_it_is(written):
    assert "<script>alert(1)</script>" in written({"text/html": ATTACKS[0]}).text


def test_what_a_run_made_still_looks_as_it_did(written):
    import pandas as pd

    frame = pd.DataFrame({"<i>x</i>": [1.5]})
    styled = frame.style.map(lambda _: "font-weight: bold").format_index(escape="html", axis=1).to_html(table_uuid="t1")
    soup = written({"text/html": frame.to_html()}, {"text/html": styled}, {"image/png": PIXEL},
                   {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}, {"text/latex": r"$\frac{1}{2}$"},
                   {"text/html": '<p style="font-size: 90%; max-width: 60em">caption</p>'})  # fmt: skip
    assert len(soup.find_all("table")) == 2 and "<i>x</i>" in soup.text
    assert soup.find(id="T_t1_row0_col0").text == "1.500000"
    assert "#T_t1_row0_col0" in "".join(style.text for style in soup.find_all("style"))
    assert len(soup.find_all("img")) == 2 and soup.find("mfrac") and "60em" in soup.find("p", string="caption")["style"]


def test_a_link_among_figures_is_nobodys_exhibit(tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "own.csv").write_text("a\n1\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.txt")
    entry = {"notebook": "00_a", "caption": "", "tolerance": None, "seed": 1, "device": "cpu", "inputs": {},
             "files": {"own.csv": "0", "link.csv": "0"}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"entries": {"t": entry}}))
    assert exhibits(folder, "00_a")[0].files == ("own.csv",)
