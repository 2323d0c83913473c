"""The truth stays hidden: nothing that trains or infers opens it, and posts do without it."""

import json
import re
from pathlib import Path

import radar_lib
import radar_suite
from radar_lib.data.posts import open_posts
from radar_suite.world.build import CorpusConfig, build_corpus

ROOT = Path(radar_lib.__file__).parents[1]
PACKAGES = [Path(package.__file__).parent for package in (radar_lib, radar_suite)]
ASKS = re.compile(r"truth\.parquet|hidden_truth|truth_table|posteriors\(|[\"']hidden[\"']|/hidden")
# The world that writes it; audits and evaluation, which measure against it.
MAY = re.compile(
    r"radar_suite/(world/.*|intake/audit.*|report/.*(audit|oracle|evaluation).*|studies/(pool|limit)\.py"
    r"|diagnosis/bench\.py)"  # the planter's side
)


def test_no_training_or_inference_code_asks_for_it():
    paths = [path for package in PACKAGES for path in package.rglob("*.py")]
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    for path in (ROOT / "notebooks").glob("0[2357]*.ipynb"):  # backbones, experts, routers, the lambda study
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources[path.name] = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    asking = {name for name, text in sources.items() if ASKS.search(text.replace("which\nnothing here opens", ""))}
    posts = "radar_lib/data/posts.py"
    asking -= {posts} if sources[posts].count("truth.parquet") == 1 else set()  # its docstring
    assert "radar_suite/world/build.py" in asking  # the pattern does find it
    assert sorted(name for name in asking if not MAY.fullmatch(name)) == []


def test_posts_are_complete_without_it(tmp_path):
    config = CorpusConfig(seed=3, train_posts=0, validation_posts=0, test_posts=0, calibration_posts=0,
                          unlabelled_posts=6, audit_posts=6, frame_px=32)
    folder = build_corpus(config, tmp_path / "world", progress=False).folder
    (folder / "hidden" / "truth.parquet").unlink()
    posts = open_posts(folder)
    assert len(posts.table()) == len(posts.split()) == 12 and posts.split("audit")[0]["frames"]
