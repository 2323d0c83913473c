"""Run the chain: one process per notebook, in order, each only if the ledger says that it must.

A chain may be killed at any moment. What is finished is in the ledger; the notebook at work is taken back from it
before its first cell and entered again after its last.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil

from radar_lib.files import is_disk_trouble, remove_leftovers
from radar_lib.sources import imports_of
from radar_suite.chain import exits
from radar_suite.chain.ledger import EXECUTED, FIGURES, GLANCE, PROJECT, WHOLE, Ledger
from radar_suite.chain.notebooks import Notebook
from radar_suite.chain.parameters import without_magics
from radar_suite.chain.processes import (
    allow_files,
    check_packages,
    check_writable,
    kernel_environment,
    kill_marked,
    resident_mb,
    run_lock,
    stop_signals,
)
from radar_suite.chain.progress import Progress, duration, failure_screen
from radar_suite.report.manifest import MANIFEST, read_manifest

POLL_SECONDS = 0.5
SPARE_BYTES = 3 << 30  # free memory below which no kernel is started before its turn
RUNNING, FAILED, LOG = ".running.ipynb", "failed.ipynb", "log.txt"
ENDS = {  # how a notebook may end badly: the screen's first word, and the exit code
    "failed": ("FAILED", exits.FAILURE), "timeout": ("TIMEOUT", exits.TIMEOUT),
    "setup": ("ENVIRONMENT", exits.ENVIRONMENT),
}  # fmt: skip


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
        """'[4/9] 03_expert_training'."""
        return f"[{self.notebooks.index(notebook) + 1}/{len(self.notebooks)}] {notebook.name}"

    def reasons(self, notebook: Notebook, ledger: Ledger, kinds: Collection[str] = WHOLE) -> list[str]:
        """Why a notebook would run now, by these kinds of reasons; empty when it would not."""
        reasons = ledger.why(notebook, self.parameters[notebook.name], kinds=kinds)
        return reasons or (["--force"] if self.force and notebook in self.selected else [])

    def preview(self) -> list[tuple[Notebook, list[str]]]:
        """Each selected notebook with the reasons for which it would run, counting what runs before it.

        Files of checkpoints are not read: their names, sizes and times are looked at.
        """
        ledger, out = Ledger(self.run_dir), []
        running: set[str] = set()
        for notebook in self.selected:
            reasons = self.reasons(notebook, ledger, GLANCE)
            reasons += [f"upstream {name} runs first" for name in notebook.upstream if name in running]
            if reasons:
                running.add(notebook.name)
            out.append((notebook, reasons))
        return out


@dataclass
class Outcome:
    """How one notebook's process ended: 'done' or one of `ENDS`, in which cell, and with which failure."""

    state: str = "failed"
    seconds: float = 0.0
    peak_mb: float = 0.0
    cell: dict[str, Any] | None = None
    failure: dict[str, Any] = field(default_factory=dict)


def run_chain(chain: Chain) -> int:
    """Bring the selected notebooks up to date; stops at the first failure.

    Returns:
        An exit code of `radar_suite.chain.exits`.

    Raises:
        SetupError: package, disk or lock, before any kernel starts.
        UsageError: see `check_upstream`.
        KeyboardInterrupt, Interrupted: stopped from outside; kernels are dead and the ledger is consistent.
    """
    check_packages()
    allow_files()
    check_writable(chain.run_dir)
    progress = Progress(chain.out)
    with stop_signals(), run_lock(chain.run_dir):
        remove_leftovers(chain.run_dir.parent)
        ledger = Ledger(chain.run_dir)
        check_upstream(chain, ledger, progress)
        spare: Job | None = None
        try:
            for notebook in chain.selected:
                reasons = chain.reasons(notebook, ledger)
                if not reasons:
                    progress.say(f"{chain.head(notebook)} · up to date")
                    continue
                progress.begin(chain.head(notebook), reasons)
                job, spare = spare, None
                if job is not None and (job.notebook is not notebook or not job.alive):
                    job.end()  # of another notebook, or somebody ended it while it waited
                    job = None
                job = job or Job.start(notebook, chain)
                spare = _start_spare(notebook, chain, ledger)
                code = _run_and_record(job, chain, ledger, progress)
                if code != exits.OK:
                    return code
        finally:
            if spare is not None:
                spare.end()
    return exits.OK


def _start_spare(current: Notebook, chain: Chain, ledger: Ledger) -> Job | None:
    """The process of the notebook that will most likely run next, so that its kernel is warm when its turn comes."""
    if (os.cpu_count() or 1) < 2 or psutil.virtual_memory().available < SPARE_BYTES:
        return None
    for notebook in chain.selected[list(chain.selected).index(current) + 1 :]:
        if current.name in notebook.upstream or chain.reasons(notebook, ledger):
            return Job.start(notebook, chain)
    return None


def check_upstream(chain: Chain, ledger: Ledger, progress: Progress) -> None:
    """What the selected notebooks read from notebooks that are not selected must be there; stale is said, not stopped.

    Raises:
        UsageError: it is not there, or is not what its notebook left; the message names the notebook to run.
    """
    used: dict[str, Notebook] = {}
    for notebook in chain.selected:
        for read in notebook.reads:
            upstream = next(other for other in chain.notebooks if other.name == read.split("/")[0])
            if upstream in chain.selected:
                continue
            wrong = " has not finished"
            if ledger.done(upstream):
                wrong = "".join(f": {one}" for one in ledger.damage(upstream, chain.parameters[upstream.name])[:1])
            if wrong:
                raise exits.UsageError(f"{notebook.name} reads {read}, but {upstream.name}{wrong}. "
                                       "Add it to --only, or leave --only and --from away.")  # fmt: skip
            used[upstream.name] = upstream
    for name, upstream in used.items():
        stale = ledger.why(upstream, chain.parameters[name])
        if stale:
            progress.say(f"note: {name} is used as it is, but is not up to date: {'; '.join(stale)}")


