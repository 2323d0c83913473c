"""Execute one notebook: `python -m radar_suite.chain.execute PARENT`, a process of its own that the runner starts.

This is the only place that knows papermill. It starts a kernel at once, takes a job (a Python literal) on standard
input when its turn comes, writes events (one JSON object a line) to standard output, and everything else, cell output
included, to standard error, the log. When the process that started it is gone, it ends itself and its kernel.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from radar_suite.chain.processes import tree

KERNEL_START_SECONDS = 120
IOPUB_SECONDS = 60  # papermill's 4 s are too few on a busy machine
# Optional imports of papermill's dependencies that take seconds (a grammar for URI checks, HDFS) and serve no notebook.
SLOW_IMPORTS = ("rfc3987_syntax", "pyarrow")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CELL_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")
_FRAME = re.compile(r"^File (\S.*?):(\d+)(?:, in (\w+))?", re.MULTILINE)


def sections(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, str]]:
    """By cell id of each code cell: its number among the code cells, and the last heading above it."""
    found: dict[str, tuple[int, str]] = {}
    heading = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text = re.sub(
                r"```.*?```", "", "".join(cell["source"]), flags=re.DOTALL
            )  # a comment is no heading
            titles = re.findall(r"^#{1,6}\s+(.+?)\s*$", text, flags=re.MULTILINE)
            heading = titles[-1] if titles else heading
        elif cell["cell_type"] == "code":
            found[cell.get("id", "")] = (len(found) + 1, heading)
    return found


def describe(ename: str, evalue: str, traceback: str, source: str) -> dict[str, Any]:
    """What a one-screen failure needs: the cell's line, where it was raised, the last line."""
    plain = _COLOUR.sub("", traceback)
    last = evalue if ename == "RadarError" else f"{ename}: {evalue}" if evalue else ename
    numbers = [int(number) for number in _CELL_LINE.findall(plain)]
    number = numbers[0] if numbers and numbers[0] <= len(source.splitlines()) else None
    frames = _FRAME.findall(plain)
    raised = (
        f"{frames[-1][0]}:{frames[-1][1]}" + (f" in {frames[-1][2]}" if frames[-1][2] else "")
        if frames
        else ""
    )
    return {"error": last.strip() or ename, "line": number, "source": source, "raised": raised}


def start_kernel() -> Any:
    """Start the kernel that kernel.json describes; returns its manager while the kernel is still warming up."""
    manager = AsyncKernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)(extra_arguments=["--HistoryManager.hist_file=:memory:"])
    return manager


def execute(job: Mapping[str, Any], emit: Callable[..., None], log: TextIO, *, manager: Any = None) -> bool:
    """Run a notebook with papermill; events go to `emit`, cell output to `log`.

    Args:
        job: `notebook` and `output` paths, `parameters`, `cwd`.
        emit: called with keyword arguments: event='cell' before each cell, event='failed' once if it fails.
        manager: of the kernel to use, from `start_kernel`; None starts one.

    Returns:
        Whether every cell ran.
    """
    import papermill  # a second of imports, wanted in this process only
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.translators import PythonTranslator, papermill_translators

    class Translator(PythonTranslator):
        @classmethod
        def translate(cls, val: Any) -> str:
            return (
                repr(val) if isinstance(val, tuple) else super().translate(val)
            )  # papermill makes them text

    papermill_translators.register("python", Translator)
    numbers = sections(json.loads(Path(job["notebook"]).read_text(encoding="utf-8"))["cells"])

    def on_cell(cell: Mapping[str, Any], cell_index: int) -> None:
        if cell["cell_type"] == "code":
            number, section = numbers.get(cell["id"], (1, "parameters"))
            emit(event="cell", number=number, of=len(numbers), section=section)
            log.write(f"\n--- {time.strftime('%H:%M:%S')} cell {number}/{len(numbers)} {section}\n")
            log.flush()

    try:
        papermill.execute_notebook(
            job["notebook"],
            job["output"],
            job["parameters"],
            kernel_name="python3",
            cwd=job["cwd"],
            progress_bar=False,
            start_timeout=KERNEL_START_SECONDS,
            iopub_timeout=IOPUB_SECONDS,
            stdout_file=log,
            stderr_file=log,
            on_cell_start=on_cell,
            km=manager,
        )
        return True
    except PapermillExecutionError as error:
        log.write(_COLOUR.sub("", str(error)))
        emit(event="failed", **describe(error.ename, error.evalue, "\n".join(error.traceback), error.source))
    except DeadKernelError:
        emit(
            event="failed", error="the kernel died. Most often the system killed it for memory.", kernel=True
        )
    except OSError as error:
        emit(event="failed", error=f"{type(error).__name__}: {error}", setup=True)
    except (RuntimeError, KeyError) as error:  # the kernel did not answer, or jupyter knows no such kernel
        emit(
            event="failed", error=f"the kernel could not be started: {error}. Try `radar doctor`.", setup=True
        )
    log.flush()
    return False


def end_with(parent: int) -> None:
    """End this process and all below it as soon as `parent` is no longer its parent; returns at once."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        for process in reversed(tree(os.getpid())[1:]):
            process.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """Start a kernel, wait for the job, keep standard output for events, execute."""
    end_with(int(sys.argv[1]))
    for name in SLOW_IMPORTS:
        sys.modules.setdefault(name, None)
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")  # not inherited by the kernel
    os.dup2(2, 1)

    def emit(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        manager = start_kernel()
    except (OSError, RuntimeError, KeyError) as error:
        emit(event="failed", error=f"the kernel could not be started: {error}. Try `radar doctor`.", setup=True)
        return 1
    import papermill  # noqa: F401, a second of imports while the kernel warms up

    try:
        text = sys.stdin.read()
        return 0 if text and execute(ast.literal_eval(text), emit, sys.stderr, manager=manager) else 1
    finally:
        run_sync(manager.shutdown_kernel)(now=True)


if __name__ == "__main__":
    sys.exit(main())
