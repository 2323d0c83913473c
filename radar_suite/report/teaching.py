"""Sliders of the primer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any


def slider(draw: Callable[..., Any], **ranges: tuple[float, float, float, float]) -> None:
    """Call `draw` whenever a slider moves; `ranges` gives (lowest, highest, step, start) for each of its arguments.

    A slider moves in steps from its lowest value; both ends are moved outwards to the grid that `start` lies on, or it
    would show another number than its start.

    In a run of the whole chain nobody can move anything, so only a line is printed there: the static figure above it
    is what readers of the report see.
    """
    if "RADAR_NOTEBOOK_DIGEST" in os.environ:
        print(f"(open this notebook in JupyterLab to move {', '.join(ranges)})")
        return
    import ipywidgets

    controls = {}
    for name, (low, high, step, start) in ranges.items():
        below, above = math.ceil((start - low) / step - 1e-9), math.ceil((high - start) / step - 1e-9)
        low, high = start - below * step, start + above * step
        controls[name] = ipywidgets.FloatSlider(min=low, max=high, step=step, value=start, continuous_update=False)
    ipywidgets.interact(draw, **controls)
