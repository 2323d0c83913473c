"""A notice stands where its condition holds, and nowhere else; the condition is about the numbers, not the words."""

from __future__ import annotations

import pandas as pd
import pytest

from radar_lib.evidence import AREA, AVERAGE
from radar_suite.report import notices
from radar_suite.report.claims import ABOVE, UNTESTABLE
from radar_suite.report.references import CHANCE, ORACLE, PROBE, REFERENCE, WORDS


def results(**references):
    """Two trained rows, the better one at 48 %, and reference rows by short name."""
    names = {"chance": CHANCE, "words": WORDS, "probe": PROBE, "oracle": ORACLE}
    rows = [("BCE", "Individual Experts", 0.41), ("Masked BCE", "Gemma3-4B", 0.48)]
    rows += [(REFERENCE, names[name], value) for name, value in references.items()]
    lines = [{"loss": loss, "method": method, "category": category, "metric": metric, "value": value,
              "low": value - 0.02, "high": value + 0.02}
             for loss, method, value in rows for category, metric in ((AVERAGE, AREA), ("A", AREA), (AVERAGE, "R@P60"))]
    return pd.DataFrame(lines)  # fmt: skip


def test_a_reference_above_every_trained_row_is_named_with_the_row_that_it_beats():
    lines = notices.ahead(results(chance=0.05, words=0.65, probe=0.49, oracle=0.9))
    assert lines["method"].tolist() == [WORDS, PROBE, "Gemma3-4B"] and lines["value"].tolist() == [0.65, 0.49, 0.48]
    (headline,) = notices.headlines(results(words=0.65, probe=0.66))
    assert notices.BEATEN[WORDS].title in headline and "65.0 [63.0, 67.0]" in headline and "48.0" in headline


@pytest.mark.parametrize("references", [{}, {"words": 0.48}, {"chance": 0.05, "oracle": 0.9}, {"words": float("nan")}])
def test_no_headline_where_a_trained_row_is_as_good_as_any_reference_but_the_oracle(references):
    assert not notices.headlines(results(**references)) and not len(notices.ahead(results(**references)))


def test_a_run_says_that_its_mask_could_not_be_tested():
    verdicts = pd.DataFrame({"verdict": [ABOVE, UNTESTABLE]})
    (one,) = notices.of_run(results(), verdicts)
    assert notices.NOTHING_TO_MASK.title in one
    assert not notices.of_run(results(), verdicts[:1]) and not notices.of_run(None, None)
    assert len(notices.of_run(results(words=0.65), verdicts)) == 2


def test_what_a_notice_shows_is_escaped():
    odd = results(words=0.65).replace("Gemma3-4B", "<script>")
    assert "<script>" not in notices.headlines(odd)[0]
