"""The committed record of real posts follows from its scores; that of the default profile: report/test_comparison."""

from radar_suite.chain import exits
from radar_suite.chain.cli import main


def test_a_committed_record_agrees_with_all_that_it_states(tmp_path, capsys):
    code = main(["verify", "--profile", "public", "--runs", str(tmp_path)])
    assert code == exits.OK, capsys.readouterr().out
