"""Run the chain: one process per notebook, in order, each only if the ledger says that it must.

A chain may be killed at any moment. What is finished is in the ledger; the notebook at work is taken back from it
before its first cell and entered again after its last.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from radar_suite.chain import exits
from radar_suite.chain.job import Job, next_to_run, room_for_a_spare
from radar_suite.chain.ledger import EXECUTED, FIGURES, Ledger
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.processes import (
    check_packages,
    check_writable,
    kill_leftovers,
    resident_mb,
    run_lock,
    stop_signals,
)
from radar_suite.chain.progress import Progress, duration, failure_screen

POLL_SECONDS = 0.5


@dataclass
class Chain:
    """A resolved request: which notebooks to run, with which parameters, where.

    Attributes:
        notebooks: all notebooks in order.
        selected: those that this command is about.
        parameters: complete parameters by notebook.
        run_dir: `<runs>/<run>`, where everything goes.
        profile: name of the profile, for the notebooks' time limits.
        force: run the selected notebooks even when they are up to date.
        no_limit: let notebooks take as long as they want.
        resume: the command that a failure screen ends with.
    """

    notebooks: Sequence[Notebook]
    selected: Sequence[Notebook]
    parameters: Mapping[str, Mapping[str, Any]]
    run_dir: Path
    profile: str = "cpu"
    force: bool = False
    no_limit: bool = False
    resume: str = "radar reproduce"
    out: TextIO = field(default_factory=lambda: sys.stdout)

    def head(self, notebook: Notebook) -> str:
        """'[3/8] 03_expert_training'."""
        return f"[{self.notebooks.index(notebook) + 1}/{len(self.notebooks)}] {notebook.name}"

    def limit_s(self, notebook: Notebook) -> float:
        """Seconds that a notebook may take here."""
        return math.inf if self.no_limit else notebook.limit_s(self.profile)

    def reasons(self, notebook: Notebook, ledger: Ledger) -> list[str]:
        """Why a notebook would run now; empty when it would not."""
        reasons = ledger.why(notebook, self.parameters[notebook.name])
        return reasons or (["--force"] if self.force and notebook in self.selected else [])

    def preview(self) -> list[tuple[Notebook, list[str]]]:
        """Each selected notebook with the reasons for which it would run, counting what runs before it."""
        ledger, out = Ledger(self.run_dir), []
        running: set[str] = set()
        for notebook in self.selected:
            reasons = self.reasons(notebook, ledger)
            reasons += [f"upstream {name} runs first" for name in notebook.upstream if name in running]
            if reasons:
                running.add(notebook.name)
            out.append((notebook, reasons))
        return out


@dataclass
class Outcome:
    """How one notebook's process ended: 'done', 'failed', 'timeout' or 'setup'; with the failure, if any."""

    state: str
    seconds: float
    peak_mb: float
    cell: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None


def run_chain(chain: Chain) -> int:
    """Bring the selected notebooks up to date; stops at the first failure.

    Returns:
        An exit code of `radar_suite.chain.exits`.

    Raises:
        SetupError: package, disk or lock, before any kernel starts.
        KeyboardInterrupt, Interrupted: stopped from outside; kernels are dead and the ledger is consistent.
    """
    check_packages()
    check_writable(chain.run_dir)
    progress = Progress(chain.out)
    with stop_signals(), run_lock(chain.run_dir):
        ledger = Ledger(chain.run_dir)
        check_upstream(chain, ledger, progress)
        job = spare = None
        try:
            for notebook in chain.selected:
                reasons = chain.reasons(notebook, ledger)
                if not reasons:
                    progress.say(f"{chain.head(notebook)} · up to date")
                    continue
                progress.begin(chain.head(notebook), reasons)
                job, spare = spare, None
                if job is None or job.notebook is not notebook:
                    if job is not None:
                        job.end()
                    job = Job.start(notebook, chain.run_dir, chain.parameters[notebook.name])
                spare = _spare(chain, ledger, after=notebook)
                code = _run_and_record(job, spare, chain, ledger, progress)
                if code != exits.OK:
                    return code
        finally:
            for process in filter(None, (job, spare)):
                process.end()
    return exits.OK


def _spare(chain: Chain, ledger: Ledger, *, after: Notebook) -> Job | None:
    """The process of the notebook that will run next, started now, so that its kernel is warm when its turn comes."""
    stale = [notebook.name for notebook in chain.selected if chain.reasons(notebook, ledger)]
    notebook = next_to_run(chain.selected, after, stale)
    if notebook is None or not room_for_a_spare():
        return None
    return Job.start(notebook, chain.run_dir, chain.parameters[notebook.name])


def check_upstream(chain: Chain, ledger: Ledger, progress: Progress) -> None:
    """What the selected notebooks read from notebooks that are not selected must be there; stale is said, not stopped.

    Raises:
        UsageError: it is not there; the message names the notebook to run.
    """
    left_out = {notebook.name: notebook for notebook in chain.notebooks if notebook not in chain.selected}
    said = set()
    for notebook in chain.selected:
        for read in notebook.reads:
            upstream = left_out.get(read.split("/")[0])
            if upstream is None:
                continue
            if not ledger.done(upstream) or not (chain.run_dir / read).exists():
                raise exits.UsageError(
                    f"{notebook.name} reads {read}, but {upstream.name} has not finished. "
                    f"Add it to --only, or leave --only and --from away."
                )
            stale = ledger.why(upstream, chain.parameters[upstream.name])
            if stale and upstream.name not in said:
                said.add(upstream.name)
                progress.say(
                    f"note: {upstream.name} is used as it is, but is not up to date: {'; '.join(stale)}"
                )


