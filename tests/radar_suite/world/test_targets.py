"""The declared targets are met, and measured as they should be."""

import numpy as np
import pytest

from radar_suite.chain import cli, exits
from radar_suite.world.targets import weighted_to


def test_every_declared_target_is_met(capsys):
    assert cli.main(["corpus", "targets"]) == exits.OK
    out = capsys.readouterr().out
    assert "NOT MET" not in out and out.count("met") == 29 and "oracle" in out


def test_weights_give_the_wanted_prevalence():
    truth = np.array([True, False, False, True, False])
    weight = weighted_to(truth, 0.1)
    assert weight[truth].sum() / weight.sum() == pytest.approx(0.1) and weight.sum() == pytest.approx(5)
