"""Whatever is changed, a number, a score or a verdict, is found and named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radar_lib.evidence import Evidence
from radar_lib.files import digest_file, read_json, write_json
from radar_lib.training.scores import write_scores
from radar_suite.chain import exits
from radar_suite.chain.cli import main
from radar_suite.report import record, references, tables, verify
from radar_suite.report.claims import FAILS, HOLDS
from radar_suite.report.row_scores import RowScores, read_row_scores, save_row_scores
from radar_suite.report.stated import above_chance, beside_paper, grid_files, table_files
from radar_suite.report.workspace import Workspace, records

CAPTIONS = {"table1": "Risk detection (%)", "table2": "Traffic (%)"}
QUALITY = {"BCE": 2.0, "BCE w/o Mask": 0.3, "Masked BCE": 2.0, "Masked BCE + Distill": 2.5, references.REFERENCE: 1.0}


def drawn(categories, strength, *, n=600, seed=0):
    """Rows and lambdas on posts verified for one risk each; a row is the better the larger its strength."""
    generator = np.random.default_rng(seed)
    truth = np.full((n, len(categories)), -1)
    truth[np.arange(n), np.arange(n) % len(categories)] = generator.random(n) < 0.2

    def logits(strength):
        return (strength * truth + generator.normal(size=truth.shape)).astype(np.float32)

    rows = {row: {seed: logits(value) for seed in (1, 2)} for row, value in strength.items()}
    return RowScores([f"p{i}" for i in range(n)], truth, tuple(categories), rows)


def write_record(runs: Path, profile: str, categories, *, seed=0) -> Path:
    """What notebooks 06 and 07 leave in their folders, published into one: files, scores, stamps, record of runs."""
    order = [*tables.ROW_ORDER, (references.REFERENCE, references.WORDS)]
    scores = {
        verify.TABLES: drawn(categories, {row: QUALITY[row[0]] for row in order}, seed=seed),
        verify.GRID: drawn(categories, {lam: 1 + lam for lam in (0.0, 0.5, 1.0)}, seed=seed),
    }
    ws = Workspace.open("both", runs_dir=runs, profile=profile, seed=1, device="cpu")
    ws.uses(posts=f"posts of {seed}")
    for number, caption in enumerate(CAPTIONS.values(), start=1):
        ws.save_table(f"table{number}", {}, caption=caption)
    files = table_files(scores[verify.TABLES], seed=1, captions=CAPTIONS) | grid_files(scores[verify.GRID], seed=1)
    for file, text in files.items():
        ws.path(f"figures/{file}").write_text(text)
    for (name, one), study in zip(scores.items(), ("tables", "lambda"), strict=True):
        save_row_scores(ws, name, one, caption="scores")
        index = [{"run": "r", "seconds": 1.0, "config": {}, "seed": seed}
                 | ({"lambda": row} if study == "lambda" else {"loss": row[0], "method": row[1]})
                 for row, runs in one.rows.items() for seed in runs]  # fmt: skip
        path = record.enter(ws, study, one, index)
    (ws.path("figures") / record.FILE).write_bytes(path.read_bytes())
    return ws.path("figures")


@pytest.fixture(scope="module", autouse=True)
def few_replicates():
    """What is compared is computed anew in most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radar_suite.report.row_scores.Evidence", partial(Evidence, replicates=100))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, few_replicates):
    return write_record(tmp_path_factory.mktemp("made"), "cpu", ("LQC", "RCS", "FE"))


@pytest.fixture
def folder(made, tmp_path):
    """A copy to spoil."""
    target = tmp_path / "figures"
    target.mkdir()
    for path in made.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def check(folder):
    runs = folder / record.FILE
    found = [verify.check_folder(folder, name, record=runs) for name in (verify.TABLES, verify.GRID)]
    return [one for part, _ in found for one in part], sum(count for _, count in found)


def test_what_follows_from_the_scores_agrees_and_all_of_it_is_compared(folder):
    found, compared = check(folder)
    assert found == []
    rows, metrics = 13 + 2, 4 * 4
    assert compared > rows * metrics * 3 + 136 * 10  # tables, their intervals, and the claims' cells


def spoil(path, line, column, value):
    """Put a value in one cell of a CSV file; returns the cell's old value."""
    lines = path.read_text().splitlines()
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    old = frame.iloc[line, frame.columns.get_loc(column)]
    frame.iloc[line, frame.columns.get_loc(column)] = value
    path.write_text(frame.to_csv(index=False, lineterminator="\n"))
    assert len(path.read_text().splitlines()) == len(lines)
    return old


