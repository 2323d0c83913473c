"""README's numbers are the recorded run's, not typed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.report import readme

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "figures" / "cpu"


@pytest.mark.parametrize("document", readme.DOCUMENTS)
def test_documents_show_the_committed_record(document):
    text, parts = (ROOT / document).read_text(encoding="utf-8"), readme.DOCUMENTS[document]
    assert readme.render(text, RECORD, parts) == text, "run `make readme`"
    for name in parts:
        assert f"<!-- generated: {name} -->" in text


def test_the_committed_figures_that_readme_shows_exist():
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("!["):
            assert (ROOT / line.split("](")[1].rstrip(")")).is_file(), line


def test_a_changed_number_comes_back(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(text.replace("Individual Experts", "Somebody"), encoding="utf-8")
    assert readme.update(tmp_path / "README.md", RECORD)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text
    assert not readme.update(tmp_path / "README.md", RECORD)


def test_the_pattern_counts_the_cells_that_improve(tmp_path):
    text = readme.pattern(RECORD)
    # Counted by hand in the paper's tables: SigLIP2's FE R@P60 is the one cell that the mask makes worse.
    assert "35 of 36 | +10.80" in text and "31 of 36 | +1.00" in text
    rows = "BCE w/o Mask,S,50,0\nMasked BCE,S,53,9\nMasked BCE,T,40,9\nMasked BCE + Distill,T,38,0\n"
    for number in (1, 2):
        (tmp_path / f"table{number}.csv").write_text(f"loss,method,a_{number},avg_{number}\n{rows}")
    mask, distill = readme.pattern(tmp_path).splitlines()[2:]
    assert "| 2 of 2 | +3.00 |" in mask and "| 0 of 2 | -2.00 |" in distill


def test_the_answer_before_the_tables_is_that_of_the_claims():
    text, verdicts = readme.found(RECORD), pd.read_csv(RECORD / "claims.csv")
    masks = verdicts[verdicts["claim"].str.startswith("Mask")]
    assert f"- Mask: {masks['hold'].sum()} of {masks['cells'].sum()} comparisons hold" in text
    assert "(paper +10.8)" in text and f"in {masks['paper above'].astype(int).sum()} of 48 cells" in text


def test_the_sentence_on_recipes_is_that_of_the_record():
    text, found = readme.recipes(RECORD), read_json(ROOT / "benchmarks/records/recipes.json")
    used = next(line for line in found["lines"] if line["recipe"] == found["used"])
    best = max((line for line in found["lines"] if line["recipe"].startswith("rate") and line is not used),
               key=lambda line: line["average"])  # fmt: skip
    assert f"reaches {used['average']:.1f} average PR-AUC" in text and f"({best['recipe']})" in text
    assert f"{best['difference']:+.1f} points" in text


def test_unknown_parts_and_missing_records_are_named(tmp_path):
    with pytest.raises(RadarError, match="'nonsense'; known are found"):
        readme.render("<!-- generated: nonsense -->\n<!-- end -->", RECORD)
    with pytest.raises(RadarError, match="make reproduce"):
        readme.render("<!-- generated: table1 -->\n<!-- end -->", tmp_path)


def test_sizes_named_in_prose_are_those_of_the_stand_ins_and_the_default_profile():
    records = (ROOT / "radar_suite/world/standins").glob("*/record.json")
    sizes = [read_json(path)["parameters"] / 1e6 for path in records]
    said = f"{min(sizes):.1f} to {max(sizes):.1f} million parameters"
    written = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in written}
    assert sum("million parameters" in text for text in texts.values()) >= 4
    assert all(said in text for text in texts.values() if "million parameters" in text)
    profile = yaml.safe_load((ROOT / "notebooks/profiles/cpu.yaml").read_text(encoding="utf-8"))
    assert f"With {profile['test_positives']} violating test posts a risk" in texts["README.md"]
