"""The report carries everything it shows, and asks nobody for anything."""

import json

import pytest
from bs4 import BeautifulSoup

from radar_suite.chain.exits import UsageError
from radar_suite.chain.htmlreport import stand_ins, write_report
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebooks import discover

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>'
PROSE = """# Title

Inline $x_i^2$, a block

$$\\begin{aligned} L &= \\frac{1}{B} \\\\ y &= \\mathbb{1}[p > \\tau] \\end{aligned}$$

\\begin{align} a &= b \\end{align}

![local](pixel.png) ![far](https://example.org/far.png) ![pasted](attachment:p.png)

[next](01_b.ipynb#x), [out](https://example.org/page) <script src="https://example.org/x.js"></script>"""


def output(**data):
    kinds = {key.replace("__", "/"): value for key, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": kinds}


@pytest.fixture
def finished(project):
    """A run with two finished notebooks that show all kinds of things, and one that never ran."""
    import base64

    (project.notebooks / "pixel.png").write_bytes(base64.b64decode(PIXEL))
    project.add("00_a", "seed: int = 1\nposts: str = ''\ncheckpoints: str = 'standins'", PROSE, "print(seed)")
    project.add("01_b", "seed: int = 1", "print(seed)", title="Second")
    project.add("02_c", "seed: int = 1", "print(seed)", title="Third")
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}}
    for name in ("00_a", "01_b"):
        content = json.loads((project.notebooks / f"{name}.ipynb").read_text())
        content["cells"][1]["attachments"] = {"p.png": {"image/png": PIXEL}} if name == "00_a" else {}
        if name == "01_b":
            content["cells"][1].pop("attachments")
        content["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
        content["cells"][-1]["outputs"] = [
            {"output_type": "stream", "name": "stdout", "text": "10%\r50%\r100%\n"},
            output(image__png=PIXEL, text__plain="<Figure>"),
            output(text__html="<table><tr><td>1</td></tr></table><script>alert(1)</script>"),
            output(text__latex="$\\frac{1}{2}$", text__plain="x"),
            output(application__javascript="fetch('https://example.org')", text__plain="js"),
            output(**widget, text__plain="interactive(children=(IntSlider(value=3),))"),
            output(**widget, text__plain="  0%|          | 0/3 [00:00<?, ?it/s]"),
        ]
        folder = project.runs / "cpu" / name
        (folder / "figures").mkdir(parents=True)
        (folder / "executed.ipynb").write_text(json.dumps(content))
    figures = project.runs / "cpu/00_a/figures"
    (figures / "fig.svg").write_text(SVG)
    (figures / "fig.json").write_text(json.dumps({"caption": "A figure, $n=3$", "device": "CPU test"}))
    (figures / "big.svg").write_text(SVG + " " * 3 * 2**20)
    (figures / "big.png").write_bytes(base64.b64decode(PIXEL))
    (figures / "table.md").write_text("| a | b |\n|--|--|\n| **1** | <u>2</u> |\n")
    (figures / "table.json").write_text("[]")
    (project.runs / "cpu/01_b/figures/plain.csv").write_text("name,value\nx<y,0.5\n")
    project.close = lambda: [
        Ledger(project.runs / "cpu").finish(book, parameters, seconds=61, peak_memory_mb=2048)
        for book, parameters in zip(
            discover(project.notebooks),
            [{"seed": 1, "posts": "", "checkpoints": "standins", "device": "auto"}, {"seed": 2}],
            strict=False,
        )
    ]
    project.close()
    return project


def pages(project) -> dict[str, BeautifulSoup]:
    folder = write_report(project.runs / "cpu", discover(project.notebooks)).parent
    return {path.stem: BeautifulSoup(path.read_text(), "html.parser") for path in folder.glob("*.html")}


def test_every_page_is_self_contained(finished):
    found = pages(finished)
    assert set(found) == {"index", "00_a", "01_b"}
    for soup in found.values():
        assert not soup.find_all(["script", "link", "iframe", "object", "embed"])
        assert all(image["src"].startswith("data:") for image in soup.find_all("img"))
        assert "default-src 'none'" in str(soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"}))
        assert "url(" not in soup.style.text and "@import" not in soup.style.text


def test_a_notebooks_page_shows_what_the_notebook_shows(finished):
    soup = pages(finished)["00_a"]
    assert len(soup.find_all("math")) == 4 and "𝟙" in soup.text and "\\begin" not in soup.text
    images = {image.get("alt"): image["src"] for image in soup.find_all("img")}
    assert (
        images["local"] == images["pasted"] == f"data:image/png;base64,{PIXEL}" and images["far"] == "data:,"
    )
    links = {link.text: link["href"] for link in soup.find_all("a")}
    assert (links["next"], links["report"]) == ("01_b.html", "index.html")
    assert links["out"] == "https://example.org/page"
    assert "100%" in soup.text and "10%" not in soup.text  # a progress line that was rewritten
    assert (
        soup.text.count("An interactive control") == 1
        and "it/s" not in soup.text
        and "alert" not in soup.text
    )


def test_the_index_tells_the_whole_run(finished):
    soup = pages(finished)["index"]
    text = soup.text
    for part in (
        "CPU test",
        "2m02s in 2 of 3 notebooks",
        "2,048 MiB",
        "not run",
        "stands in for",
        "stand-in check",
    ):
        assert part in text, part
    assert soup.find(id="fig").img["src"].startswith("data:image/svg") and soup.find(id="fig").math
    assert soup.find(id="big").img["src"].startswith("data:image/png")
    assert soup.find(id="table").strong.text == "1" and soup.find(id="plain").find_all("td")[0].text == "x<y"
    rows = [[cell.text for cell in row.find_all("td")] for row in soup.find_all("tr")]
    assert ["seed", "1", "00"] in rows and ["seed", "2", "01"] in rows


def test_an_unchanged_report_is_kept_and_a_changed_one_is_not(finished):
    index = write_report(finished.runs / "cpu", discover(finished.notebooks))
    before = index.stat().st_mtime_ns
    write_report(finished.runs / "cpu", discover(finished.notebooks))
    assert index.stat().st_mtime_ns == before
    finished.close()
    ledger = Ledger(finished.runs / "cpu")
    ledger.fail(discover(finished.notebooks)[2], error="no", where="1.")
    write_report(finished.runs / "cpu", discover(finished.notebooks))
    assert index.stat().st_mtime_ns != before and "failed" in index.read_text()


def test_formulas_survive_without_the_converter(monkeypatch):
    import sys

    from radar_suite.chain.report_page import markdown

    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    assert "<code>x &lt; 2</code>" in markdown("if $x < 2$ then")
    assert "<pre>x^2</pre>" in markdown("$$x^2$$")


def test_a_run_without_a_finished_notebook_has_no_report(project):
    project.step("00_a", "print(1)")
    with pytest.raises(UsageError, match="no notebook has finished"):
        write_report(project.runs / "cpu", discover(project.notebooks))


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        (
            {"posts": "/x/mine", "checkpoints": "/y/weights"},
            ["yours, from the folder `mine`", "folder `weights`"],
        ),
        (
            {"posts": "", "public_sources": "/z", "checkpoints": "hub"},
            ["three public", "published checkpoints"],
        ),
        ({"seed": 1}, []),
    ],
)
def test_what_stands_in_is_said(parameters, parts):
    lines = stand_ins(parameters)
    assert len(lines) == len(parts) and all(part in line for part, line in zip(parts, lines, strict=True))
