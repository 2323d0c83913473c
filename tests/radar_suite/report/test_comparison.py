"""Whatever is changed, a number, a score, a verdict or a document, is found and named by file, row and column."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.evidence import Evidence
from radar_lib.files import digest_file, read_json, write_json
from radar_suite.chain import exits
from radar_suite.chain.cli import main
from radar_suite.chain.publish import publish
from radar_suite.report import comparison, record, references, stated, tables
from radar_suite.report.claims import ABOVE, BELOW
from radar_suite.report.row_scores import RowScores, read_row_scores, save_row_scores
from radar_suite.report.workspace import Workspace

ROOT = Path(__file__).parents[3]
QUALITY = {"BCE": 2.0, "BCE w/o Mask": 0.3, "Masked BCE": 2.0, "Masked BCE + Distill": 2.5, references.REFERENCE: 1.0}
NAMES = list(comparison.NOTEBOOKS.values())


def drawn(categories, strength, *, n=600, seed=0, seeds=(1, 2)):
    """Rows and lambdas on posts verified for one risk each; a row is the better the larger its strength."""
    generator = np.random.default_rng(seed)
    truth = np.full((n, len(categories)), -1)
    truth[np.arange(n), np.arange(n) % len(categories)] = generator.random(n) < 0.2

    def logits(strength):
        return (strength * truth + generator.normal(size=truth.shape)).astype(np.float32)

    rows = {row: {seed: logits(value) for seed in seeds} for row, value in strength.items()}
    return RowScores([f"p{i}" for i in range(n)], truth, tuple(categories), rows)


def leave_run(runs, categories=("LQC", "RCS", "FE"), *, posts="p", training="h", **drawing):
    """What notebooks 06 and 07 leave in `runs/own`: files of numbers, scores, manifests, the record of runs."""
    order = [*tables.ROW_ORDER, (references.REFERENCE, references.WORDS)]
    for notebook, strength, results, study in (
        (NAMES[0], {row: QUALITY[row[0]] for row in order}, stated.TableResults, "tables"),
        (NAMES[1], {lam: 1 + lam for lam in (0.0, 0.5, 1.0)}, stated.GridResults, "lambda"),
    ):
        ws = Workspace.open(notebook, {"profile": "own", "runs_dir": str(runs), "device": "cpu", "seed": 1})
        ws.uses(posts=posts, **{training: "scores"})
        scores = drawn(categories, strength, **drawing)
        stated.save_results(ws, results.of(scores, seed=1), about="here")
        save_row_scores(ws, next(n for n, nb in comparison.NOTEBOOKS.items() if nb == notebook), scores, caption="all")
        index = [{"run": "r", "seconds": 1.0, "config": {}, "seed": seed}
                 | ({"lambda": row} if study == "lambda" else {"loss": row[0], "method": row[1]})
                 for row, by_seed in scores.rows.items() for seed in by_seed]  # fmt: skip
        record.enter(ws, study, scores, index)
    return runs / "own"


@pytest.fixture(scope="module", autouse=True)
def few_replicates():
    """What is compared is computed anew in most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radar_suite.report.row_scores.Evidence", partial(Evidence, replicates=100))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, few_replicates):
    """A run, and its record in figures/own."""
    root = tmp_path_factory.mktemp("made")
    run = leave_run(root / "runs")
    publish(run, NAMES, root / "figures" / "own")
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def folder(root):
    return root / "figures" / "own"


@pytest.fixture(scope="module")
def recomputed():
    """What follows from the committed scores, which takes some seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("radar_suite.report.row_scores.Evidence", Evidence)
        files = {}
        for name, (files_of, study) in comparison.SCORES.items():
            texts = files_of(read_row_scores(ROOT / f"figures/cpu/{name}.parquet"), seed=1)
            files[name] = (lambda *_, texts=texts, **__: texts, study)
    return files


@pytest.fixture
def committed(tmp_path, recomputed, monkeypatch):
    """A copy of the committed record with the documents that show it, to spoil."""
    for name in ("figures", "data_cards", "docs", "benchmarks/records"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(comparison, "SCORES", recomputed)
    return tmp_path


def spoil(path, line, column, value):
    """Put a value in one cell of a CSV file; returns the cell's old value."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    old = frame.iloc[line, frame.columns.get_loc(column)]
    frame.iloc[line, frame.columns.get_loc(column)] = value
    path.write_text(frame.to_csv(index=False, lineterminator="\n"))
    return old


