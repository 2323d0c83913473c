"""The explorer of notebook 09 in JupyterLab, moved by key presses in a headless Chromium (its DevTools protocol)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat's optional check of URLs takes seconds to import
import nbformat  # noqa: E402

websocket = pytest.importorskip("websocket")  # of websocket-client, which jupyter_server needs

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "09_routing_decisions.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240  # seconds until something is seen

WORLD = """
import numpy as np, pandas as pd, matplotlib.pyplot as plt
from radar_lib import thresholds
from radar_lib.economics import savings
from radar_suite.report import style
from radar_suite.report.teaching import slider
random, K, recall_target, confidence, seed = np.random.default_rng(1), 2, 0.9, 0.95, 1
bad = random.random((4000, K)) < 0.1
logits = (random.normal(size=bad.shape) + 2 * bad).astype(np.float32)
positives = [(random.normal(size=300) + 2).astype(np.float32) for _ in range(K)]
dials = {"recall": 0.9, "confidence": 0.95, "prevalence": 1.0, "module": 8.0}
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the explorer is not moved"),
]


class Page:
    """A tab of the browser, by its DevTools socket."""

    def __init__(self, port: int) -> None:
        self.number = 0
        targets = wait(lambda: json.loads(fetch(f"http://127.0.0.1:{port}/json")))
        url = next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")
        self.socket = websocket.create_connection(url, timeout=PATIENCE, suppress_origin=True)

    def call(self, method: str, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        return answer["result"]

    def evaluate(self, script: str):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")

    def press(self, key: str) -> None:
        code = {"ArrowLeft": 37, "ArrowRight": 39}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def wait(look, *, seconds: float = PATIENCE):
    """What `look` returns once it is something, and raises nothing."""
    end, why = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if found := look():
                return found
        except OSError as error:
            why = error
        time.sleep(0.5)
    raise AssertionError(f"nothing was seen in {seconds:g} s ({why})")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def lab(tmp_path):
    """JupyterLab with a notebook of the explorer's own cells on a small world; its address, and the browser's page."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    wanted = ("certificate-09", "certified-09", "explore-09", "explore-draw-09", "explore-at-09", "explore-slider-09")
    parts = [nbformat.v4.new_code_cell(source) for source in (WORLD, *map(cells.get, wanted))]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=parts, metadata=kernel), tmp_path / "explorer.ipynb")
    port, debugging = free_port(), free_port()
    home = {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "places")}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    known = {name: value for name, value in os.environ.items() if name != "RADAR_NOTEBOOK_DIGEST"}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=",
               f"--notebook-dir={tmp_path}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=known | home | {"PYTHONPATH": paths},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    browser = None
    try:
        wait(lambda: fetch(f"http://127.0.0.1:{port}/api"))
        browser = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={tmp_path / 'profile'}", f"--remote-debugging-port={debugging}",
             f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        page = Page(debugging)
        yield page
        page.socket.close()
    finally:
        for process in filter(None, (browser, server)):
            process.terminate()
        for process in filter(None, (browser, server)):
            process.wait(timeout=60)


def test_a_slider_moves_the_figures_numbers(lab):
    ready = "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    wait(lambda: lab.evaluate(ready) == "idle")
    lab.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    text = "[...document.querySelectorAll('.jp-OutputArea-output pre')].map(e => e.innerText).join(' ')"

    def shown():
        found = lab.evaluate(text) or ""
        return float(found.split("released ")[1].split("%")[0]) if "released " in found else None

    before = wait(shown)
    assert lab.evaluate("document.querySelectorAll('.widget-slider .noUi-handle').length") == 4
    lab.evaluate("document.querySelector('.widget-slider .noUi-handle').focus()")  # the first dial is the recall target
    for _ in range(10):
        lab.press("ArrowLeft")
    after = wait(lambda: (now := shown()) is not None and now > before + 1 and now)
    assert after <= 100
