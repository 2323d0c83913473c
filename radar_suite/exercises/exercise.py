"""An exercise that checks itself, inside the notebook: no server, no account, no network.

An answer is a function, a number or the letter of a choice. A function is run on random cases beside the reference,
and what it returns there is also compared with what typical mistakes return, so that a wrong answer hears which mistake
it made. A wrong answer never raises, and one that is still `...` is only told so: an unattempted notebook runs through.
"""

from __future__ import annotations

import copy
import html
import inspect
import math
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from IPython.display import Markdown, display

CASES = 25


@dataclass
class Exercise:
    """One exercise. `hint`, `check` and `solution` are for the reader, the fields for the bank.

    Attributes:
        name: how a notebook asks for it.
        task: what to do, in Markdown.
        hints: from a nudge to nearly the answer.
        answer: the reference, a function or a value.
        why: what the reference shows, in Markdown.
        mistakes: (wrong answer, one sentence for whoever gives it), the likeliest first.
        case: draws the arguments of one random case; None if the answer is a value.
        observe: what is compared, given the answer and the arguments; by default what the answer returns.
        tolerance: absolute and relative, of the comparison.
    """

    name: str
    task: str
    hints: tuple[str, ...]
    answer: Any
    why: str
    mistakes: tuple[tuple[Any, str], ...] = ()
    case: Callable[[np.random.Generator], tuple] | None = None
    observe: Callable[..., Any] = lambda function, *arguments: function(*arguments)
    tolerance: float = 1e-4
    hints_given: int = 0

    def _repr_markdown_(self) -> str:
        return f"**Exercise `{self.name}`.** {inspect.cleandoc(self.task)}"

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def hint(self) -> None:
        """Show the next hint; after the last one, the last again."""
        self.hints_given = number = min(self.hints_given + 1, len(self.hints))
        display(Markdown(f"*Hint {number} of {len(self.hints)}.* {self.hints[number - 1]}"))

    def solution(self) -> None:
        """Show the reference and why it is right."""
        if callable(self.answer):
            code = textwrap.dedent(inspect.getsource(self.answer)).strip()
        else:
            code = f"{self.name} = {self.answer!r}"
        display(Markdown(f"```python\n{code}\n```\n\n{inspect.cleandoc(self.why)}"))

    def skeleton(self, variable: str) -> str:
        """The cell to be filled in: `...` under a name that no other exercise has; `variable` holds the exercise."""
        if not callable(self.answer):
            return f"{self.name} = ...\n\n{variable}.check({self.name});"
        name = self.answer.__name__
        return f"def {name}{inspect.signature(self.answer)}:\n    return ...\n\n\n{variable}.check({name});"

    def check(self, answer: Any) -> bool:
        """Say whether `answer` is right, and if not, what differs. Never raises on a wrong answer."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                message = self._verdict(answer)
        except _NotAttemptedError:
            display(Message("not attempted yet", "#666666", "…"))
            return False
        except Exception as error:  # whatever a reader's code may raise
            message = f"your answer raised {type(error).__name__}: {error}"
        display(Message(f"not yet: {message}", "#D55E00", "✘") if message else Message("correct", "#009E73", "✔"))
        return message is None

    def _verdict(self, answer: Any) -> str | None:
        """None if `answer` is right, else one sentence."""
        _refuse_ellipsis(answer)
        if self.case is None:
            return self._verdict_on_value(answer)
        name, parameters = self.answer.__name__, inspect.signature(self.answer)
        if not callable(answer):
            return f"{_short(answer)} is no function: write `def {name}{parameters}` and hand over `{name}` itself"

        def attempt(*arguments):
            returned = answer(*arguments)
            _refuse_ellipsis(returned)
            return returned

        cases = [self.case(np.random.default_rng(seed)) for seed in range(CASES)]
        expected = [self.observe(self.answer, *copy.deepcopy(case)) for case in cases]
        given = [self.observe(attempt, *copy.deepcopy(case)) for case in cases]
        failed = [i for i in range(CASES) if not _agree(given[i], expected[i], self.tolerance)]
        if not failed:
            return None
        for wrong, text in self.mistakes:
            as_given = (_agree(one, self.observe(wrong, *copy.deepcopy(case)), self.tolerance)
                        for one, case in zip(given, cases, strict=True))  # fmt: skip
            if all(as_given):
                return text
        first = failed[0]
        arguments = zip(parameters.parameters, cases[first], strict=True)
        case = ", ".join(f"{parameter} = {_short(argument)}" for parameter, argument in arguments)
        return f"for {case} your answer is {_short(given[first])}; expected {_short(expected[first])}"

    def _verdict_on_value(self, answer: Any) -> str | None:
        if isinstance(self.answer, str):
            named = {self.answer: None} | dict(self.mistakes)
            letter = isinstance(answer, str) and answer in named
            return named[answer] if letter else f"{_short(answer)} is none of {', '.join(map(repr, sorted(named)))}"
        fraction = 0 < self.answer < 1
        kind = "a fraction between 0 and 1" if fraction else "a number"
        wanted = f"{kind}, to {math.ceil(-math.log10(self.tolerance))} decimals"
        if callable(answer):
            return f"a value is wanted, not a function: {wanted}"
        if isinstance(answer, str):
            return f"{_short(answer)} is a string; give a number without quotation marks: {wanted}"
        if _agree(answer, self.answer, self.tolerance):
            return None
        if fraction and isinstance(answer, int | float) and not 0 <= answer <= 1:
            return f"{_short(answer)} is not between 0 and 1: give {wanted}, not a percentage"
        named = [text for wrong, text in self.mistakes if _agree(answer, wrong, self.tolerance)]
        return named[0] if named else f"{_short(answer)} is not it (wanted: {wanted}); the exercise's hint() helps"


@dataclass(frozen=True)
class Message:
    """One line: coloured in a notebook, plain in a terminal, never told by colour alone."""

    text: str
    colour: str
    sign: str

    def _repr_html_(self) -> str:
        return f'<span style="color:{self.colour};font-weight:600">{self.sign} {html.escape(self.text)}</span>'

    def __repr__(self) -> str:
        return f"{self.sign} {self.text}"


class _NotAttemptedError(Exception):
    pass


def _refuse_ellipsis(answer: Any) -> None:
    items = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple | list) else [answer]
    if any(item is Ellipsis for item in items):
        raise _NotAttemptedError


def _agree(ours: Any, theirs: Any, tolerance: float) -> bool:
    """Equal numbers, arrays or tensors (NaN equals NaN) of equal shape, or sequences of such, or equal otherwise."""
    if isinstance(theirs, tuple | list) and not all(isinstance(item, int | float) for item in theirs):
        if not isinstance(ours, tuple | list) or len(ours) != len(theirs):
            return False
        return all(_agree(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))
    if theirs is None or isinstance(theirs, str):
        return type(ours) is type(theirs) and ours == theirs
    if isinstance(ours, str):  # numpy would read a number from it
        return False
    try:
        a, b = (np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x, dtype=float) for x in (ours, theirs))
    except (TypeError, ValueError):
        return False
    return a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def _short(value: Any) -> str:
    """A value in at most 160 characters."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        value = np.array2string(value, precision=3, separator=", ", threshold=12).replace("\n", "")
    elif isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, tuple | list):
        value = "(" + ", ".join(_short(item) for item in value) + ")"
    elif isinstance(value, str):
        value = repr(value)
    return textwrap.shorten(str(value), 160, placeholder=" ...")