def differing(cells):
    return cells[cells["differs"]].drop(columns="differs").to_dict("records")


def test_the_committed_record_follows_from_its_scores_and_all_of_it_is_compared(committed):
    cells = comparison.check_record(committed / "figures/cpu", committed)
    assert differing(cells) == []
    assert len(cells) > (13 + 5) * 16 * 3 + 136 * 10 + 25 * 16 * 3  # tables, intervals, claims' cells, the map


SPOILT = [
    ("table1.csv", 3, "rcs_pr_auc", "99.99", "BCE w/o Mask, Qwen3-VL-2B"),
    ("table2.csv", 0, "avg_apr_at_r95", "1.23", "BCE, Individual Experts"),
    ("intervals.csv", 5, "low", "0.5", "BCE, Individual Experts, RCS, R@P60"),
    ("references.csv", 0, "lqc_pr_auc", "50.00", "Reference, No information"),
    ("claims.csv", 0, "verdict", "another", "Masking beats training without a mask"),
    ("gains.csv", 0, "ours", "77.70", "Masked BCE, Qwen3-VL-4B"),
    ("claim_cells.csv", 1, "p", "0.55", "Masking beats training without a mask, Masked BCE, SigLIP2"),
    ("claim_cells.csv", 1, "note", "doubtful", "Masking beats training without a mask, Masked BCE, SigLIP2"),
    ("lambda_study.csv", 2, "value", "0.1", "lambda 0.0, LQC, APR@R90"),
    ("lambda_claims.csv", -1, "cells", "77", "Any lambda above 0 beats lambda = 0"),
    ("lambda_stability.csv", 0, "excluded above", "77.7", "LQC, APR@R90"),
    ("lambda_claim_cells.csv", 0, "ours", "77.7", "Lambda of 0.5 or more beats lambda = 0, lambda 0.5"),
    ("studies/losses.csv", 0, "difference", "0.25", "Assume negative, LQC, PR-AUC"),
    ("studies/controls.csv", 4, "gain", "9.99", "no teacher, LQC, PR-AUC"),
]
CHANGED = [  # a pattern with one group: the number to change
    ("figures/cpu/table2.tex", "BCE w/o Mask, SigLIP2", "lqc_apr_at_r90", r"SigLIP2 & \D*(\d+\.\d+)"),
    ("README.md", "line ", "distil_cells", r"<!--=distil_cells-->(.*?)<"),
    ("README.md", "line ", "minutes", r"<!--=minutes-->(.*?)<"),
    ("docs/results.md", "found, A larger router", "cells", r"not told from zero \| (\d+) \|"),
    ("docs/results.md", "table1, BCE w/o Mask, SigLIP2", "LQC PR-AUC", r"\| BCE w/o Mask \| SigLIP2 \| \D*(\d+\.\d+)"),
    ("docs/results.md", "forest", "text", r"profile cpu, seed (\d)"),
    ("data_cards/built_in_corpus.md", "counts, train", "posts", r"\| train \| ([\d,]+)"),
    ("data_cards/built_in_corpus.croissant.json", "line ", "text", r'"version": "(.)'),
]


def test_each_changed_number_of_a_file_is_named_with_its_cell(committed):
    folder = committed / "figures/cpu"
    olds = [spoil(folder / file, line, column, value) for file, line, column, value, _ in SPOILT]
    found = differing(comparison.check_record(folder, committed))
    for (file, _, column, value, row), old in zip(SPOILT, olds, strict=True):
        (one,) = [one for one in found if (one["file"], one["column"], one["stated"]) == (file, column, value)]
        assert one["row"].startswith(row)
        assert one["found"] == old or float(one["found"]) == pytest.approx(float(old), abs=0.006)
    files = {file for file, *_ in SPOILT}
    assert len([one for one in found if one["file"] in files]) == len(SPOILT), "and nothing else"
    places = {(one["file"], one["row"], one["column"]) for one in found}
    assert ("table1.tex", SPOILT[0][4], "rcs_pr_auc") in places, "LaTeX is held against the CSV file"
    assert {"docs/results.md", "README.md"} >= {file for file, *_ in places} - files - {"table1.tex", "table2.tex"}


