"""A notebook's kernel: ipykernel that first imports what the notebook will, so that waiting for its turn is of use.

The user's namespace stays empty, so a notebook that forgets an import still fails; what is imported is only quicker.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module

IMPORTS = "RADAR_IMPORTS"  # environment variable: modules, with spaces between


def main() -> None:
    """What kernel.json starts in place of `ipykernel_launcher`."""
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize()  # binds the ports that were chosen for it, before anybody else does
    for module in os.environ.pop(IMPORTS, "").split():
        with suppress(Exception):  # the notebook itself will say what is wrong
            import_module(module)
    if "radar_lib.models.router" in sys.modules:  # which imports these at the first router
        with suppress(Exception):
            import_module("peft")
            import_module("transformers.models.auto.modeling_auto")
    app.start()


if __name__ == "__main__":
    main()
