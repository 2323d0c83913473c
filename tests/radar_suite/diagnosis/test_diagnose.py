"""The taxonomy holds together, the posterior is one, and a run folder that is none gets one clear error."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radar_lib.errors import RadarError
from radar_lib.files import write_json
from radar_suite.diagnosis.blind import nearest, rules
from radar_suite.diagnosis.diagnose import HEALTHY, UNKNOWN, Band, Diagnoser, Model, band_of
from radar_suite.diagnosis.runs import About, RunFolder, read_run, write_run
from radar_suite.diagnosis.signals import CONTRACT, SIGNALS, broken_contracts, compute
from radar_suite.diagnosis.taxonomy import document, read_taxonomy, write_document

ROOT = Path(__file__).parents[3]


def test_the_taxonomy_names_only_what_there_is():
    taxonomy = read_taxonomy()
    for cause in taxonomy.causes:
        assert cause.contract is None or cause.contract in CONTRACT
        assert set(cause.signatures) <= set(SIGNALS), cause.name
    for test in taxonomy.tests.values():
        assert set(test.reads) <= set(SIGNALS)


def test_the_document_is_the_taxonomys():
    assert (ROOT / "docs/diagnosis.md").read_text(encoding="utf-8") == document(read_taxonomy())


def test_the_document_is_written_once(tmp_path):
    assert write_document(tmp_path / "d.md") and not write_document(tmp_path / "d.md")


@pytest.mark.parametrize(
    ("old", "new"),
    [("look_alikes: {pipeline_label_noise", "look_alikes: {nothing"), ("stage: training", "stage: lunch"), ("[", ""),
     ("signatures: {pipeline_gap", "signatures: {nothing"), ("reads: [relabel_missed", "reads: [nothing"),
     ("contract: unread_cells", "contract: nothing"), ("name: unmasked_loss", "name: healthy"),
     ("name: unmasked_loss", "name: un+masked"), ("score_ratio: low", "pipeline_gap: low"),
     ("look_alikes: {pipeline_label_noise: relabel, collapsed_head: pipeline_gap, low_capacity: pipeline_gap}",
      "look_alikes: {}")],
)
def test_a_taxonomy_that_is_none_is_refused(tmp_path, old, new):
    from radar_suite.diagnosis.taxonomy import FILE

    (tmp_path / "t.yaml").write_text(FILE.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RadarError, match="t.yaml"):
        read_taxonomy(tmp_path / "t.yaml")


@pytest.fixture
def folder(run, tmp_path):
    one = run()
    curve = pd.DataFrame({"step": [1, 2], "update": 0.1} | {f"loss_{c}": [0.7, 0.5] for c in one.categories})
    second = pd.DataFrame({"post_id": ["train0", "train1"]} | {f"gold_{c}": [0, 1] for c in one.categories})
    write_run(tmp_path / "run", {"categories": one.categories}, one.posts, curve, second)
    return tmp_path / "run"


def test_a_run_is_read_as_it_was_written(folder, run):
    back, one = read_run(folder), run()
    assert back.categories == one.categories
    pd.testing.assert_frame_equal(back.posts, one.posts)


def break_version(folder):
    write_json(folder / "run.json", {"version": 0, "categories": ["A"]})


def break_json(folder):
    (folder / "run.json").write_text("{")


def break_values(folder):
    write_json(folder / "run.json", {"version": 1, "categories": ["A", "B"], "thresholds": [0.5]})


def break_labels(folder):
    pd.read_parquet(folder / "posts.parquet").assign(label_A=2).to_parquet(folder / "posts.parquet")


def break_columns(folder):
    pd.read_parquet(folder / "posts.parquet").drop(columns="logit_A").to_parquet(folder / "posts.parquet")


def break_logits(folder):
    pd.read_parquet(folder / "posts.parquet").assign(logit_A=np.inf).to_parquet(folder / "posts.parquet")


def break_audit(folder):
    pd.read_parquet(folder / "posts.parquet").assign(label_A=0).to_parquet(folder / "posts.parquet")


def break_splits(folder):
    posts = pd.read_parquet(folder / "posts.parquet")
    posts[posts["split"] != "audit"].to_parquet(folder / "posts.parquet")


def break_table(folder):
    (folder / "posts.parquet").write_bytes(b"none")


def change(name, **values):
    """Damage: columns of a table replaced, by values or a function of the table."""

    def damage(folder):
        pd.read_parquet(folder / name).assign(**values).to_parquet(folder / name)

    return damage


def break_all(folder):
    (folder / "run.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [break_version, break_json, break_values, break_columns, break_labels, break_logits, break_audit, break_splits,
     break_table, break_all, change("posts.parquet", teacher_A="x"), change("posts.parquet", teacher_A=np.inf),
     change("posts.parquet", logit_A="1"), change("posts.parquet", post_id="one"),
     change("posts.parquet", post_id=lambda t: t["post_id"].mask(t.index == 3)),
     change("posts.parquet", label_A=lambda t: t["label_A"].where((t["split"] != "audit") | (t.index % 2 == 0), -1)),
     change("curve.parquet", update="x"), change("relabels.parquet", post_id=1),
     change("relabels.parquet", post_id="train0")],
)
def test_a_folder_that_is_no_run_is_refused(folder, damage):
    damage(folder)
    with pytest.raises(RadarError, match=re.escape(str(folder))):
        read_run(folder)


def test_a_band_takes_five_reruns(run):
    with pytest.raises(RadarError, match="5 or more"):
        Band.of([compute(run(seed))[0] for seed in range(4)])


def test_a_folder_that_is_no_band_is_refused(run, tmp_path):
    with pytest.raises(RadarError, match="no run folders"):
        band_of(tmp_path)
    one = run()
    write_run(tmp_path / "a", {"categories": one.categories}, one.posts, None, None)
    other = RunFolder(About(version=1, categories=["A"]), one.posts)
    with pytest.raises(RadarError, match="about A, B, not A"):
        band_of(tmp_path, other)


def test_a_band_is_of_other_runs_on_the_same_posts(run, tmp_path):
    for seed in range(6):
        one = run(seed)
        write_run(tmp_path / str(seed), {"categories": one.categories}, one.posts, None, None)
    assert len(band_of(tmp_path, run(6))[1]) == 6
    with pytest.raises(RadarError, match="the run itself"):
        band_of(tmp_path, run(3))
    with pytest.raises(RadarError, match="other posts"):
        band_of(tmp_path, run(6, lambda posts: posts.assign(post_id="other " + posts["post_id"])))


def test_a_missing_group_or_content_is_no_copy_of_another(folder):
    change("posts.parquet", group=lambda t: t["group"].mask(t.index % 2 == 0), content=None)(folder)
    found, absent = compute(read_run(folder), ["content_overlap", "group_overlap"])
    change("posts.parquet", content=lambda t: t["post_id"].mask(t.index % 2 == 0))(folder)
    assert not found and len(absent) == 2 and not broken_contracts(read_run(folder))
    assert compute(read_run(folder), ["content_overlap", "group_overlap"])[0] == {
        "content_overlap": 0, "group_overlap": 0
    }  # fmt: skip


def test_numbers_of_any_kind_are_read(folder):
    plain = compute(read_run(folder), SIGNALS)[0]
    posts = pd.read_parquet(folder / "posts.parquet")
    kinds = {name: "Float64" for name in posts if name.startswith(("logit", "teacher"))}
    posts.astype(kinds | {"label_A": "Int8"}).to_parquet(folder / "posts.parquet")
    again = compute(read_run(folder), SIGNALS)[0]
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(again[name], value, err_msg=name)


@pytest.fixture(scope="module")
def table():
    """Development runs of three causes, each with a signal of its own, of two pairs, and healthy ones."""
    random, names = np.random.default_rng(3), SEEN
    rows = []
    for i in range(120):
        x = random.normal(0, 0.4, len(names))
        truth = ["", "one", "two", "three", "one+two", "two+three"][i % 6]
        for cause in truth.split("+") if truth else ():
            x[["one", "two", "three"].index(cause)] += 3
        rows.append({"truth": truth, "world": "w", **dict(zip(names, x, strict=True))})
    return pd.DataFrame(rows)


SEEN = ["audit_ap", "ceiling", "slope", "siding", "serve_tail"]


def verdict(table, **deviations):
    return Model.of(table, SEEN).diagnose(dict.fromkeys(["siding", "serve_tail"], 0.0) | deviations)


def test_the_posterior_is_one(table):
    for found in (verdict(table), verdict(table, audit_ap=3.0), verdict(table, siding=9.0)):
        assert sum(found["posterior"].values()) == pytest.approx(1)
        assert min(found["posterior"].values()) >= 0


def test_causes_are_told_apart_and_a_quiet_run_is_healthy(table):
    assert verdict(table)["verdict"] == HEALTHY
    assert verdict(table, audit_ap=3.0)["causes"] == ["one"]
    assert verdict(table, slope=3.0)["causes"] == ["three"]


def test_two_causes_are_both_found(table):
    assert set(verdict(table, audit_ap=3.0, ceiling=3.0)["causes"]) == {"one", "two"}


def test_what_no_cause_explains_is_unknown(table):
    found = verdict(table, siding=4.0, serve_tail=-4.0)
    assert found["verdict"] == UNKNOWN and not found["causes"]


def test_faults_outside_the_taxonomy_teach_what_is_unknown(table):
    random = np.random.default_rng(4)
    outside = pd.DataFrame(random.normal(0, 0.4, (20, len(SEEN))), columns=SEEN).assign(truth=UNKNOWN, world="w")
    outside[["slope", "ceiling"]] += [-3, 3]
    both = pd.concat([table, outside], ignore_index=True)
    assert Model.of(both, SEEN).causes == ["one", "three", "two"]
    assert verdict(both, slope=-3.0, ceiling=3.0)["verdict"] == UNKNOWN
    assert verdict(both, ceiling=3.0)["verdict"] == "two"


def test_what_healthy_runs_show_counts_for_nothing(table):
    model = Model.of(table, SEEN)
    healthy = model.table.loc[table["truth"] == "", list(model.columns)].to_numpy()
    excess = model.fit.excess(healthy)
    assert (np.abs(excess) <= np.abs(healthy)).all() and (np.sign(excess) * np.sign(healthy) >= 0).all()
    assert (excess == 0).mean() == pytest.approx(0.8, abs=0.05)
    assert model.fit.scores(np.zeros((1, len(SEEN)))) == pytest.approx(0, abs=0.2)


def test_a_broken_contract_decides(table):
    vector = {"slope": 3.0}
    assert Model.of(table, SEEN).diagnose(vector, ["two"])["verdict"] == "two"


def test_a_test_moves_the_odds_towards_the_cause_that_it_speaks_for(table):
    speaks = table.assign(relabel_false=np.where(table["truth"] == "two", 3.0, 0.0))
    model = Model.of(speaks, SEEN)
    assert model.likelihood_ratio({"relabel_false": 3.0}, "two", "one") > 1
    assert model.likelihood_ratio({"relabel_false": 0.0}, "two", "one") < -1
    assert model.likelihood_ratio({"relabel_month": 3.0}, "two", "one") == 0
    before, after = (model.diagnose({"audit_ap": 3.0}, odds=odds) for odds in (None, {"one": -20.0, "two": 20.0}))
    assert (before["verdict"], after["verdict"]) == ("one", "two")
    assert sum(after["posterior"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def doubtful():
    """Development runs of a regional policy and a changed one, which only the second look tells apart, and others."""
    random, rows = np.random.default_rng(5), []
    for i in range(120):
        truth = ["", "regional_policy", "policy_change", "language_hole"][i % 4]
        x = {name: random.normal(0, 0.3) + 3 * (i % 4 in (1, 2)) for name in ("region_residual", "month_residual")}
        rows.append({"truth": truth, "world": "w", "siding": random.normal(0, 0.3), **x,
                     "language_share": random.normal(0, 0.3) + 3 * (i % 4 == 3),
                     "relabel_region": 4.0 * (i % 4 == 1), "relabel_month": 4.0 * (i % 4 == 2)})  # fmt: skip
    return pd.DataFrame(rows)


ILL = {"region_residual": np.e**3 - 1, "month_residual": np.e**3 - 1, "siding": 0.0, "language_share": 0.5}


def band_at_zero(table, second_look=0.03):
    """Its spread is about 1, of the second look this."""
    names = table.columns.drop(["truth", "world"])
    spread = {name: second_look if name.startswith("relabel") else 0.98 for name in names}
    return Band(dict.fromkeys(names, 0.0), spread)


def looked_at(one, verdict):
    """A run whose second look disagrees in one region, or before a month."""
    train = one.splits["train"]
    right = ~train["region"].eq("r") if verdict == "regional_policy" else train["month"] > 3
    golds = {f"gold_{c}": np.where(right, train[f"label_{c}"], 1 - train[f"label_{c}"]) for c in one.categories}
    return RunFolder(one.about, one.posts, None, pd.DataFrame({"post_id": train["post_id"], **golds}))


@pytest.mark.parametrize("verdict", ["regional_policy", "policy_change"])
def test_the_second_look_decides_where_it_is_allowed_and_is_named_where_it_is_not(run, doubtful, verdict):
    one, diagnoser = run(), Diagnoser(band_at_zero(doubtful), doubtful)
    looked, (other,) = looked_at(one, verdict), {"regional_policy", "policy_change"} - {verdict}
    found = diagnoser(looked, "BLCR", computed=(ILL, []))
    assert found["verdict"] == verdict and found["first_two"] == [verdict, "language_hole"]
    assert found["ruled_out"] == {"cause": other, "test": "relabel"} and found["next_test"] is None
    for blind in (diagnoser(looked, "BLC", computed=(ILL, [])), diagnoser(one, "BLCR", computed=(ILL, []))):
        assert blind["next_test"]["test"] == "relabel" and blind["ruled_out"] is None


def test_a_second_look_that_leaves_doubt_rules_nothing_out(run, doubtful):
    faint = doubtful.assign(relabel_region=doubtful["relabel_region"] / 50, relabel_month=0.0)
    found = Diagnoser(band_at_zero(faint, 50.0), faint)(looked_at(run(), "regional_policy"), computed=(ILL, []))
    assert found["ruled_out"] is None
    assert set(found["next_test"]["between"]) == {"regional_policy", "policy_change"}


def test_a_second_look_names_no_cause_whose_leading_signal_is_absent(run, doubtful):
    pairs = doubtful[doubtful["truth"] == "policy_change"].assign(truth="policy_change+regional_policy")
    table = pd.concat([doubtful, pairs], ignore_index=True)
    seen = {name: value for name, value in ILL.items() if name != "month_residual"}
    diagnoser, looked = Diagnoser(band_at_zero(table, 50.0), table), looked_at(run(), "regional_policy")
    assert len(diagnoser(looked, computed=(ILL, []))["causes"]) == 2
    found = diagnoser(looked, computed=(seen, ["month_residual"]))
    assert found["causes"] == ["regional_policy"] and found["next_test"]["test"] == "relabel"


def test_deviations_stand_in_the_order_of_their_band(run):
    band = Band.of([compute(run(seed))[0] for seed in range(5)])
    found = [name.removesuffix(", extreme") for name in band.deviations(compute(run(9))[0])]
    assert list(dict.fromkeys(found)) == list(band.mean)


def test_the_evidence_is_what_speaks_for_the_verdict(table):
    assert verdict(table, ceiling=3.0)["evidence"][0]["signal"] == "ceiling"


def test_baselines_answer(table):
    assert nearest(dict.fromkeys(SEEN, 0.0) | {"ceiling": 3.0}, SEEN, table)["verdict"] == "two"
    assert rules({"region_residual": 3.0}, ["region_residual"])["verdict"] == "regional_policy"
    assert rules({"region_residual": 0.1}, ["region_residual"])["verdict"] == HEALTHY


def test_a_rerun_lies_in_its_band(run, table):
    band = Band.of([compute(run(seed))[0] for seed in range(8)])
    found = Diagnoser(band, table)(run(20), "B")
    assert found["verdict"] in (HEALTHY, UNKNOWN) and "loss_end" in found["absent"]


def test_diagnosis_and_planting_do_not_know_each_other():
    rooms = ROOT / "radar_suite/diagnosis"
    for name in ("diagnose", "signals", "runs"):
        text = (rooms / f"{name}.py").read_text()
        assert not re.search(r"(import|from) .*(plant|finetuned|faults|setups|bench|evaluate)", text), name
    for name in ("plant", "faults", "setups", "bench", "finetuned"):
        assert not re.search(r"(import|from) .*(diagnose|signals|blind)\b", (rooms / f"{name}.py").read_text()), name


def test_the_command_reads_a_run_with_and_without_a_band(folder, run, tmp_path, capsys):
    from radar_suite.chain.cli import main

    assert main(["diagnose", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["broken"] == {}
    for seed in range(1, 7):  # the run itself is none of its band
        one = run(seed)
        write_run(tmp_path / "band" / str(seed), {"categories": one.categories}, one.posts, None, None)
    assert main(["diagnose", str(folder), "--band", str(tmp_path / "band")]) == 0
    assert "verdict" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path)]) != 0