def test_each_changed_number_of_a_text_is_named(committed):
    olds = []
    for file, _, _, pattern in CHANGED:
        text = (committed / file).read_text()
        place = re.search(pattern, text)
        olds.append(place[1])
        (committed / file).write_text(text[: place.start(1)] + "98.76" + text[place.end(1) :])
    found = differing(comparison.check_record(committed / "figures/cpu", committed))
    assert len(found) == len(CHANGED)
    for (file, row, column, _), old in zip(CHANGED, olds, strict=True):
        (one,) = [one for one in found if file.endswith(one["file"])
                  and one["row"].startswith(row) and one["column"] == column]  # fmt: skip
        assert "98.76" in one["stated"] and old in one["found"]


def test_files_that_are_gone_or_not_those_of_the_manifest_are_named(committed):
    record_folder = committed / "figures/cpu"
    (record_folder / "studies/controls_gain.png").unlink()
    (record_folder / "figure2.png").write_bytes(b"another picture")
    (record_folder / "claim_cells.csv").unlink()
    with open(record_folder / "claims.csv", "a") as file:
        file.write("A new claim" + ",1" * 13 + "\n")
    found = differing(comparison.check_record(record_folder, committed))
    named = {(one["file"], one["row"]): one for one in found}
    assert named["studies/controls_gain.png", "studies/controls_gain"]["found"] == comparison.MISSING
    assert named["figure2.png", "figure2"]["column"] == "digest"
    assert named["claim_cells.csv", comparison.WHOLE[0]]["stated"] == comparison.MISSING
    assert named["claims.csv", "A new claim, metric 1"]["found"] == comparison.MISSING


def test_a_folder_that_states_nothing_is_one_clear_error(tmp_path):
    write_json(tmp_path / "figures" / "manifest.json", {"entries": {}, "notebooks": {}})
    with pytest.raises(RadarError, match="enters nothing"):
        comparison.check_folder(tmp_path / "figures", runs=tmp_path / "runs.parquet")
    with pytest.raises(RadarError, match="no notebook has left results"):
        comparison.check_run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n"])
def test_a_damaged_file_is_a_difference_and_no_end_of_the_comparison(tmp_path, content):
    folder = tmp_path / "cpu"
    shutil.copytree(ROOT / "figures/cpu", folder)
    for name in ("test_scores.parquet", "lambda_scores.parquet"):  # recomputed elsewhere, and slowly
        (folder / name).unlink()
    damaged = [*folder.glob("studies/*.csv"), folder / "claims.csv", folder / "table1.tex"]
    for path in damaged:
        path.write_bytes(content)
    found = {one["file"] for one in differing(comparison.check_folder(folder, runs=folder / "runs.parquet"))}
    assert {path.relative_to(folder).as_posix() for path in damaged} <= found


def test_a_text_where_a_number_belongs_is_named_though_no_document_can_show_it(committed):
    spoil(committed / "figures/cpu/references.csv", 0, "lqc_pr_auc", "fifty")
    found = differing(comparison.check_record(committed / "figures/cpu", committed))
    assert [(one["file"], one["column"]) for one in found] == [("references.csv", "lqc_pr_auc"), ("documents", "error")]


def test_a_changed_record_of_runs_is_named(folder):
    lines = pd.read_parquet(folder / record.FILE)
    at = lines.index[(lines["study"] == "tables") & (lines["metric"] == "PR-AUC")][7]
    lines.loc[at, "value"] += 0.01
    lines.to_parquet(folder / record.FILE)
    (one,) = differing(comparison.check_record(folder))
    assert one["row"] == "tables, {row}, seed {seed}, {category}, {metric}".format(**lines.loc[at])


