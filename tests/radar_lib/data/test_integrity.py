"""Posts are what was imported, byte for byte, or an error: edited shards, foreign copies, frames from elsewhere."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radar_lib.data.posts import features, finish_corpus, open_posts, write_corpus
from radar_lib.data.shards import digest_rows
from radar_lib.errors import RadarError
from radar_lib.files import digest_json


def write(folder, rows):
    return write_corpus(folder, rows, name="mine", kind="imported", categories=("A", "B"))


@pytest.fixture
def posts(tmp_path, sound):
    return write(tmp_path / "c", sound(40))


def edited(path, content):
    """Overwrite a file; its size and times are as before where the content is as long."""
    about = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def flipped_labels(shard):
    table = pq.read_table(shard)
    place = table.schema.get_field_index("label_A")
    other = pa.array([1 - label if label >= 0 else label for label in table["label_A"].to_pylist()], pa.int8())
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(place, table.schema.field(place), other), sink)
    return sink.getvalue().to_pybytes()


def sealed(folder, **changes):
    """Rewrite corpus.json as somebody would who knows how it is sealed."""
    info = json.loads((folder / "corpus.json").read_text()) | changes
    info.pop("seal", None)
    (folder / "corpus.json").write_text(json.dumps({**info, "seal": digest_json(info)}))


def titles_and_frames(dataset):
    frames = [[np.asarray(frame.convert("RGB")).tobytes() for frame in post["frames"]] for post in dataset]
    return dataset["title"][:], dataset["label_A"][:], frames


@pytest.mark.parametrize("read", ["table", "split", "shards"])
def test_posts_edited_after_import_are_refused_by_name(posts, read):
    shard = posts.shards("train")[0]
    edited(shard, flipped_labels(shard))
    with pytest.raises(RadarError, match=f"{shard.name} is not as it was imported.*Import the posts again"):
        getattr(open_posts(posts.folder), read)("train")
    assert len(open_posts(posts.folder).table("test")) == 8  # other splits are still in order


def test_no_flipped_byte_of_a_shard_or_of_corpus_json_goes_unnoticed(posts):
    random, expected = np.random.default_rng(1), posts.table("train")
    for path in (posts.shards("train")[0], posts.folder / "corpus.json"):
        sound = path.read_bytes()
        for place in random.integers(len(sound), size=20):
            damaged = bytearray(sound)
            damaged[place] ^= 1 << random.integers(8)
            edited(path, bytes(damaged))
            try:
                again = open_posts(posts.folder)
                found = again.table("train")
            except (RadarError, UnicodeDecodeError):  # of what is no longer UTF-8
                continue
            assert found.equals(expected) and again.digest == posts.digest
        edited(path, sound)


def test_a_copy_that_came_with_the_folder_is_not_read_instead_of_the_posts(posts, tmp_path, sound):
    expected = titles_and_frames(posts.split("test"))
    other = write(tmp_path / "other", [{**row, "title": "free coins", "label_A": 1} for row in sound(40)])
    other.split("test")
    foreign = next((other.folder / ".cache").glob("test*.arrow")).read_bytes()
    for name in ("test.arrow", f"test-{posts.digest}.arrow"):
        shutil.rmtree(posts.folder / ".cache", ignore_errors=True)
        (posts.folder / ".cache").mkdir()
        (posts.folder / ".cache" / name).write_bytes(foreign)
        assert titles_and_frames(open_posts(posts.folder).split("test")) == expected


def test_a_damaged_copy_is_made_again_and_a_sound_one_is_kept(posts):
    expected, random = titles_and_frames(posts.split("test")), np.random.default_rng(2)
    copy = next((posts.folder / ".cache").glob("test*.arrow"))
    sound, made = copy.read_bytes(), copy.stat().st_mtime_ns
    assert titles_and_frames(open_posts(posts.folder).split("test")) == expected and copy.stat().st_mtime_ns == made
    for place in random.integers(len(sound), size=20):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << random.integers(8)
        edited(copy, bytes(damaged))
        assert titles_and_frames(open_posts(posts.folder).split("test")) == expected
    table = pa.ipc.open_stream(sound).read_all()
    misread = table.replace_schema_metadata({})  # the same rows, frames no longer said to be images
    with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_stream(sink, misread.schema) as writer:
        writer.write_table(misread)
    assert titles_and_frames(open_posts(posts.folder).split("test")) == expected


@pytest.mark.parametrize("where", ["{outside}", "file://{outside}", "../outside.png", "https://127.0.0.1:9/a.png"])
def test_a_frame_is_never_fetched_from_where_a_shard_says(posts, tmp_path, image, where):
    outside = tmp_path / "outside.png"
    outside.write_bytes(image())
    shard = posts.shards("test")[0]
    rows = pq.read_table(shard).to_pylist()
    rows[3]["frames"] = [{"bytes": None, "path": where.format(outside=outside)}]
    pq.write_table(pa.Table.from_pylist(rows, schema=features(("A", "B")).arrow_schema), shard)
    (posts.folder / "corpus.json").unlink()
    changed = finish_corpus(posts.folder, name="mine", kind="imported")
    with pytest.raises(RadarError, match=f"a frame of post '{rows[3]['post_id']}' holds no bytes"):
        changed.split("test")[3]
    with pytest.raises(RadarError, match="post 'a': a frame holds no bytes"):
        write(tmp_path / "new", [{"post_id": "a", "split": "test", "frames": [{"bytes": None, "path": where}]}])


@pytest.mark.parametrize(
    "changes, message",
    [({"digest": "../../outside"}, "is no digest"), ({"digest": 5}, "is no digest"),
     ({"splits": {"../../other": 1}}, "splits are"), ({"splits": ["test"]}, "splits are")],
)  # fmt: skip
def test_what_corpus_json_says_does_not_lead_out_of_the_folder(posts, changes, message):
    sealed(posts.folder, **changes)
    with pytest.raises(RadarError, match=message):
        open_posts(posts.folder).split("test")
    assert sorted(path.name for path in posts.folder.parent.iterdir()) == ["c"]


def test_a_corpus_json_that_was_edited_is_refused(posts):
    path = posts.folder / "corpus.json"
    path.write_text(path.read_text().replace('"mine"', '"yours"'))
    with pytest.raises(RadarError, match="changed by hand. Import the posts again"):
        open_posts(posts.folder)
    path.write_text(path.read_text().replace('"name"', '"x": NaN, "name"', 1))
    with pytest.raises(RadarError, match="changed by hand"):
        open_posts(posts.folder)
    path.write_text("[]")
    with pytest.raises(RadarError, match="no JSON object"):
        open_posts(posts.folder)


def test_the_digest_of_rows_does_not_depend_on_how_they_are_cut(posts):
    table = pa.concat_tables([pq.read_table(shard) for shard in posts.shards()])
    parts = [digest_rows(table.to_batches(max_chunksize=size)) for size in (1, 7, 1000)]
    assert parts == [posts.digest] * 3


def test_copies_of_posts_never_leave_their_folder(posts, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (posts.folder / ".cache").symlink_to(outside)
    with pytest.raises(RadarError, match="is a link"):
        open_posts(posts.folder).split("train")
    assert not list(outside.iterdir())
