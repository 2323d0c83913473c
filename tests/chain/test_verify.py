"""The committed records follow from their own scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from radar_lib.chain import exits
from radar_lib.chain.cli import main

FIGURES = Path(__file__).parents[2] / "figures"
RECORDS = sorted(path.parent.name for path in FIGURES.glob("*/test_scores.parquet"))


@pytest.mark.parametrize("profile", RECORDS)
def test_a_committed_record_follows_from_its_scores(profile, tmp_path, capsys):
    code = main(["verify", "--profile", profile, "--runs", str(tmp_path), "--against", str(FIGURES / profile)])
    assert code == exits.OK, capsys.readouterr().out
