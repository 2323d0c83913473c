"""The committed records follow from their own scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from radar_suite.chain import exits
from radar_suite.chain.cli import main

FIGURES = Path(__file__).parents[3] / "figures"
RECORDS = sorted(path.parent.name for path in FIGURES.glob("*/test_scores.parquet"))


def test_the_default_record_is_there_to_be_verified():
    """Without its scores the test below would have nothing to do. Fails until figures/cpu is committed with them."""
    assert "cpu" in RECORDS, "no figures/cpu/test_scores.parquet: run `make reproduce` and commit figures/cpu"


@pytest.mark.parametrize("profile", RECORDS)
def test_a_committed_record_follows_from_its_scores(profile, tmp_path, capsys):
    code = main(["verify", "--profile", profile, "--runs", str(tmp_path), "--against", str(FIGURES / profile)])
    assert code == exits.OK, capsys.readouterr().out
