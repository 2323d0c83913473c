"""Full validation of a corpus folder."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from radar_lib.data.posts import features, write_corpus
from radar_lib.errors import RadarError
from radar_suite.intake.check import check_posts


@pytest.fixture
def corpus(tmp_path, sound):
    return write_corpus(tmp_path / "c", sound(60), name="mine", kind="imported", categories=("A", "B"), shard_rows=5)


def change(corpus, place, **values):
    """Overwrite cells of the shard's row `place`, as someone with a Parquet editor would."""
    shard = corpus.shards("test")[1]
    rows = pq.read_table(shard).to_pylist()
    rows[place] |= values
    pq.write_table(pa.Table.from_pylist(rows, schema=features(corpus.categories).arrow_schema), shard)
    return shard


def test_a_sound_corpus_is_counted(corpus):
    report = check_posts(corpus.folder)
    assert report.posts.digest == corpus.digest and report.counts["test", "label_A", 1] == 6
    lines = str(report).splitlines()
    assert "60 posts" in lines[0] and "train: 12 posts" in lines[1] and "A 6 of 12, B 6 of 12" in lines[1]


CASES = {
    "label of 2": ({"label_A": 2}, "column label_A (post", "2 is no label"),
    "null label": ({"label_B": None}, "column label_B", "it is null"),
    "null text": ({"title": None}, "column title", "it is null"),
    "duplicate id": ({"post_id": "p1"}, "column post_id", "'p1' is there already"),
    "wrong shard": ({"split": "train"}, "column split", "'train' lies in a shard of 'test'"),
    "region": ({"region": "br"}, "column region", "ISO 3166-1"),
    "empty pipeline": ({"pipeline": ""}, "column pipeline", "it is empty"),
    "null frames": ({"frames": None}, "column frames", "it is null"),
    "frame without bytes": ({"frames": [{"bytes": None, "path": "/etc/x.png"}]}, "no bytes: '/etc/x.png'"),
    "null frame": ({"frames": [None]}, "no bytes"),
    "no image": ({"frames": [{"bytes": b"text", "path": None}]}, "no image", "Replace the image"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_row_is_named(corpus, case):
    values, *parts = CASES[case]
    shard = change(corpus, 2, **values)
    with pytest.raises(RadarError) as caught:
        check_posts(corpus.folder)
    for part in ("1 problem in", f"{shard.name}, row 3, ", *parts):
        assert part in str(caught.value)


def test_damaged_and_huge_frames(corpus, image, monkeypatch):
    frames = [{"bytes": image(64, 64)[:3000], "path": "cut.png"}, {"bytes": image(64, 64), "path": "bomb.png"}]
    change(corpus, 0, frames=frames)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.raises(RadarError, match=r"2 problems[^$]*damaged|too large[^$]*'bomb.png'"):
        check_posts(corpus.folder)


def test_a_stream_stays_in_one_split(tmp_path, sound):
    rows = [{**row, "stream_id": "s" if i in (0, 1) else "", "segment": 0} for i, row in enumerate(sound(40))]
    write_corpus(tmp_path / "c", rows, name="x", kind="imported", categories=("A", "B"), streams=True)
    with pytest.raises(RadarError, match="stream 's' is in 'train' and in 'test'"):
        check_posts(tmp_path / "c")


def test_what_only_the_whole_shows(tmp_path, sound):
    rows = [row for row in sound(40) if row["split"] != "train" or row["label_A"] == 0]
    write_corpus(tmp_path / "c", rows, name="x", kind="imported", categories=("A", "B"))
    with pytest.raises(RadarError, match="column label_A: no violating post .* 'train'"):
        check_posts(tmp_path / "c")


def test_rows_changed_behind_corpus_json_are_noticed(corpus):
    change(corpus, 1, title="another title")
    with pytest.raises(RadarError, match="the rows were changed after it"):
        check_posts(corpus.folder)
