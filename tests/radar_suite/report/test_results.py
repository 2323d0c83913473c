"""Documents show the record and nothing typed; what stands between markers comes back."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import read_json, write_json
from radar_suite.report import claims, results

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "figures" / "cpu"


def test_documents_show_the_committed_record():
    for name, text in results.documents(ROOT, RECORD).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, "run `radar results`"


@pytest.mark.parametrize("document", ["README.md", results.RESULTS])
def test_the_figures_that_a_document_shows_exist(document):
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    pictures = [line.split("](")[1].rstrip(")") for line in lines if line.startswith("![")]
    assert pictures and all(((ROOT / document).parent / picture).is_file() for picture in pictures)


@pytest.mark.parametrize("document", ["README.md", results.RESULTS])
def test_a_changed_number_comes_back(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    changed = re.sub(r"(<!--=\w+-->|<!-- generated: \w+ -->\n)", r"\g<1>1", text)
    assert changed != text and results.render(changed, RECORD) == text


def test_a_study_of_other_posts_than_the_tables_says_so(tmp_path):
    manifest = read_json(RECORD / "manifest.json")
    for posts in (manifest["entries"]["table1"]["inputs"]["posts"], "another corpus"):
        manifest["entries"]["studies/phase"]["inputs"]["posts"] = posts
        write_json(tmp_path / "manifest.json", manifest)
        assert ("other posts" in results.caption(tmp_path, "studies/phase")) == (posts == "another corpus")


def test_numbers_in_sentences_are_those_of_the_record():
    numbers, lines = results.numbers(RECORD), pd.read_csv(RECORD / "claims.csv", index_col="claim")
    for name, claim in (("mask", claims.MASKING), ("distil", "Distillation beats its own twin")):
        line = lines.loc[claim]
        assert numbers[name] == f"{line['ours']:+.1f} [{line['low']:+.1f}, {line['high']:+.1f}]"
        assert int(numbers[f"{name}_cells"]) == line["cells"] and int(numbers[f"{name}_above"]) == line[claims.ABOVE]
        assert int(numbers[f"{name}_excluded"]) == line["paper above"] + line["paper below"]
        assert numbers[f"{name}_lies"] == line["paper lies"]
    assert (numbers["mask_paper"], numbers["distil_paper"]) == ("+10.5", "+1.1"), "by hand in the paper's Table 1"
    grid = pd.read_csv(RECORD / "lambda_study.csv").query("category == 'Average' and metric == 'PR-AUC'")
    last, first = (grid.set_index("lambda")["value"].loc[lam] for lam in (float(numbers["lambda_last"]), 0))
    assert numbers["lambda_gain"].startswith(f"{100 * (last - first):+.1f} [")
    ran = read_json(RECORD / "manifest.json")["notebooks"].values()
    assert numbers["minutes"] == f"{sum(one['minutes'] for one in ran):.0f}"
    assert numbers["memory"] == f"{max(one['peak_memory_gib'] for one in ran):.1f}"


def test_a_table_has_every_cell_beside_the_paper_s_and_marks_the_best():
    text, own = results.table(RECORD, 1), pd.read_csv(RECORD / "table1.csv")
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 13 + 2 + 4 and {len(line) for line in lines} == {10}
    paper = pd.read_csv(ROOT / "radar_suite/report/paper/table1.csv")
    for line, ours, theirs in zip(lines[2:15], own.to_numpy(), paper.to_numpy(), strict=True):
        for cell, mine, other in zip(line[2:], ours[2:], theirs[2:], strict=True):
            assert f"{mine:.2f}" in cell and f"({other:.2f})" in cell
    best = own["avg_pr_auc"].idxmax()
    assert f"**{own.loc[best, 'avg_pr_auc']:.2f}**" in lines[2 + best][8]


def test_risks_of_other_names_have_no_numbers_of_the_paper(tmp_path):
    shutil.copytree(RECORD, tmp_path / "own", ignore=shutil.ignore_patterns("*.png", "studies"))
    for file in ("table1.csv", "references.csv"):
        path = tmp_path / "own" / file
        path.write_text(path.read_text().replace("lqc_", "spam_"))
    intervals = pd.read_csv(tmp_path / "own/intervals.csv").replace({"category": {"LQC": "spam"}})
    intervals.to_csv(tmp_path / "own/intervals.csv", index=False)
    line = results.table(tmp_path / "own", 1).splitlines()[4].split("|")
    assert "(" not in line[3] and "(" in line[5]


@pytest.mark.parametrize("text", ["<!-- generated: {} -->\n<!-- end -->", "of <!--={}-->5<!--/--> cells"])
def test_unknown_parts_and_missing_records_are_named(tmp_path, text):
    with pytest.raises(RadarError, match="'nonsense'; known are"):
        results.render(text.format("nonsense"), RECORD)
    with pytest.raises(RadarError, match="make reproduce"):
        results.render(text.format("table1" if "generated" in text else "minutes"), tmp_path)
    with pytest.raises(RadarError, match="no end"):
        results.render("of <!--=distil_cells-->5 cells, <!--=distil_below-->0<!--/--> below", RECORD)


def test_sizes_named_in_prose_are_those_of_the_stand_ins():
    records = (ROOT / "radar_suite/world/standins").glob("*/record.json")
    sizes = [read_json(path)["parameters"] / 1e6 for path in records]
    said = f"{min(sizes):.1f} to {max(sizes):.1f} million parameters"
    written = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert any("million parameters" in text for text in texts)
    assert all(said in text for text in texts if "million parameters" in text)
