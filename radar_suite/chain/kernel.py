"""A notebook's kernel, warmed up: ipykernel, after the notebook's own imports have been run once in an empty namespace.

The user's namespace stays empty, so a notebook that forgets an import still fails; what is imported is only quicker.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
from collections.abc import Iterable

WARM_UP = "RADAR_WARM_UP"  # environment variable: import statements, one a line


def imports_of(sources: Iterable[str]) -> str:
    """The import statements at the top level of some cells, one a line."""
    found = []
    for source in sources:
        with contextlib.suppress(SyntaxError):  # a cell with magics
            nodes = ast.parse(source).body
            found += [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(dict.fromkeys(found))


def main() -> None:
    """What kernel.json starts in place of `ipykernel_launcher`."""
    from ipykernel.kernelapp import IPKernelApp

    statements = os.environ.pop(WARM_UP, "").splitlines()
    app = IPKernelApp.instance()
    app.initialize()  # binds the ports that were chosen for it, before anybody else does
    for statement in statements:
        with contextlib.suppress(Exception):  # the notebook itself will say what is wrong
            exec(statement, {})
    if "radar_lib.models.backbones" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["radar_lib.models.backbones"].warm_up()
    app.start()


if __name__ == "__main__":
    main()
