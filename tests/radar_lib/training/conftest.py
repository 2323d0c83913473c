"""Bars that interrupt."""

import pytest

from radar_lib.training.loop import no_bar


@pytest.fixture
def interrupting():
    """Makes bars that press Ctrl-C after so many units."""

    def bars(after: int, unit: str = "step"):
        left = [after]

        def update(n: int = 1) -> None:
            left[0] -= n
            if left[0] <= 0:
                raise KeyboardInterrupt

        def bar(**about):
            shown = no_bar(**about)
            if about["unit"] == unit:
                shown.update = update
            return shown

        return bar

    return bars
