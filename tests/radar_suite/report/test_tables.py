"""Tables from scores: the paper's numbers as the oracle of layout and marks, hand-made scores for the arithmetic."""

import io
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import write_corpus
from radar_lib.errors import RadarError
from radar_lib.files import digest_file
from radar_lib.metrics import DegenerateWarning
from radar_lib.training.scores import write_scores
from radar_suite.report import claims, stated, tables
from radar_suite.report.experiments import EXPERTS, ROUTER_ROWS, TABLE_ROWS

# What the paper underlines (second best), read off its Tables 1 and 2; the bold ones are the column maxima.
UNDERLINED = {
    1: {("LQC", "PR-AUC"): 82.57, ("LQC", "R@P60"): 81.06, ("RCS", "R@P60"): 72.53, ("FE", "PR-AUC"): 61.10,
        ("FE", "R@P60"): 54.55, ("Average", "PR-AUC"): 71.52, ("Average", "R@P60"): 70.35},
    2: {("LQC", "APR@R90"): 89.02, ("LQC", "APR@R95"): 78.92, ("RCS", "APR@R90"): 88.34, ("RCS", "APR@R95"): 83.96,
        ("FE", "APR@R90"): 86.31, ("FE", "APR@R95"): 75.25, ("Average", "APR@R90"): 88.07,
        ("Average", "APR@R95"): 79.38},
}  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """Thirteen rows of random scores on a corpus of two risks, each test post verified for one of them."""
    random = np.random.default_rng(0)
    rows = [{"post_id": f"p{i}", "split": split, "pipeline": "AB"[i % 2], f"label_{'AB'[i % 2]}": int(i % 7 < 2)}
            for split, numbers in (("train", range(20)), ("test", range(100, 160))) for i in numbers]  # fmt: skip
    posts = write_corpus(tmp_path / "posts", rows, name="toy", kind="imported", categories=("A", "B"))
    ids = posts.table("test")["post_id"].tolist()
    index = []
    runs = [*(("BCE", EXPERTS, c) for c in "AB"), *((r.loss, r.method, None) for r in ROUTER_ROWS)]
    for number, (loss, method, own) in enumerate(runs):
        categories = (own,) if own else ("A", "B")
        path = tmp_path / f"{number}.parquet"
        logits = random.normal(size=(60, len(categories))).round(1)
        write_scores(path, post_ids=ids, splits=["test"] * 60, logits=logits, categories=categories)
        index.append({"loss": loss, "method": method, "seed": 1, "scores_path": path.name})
    return posts, index, tmp_path


def with_digests(index, runs_dir):
    return [{"scores_digest": digest_file(runs_dir / entry["scores_path"])} | entry for entry in index]


def results(index, posts, runs_dir, *, intervals=False):
    scores = tables.row_scores(with_digests(index, runs_dir), posts, runs_dir=runs_dir)
    frame = tables.results(scores)
    return tables.with_intervals(frame, scores.evidence(seed=1)) if intervals else frame


def test_every_row_is_scored_and_experts_join_into_one(world):
    posts, index, runs_dir = world
    frame = results(index, posts, runs_dir)
    assert len(frame) == 13 * 3 * 4
    table = tables.wide(frame, 1)
    assert list(table.index) == [(row.loss, row.method) for row in TABLE_ROWS]
    assert table.notna().all().all()
    assert np.allclose(table[("Average", "PR-AUC")], table[[("A", "PR-AUC"), ("B", "PR-AUC")]].mean(axis=1), atol=0.011)
    assert frame.query("category == 'A'")["posts"].unique().tolist() == [30.0]


def test_scores_that_are_not_what_their_run_left_are_refused(world):
    posts, index, runs_dir = world
    index = [entry | {"scores_digest": digest_file(runs_dir / entry["scores_path"])} for entry in index]
    assert len(results(index, posts, runs_dir)) == 13 * 3 * 4
    path = runs_dir / index[-1]["scores_path"]
    frame = pd.read_parquet(path)
    frame.assign(logit_A=-frame["logit_A"]).to_parquet(path, index=False)
    with pytest.raises(RadarError, match="is not what was written"):
        results(index, posts, runs_dir)