@pytest.mark.parametrize("categories", [("spam",), tuple("ABCDEFG")])
def test_any_number_of_risks_and_seeds(tmp_path, categories):
    run = leave_run(tmp_path, categories, seeds=(1,))
    publish(run, NAMES, tmp_path / "figures" / "own")
    for cells in (comparison.check_record(tmp_path / "figures" / "own"), comparison.check_run(run)):
        assert len(cells) > 1000 and not cells["differs"].any()


def test_scores_that_change_sides_change_the_recomputed_verdict_and_the_file_s_digest(folder):
    claim = "Masking beats training without a mask"
    path = folder / "test_scores.parquet"
    scores = read_row_scores(path)
    for name in ("SigLIP2", "LLaVA-OV-0.5B", "Qwen3-VL-2B"):
        one, other = ("Masked BCE", name), ("BCE w/o Mask", name)
        scores.rows[one], scores.rows[other] = scores.rows[other], scores.rows[one]
    scores.write(path)
    found = {(one["file"], one["row"], one["column"]): one for one in differing(comparison.check_record(folder))}
    one = found["claims.csv", f"{claim}, PR-AUC", "verdict"]
    assert (one["stated"], one["found"]) == (ABOVE, BELOW)
    assert ("test_scores.parquet", "test_scores", "digest") in found


@pytest.mark.parametrize(("text", "differ"), [("1.5", 0), ("1.51", 1), ("", 1), ("nan", 1), ("x", 1)])
def test_numbers_are_compared_as_numbers_and_rows_of_one_name_are_told_apart(text, differ):
    cells = comparison.compare("f", "row,x\na,1.50\na,2\n", f"row,x\na,{text}\na,2\n")
    assert len(cells) == 2 and cells["row"].tolist() == ["a", "a (2)"]
    assert cells["differs"].sum() == differ


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("", "", 0), ("", "x\n1\n", 1), ("row,x\na,1\n", "row,x\nb,1\n", 2), ("x,y\n1\n", "x,y\n1,2,3\n", 1),
     ("x\n1e999\n", "x\n2e999\n", 1), ("x,y\n1,2\n", "x,z\n1,2\n", 2)],
)  # fmt: skip
def test_texts_of_another_shape_are_compared_all_the_same(one, other, count):
    cells = comparison.compare("f", one, other)
    assert cells["differs"].sum() == comparison.compare("f", other, one)["differs"].sum() == count


def test_score_files_of_training_are_held_against_their_digests(root):
    run, path = root / "runs" / "own", root / "runs" / "scores.parquet"
    path.write_bytes(b"scores")
    entry = {"run": "r", "scores_path": path.name, "scores_digest": digest_file(path)}
    write_json(run / "05_router_training" / "routers.json", [entry])
    assert differing(comparison.check_run(run)) == []
    for found in ("other", None):
        path.write_text(found) if found else path.unlink()
        (one,) = differing(comparison.check_run(run))
        assert (one["file"], one["row"], one["column"]) == (path.name, "r", "digest")


def moved(root, points, at=4, **causes):
    """The run's agreement with a record whose cell `at` lies so many points higher, and that has other causes."""
    run, folder = root / "runs" / "own", root / "figures" / "own"
    lines = pd.read_csv(folder / "intervals.csv")
    lines.loc[at, ["value", "low", "high"]] += points / 100
    lines.to_csv(folder / "intervals.csv", index=False)
    manifest = read_json(folder / "manifest.json")
    manifest["entries"]["test_scores"] |= causes
    write_json(folder / "manifest.json", manifest)
    return comparison.agree(run, folder)


def test_equal_causes_must_have_equal_effects(root):
    assert moved(root, 0).disagreements == 0
    found = moved(root, 0.1)
    assert found.other == [] and found.disagreements == 1
    assert differing(found.cells)[0]["row"].startswith("BCE, Individual Experts")


