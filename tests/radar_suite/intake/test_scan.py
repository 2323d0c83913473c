"""One pass over the frames, against Pillow and hand-made pictures."""

import io

import numpy as np
import pandas as pd
from imagehash import phash
from PIL import Image

from radar_lib.data.posts import write_corpus
from radar_suite.intake import scan


def corpus(folder, rows):
    return write_corpus(folder / "c", rows, name="x", kind="imported", categories=("A",))


def features_of(image):
    small, grey = image.resize((32, 32)), image.convert("L").resize((96, 96))
    return scan.frame_features(np.asarray(small)[None], np.asarray(grey)[None])[0]


def test_scan_counts_what_is_there(tmp_path, image):
    one, two = image(8, 6), image(5, 5, kind="JPEG")
    rows = [{"post_id": "a", "split": "train", "frames": [one, two]}, {"post_id": "b", "split": "train"},
            {"post_id": "c", "split": "test", "frames": [two]}]  # fmt: skip
    posts = corpus(tmp_path, rows)
    found = scan.scan_frames(posts)
    assert found.table[["post_id", "frames", "frame", "width", "height", "n_bytes"]].values.tolist() == [
        ["a", 2, 0, 8, 6, len(one)], ["a", 2, 1, 5, 5, len(two)], ["c", 1, 0, 5, 5, len(two)],
    ]  # fmt: skip
    assert (found.hashes[1] == found.hashes[2]).all() and (found.features[1] == found.features[2]).all()
    assert found.table["digest"].nunique() == 2 and len(scan.scan_frames(posts, "test").table) == 1
    assert scan.scan_frames(posts, keep={"c"}).table["post_id"].tolist() == ["c"]


def test_two_processes_find_what_one_finds(tmp_path, image):
    rows = [{"post_id": f"{split}{i}", "split": split, "frames": [image(8 + i, 6)]}
            for split in ("train", "test") for i in range(3)]  # fmt: skip
    posts = corpus(tmp_path, [*rows, {"post_id": "bare", "split": "validation"}])
    one, two = scan.scan_frames(posts), scan.scan_frames(posts, workers=2)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert (one.hashes == two.hashes).all() and (one.features == two.features).all() and len(one.table) == 6


def test_no_frames_at_all(tmp_path):
    posts = corpus(tmp_path, [{"post_id": "a", "split": "train", "title": "t"}])
    found = scan.scan_frames(posts)
    assert found.table.empty and list(found.table) == scan.COLUMNS and found.hashes.shape == (0, scan.HASH_BITS)
    assert scan.post_features(found, pd.Series(["a"])).tolist() == [[0.0]]


def test_long_posts_are_sampled_from_first_to_last_and_hashes_are_the_librarys(tmp_path, draw):
    rng = np.random.default_rng(0)
    frames = [draw(rng, side=96) for _ in range(6)]
    found = scan.scan_frames(corpus(tmp_path, [{"post_id": "a", "split": "train", "frames": frames}]))
    assert found.table["frame"].tolist() == [0, 2, 5] and set(found.table["frames"]) == {6}
    assert scan.spread(2, 3) == [0, 1] and scan.spread(100, 1) == [0]
    with Image.open(io.BytesIO(frames[2])) as image:
        apart = (found.hashes[1] != phash(image).hash.ravel()).sum()
    assert apart <= 4  # of 64; the library scales down by another filter


def test_features_see_light_sharpness_and_borders():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8))
    flat = Image.new("RGB", (96, 96), (255, 255, 255))
    framed = Image.new("RGB", (96, 96), (255, 255, 255))
    framed.paste((0, 0, 0), (0, 0, 96, 12))
    framed.paste((0, 0, 0), (0, 84, 96, 96))
    n, f, b = features_of(noise), features_of(flat), features_of(framed)
    assert f[-5] == 1 and f[-4] == 0 and n[-4] > 0.8
    assert b[-2] == 1 and f[-2] == 0 and 0 < b[-1] < 0.5
    assert np.isclose((f[:64] ** 2).sum(), 1) and np.isclose((n[:64] ** 2).sum(), 1, atol=1e-5)
    assert all(np.isfinite(part).all() for part in (n, f, b))


def test_post_features_average_and_compare_frames(tmp_path, draw):
    rng = np.random.default_rng(1)
    x, y = draw(rng), draw(rng)
    rows = [{"post_id": p, "split": "train", "frames": frames} for p, frames in (("still", [x, x]), ("moving", [x, y]))]
    found = scan.scan_frames(corpus(tmp_path, rows))
    n = found.features.shape[1]
    still, moving, none = scan.post_features(found, pd.Series(["still", "moving", "absent"]))
    assert np.allclose(still[:n], found.features[0]) and not still[2 * n : -1].any() and still[-1] == np.float32(0.4)
    assert np.allclose(moving[:n], found.features[2:].mean(0)) and moving[2 * n : -1].sum() > 0
    assert np.allclose(moving[n : 2 * n], found.features[2:].max(0)) and not none.any()