def test_with_several_seeds_cells_are_means_with_their_spread(world):
    posts, index, runs_dir = world
    # the scores of another row stand for the same row at another seed
    other = [{**entry, "seed": 2, "scores_path": index[-1]["scores_path"]} for entry in index]
    one, two = (results(part, posts, runs_dir) for part in (index, other))
    both = results(other + index, posts, runs_dir)
    assert "sd" not in one and list(both.columns) == [*one.columns[:5], "sd", *one.columns[5:]]
    assert np.allclose(both["value"], (one["value"] + two["value"]) / 2)
    assert np.allclose(both["sd"], (one["value"] - two["value"]).abs() / np.sqrt(2))

    table, spread = tables.wide(both, 1), tables.wide(both, 1, "sd")
    cell = f"{table.iloc[1, 0]:.2f} ± {spread.iloc[1, 0]:.2f}"
    assert tables.cell_texts(table, spread=spread).iloc[1, 0] == cell
    assert cell.replace("±", "$\\pm$") in tables.to_latex(table, caption="c", label="l", spread=spread)
    mean = results(other + index, posts, runs_dir, intervals=True)
    area = mean[mean["metric"] == "PR-AUC"]
    assert (area["low"] < area["value"]).all() and (area["value"] < area["high"]).all()  # about the mean itself
    wider = mean[mean["low"].notna()]
    assert (wider["both_low"] <= wider["low"] + 1e-9).all() and (wider["both_high"] >= wider["high"] - 1e-9).all()
    assert {"seeds_low", "seeds_high"} <= set(mean)
    small = (mean["metric"] == "R@P60") & (mean["value"] < 0.1)
    assert ((mean["note"] != "") == small).all()


def test_each_cell_shows_its_interval_and_says_where_it_promises_nothing(world):
    posts, index, runs_dir = world
    frame = results(index, posts, runs_dir, intervals=True)
    table = tables.interval_table(frame, 1).set_index(["Loss", "Method"])
    cells = {(*row, column): table.loc[row, column] for row in table.index for column in table}
    shown = frame[frame["metric"].isin(tables.TABLES[1])]
    assert len(cells) == len(shown) == len(TABLE_ROWS) * 3 * 2
    for one in shown.itertuples():
        text = f"{100 * one.value:.1f}"
        text += "" if np.isnan(one.low) else f" [{100 * one.low:.1f}, {100 * one.high:.1f}]"
        assert cells[one.loss, one.method, f"{one.category} {one.metric}"] == text + ("°" if one.note else "")
    assert any("°" in cell for cell in cells.values()) and not all("°" in cell for cell in cells.values())


def test_a_missing_row_or_risk_is_named(world):
    posts, index, runs_dir = world
    with pytest.raises(RadarError, match="Gemma3-4B"):
        results([e for e in index if e["method"] != "Gemma3-4B"], posts, runs_dir)
    with pytest.raises(RadarError, match="no scores for B"):
        results(index[:1] + index[2:], posts, runs_dir)


def perfect_and_constant(world):
    """Index entries whose masked rows are a perfect SigLIP2 and three routers that say the same of every post."""
    posts, index, runs_dir = world
    test = posts.table("test")
    truth = test[["label_A", "label_B"]].to_numpy()
    ids = test["post_id"].tolist()
    options = {"post_ids": ids, "splits": ["test"] * 60, "categories": ("A", "B")}
    write_scores(runs_dir / "perfect.parquet", logits=truth + 0.5, **options)
    write_scores(runs_dir / "constant.parquet", logits=np.zeros((60, 2)), **options)
    index = [dict(entry) for entry in index]
    for entry in index:
        if entry["loss"] == "Masked BCE":
            entry["scores_path"] = "perfect.parquet" if entry["method"] == "SigLIP2" else "constant.parquet"
    return index, posts, runs_dir


def test_chance_is_not_called_learning_and_a_perfect_model_is(world):
    index, posts, runs_dir = perfect_and_constant(world)
    with pytest.warns(DegenerateWarning, match="all scores are equal"):
        learned = tables.above_chance(results(index, posts, runs_dir, intervals=True))
    learned = learned[learned["loss"] == "Masked BCE"]
    by_method = (learned["verdict"] == "above chance").groupby(learned["method"]).all()
    assert by_method["SigLIP2"] and not by_method.drop("SigLIP2").any()