@pytest.mark.parametrize(
    ("causes", "word"),
    [
        ({"device": "CPU, 8 threads"}, "device"),
        ({"versions": {"torch": "3"}}, "versions"),
        ({"inputs": {"posts": "q", "h": "scores"}}, "posts"),
        ({"inputs": {"posts": "p", "i": "scores"}}, "training"),
    ],
)
def test_elsewhere_small_changes_are_counted_and_large_ones_named(root, causes, word):
    found = moved(root, 1, **causes)
    assert found.other == [word] and found.disagreements == 0 and len(found.cells) == 15 * 16
    assert found.cells["points"].dropna().tolist() == pytest.approx([1], abs=0.01)
    found = moved(root, 50, at=7)
    assert found.disagreements == 1 and "APR@R95" in differing(found.cells)[0]["row"]


@pytest.mark.parametrize(("at", "agrees"), [(0.0, True), (0.9, True), (1.1, False), (None, False)])
def test_a_number_agrees_up_to_the_ends_of_the_committed_interval(root, at, agrees):
    """The stated interval is moved until its lower end is at a share of the way to our value; None: there is no end."""
    folder = root / "figures" / "own"
    lines = pd.read_csv(folder / "intervals.csv")
    low = np.nan if at is None else lines.loc[4, "value"] - 0.1 + 0.1 * at
    lines.loc[4, ["value", "low", "high"]] = [low + 0.2, low, low + 0.3] if at is not None else [0.01, low, 1.0]
    lines.to_csv(folder / "intervals.csv", index=False)
    assert (moved(root, 0, code="another").disagreements == 0) == agrees


def test_a_changed_verdict_is_a_disagreement_unless_the_numbers_of_seeds_differ(root, tmp_path):
    folder = root / "figures" / "own"
    spoil(folder / "claims.csv", 0, "verdict", BELOW)
    found = comparison.agree(root / "runs" / "own", folder)
    assert [(one["stated"], one["found"]) for one in differing(found.verdicts)] == [(BELOW, ABOVE)]
    assert found.disagreements == 1
    fewer = leave_run(tmp_path / "fewer", seeds=(1,), training="other")
    found = comparison.agree(fewer, folder)
    assert differing(found.verdicts) and not found.same_seeds
    assert found.disagreements == len(differing(found.cells))


def test_a_cell_that_only_one_has_is_named(root):
    folder = root / "figures" / "own"
    lines = (folder / "intervals.csv").read_text().splitlines(keepends=True)
    (folder / "intervals.csv").write_text("".join(lines[:-1]))
    (one,) = differing(comparison.agree(root / "runs" / "own", folder).cells)
    assert one["stated"] == comparison.MISSING
    (folder / "intervals.csv").unlink()
    with pytest.raises(RadarError, match="radar reproduce"):
        comparison.agree(root / "runs" / "own", folder)


def test_the_command_names_what_differs_also_for_programs_and_ends_with_its_code(root, folder, capsys):
    command = ["verify", "--profile", "own", "--against", str(folder), "--runs", str(root / "runs")]
    assert main(command) == exits.OK
    assert "differ" not in capsys.readouterr().out
    spoil(folder / "table1.csv", 0, "lqc_pr_auc", "12.34")
    assert main(command) == exits.FAILURE
    assert "table1.csv: BCE, Individual Experts; lqc_pr_auc: stated 12.34" in capsys.readouterr().out
    assert main([*command, "--json"]) == exits.FAILURE
    said = json.loads(capsys.readouterr().out)
    cell = {"file": "table1.csv", "row": "BCE, Individual Experts", "column": "lqc_pr_auc", "stated": "12.34"}
    assert cell.items() <= said["differences"][0].items() and said["compared"] > 1000
    assert said["run"]["outside"] == [] and said["run"]["differences"] == []
    assert main(["verify", "--against", str(root / "nowhere")]) == exits.USAGE
    assert "manifest.json" in capsys.readouterr().err
    pd.DataFrame({"post_id": ["a"]}).to_parquet(folder / "test_scores.parquet")
    with pytest.raises(RadarError, match="radar reproduce"):
        comparison.check_record(folder)
