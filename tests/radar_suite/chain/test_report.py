"""The report carries everything it shows, and asks nobody for anything."""

import json
import sys
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from radar_suite.chain.exits import UsageError
from radar_suite.chain.htmlreport import stand_ins, write_report
from radar_suite.chain.ledger import Ledger
from radar_suite.chain.notebook_page import mathml
from radar_suite.chain.notebooks import discover

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NASTY = "<script>alert(7)</script><img src=https://example.org/x.png>"
HEAD = "claim,metric,ours,low,high,paper,paper lies,verdict,cells,above zero,below zero,paper above,paper below,about"
CLAIMS = f"""{HEAD}
{NASTY},PR-AUC,1.25,-0.5,3,7.1,above,not told from zero,3,2,0,1,0,these checkpoints
one run,PR-AUC,,,,,,not testable,0,0,0,0,0,these checkpoints
"""
GAINS = f"""row,against,ours,low,high
"A, {NASTY}",probe,0.5,-1,2
"""
INTERVALS = "loss,method,category,metric,value,low,high\n" + "".join(
    f"BCE,Individual Experts,{category},{metric},0.4321,0.4,0.5\n"
    for category in (NASTY, "Average") for metric in ("PR-AUC", "R@P60", "APR@R90", "APR@R95")
)  # fmt: skip
PROSE = """# Title

Inline $x_i^2$, a block

$$\\begin{aligned} L &= \\frac{1}{B} \\\\ y &= \\mathbb{1}[p > \\tau] \\end{aligned}$$

\\begin{align} a &= b \\end{align}

![local](pixel.png) ![far](https://example.org/far.png) ![pasted](attachment:p.png)

[next](01_b.ipynb#x), [profile](profiles/cpu.yaml), [out](https://example.org/page) <script src="https://example.org/x.js"></script>"""


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
    (figures / "figure2.png").write_bytes(base64.b64decode(PIXEL))
    (figures / "claims.csv").write_text(CLAIMS.replace("not testable", "below zero"))
    (figures / "gains.csv").write_text(GAINS)
    (figures / "intervals.csv").write_text(INTERVALS)
    about = {"notebook": "00_a", "caption": "c", "device": "CPU test", "tolerance": 0, "seed": 1, "inputs": {}}
    entries = {
        "figure2": about | {"caption": f"A figure of {NASTY}", "files": {"figure2.png": "d1"}},
        "claims": about | {"files": {"claims.csv": "d2"}},
        "gains": about | {"files": {"gains.csv": "d3"}},
        "intervals": about | {"files": {"intervals.csv": "d4", "no.csv": "d5"}},
    }
    (figures / "manifest.json").write_text(json.dumps({"entries": entries}))
    other = project.runs / "cpu/01_b/figures"
    (other / "plain.csv").write_text("name,value\nx<y,0.5\n")
    entries = {"plain": about | {"caption": "plain & old", "files": {"plain.csv": "d6"}}}
    (other / "manifest.json").write_text(json.dumps({"entries": entries}))
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


def test_every_page_is_whole_and_asks_nobody(finished):
    found = pages(finished)
    assert set(found) == {"index", "00_a", "01_b"}
    folder = finished.runs / "cpu" / "report"
    for soup in found.values():
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
        assert "default-src 'none'" in policy and "script-src" not in policy and "img-src data:;" in policy
        assert not soup.find_all(["link", "iframe", "object", "embed"]) and "@import" not in soup.style.text
        for link in soup.find_all("a"):
            place = link["href"]
            assert place.startswith("https://example.org/") or (folder / unquote(place.split("#")[0])).is_file(), place
    images = [image["src"] for image in found["index"].find_all("img")]
    assert images == [f"data:image/png;base64,{PIXEL}"]


def test_a_notebooks_page_shows_what_the_notebook_shows(finished):
    soup = pages(finished)["00_a"]
    assert len(soup.find_all("math")) == 4 and "𝟙" in soup.text and "\\begin" not in soup.text
    assert soup.find("img", alt="pasted")["src"] == f"data:image/png;base64,{PIXEL}"
    assert not any(PIXEL[20:] in str(image) for image in soup.find_all("img", alt=["local", "far"]))
    links = {link.text: link["href"] for link in soup.find_all("a")}
    assert (links["next"], links["report"]) == ("01_b.html", "index.html")
    assert links["out"] == "https://example.org/page" and "profile" not in links and "profile" in soup.text
    assert "print" in soup.text and "100%" in soup.text and "10%" not in soup.text  # a line that was rewritten
    assert soup.text.count("interactive control") == 1 and "it/s" not in soup.text and "example.org'" not in soup.text


