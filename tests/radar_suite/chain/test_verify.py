"""The committed records follow from their own scores."""

from __future__ import annotations

import pytest

from radar_suite.chain import exits
from radar_suite.chain.cli import main


@pytest.mark.parametrize("profile", ["cpu", "public"])
def test_a_committed_record_agrees_with_all_that_it_states(profile, tmp_path, capsys):
    code = main(["verify", "--profile", profile, "--runs", str(tmp_path)])
    assert code == exits.OK, capsys.readouterr().out