def _run_and_record(job: Job, spare: Job | None, chain: Chain, ledger: Ledger, progress: Progress) -> int:
    notebook = job.notebook
    folder = chain.run_dir / notebook.name
    _clean(folder)
    ledger.start(notebook)
    outcome = _supervise(job, spare, chain, progress)
    missing = ledger.missing(notebook) if outcome.state == "done" else []
    if missing:
        outcome.state = "failed"
        outcome.failure = {
            "error": f"every cell ran, but the declared output {', '.join(missing)} was not written."
        }
    running = folder / ".running.ipynb"
    if outcome.state == "done":
        os.replace(running, folder / EXECUTED)
        ledger.finish(
            notebook, chain.parameters[notebook.name], seconds=outcome.seconds, peak_memory_mb=outcome.peak_mb
        )
        progress.end(f"done · {duration(outcome.seconds)} · {outcome.peak_mb:,.0f} MiB")
        return exits.OK
    if running.exists():
        os.replace(running, folder / "failed.ipynb")
    return _report_failure(notebook, chain, ledger, progress, outcome)


def _report_failure(
    notebook: Notebook, chain: Chain, ledger: Ledger, progress: Progress, outcome: Outcome
) -> int:
    failure = outcome.failure or {"error": "unknown"}
    folder = chain.run_dir / notebook.name
    if exits.is_disk_trouble(failure["error"]):
        outcome.state = "setup"
    where = (outcome.cell or {}).get("section") or "before the first cell"
    ledger.fail(notebook, error=failure["error"].splitlines()[0][:200], where=where)
    verdict, code = {
        "timeout": ("TIMEOUT", exits.TIMEOUT),
        "setup": ("ENVIRONMENT", exits.ENVIRONMENT),
    }.get(outcome.state, ("FAILED", exits.FAILURE))
    progress.end(f"{outcome.state} · {duration(outcome.seconds)} · {outcome.peak_mb:,.0f} MiB")
    paths = {"log": folder / "log.txt", "notebook": folder / "failed.ipynb"}
    screen = failure_screen(
        notebook.name, outcome.cell, failure, verdict=verdict, paths=paths, resume=chain.resume
    )
    progress.say(f"\n{screen}")
    return code


def _clean(folder: Path) -> None:
    """Remove what an earlier run left that could be taken for this one's, and what a killed one left half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EXECUTED, "failed.ipynb", ".running.ipynb"):
        (folder / name).unlink(missing_ok=True)
    for path in (folder / FIGURES, *folder.rglob(".*.tmp")):
        shutil.rmtree(path, ignore_errors=True)


def _supervise(job: Job, spare: Job | None, chain: Chain, progress: Progress) -> Outcome:
    """Give a notebook's process its work, follow its events, and see to it that its whole tree is dead in the end."""
    notebook = job.notebook
    folder = chain.run_dir / notebook.name
    outcome = Outcome("failed", 0.0, 0.0)
    begun = time.monotonic()
    try:
        job.begin(folder / ".running.ipynb", chain.parameters[notebook.name])
        events = _events(job.process)
        while _follow(events, outcome):
            progress.update(outcome.cell)
            outcome.seconds = time.monotonic() - begun
            alive = [*job.tree(), *(spare.tree() if spare else ())]
            outcome.peak_mb = max(outcome.peak_mb, resident_mb(alive))
            if outcome.seconds > chain.limit_s(notebook):
                limit = duration(chain.limit_s(notebook))
                outcome.state = "timeout"
                outcome.failure = {"error": f"passed its time limit of {limit}. --no-limit runs it without one."}
                return outcome
        code = job.process.wait()
    finally:
        job.end()
        kill_leftovers(chain.run_dir, spare=spare.tree() if spare else ())  # whose parents died before them
        outcome.seconds = time.monotonic() - begun
    if code == 0:
        outcome.state = "done"
    elif outcome.failure is None:
        last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        outcome.failure = {"error": f"the notebook's process {how}. " + "".join(last)}
    elif outcome.failure.get("setup"):
        outcome.state = "setup"
    return outcome


def _events(process: subprocess.Popen) -> queue.Queue:
    """Events of a notebook's process, read in the background; None marks the end."""
    events: queue.Queue = queue.Queue()

    def read() -> None:
        with contextlib.suppress(ValueError):  # a last line cut short by a kill
            for line in process.stdout:
                events.put(json.loads(line))
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    return events


def _follow(events: queue.Queue, outcome: Outcome) -> bool:
    """Take in the next event, or wait a moment for it; False at the end."""
    try:
        event = events.get(timeout=POLL_SECONDS)
    except queue.Empty:
        return True
    if event is not None:
        if event.pop("event") == "cell":
            outcome.cell = event
        else:
            outcome.failure = event
    return event is not None