def test_the_index_opens_with_what_was_found(finished):
    soup = pages(finished)["index"]
    assert not soup.find("script") and soup.text.count("alert(7)") >= 4
    text = " ".join(soup.text.split())
    for part in ("CPU test", "2m02s in 2 of 3 notebooks", "2,048 MiB", "not run", "built-in", "stand-ins"):
        assert part in text, part
    order = [text.index(part) for part in ("+1.2 [-0.5, +3.0] +7.1 above", "not told from zero 3 2 0 1", "probe",
                                           "A figure of", "Table 1", "43.21", "Table 2", "CPU test", "01_b",
                                           "plain & old", "Parameters")]  # fmt: skip
    assert order == sorted(order) and "nan" not in text
    rows = [[cell.text for cell in row.find_all("td")] for row in soup.find_all("tr")]
    assert ["seed", "1", "00"] in rows and ["seed", "2", "01"] in rows
    files = finished.runs / "cpu" / "report" / "files"
    assert {path.relative_to(files).as_posix() for path in files.rglob("*.*")} == {
        "00_a/figure2.png", "00_a/claims.csv", "00_a/gains.csv", "00_a/intervals.csv", "01_b/plain.csv"
    }  # fmt: skip


def test_tables_have_the_papers_numbers_beside_where_the_risks_are_the_papers(finished):
    file = finished.runs / "cpu/00_a/figures/intervals.csv"
    lines = ["loss,method,category,metric,value", *(f"BCE,Individual Experts,{c},{m},0.4321" for c in
             ("LQC", "RCS", "FE", "Average") for m in ("PR-AUC", "R@P60", "APR@R90", "APR@R95"))]  # fmt: skip
    file.write_text("\n".join(lines))
    cells = pages(finished)["index"].find(id="T_table1").find_all("td")
    assert len(cells) == 8 and cells[0].text.startswith("43.21 (")


def test_what_beats_every_row_stands_before_all_else_and_the_built_in_world_is_no_finding_about_own_posts(finished):
    figures = finished.runs / "cpu/00_a/figures"
    manifest = json.loads((figures / "manifest.json").read_text())
    (figures / "cells_beside_record.png").write_bytes((figures / "figure2.png").read_bytes())
    manifest["entries"]["cells_beside_record"] = manifest["entries"]["figure2"] | {
        "caption": "of the world", "files": {"cells_beside_record.png": "0"}}  # fmt: skip
    (figures / "manifest.json").write_text(json.dumps(manifest))
    soup = pages(finished)["index"]
    assert not soup.find(class_="notice") and soup.find(id="cells_beside_record")
    with (figures / "intervals.csv").open("a") as file:
        file.write("Reference,TF-IDF + logistic regression,Average,PR-AUC,0.65,0.6,0.7\n")
    (figures / "claims.csv").write_text(CLAIMS)
    ledger = Ledger(finished.runs / "cpu")
    ledger.finish(discover(finished.notebooks)[0], {"seed": 1, "posts": "/my/posts"}, seconds=1, peak_memory_mb=1)
    soup = pages(finished)["index"]
    words, mask = soup.find_all(class_="notice")
    assert "TF-IDF" in words.text and "65.0 [60.0, 70.0]" in words.text and "43.2" in words.text
    assert soup.main.find("h2") is words.h2 and "mask" in mask.h2.text
    assert soup.find(id="figure2") and not soup.find(id="cells_beside_record")


def test_an_unchanged_report_is_kept_and_a_changed_one_is_not(finished):
    index = write_report(finished.runs / "cpu", discover(finished.notebooks))
    before = index.stat().st_mtime_ns
    write_report(finished.runs / "cpu", discover(finished.notebooks))
    assert index.stat().st_mtime_ns == before
    ledger = Ledger(finished.runs / "cpu")
    ledger.fail(discover(finished.notebooks)[2], error="no", where="1.")
    write_report(finished.runs / "cpu", discover(finished.notebooks))
    assert index.stat().st_mtime_ns != before and "failed" in index.read_text()


def test_formulas_survive_without_the_converter(monkeypatch):
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    assert mathml("x < 2", block=False) == "<code>x &lt; 2</code>"
    assert mathml("x^2", block=True) == "<pre>x^2</pre>"


def test_a_run_without_a_finished_notebook_has_no_report(project):
    project.step("00_a", "print(1)")
    with pytest.raises(UsageError, match="no notebook has finished"):
        write_report(project.runs / "cpu", discover(project.notebooks))


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [({"posts": "/x/mine", "checkpoints": "/y/weights"}, ["yours, mine", "yours, weights"]),
     ({"posts": "", "public_sources": "/z", "checkpoints": "hub"}, ["public", "published"]),
     ({"seed": 1}, [])],
)  # fmt: skip
def test_what_stands_in_is_stated(parameters, parts):
    lines = [text for _, text in stand_ins(parameters)]
    assert len(lines) == len(parts) and all(part in line for part, line in zip(parts, lines, strict=True))