def test_what_a_constant_router_states_is_a_dash_and_never_decides_a_claim(world):
    index, posts, runs_dir = perfect_and_constant(world)
    scores = tables.row_scores(with_digests(index, runs_dir), posts, runs_dir=runs_dir)
    with pytest.warns(DegenerateWarning, match="all scores are equal"):
        texts = stated.table_files(scores, seed=1)
    for line in texts["table1.csv"].splitlines() + texts["table2.csv"].splitlines():
        if line.startswith("Masked BCE,") and "SigLIP2" not in line:
            assert not line.split(",", 2)[2].strip(",")
    assert "nan" not in "".join(texts.values())
    cells = pd.read_csv(io.StringIO(texts["claim_cells.csv"]))
    constant = cells["row"].str.startswith("Masked BCE, ") & ~cells["row"].str.contains("SigLIP2")
    assert constant.any() and (cells[constant]["verdict"] == claims.OPEN).all()
    assert cells[constant]["ours"].isna().all() and (cells[constant]["p"] == 1).all()


@pytest.mark.parametrize("number", [1, 2])
def test_the_papers_tables_come_out_as_the_paper_has_them(number):
    table = tables.wide(tables.paper_results(), number)
    printed = (files("radar_suite.report") / f"paper/table{number}.csv").read_text("utf-8")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(tables.to_csv(table))), pd.read_csv(io.StringIO(printed)))
    marks = tables.marks(table)
    for column, value in UNDERLINED[number].items():
        second = table[column][(marks[column] == "second").to_numpy()]
        assert second.tolist() == [value], column
    assert (marks == "best").sum().tolist() == [1] * 8


def test_latex_has_the_papers_bold_and_underline_and_escapes_names():
    table = tables.wide(tables.paper_results(), 1)
    latex = tables.to_latex(table, caption="50 % of a_b", label="tab:1")
    assert "\\textbf{83.43}" in latex and "\\underline{82.57}" in latex and "50 \\% of a\\_b" in latex
    body = latex.split("\\midrule")[1].split("\\bottomrule")[0]
    assert body.count("\\\\") == 13
    odd = table.rename(columns={"LQC": "fake_engagement"}, level=0)
    assert "fake\\_engagement" in tables.to_latex(odd, caption="c", label="l")


def test_an_undefined_cell_has_a_dash_and_no_spread():
    table = tables.wide(tables.paper_results(), 1)
    table.iloc[0, 0] = np.nan
    assert tables.cell_texts(table, paper=table, spread=table).iloc[0, 0] == "-"
    assert "nan" not in tables.to_latex(table, caption="c", label="l", spread=table)


def test_the_papers_number_stands_beside_ours_and_marks_are_ours():
    table = tables.wide(tables.paper_results(), 2)
    html = tables.style_table(table - 1, table).to_html()
    assert "89.30 (90.30)" in html and "88.02 (89.02)" in html
    assert html.count("font-weight: bold") == 1 and html.count("text-decoration: underline") == 1  # one rule each


def test_equal_printed_numbers_share_a_mark():
    index = pd.MultiIndex.from_tuples([("x", str(i)) for i in range(4)])
    table = pd.DataFrame({("A", "PR-AUC"): [1.0, 2.0, 2.0, 1.5]}, index=index)
    assert tables.marks(table)[("A", "PR-AUC")].tolist() == ["", "best", "best", "second"]


def test_every_risk_has_columns_of_its_own_and_text_stays_text():
    names = ("fake_engagement", "Übergriff", "仇恨", "تحرش", "Average")
    frame = pd.DataFrame([{"loss": "BCE", "method": EXPERTS, "category": c, "metric": m, "value": 0.5}
                          for c in names for m in tables.METRICS])  # fmt: skip
    table = tables.wide(frame, 1)
    columns = tables.to_csv(table).splitlines()[0].split(",")
    assert len(set(columns)) == 12 and {"fake_engagement_pr_auc", "仇恨_r_at_p60", "avg_pr_auc"} <= set(columns)
    tex = tables.to_latex(table, caption=r"posts (a_b & c#1 \input{/etc/hostname} 5 %)", label="tab:1")
    assert r"fake\_engagement" in tex and r"a\_b \& c\#1  input\{/etc/hostname\} 5 \%" in tex
    assert tables.to_markdown(pd.DataFrame({"name": ["a|b"]})).splitlines()[2] == r"| a\|b |"