def _run_and_record(job: Job, chain: Chain, ledger: Ledger, progress: Progress) -> int:
    notebook, folder = job.notebook, job.folder
    _clean(folder)
    ledger.start(notebook)
    outcome = run_notebook(job, chain, progress)
    if (folder / RUNNING).exists():
        os.replace(folder / RUNNING, folder / (EXECUTED if outcome.state == "done" else FAILED))
    progress.end(f"{outcome.state} · {duration(outcome.seconds)} · {outcome.peak_mb:,.0f} MiB")
    if outcome.state == "done":
        spent = {"seconds": outcome.seconds, "peak_memory_mb": outcome.peak_mb}
        ledger.finish(notebook, chain.parameters[notebook.name], **spent)
        return exits.OK
    where = (outcome.cell or {}).get("section") or "before the first cell"
    ledger.fail(notebook, error=outcome.failure["error"].splitlines()[0][:200], where=where)
    verdict, code = ENDS[outcome.state]
    paths = {"log": folder / LOG, "notebook": folder / FAILED}
    progress.say("\n" + failure_screen(notebook.name, outcome.cell, outcome.failure, verdict=verdict, paths=paths,
                                       resume=chain.resume))  # fmt: skip
    return code


def _clean(folder: Path) -> None:
    """Remove what an earlier run left that could be taken for this one's; files of yours among its figures stay."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [EXECUTED, FAILED, RUNNING, f"{FIGURES}/{MANIFEST}"]
    with contextlib.suppress(exits.RadarError):  # a manifest that is none
        entries = read_manifest(folder / FIGURES)["entries"].values()
        names += [f"{FIGURES}/{file}" for entry in entries for file in entry["files"]]
    for name in names:
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Job:
    """A notebook's process, which waits for its turn with a warm kernel, and the notebook's folder in the run."""

    notebook: Notebook
    folder: Path
    process: subprocess.Popen

    @classmethod
    def start(cls, notebook: Notebook, chain: Chain) -> Job:
        """Start the process; nothing is executed before `begin`."""
        folder, path = chain.run_dir / notebook.name, notebook.path.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        work = {"notebook": str(path), "output": str(folder / RUNNING), "cwd": str(path.parent)}
        work["parameters"] = parameters = dict(chain.parameters[notebook.name])
        imports = {name for source in notebook.sources for name in imports_of(without_magics(source), packages=PROJECT)}
        environment = kernel_environment(folder, parameters, sorted(imports)) | {"RADAR_NOTEBOOK_DIGEST": notebook.code}
        with open(folder / LOG, "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "radar_suite.chain.execute", repr(work)], env=environment, cwd=path.parent,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        return cls(notebook, folder, process)

    @property
    def alive(self) -> bool:
        """Whether it still waits, or runs."""
        return self.process.poll() is None

    def begin(self) -> None:
        """Its turn has come."""
        with contextlib.suppress(BrokenPipeError):  # it died at once; the log says why
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """End it and all that it started."""
        kill_marked(self.folder)
        self.process.kill()  # where it was not marked yet
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def run_notebook(job: Job, chain: Chain, progress: Progress) -> Outcome:
    """Let a notebook's process execute it and follow its events; nothing that it started outlives the call."""
    outcome, begun = Outcome(), time.monotonic()
    notebook, folder, process = job.notebook, job.folder, job.process
    limit = math.inf if chain.no_limit else notebook.limit_s(chain.profile)
    reader = threading.Thread(target=_follow, args=(process.stdout, outcome), daemon=True)
    reader.start()
    job.begin()
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            progress.update(outcome.cell)
            outcome.peak_mb = max(outcome.peak_mb, resident_mb(process.pid))
            if time.monotonic() - begun > limit:
                outcome.state, passed = "timeout", f"passed its time limit of {duration(limit)}."
                outcome.failure = {"error": f"{passed} --no-limit runs it without one."}
                return outcome
        reader.join()
    finally:
        job.end()
        remove_leftovers(folder)
        outcome.seconds = time.monotonic() - begun
    code, missing = process.returncode, [write for write in notebook.writes if not (folder / write).exists()]
    if code == 0 and missing:
        outcome.failure["error"] = f"every cell ran, but the declared output {', '.join(missing)} was not written."
    elif code == 0:
        outcome.state = "done"
    elif not outcome.failure:
        last = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        outcome.failure["error"] = f"the notebook's process {how}. " + "".join(last)
    if outcome.failure.get("setup") or is_disk_trouble(outcome.failure.get("error", "")):
        outcome.state = "setup"
    return outcome


def _follow(events: TextIO, outcome: Outcome) -> None:
    """Take in a notebook's events until it ends."""
    with contextlib.suppress(ValueError):  # a last line cut short by a kill
        for line in events:
            event = json.loads(line)
            if event.pop("event") == "cell":
                outcome.cell = event
            else:
                outcome.failure = event
