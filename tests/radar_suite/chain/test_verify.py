"""The committed records follow from their own scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from radar_suite.chain import exits
from radar_suite.chain.cli import main

FIGURES = Path(__file__).parents[3] / "figures"


@pytest.mark.parametrize("profile", ["cpu", "public"])
def test_a_committed_record_agrees_with_all_that_it_states(profile, tmp_path, capsys):
    code = main(["verify", "--profile", profile, "--runs", str(tmp_path), "--against", str(FIGURES / profile)])
    assert code == exits.OK, capsys.readouterr().out