@pytest.mark.parametrize(
    ("file", "line", "column", "value", "row"),
    [
        ("table1.csv", 3, "rcs_pr_auc", "99.99", "BCE w/o Mask, Qwen3-VL-2B"),
        ("table2.csv", 0, "avg_apr_at_r95", "1.23", "BCE, Individual Experts"),
        ("intervals.csv", 5, "low", "0.5", "BCE, Individual Experts, RCS, R@P60"),
        ("references.csv", 0, "lqc_pr_auc", "50.00", "Reference, No information"),
        ("claims.csv", 0, "verdict", "inconclusive", "Masking beats training without a mask"),
        ("claim_cells.csv", 1, "p", "0.5", "Masking beats training without a mask, Masked BCE, SigLIP2"),
        ("claim_cells.csv", 1, "note", "doubtful", "Masking beats training without a mask, Masked BCE, SigLIP2"),
        ("lambda_study.csv", 2, "value", "0.1", "LQC, APR@R90"),
        ("lambda_claims.csv", -1, "hold", "6", "APR is stable from a small lambda on"),
        ("lambda_claim_cells.csv", 0, "ours", "77.7", "Lambda of 0.5 or more beats lambda = 0, lambda 0.5"),
    ],
)
def test_a_changed_number_is_named_with_its_cell(folder, file, line, column, value, row):
    old = spoil(folder / file, line, column, value)
    (one,) = check(folder)[0]
    assert (one.file, one.column, one.stated, one.found) == (file, column, value, old)
    assert one.row.startswith(row) and str(one) == f"{file}: {one.row}; {column}: stated {value}, recomputed {old}"


@pytest.mark.parametrize("file", ["table1.md", "table2.tex", "claims.md", "lambda_claims.md"])
def test_a_changed_number_in_a_text_is_named(folder, file):
    text = (folder / file).read_text()
    digit = max(i for i, c in enumerate(text) if c.isdigit())
    (folder / file).write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    assert {one.file for one in check(folder)[0]} == {file}


def test_a_changed_record_of_runs_is_named(folder):
    lines = pd.read_parquet(folder / record.FILE)
    at = lines.index[(lines["study"] == "tables") & (lines["metric"] == "PR-AUC")][7]
    lines.loc[at, "value"] += 0.01
    lines.to_parquet(folder / record.FILE)
    (one,) = check(folder)[0]
    about = lines.loc[at]
    assert one.row == f"tables, {about['row']}, seed {about['seed']}, {about['category']}"


def test_lines_and_files_that_are_gone_or_too_many_are_named(folder):
    path = folder / "table1.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[-1].replace("Qwen3-VL-4B", "Another")]))
    (folder / "claims.csv").unlink()
    found = check(folder)[0]
    assert {(one.file, one.row) for one in found} == {
        ("table1.csv", "Masked BCE + Distill, Qwen3-VL-4B"), ("table1.csv", "Masked BCE + Distill, Another"),
        ("claims.csv", "the whole file"),
    }  # fmt: skip


def swap(folder, one, other):
    """Give each of two rows the other's scores, and update the file's digest."""
    path = folder / f"{verify.TABLES}.parquet"
    scores = read_row_scores(path)
    scores.rows[one], scores.rows[other] = scores.rows[other], scores.rows[one]
    scores.write(path)
    stamp = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), stamp | {"digest": digest_file(path)})


def test_scores_that_change_sides_change_the_recomputed_verdict(folder):
    claim = "Masking beats training without a mask"
    verdicts = pd.read_csv(folder / "claims.csv").set_index("claim")["verdict"]
    assert verdicts[claim] == HOLDS
    for name in ("SigLIP2", "LLaVA-OV-0.5B", "Qwen3-VL-2B"):
        swap(folder, ("Masked BCE", name), ("BCE w/o Mask", name))
    found = {(one.file, one.row, one.column): one for one in check(folder)[0]}
    one = found["claims.csv", claim, "verdict"]
    assert (one.stated, one.found) == (HOLDS, FAILS)
    assert not any(file.endswith(".parquet") and column == "digest" for file, _, column in found)


def test_scores_that_are_not_those_of_the_stamp_are_named(folder):
    path = folder / f"{verify.TABLES}.parquet"
    read_row_scores(path).only(lambda row: not references.is_reference(row)).write(path)
    assert verify.check_folder(folder, verify.TABLES)[0][0].column == "digest"


