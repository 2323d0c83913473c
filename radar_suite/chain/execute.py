"""Execute one notebook: `python -m radar_suite.chain.execute JOB`, a process of its own that the runner starts.

This is the only place that knows papermill. It takes its job (a Python literal) as its argument, writes events (one
JSON object a line) to standard output, and everything else, cell output included, to standard error, the log. It starts
a kernel at once, and begins when its turn comes, which a line on standard input says. When standard input closes, the
runner is gone, and so is this process.
"""

import ast
import contextlib
import json
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import run_sync
from traitlets import default

from radar_suite.chain.processes import MARK, kill_marked

KERNEL_START_SECONDS = 120
IOPUB_SECONDS = 60  # papermill's 4 s are too few on a busy machine
# Optional imports of papermill's dependencies that take seconds (a grammar for URI checks, HDFS) and serve no notebook.
SLOW_IMPORTS = ("rfc3987_syntax", "pyarrow")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CELL_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")
_FRAME = re.compile(r"^File (\S.*?):(\d+)(?:, in (\w+))?", re.MULTILINE)


def sections(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, str]]:
    """By cell id of each code cell: its number among the code cells, and the last heading above it."""
    out: dict[str, tuple[int, str]] = {}
    heading = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"```.*?```", "", "".join(cell["source"]), flags=re.DOTALL)  # a comment is no heading
            heading = (re.findall(r"^#{1,6}\s+(.+?)\s*$", prose, flags=re.MULTILINE) or [heading])[-1]
        elif cell["cell_type"] == "code":
            out[cell.get("id", "")] = (len(out) + 1, heading)
    return out


def describe(ename: str, evalue: str, traceback: str, source: str) -> dict[str, Any]:
    """What a one-screen failure needs: the cell's line, where it was raised, the last line."""
    plain = _COLOUR.sub("", traceback)
    last = evalue if ename == "RadarError" else f"{ename}: {evalue}" if evalue else ename
    line = next((int(number) for number in _CELL_LINE.findall(plain)), 0)
    file, number, function = (_FRAME.findall(plain) or [("", "", "")])[-1]
    return {
        "error": last.strip() or ename,
        "line": line if 0 < line <= len(source.splitlines()) else None,
        "source": source,
        "raised": file and f"{file}:{number}" + (f" in {function}" if function else ""),
    }


class KernelManager(AsyncKernelManager):
    """Its connection files lie in the run's folder, where the next chain removes what a killed one left."""

    @default("connection_file")
    def _in_the_run(self) -> str:
        place = Path(jupyter_runtime_dir())
        place.mkdir(parents=True, exist_ok=True)
        return str(place / f"kernel-{uuid.uuid4()}.json")


def start_kernel() -> KernelManager:
    """Start the kernel that kernel.json describes, which warms up meanwhile.

    Raises:
        OSError, RuntimeError, KeyError: it cannot be started.
    """
    manager = KernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)(extra_arguments=["--HistoryManager.hist_file=:memory:"])
    return manager


def execute(
    job: Mapping[str, Any], emit: Callable[..., None], log: TextIO, *, manager: KernelManager | None = None
) -> bool:
    """Run a notebook with papermill; events go to `emit`, cell output to `log`.

    Args:
        job: `notebook` and `output` paths, `parameters`, `cwd`.
        emit: called with keyword arguments: event='cell' before each cell, event='failed' once if it fails.
        manager: of the kernel to use; one is started where it is None, or is found dead before the first cell.

    Returns:
        Whether every cell ran.
    """
    import papermill  # a second of imports, wanted in this process only
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.translators import PythonTranslator, papermill_translators

    class Translator(PythonTranslator):  # papermill makes text of tuples
        @classmethod
        def translate(cls, val: Any) -> str:
            return repr(val) if isinstance(val, tuple) else super().translate(val)

    papermill_translators.register("python", Translator)
    numbers, begun = sections(json.loads(Path(job["notebook"]).read_text(encoding="utf-8"))["cells"]), False
    spare = manager is not None and run_sync(manager.is_alive)()

    def on_cell(cell: Mapping[str, Any], cell_index: int) -> None:
        nonlocal begun
        begun = True
        if cell["cell_type"] == "code":
            number, section = numbers.get(cell["id"], (1, "parameters"))
            emit(event="cell", number=number, of=len(numbers), section=section)
            log.write(f"\n--- {time.strftime('%H:%M:%S')} cell {number}/{len(numbers)} {section}\n")
            log.flush()

    try:
        papermill.execute_notebook(
            job["notebook"], job["output"], job["parameters"], kernel_name="python3", cwd=job["cwd"],
            progress_bar=False, start_timeout=KERNEL_START_SECONDS, iopub_timeout=IOPUB_SECONDS,
            stdout_file=log, stderr_file=log, on_cell_start=on_cell, kernel_manager_class=KernelManager,
            km=manager if spare else None,
        )  # fmt: skip
        return True
    except PapermillExecutionError as error:
        log.write(_COLOUR.sub("", str(error)))
        emit(event="failed", **describe(error.ename, error.evalue, "\n".join(error.traceback), error.source))
    except DeadKernelError:
        emit(event="failed", error="the kernel died. Most often the system killed it for memory.")
    except OSError as error:
        emit(event="failed", error=f"{type(error).__name__}: {error}", setup=True)
    except (RuntimeError, KeyError) as error:  # the kernel did not answer, or jupyter knows no such kernel
        if spare and not begun:  # somebody ended it while it waited
            return execute(job, emit, log)
        emit(event="failed", error=f"the kernel could not be started: {error}. Try `radar doctor`.", setup=True)
    finally:
        log.flush()
        if manager is not None:
            run_sync(manager.shutdown_kernel)(now=True)
    return False


def follow_parent() -> tuple[threading.Event, threading.Lock]:
    """Listen to standard input; when it closes, end this process and all others of its notebook. Returns at once.

    Returns:
        What is set at the first line, and a lock that is taken for good when the end begins: acquire it before leaving,
        or the end comes before it is done.
    """
    turn, ending = threading.Event(), threading.Lock()

    def watch() -> None:
        while os.read(0, 1):
            turn.set()
        ending.acquire()
        kill_marked(os.environ[MARK])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return turn, ending


def main() -> int:
    """Keep standard output for events, wait for the turn, and execute the job."""
    turn, ending = follow_parent()
    sys.modules.update(dict.fromkeys(SLOW_IMPORTS))
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")  # not inherited by the kernel
    os.dup2(2, 1)

    def emit(**event: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the runner is gone, and `ending` sees to it
            print(json.dumps(event), file=events, flush=True)

    manager = None
    with contextlib.suppress(OSError, RuntimeError, KeyError):  # when its turn comes it is tried again, and said
        manager = start_kernel()
    import papermill  # noqa: F401, while the kernel warms up

    turn.wait()
    done = execute(ast.literal_eval(sys.argv[1]), emit, sys.stderr, manager=manager)
    kill_marked(os.environ[MARK])  # what the kernel left, here too: the runner may be gone before it can
    ending.acquire()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
