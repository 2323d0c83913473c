"""The log: a row per post whatever happens, the same however often it was stopped; and its replay."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radar_lib.errors import RadarError
from radar_suite.decisions import log as room
from radar_suite.decisions.bundle import calibrate
from radar_suite.decisions.log import PART_ROWS, preview, read_plan, replay, route_files, summary
from radar_suite.decisions.windows import CAUSES

ROOT = Path(__file__).parents[3]
N = 1100  # more than two parts


@pytest.fixture(scope="module")
def many(tmp_path_factory, make):
    """1,100 posts, half of them bad, and the cause of each."""
    posts, causes = make.hostile(N)
    folder = tmp_path_factory.mktemp("posts")
    make.write(folder / "a.parquet", posts[:600])
    make.write(folder / "b.parquet", posts[600:], group_rows=333)
    return folder, posts, causes


@pytest.fixture(scope="module")
def routed(bundle, many, tmp_path_factory):
    return route_files(bundle, many[0], tmp_path_factory.mktemp("log") / "decisions.parquet")


def rows(log):
    return pq.read_table(log).drop_columns(["decided_at"]).to_pylist()


def test_a_thousand_bad_posts_none_released_none_lost(bundle, many, routed):
    _, posts, causes = many
    found = rows(routed)
    assert [row["row"] for row in found] == list(range(N)) and [row["cause"] for row in found] == causes
    assert [row["post_id"] for row in found] == [post["post_id"] or None for post in posts]
    for row in found:
        assert row["bundle"] == bundle.digest
        if row["cause"]:
            assert row["status"] == "bypassed" and row["modules"] == ["A", "B"]
            assert row["logit_A"] is None and row["dispatch_A"] and row["dispatch_B"]
        else:
            taus = dict(zip("AB", bundle.thresholds, strict=True))
            assert row["modules"] == [c for c in "AB" if row[f"logit_{c}"] > taus[c]]
            assert row["probability_A"] == pytest.approx(1 / (1 + np.exp(-row["logit_A"])))
    about = summary(routed)
    assert about["posts"] == N and about["status"]["bypassed"] == sum(map(bool, causes))
    assert about["released"] == sum(not row["modules"] for row in found) > 0
    assert about["sent"]["A"] == sum("A" in row["modules"] for row in found)


def test_operators_find_each_column_and_cause_in_the_docs(routed):
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    names = [name.replace("_A", "_<risk>") for name in pq.read_schema(routed).names if not name.endswith("_B")]
    assert not [name for name in (*names, *CAUSES) if f"`{name}`" not in text]


def test_python_decides_as_the_log_does(bundle, many, routed):
    for decision, row in zip(bundle.route(many[1]), rows(routed), strict=True):
        assert (list(decision.modules), decision.cause) == (row["modules"], row["cause"])


def test_the_log_says_what_decided(bundle, routed):
    plan = read_plan(routed)
    assert tuple(plan["thresholds"]) == bundle.thresholds and plan["recall"] == 0.8 and plan["bundle"] == bundle.digest


def test_a_finished_log_is_left_alone_and_another_refused(bundle, many, routed):
    before = routed.stat().st_mtime_ns
    routed.with_name(f"{routed.name}.parts").mkdir()  # as if killed just after the log got its name
    assert route_files(bundle, many[0], routed) == routed and routed.stat().st_mtime_ns == before
    assert not list(routed.parent.glob("*.parts"))
    with pytest.raises(RadarError, match="another bundle"):
        route_files(bundle, many[0], routed, observe_only=True)
    with pytest.raises(RadarError, match="other posts"):
        route_files(bundle, many[0] / "a.parquet", routed)


def test_an_unfinished_log_is_not_gone_on_with_by_another(bundle, many, tmp_path, monkeypatch):
    out = tmp_path / "log.parquet"
    monkeypatch.setattr(room, "PART_ROWS", 64)

    def stop(done, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route_files(bundle, many[0] / "a.parquet", out, bar=stop)
    with pytest.raises(RadarError, match="or begun, with"):
        route_files(bundle, many[0], out)


def test_a_full_disk_loses_nothing(bundle, many, routed, tmp_path, monkeypatch):
    write, written = pq.write_table, []

    def full(table, *args, **options):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(table))
        return write(table, *args, **options)

    monkeypatch.setattr(pq, "write_table", full)
    out = tmp_path / "log.parquet"
    with pytest.raises(RadarError, match="No space left"):
        route_files(bundle, many[0], out)
    assert not out.exists() and written == [PART_ROWS]
    monkeypatch.setattr(pq, "write_table", write)
    assert rows(route_files(bundle, many[0], out)) == rows(routed)


KILLED = """
import sys
from radar_suite.decisions import log
from radar_suite.decisions.bundle import open_bundle
log.PART_ROWS = 64
log.route_files(open_bundle(sys.argv[1]), sys.argv[2], sys.argv[3], bar=lambda done, rows: print(done, flush=True))
"""


def test_killed_at_any_time_it_goes_on_to_the_same_log(bundle, many, routed, tmp_path):
    out = tmp_path / "log.parquet"
    command = [sys.executable, "-c", KILLED, str(bundle.folder), str(many[0]), str(out)]
    for stop in (128, 384):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            for line in process.stdout:
                if int(line) >= stop:
                    time.sleep(0.05)
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert not out.exists() and len(list(out.with_name("log.parquet.parts").glob("0*.parquet"))) >= stop // 64
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert rows(out) == rows(routed)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".log.parquet.lock", "log.parquet"]


def test_what_lies_in_a_damaged_page_goes_everywhere_by_name(bundle, make, tmp_path):
    posts = [make.sound(i) for i in range(200)]
    path = make.write(tmp_path / "p.parquet", posts)
    column = next(c for c in range(9) if "frames" in pq.read_metadata(path).row_group(1).column(c).path_in_schema)
    about = pq.read_metadata(path).row_group(1).column(column)
    data, at = bytearray(path.read_bytes()), about.data_page_offset
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    found = rows(route_files(bundle, path, tmp_path / "log.parquet"))
    assert [row["post_id"] for row in found] == [post["post_id"] for post in posts]
    bad = [row["row"] for row in found if row["cause"] == "file"]
    assert bad == list(range(50, 100)) and all(found[i]["modules"] == ["A", "B"] for i in bad)
    assert {row["cause"] for row in found} == {"", "file"}


def test_text_that_is_not_utf8_and_ids_that_repeat(bundle, make, tmp_path):
    posts = [make.sound(i) for i in range(30)]
    posts[20] |= {"post_id": posts[3]["post_id"]}
    path = make.write(tmp_path / "p.parquet", posts)
    table = pq.read_table(path)
    titles = [t.encode() for t in table["title"].to_pylist()]
    titles[7] = b"\xff\xfe bad"
    wrong = pa.array(titles, pa.binary()).view(pa.string())
    pq.write_table(table.set_column(1, "title", wrong), path)
    found = rows(route_files(bundle, path, tmp_path / "log.parquet"))
    assert {row["row"]: row["cause"] for row in found if row["cause"]} == {3: "post_id", 20: "post_id", 7: "text"}
    assert found[7]["post_id"] == posts[7]["post_id"]


def test_a_corpus_folder_and_its_splits(bundle, corpus, tmp_path):
    log = route_files(bundle, corpus.folder, tmp_path / "log.parquet", splits=["calibration"])
    assert summary(log)["posts"] == 220
    with pytest.raises(RadarError, match="no posts in split 'test'"):
        route_files(bundle, corpus.folder, tmp_path / "other.parquet", splits=["test"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["ocr_text"]), "'ocr_text' is missing"),
        (lambda t: t.set_column(1, "title", pa.array([1] * len(t))), "'title' is int64"),
        (lambda t: t.set_column(4, "frames", pa.array([[b"x"]] * len(t))), "'frames' is list"),
        (lambda t: t.append_column("label_C", pa.array([1] * len(t))), "labels of C"),
    ],
)
def test_posts_of_another_shape_are_refused_before_work_starts(bundle, make, tmp_path, change, said):
    path = make.write(tmp_path / "p.parquet", [make.sound(1)])
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(RadarError, match=said):
        route_files(bundle, path, tmp_path / "log.parquet")
    assert not (tmp_path / "log.parquet.parts").exists()


def test_what_is_no_parquet_and_what_cannot_be_written(bundle, many, tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"not at all")
    for posts in (tmp_path / "p.parquet", tmp_path / "absent", tmp_path / "p.parquet" / "x"):
        with pytest.raises(RadarError):
            route_files(bundle, posts, tmp_path / "log.parquet")
    with pytest.raises(RadarError, match="is a folder"):
        route_files(bundle, many[0], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RadarError):
        route_files(bundle, many[0], tmp_path / "file" / "log.parquet")
    with pytest.raises(RadarError, match="no decision log"):
        read_plan(many[0] / "a.parquet")


def test_no_posts_make_an_empty_log(bundle, make, tmp_path):
    log = route_files(bundle, make.write(tmp_path / "p.parquet", []), tmp_path / "log.parquet")
    assert summary(log)["posts"] == 0 and rows(log) == [] and replay(log, bundle).same


def test_a_preview_writes_nothing(bundle, many, routed):
    first = preview(bundle, many[0], 12)
    assert [(list(d.modules), d.cause) for d in first] == [(r["modules"], r["cause"]) for r in rows(routed)[:12]]
    assert sorted(path.name for path in many[0].iterdir()) == ["a.parquet", "b.parquet"]


def test_replayed_with_its_bundle_nothing_changes(bundle, many, routed):
    for with_bundle, posts in ((None, None), (bundle, None), (bundle, many[0])):
        again = replay(routed, with_bundle, posts=posts)
        assert again.same and again.posts == N and again.bypassed == 0


def test_replayed_with_another_the_changes_are_counted(bundle, build, corpus, many, routed, tmp_path):
    lower = calibrate(bundle.router, corpus, tmp_path / "lower", recall=0.9)
    again, found = replay(routed, lower), rows(routed)
    for k, c in enumerate("AB"):
        now = [row["cause"] != "" or row[f"logit_{c}"] > lower.thresholds[k] for row in found]
        assert again.dispatched[c] == sum(n and not row[f"dispatch_{c}"] for n, row in zip(now, found, strict=True))
        assert again.released[c] == 0
    assert not again.same and sum(again.dispatched.values()) > 0
    other = calibrate(build(2), corpus, tmp_path / "other", recall=0.8)
    with pytest.raises(RadarError, match="another router"):
        replay(routed, other)
    scored = replay(routed, other, posts=many[0])
    assert sum(scored.dispatched.values()) and sum(scored.released.values()) and not scored.same
    with pytest.raises(RadarError, match="not the posts"):
        replay(routed, other, posts=many[0] / "a.parquet")


def test_a_log_that_was_edited_does_not_replay(bundle, routed, tmp_path):
    table = pq.read_table(routed)
    flags = [not flag if i == 3 else flag for i, flag in enumerate(table["dispatch_A"].to_pylist())]
    at = table.schema.get_field_index("dispatch_A")
    edited = table.set_column(at, table.schema.field(at), pa.array(flags)).replace_schema_metadata(
        table.schema.metadata
    )
    pq.write_table(edited, tmp_path / "log.parquet")
    assert not replay(tmp_path / "log.parquet").same


def test_a_log_of_other_risks_is_refused(bundle, routed, tmp_path):
    table = pq.read_table(routed)
    plan = json.loads(table.schema.metadata[b"radar"]) | {"categories": ["A", "C"]}
    pq.write_table(table.replace_schema_metadata({b"radar": json.dumps(plan)}), tmp_path / "log.parquet")
    with pytest.raises(RadarError, match="of the risks A, C"):
        replay(tmp_path / "log.parquet", bundle)