def test_numbers_are_compared_as_numbers_and_equal_names_are_counted():
    one = verify.cells_of("row,x\na,1.50\na,2\n", ".csv")
    assert one == {("a", "row"): "a", ("a", "x"): "1.50", ("a (2)", "row"): "a", ("a (2)", "x"): "2"}
    assert verify.differences("f", one, {**one, ("a", "x"): "1.5"}) == []
    assert len(verify.differences("f", one, {**one, ("a", "x"): "1.51"})) == 1
    text = verify.cells_of("First\n\n| row | x |\n| --- | ---: |\n| a | **2.0** (3.0) |\n", ".md")
    assert text == {("line 1", "text"): "First", ("a", "row"): "a", ("a", "x"): "**2.0** (3.0)"}


def results_json(folder):
    """What notebook 06 writes to results.json, from its scores."""
    scores = read_row_scores(folder / f"{verify.TABLES}.parquet").only(lambda row: not references.is_reference(row))
    frame = tables.with_intervals(tables.results_of(scores), scores.evidence(seed=1))
    return json.loads(json.dumps({"rows": records(frame), "learned": records(above_chance(frame)),
                                  "beside_paper": records(beside_paper(frame))}))  # fmt: skip


def test_all_parts_of_the_results_are_held_against_the_scores(made):
    scores = read_row_scores(made / f"{verify.TABLES}.parquet")
    expected = table_files(scores, seed=1, captions=CAPTIONS)
    stated = results_json(made)
    assert len(stated["learned"]) == 10 * 3 and len(stated["beside_paper"]) == 13 * 16
    assert verify.check_json("results.json", stated, expected) == []
    for part, column, value in (("learned", "verdict", "no"), ("beside_paper", "difference", 0.12), ("rows", "low", 0)):
        spoilt = {**stated, part: [{**stated[part][0], column: value}, *stated[part][1:]]}
        found = verify.check_json("results.json", spoilt, expected)
        assert (found[0].column, found[0].stated) == (column, str(value))
    gone = verify.check_json("results.json", {"rows": stated["rows"]}, expected)
    assert {one.file for one in gone} == {"results.json, learned", "results.json, beside_paper"}


def test_score_files_are_held_against_their_digests_and_the_compact_file_against_them(tmp_path):
    scores = drawn(("A", "B"), {("Masked BCE", "x"): 1.0})
    index = []
    for seed, logits in scores.rows["Masked BCE", "x"].items():
        path = tmp_path / f"{seed}.parquet"
        write_scores(path, post_ids=scores.post_ids, splits=["test"] * 600, logits=logits, categories="AB")
        about = {"loss": "Masked BCE", "method": "x", "seed": seed}
        index.append(about | {"scores_path": path.name, "scores_digest": digest_file(path)})
    assert verify.check_scores(tmp_path, index, scores) == []
    frame = pd.read_parquet(tmp_path / "2.parquet")
    frame.loc[0, "logit_A"] += 1
    frame.to_parquet(tmp_path / "2.parquet")
    digest, logits = verify.check_scores(tmp_path, index, scores)
    assert (digest.file, digest.column, digest.row) == ("2.parquet", "digest", "Masked BCE, x, seed 2")
    assert (logits.column, logits.stated) == ("A logits", "1 of 300")
    (tmp_path / "1.parquet").unlink()
    assert verify.MISSING in [one.found for one in verify.check_scores(tmp_path, index, scores)]


@pytest.mark.parametrize("categories", [("spam",), tuple("ABCDEFG")])
def test_any_number_of_risks(tmp_path, categories):
    folder = write_record(tmp_path, "own", categories)
    assert check(folder)[0] == []


def test_the_command_says_what_differs_and_ends_with_its_code(made, folder, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    command = ["verify", "--against", str(folder), "--runs", str(tmp_path / "runs")]
    assert main(command) == exits.OK
    said = capsys.readouterr().out
    assert "cells recomputed from its scores: all agree" in said and "no finished run" in said
    spoil(folder / "table1.csv", 0, "lqc_pr_auc", "12.34")
    assert main(command) == exits.FAILURE
    assert "table1.csv: BCE, Individual Experts; lqc_pr_auc: stated 12.34" in capsys.readouterr().out
    assert main([*command[:1], "--against", str(tmp_path / "nowhere")]) == exits.USAGE
    assert "holds no test_scores.parquet" in capsys.readouterr().err
