"""Notebook 01 on corpora that are not the built-in one: one risk with nothing but titles, seven with everything."""

import io
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat's optional check of URLs takes seconds to import
import nbformat  # noqa: E402

from radar_lib.data.posts import write_corpus  # noqa: E402
from radar_lib.files import read_json  # noqa: E402

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_data_audit.ipynb"
WORDS = "river lamp seven green cook dance market old window fast song bread snow light train garden".split()


def run(folder, posts, monkeypatch):
    """The notebook's code, cell by cell in one namespace, with these posts; returns the namespace."""
    monkeypatch.setattr("IPython.display.display", lambda shown: None)
    matplotlib.use("Agg")
    space: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space |= {"runs_dir": str(folder / "runs"), "posts": str(posts.folder), "profile": "test"}
    return space


def picture(rng):
    image = Image.new("RGB", (40, 30), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, w = rng.integers(0, 30, 3).tolist()
        pen.ellipse((x - w, y - w, x + w, y + w), fill=tuple(rng.integers(0, 256, 3).tolist()))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setitem(os.environ, "MPLBACKEND", "Agg")
    yield
    matplotlib.pyplot.close("all")


def test_one_risk_and_nothing_but_titles(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [{"post_id": f"p{i}", "split": ("train", "test")[i % 3 == 0], "title": " ".join(rng.choice(WORDS, 5)),
             "label_spam": int(i % 4 == 0)} for i in range(90)]  # fmt: skip
    posts = write_corpus(tmp_path / "c", rows, name="mine", kind="imported", categories=("spam",))
    space = run(tmp_path, posts, monkeypatch)
    audit = read_json(tmp_path / "runs/test/01_data_audit/audit.json")
    assert not any(audit[name] for name in ("copies", "probe", "gains", "suspects", "hidden", "checks"))
    assert not space["tests"] and {row["category"] for row in audit["prevalence"]} == {"spam"}
    assert read_json(tmp_path / "runs/test/01_data_audit/corpus.json")["categories"] == ["spam"]


def test_seven_risks_with_frames_copies_and_streams(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    risks = [f"r{k}" for k in range(7)]
    rows = []
    for i in range(140):
        row = {"post_id": f"p{i}", "split": ("train", "test")[i % 3 == 0], "pipeline": f"team {i % 2}", "region": "BR"}
        row |= {"title": " ".join(rng.choice(WORDS, 7)), "frames": [picture(rng) for _ in range(1 + i % 2)]}
        row |= {"language": ("pt", "en")[i % 2], "stream_id": f"s{i % 3}" if i < 6 else ""}
        drawn = rng.random(7) < 0.4
        rows.append(row | {f"label_{r}": int(drawn[k]) if i % 7 <= k else -1 for k, r in enumerate(risks)})
    rows += [{**rows[i], "post_id": f"c{i}", "split": "test", "stream_id": "", "label_r6": 1 - rows[i]["label_r6"]}
             for i in (10, 20, 31)]  # fmt: skip
    posts = write_corpus(tmp_path / "c", rows, name="mine", kind="imported", categories=risks, streams=True)
    space = run(tmp_path, posts, monkeypatch)
    audit = read_json(tmp_path / "runs/test/01_data_audit/audit.json")
    findings = {row["finding"]: row for row in audit["findings"]}
    assert findings["posts with a copy in another split"]["count"] >= 2
    assert findings["copies with opposite labels"]["count"] == 3
    assert findings["live streams in more than one split"]["count"] == 0 and len(space["pairs"]) == 3
    assert (tmp_path / "runs/test/01_data_audit/figures/gallery_copies.html").exists() is False  # all of them exact
