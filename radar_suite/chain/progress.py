"""What a person sees while a chain runs: one line that is rewritten on a terminal, throttled plain lines elsewhere."""

import os
import shutil
import textwrap
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

PLAIN_SECONDS = 20.0
CONTEXT_LINES = 2


def duration(seconds: float) -> str:
    """Seconds as '42s', '1m20s' or '2h05m'."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def near(path: str | Path) -> str:
    """A path relative to the current folder where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


class Progress:
    """Lines about one notebook after another, `[3/8] 03_expert_training · cell 12/40 · 3.2 Training · 1m20s`."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = out.isatty()
        self._head = ""
        self._begun = self._shown = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        print(text, file=self.out, flush=True)

    def begin(self, head: str, reasons: Iterable[str]) -> None:
        """A notebook starts, for these reasons; `head` is '[3/8] 03_expert_training'."""
        self._head = head
        self._begun = self._shown = time.monotonic()
        self.say(f"{head} · runs: {'; '.join(reasons)}")

    def update(self, cell: Mapping[str, Any] | None) -> None:
        """Show the cell being run; call it as often as you like."""
        now = time.monotonic()
        text = f"cell {cell['number']}/{cell['of']} · {cell['section']}" if cell else "starting the kernel"
        line = f"{self._head} · {text} · {duration(now - self._begun)}"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.out.write("\r\x1b[2K" + (line if len(line) <= width else line[: width - 1] + "…"))
            self.out.flush()
        elif now - self._shown >= PLAIN_SECONDS:
            self._shown = now
            print(line, file=self.out, flush=True)

    def end(self, text: str) -> None:
        """The notebook is over."""
        self.say(f"{self._head} · {text}")

    def _erase(self) -> None:
        if self.live:
            self.out.write("\r\x1b[2K")


def failure_screen(
    name: str, cell: Mapping[str, Any] | None, failure: Mapping[str, Any], *,
    verdict: str, paths: Mapping[str, Path], resume: str,
) -> str:  # fmt: skip
    """One screen: notebook, section, source, last line of the traceback, where to look, the command that resumes."""
    where = f" · cell {cell['number']}/{cell['of']} · {cell['section']}" if cell else ""
    lines = [f"{verdict}  {name}{where}", ""]
    source, number = failure.get("source", "").splitlines(), failure.get("line")
    if number:
        first = max(0, number - 1 - CONTEXT_LINES)
        for index, text in enumerate(source[first : number + CONTEXT_LINES], first + 1):
            lines.append(f"  {'>' if index == number else ' '} {index:3d} | {text}")
        lines.append("")
    message = failure["error"].splitlines()
    message = message if len(message) <= 12 else [*message[:8], "...", *message[-3:]]
    lines += textwrap.indent("\n".join(message), "  ").splitlines()
    if failure.get("raised"):
        lines.append(f"  raised at {failure['raised']}")
    lines.append("")
    lines += [f"  {label:9s}{near(path)}" for label, path in paths.items() if path.exists()]
    return "\n".join([*lines, f"  {'resume':9s}{resume}"])
