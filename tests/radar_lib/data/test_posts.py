"""Writing and reading a corpus folder."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from radar_lib.data.posts import (
    SPLITS,
    categories_of,
    features,
    finish_corpus,
    labels,
    open_posts,
    valid_mask,
    write_corpus,
)
from radar_lib.data.schema import group_numbers
from radar_lib.data.shards import shard_path, write_shard
from radar_lib.errors import RadarError


def write(folder, rows, *, categories=("A", "B"), **options):
    return write_corpus(folder, rows, name="mine", kind="imported", categories=categories, **options)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_round_trip_for_any_number_of_risks(tmp_path, k):
    categories = tuple(f"risk{i}" for i in range(k))
    rng = np.random.default_rng(k)
    matrix = rng.integers(-1, 2, size=(50, k))
    names = [f"label_{category}" for category in categories]
    rows = [{"post_id": f"p{i}", "split": "train", **dict(zip(names, map(int, line), strict=True))}
            for i, line in enumerate(matrix)]  # fmt: skip
    posts = write(tmp_path / "c", rows, categories=categories, shard_rows=7)
    assert categories_of(["post_id", "label_B", "title", "label_A", "label_"]) == ("B", "A")
    assert posts.categories == categories and len(posts) == 50 and len(posts.shards("train")) == 8
    found = labels(posts.table(), categories)
    assert found.dtype == np.int8 and (found == matrix).all()
    assert (labels(posts.split("train"), categories) == matrix).all()
    assert (labels(posts.split().select([4, 2]), categories) == matrix[[4, 2]]).all()
    assert (labels(pq.read_table(posts.shards()[0]), categories) == matrix[:7]).all()
    assert (valid_mask(found) == (matrix != -1)).all()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
moments = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))
rows_of_any_kind = st.lists(
    st.fixed_dictionaries(
        {
            "split": st.sampled_from(SPLITS), "title": texts, "ocr_text": texts, "asr_text": texts, "pipeline": texts,
            "created_at": moments, "label_A": st.sampled_from([-1, 0, 1]), "frames": st.lists(st.binary(), max_size=3),
            "stream_id": texts, "segment": st.integers(0, 2**31 - 1),
        }
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_any_kind)
def test_what_is_written_is_what_is_read(tmp_path_factory, rows):
    rows = [{"post_id": f"p{i}", **row} for i, row in enumerate(rows)]
    folder = tmp_path_factory.mktemp("corpus")
    posts = write(folder / "a", rows, categories=("A",), streams=True, shard_rows=3)
    found = posts.table()
    order = [row for split in SPLITS for row in rows if row["split"] == split]
    for name in ("post_id", "split", "title", "ocr_text", "asr_text", "pipeline", "stream_id", "segment", "label_A"):
        assert found[name].tolist() == [row[name] for row in order]
    assert [None if pd.isna(t) else t.to_pydatetime() for t in found["created_at"]] == [r["created_at"] for r in order]
    undecoded = posts.split().cast_column("frames", datasets.List(datasets.Image(decode=False)))
    assert [[f["bytes"] for f in frames] for frames in undecoded["frames"]] == [row["frames"] for row in order]
    assert posts.digest == write(folder / "b", rows, categories=("A",), streams=True).digest


def test_table_and_split_have_the_same_rows_in_the_order_asked_for(tmp_path, sound):
    posts = write(tmp_path / "c", sound(40), shard_rows=3)
    for splits in [(), ("test",), ("unlabelled", "train")]:
        table, dataset = posts.table(*splits), posts.split(*splits)
        assert table["post_id"].tolist() == list(dataset["post_id"])
        assert list(dict.fromkeys(table["split"])) == list(splits or posts.splits)
    assert "frames" not in table and posts.table("test", columns=["title"]).columns.tolist() == ["title"]
    assert posts.splits == {"train": 8, "validation": 8, "calibration": 8, "test": 8, "unlabelled": 8}


def test_frames_decode_lazily_and_in_order(tmp_path, image):
    pictures = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    rows = [{"post_id": "a", "split": "test", "frames": [*pictures, image(5, 4, kind="JPEG")]}]
    frames = write(tmp_path / "c", rows).split("test")[0]["frames"]
    assert [frame.size for frame in frames] == [(8, 6), (8, 6), (5, 4)]
    assert np.array_equal(np.asarray(frames[1].convert("RGB")), np.asarray(pictures[1]))


def test_missing_columns_have_documented_defaults_and_times_become_naive_utc(tmp_path):
    moments = [datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=5))), datetime(2024, 1, 1, 7, tzinfo=UTC)]
    rows = [{"post_id": str(i), "split": "train", "created_at": moment} for i, moment in enumerate(moments)]
    assert list(write(tmp_path / "d", rows).table()["created_at"]) == [pd.Timestamp("2024-01-01 07:00")] * 2
    row = write(tmp_path / "c", [{"post_id": "a", "split": "train"}], captions=True).split()[0]
    assert (row["pipeline"], row["region"], row["language"], row["created_at"]) == ("traffic", "ZZ", "und", None)
    assert row["title"] == row["caption"] == "" and row["frames"] == [] and row["label_A"] == row["label_B"] == -1


def test_the_hub_library_opens_the_folder(tmp_path, sound):
    folder = tmp_path / "c"
    posts = write(folder, sound(20), shard_rows=2)
    (folder / "hidden").mkdir()
    pq.write_table(pa.table({"post_id": ["p0"]}), folder / "hidden" / "truth.parquet")
    datasets.disable_progress_bars()
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "hf"))
    assert {split: len(part) for split, part in found.items()} == posts.splits
    assert found["test"].features == features(("A", "B"))
    assert any(frame.size == (20, 12) for frames in found["test"]["frames"] for frame in frames)


def test_shards_made_one_by_one_equal_streamed_ones(tmp_path, sound):
    rows = [row for row in sound(230) if row["split"] == "train"] * 3
    rows = [{**row, "post_id": str(i)} for i, row in enumerate(rows)]
    types = features(("A", "B"))
    for index in (1, 0):
        part = rows[:120] if index == 0 else rows[120:]
        write_shard(shard_path(tmp_path / "a", "train", index, 2), part, types)
    with pytest.raises(RadarError, match="half-built"):
        open_posts(tmp_path / "a")
    posts = finish_corpus(tmp_path / "a", name="mine", kind="built-in", extra={"note": 1})
    assert posts.digest == write(tmp_path / "b", rows).digest and posts.info["note"] == 1 and posts.kind == "built-in"


def test_digest_depends_on_every_value(tmp_path):
    base = {"post_id": "a", "split": "train", "title": "ab", "ocr_text": "c", "frames": [b"xy", b"z"]}
    changes = [{}, {"title": "a", "ocr_text": "bc"}, {"frames": [b"x", b"yz"]}, {"frames": [b"xyz"]}, {"label_A": 0}]
    changes += [{"created_at": datetime(1970, 1, 1)}, {"title": "abc", "ocr_text": ""}]
    digests = [write(tmp_path / str(i), [{**base, **change}]).digest for i, change in enumerate(changes)]
    assert len(set(digests)) == len(digests)


def test_a_killed_build_does_not_open_and_is_cleared_by_the_next(tmp_path, sound):
    class Killed(BaseException):
        pass

    def killed():
        yield from sound(250)
        raise Killed

    folder = tmp_path / "c"
    with pytest.raises(Killed):
        write(folder, killed())
    with pytest.raises(RadarError, match="holds no corpus"):
        open_posts(folder)
    (folder / "data.partial").mkdir()  # what kill -9 leaves
    (folder / "data.partial" / "train-00000.part").write_bytes(b"PAR1")
    posts = write(folder, sound(20))
    (folder / "corpus.json").unlink()  # killed between the rename and corpus.json
    with pytest.raises(RadarError, match="half-built"):
        open_posts(folder)
    assert write(folder, sound(20)).digest == posts.digest


def test_two_at_once_write_one_corpus(tmp_path, sound):
    """The second waits, and finds a corpus; it neither clears away nor joins what the first is writing."""
    begun, going_on = threading.Event(), threading.Event()

    def slow():
        yield from sound(8)
        begun.set()
        assert going_on.wait(60)
        yield from sound(24)[8:]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(write, tmp_path / "c", slow())
        assert begun.wait(60)
        second = pool.submit(write, tmp_path / "c", sound(12))
        with pytest.raises(TimeoutError):
            second.result(timeout=1)
        going_on.set()
        with pytest.raises(RadarError, match="already holds a corpus"):
            second.result(60)
        assert first.result(60).digest == write(tmp_path / "alone", sound(24)).digest


def test_nothing_of_others_is_overwritten(tmp_path, sound):
    write(tmp_path / "c", sound())
    with pytest.raises(RadarError, match="already holds a corpus"):
        write(tmp_path / "c", sound())
    foreign = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), foreign)
    for name, data in {"notes.txt": b"mine", "train-00000-of-00001.parquet": foreign.getvalue(),
                       "test-00000-of-00001.parquet": b""}.items():  # fmt: skip
        other = tmp_path / name / "data" / name
        other.parent.mkdir(parents=True)
        other.write_bytes(data)
        with pytest.raises(RadarError):
            write(tmp_path / name, sound())
        assert other.read_bytes() == data
    (tmp_path / "file").write_text("")
    with pytest.raises(RadarError, match="is a file"):
        write(tmp_path / "file", sound())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"post_id": "a", "split": "dev"}, "split is 'dev'"),
        ({"post_id": "a"}, "'split' is missing"),
        ({"post_id": "a", "split": "test", "true_A": 1}, "'true_A' is not one of the columns"),
        ({"post_id": "a", "split": "test", "label_A": 300}, "does not fit"),
        ({"post_id": "a", "split": "test", "title": 5}, "does not fit"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, row, message):
    with pytest.raises(RadarError, match=message):
        write(tmp_path / "c", [row])
    assert not (tmp_path / "c" / "corpus.json").exists() and not (tmp_path / "c" / "data").exists()


def test_no_rows_and_unreadable_rows(tmp_path):
    def broken():
        yield {"post_id": "a", "split": "test"}
        raise PermissionError("no entry")

    with pytest.raises(RadarError, match="no post to write"):
        write(tmp_path / "c", [])
    with pytest.raises(RadarError, match="cannot read a post: no entry"):
        write(tmp_path / "c", broken())
    with pytest.raises(RadarError, match="no shards"):
        finish_corpus(tmp_path / "c", name="x", kind="imported")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, sound):
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(RadarError, match="cannot write"):
        write(tmp_path / "blocked" / "c", sound())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(RadarError, match="No space left"):
        write(tmp_path / "c", sound())
    assert [left.name for left in (tmp_path / "c").iterdir()] == [".lock"]


def test_shards_that_disagree_with_corpus_json_are_found_on_opening(tmp_path, sound):
    folder = tmp_path / "c"
    posts = write(folder, sound(20), shard_rows=2)
    shard = posts.shards("test")[0]
    table = pq.read_table(shard)
    shard.unlink()
    with pytest.raises(RadarError, match="corpus.json says 4"):
        open_posts(folder)
    for changed, message in [
        (table.drop_columns(["label_B"]), "'label_B' is missing"),
        (table.append_column("true_A", pa.array([1, 1])), "'true_A' is not a column"),
        (table.set_column(1, "split", pa.array([1, 2])), "'split' is int64"),
    ]:
        pq.write_table(changed, shard)
        with pytest.raises(RadarError, match=message):
            open_posts(folder)
    shard.write_bytes(b"PAR1 cut short")
    with pytest.raises(RadarError, match="not a readable Parquet file"):
        open_posts(folder)


def test_unknown_splits_and_columns_and_a_damaged_corpus_json_are_named(tmp_path, sound):
    posts = write(tmp_path / "c", sound())
    with pytest.raises(RadarError, match="no posts in split 'audit'"):
        posts.table("audit")
    with pytest.raises(RadarError, match="no column 'frames'"):
        posts.table(columns=["frames"])
    (tmp_path / "c" / "corpus.json").write_text(json.dumps({**posts.info, "digest": None}).replace("digest", "hash"))
    with pytest.raises(RadarError, match="'digest' is missing"):
        open_posts(tmp_path / "c")


def test_a_larger_corpus_streams_in_small_batches(tmp_path):
    seen = []

    def many():
        for i in range(6_000):
            seen.append(i)
            yield {"post_id": str(i), "split": SPLITS[i % 7], "label_A": i % 2, "frames": [b"x" * 100]}

    posts = write(tmp_path / "c", many(), shard_rows=500)
    groups = [pq.ParquetFile(shard).metadata.row_group(0).num_rows for shard in posts.shards()]
    assert len(seen) == len(posts) == 6_000 and max(groups) == 100 and len(posts.shards("train")) == 2
    assert posts.split("train").select_columns("post_id")[-1]["post_id"] == posts.table("train")["post_id"].iloc[-1]


def test_posts_of_one_group_share_a_number(tmp_path):
    names = ["a", "", "b", "a", "", "b", "a"]
    rows = [{"post_id": f"p{i}", "split": "test", "group": name} for i, name in enumerate(names)]
    table = write(tmp_path / "c", rows, groups=True).table("test")
    numbers = group_numbers(table)
    assert table["group"].tolist() == names and sorted(set(numbers)) == [0, 1, 2, 3]
    assert len(set(numbers[[0, 3, 6]])) == len(set(numbers[[2, 5]])) == 1
    assert group_numbers(table.iloc[[0, 1, 2, 4]]) is None  # each on its own
    assert group_numbers(table.drop(columns="group")) is None and group_numbers(table[:0]) is None


def test_segments_of_one_live_stream_are_one_group_unless_a_group_is_named():
    table = pd.DataFrame({"stream_id": ["s", "s", "", "", "t"], "group": ["", "", "", "g", "g"]})
    a, b, c, d, e = group_numbers(table)
    assert a == b and d == e and len({a, c, d}) == 3
    a, b, c, d, e = group_numbers(table[["stream_id"]])
    assert a == b and len({a, c, d, e}) == 4
