"""A folder of videos: what is told of them, copies, bad files, and a run that is killed."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_suite.intake import from_video
from radar_suite.intake.check import check_posts
from radar_suite.intake.from_video import PARTIAL, SET_ASIDE, VIDEOS, import_videos, read_all
from radar_suite.intake.one_video import Reading

PLAIN = Reading(frames=3, ocr=False)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


@pytest.fixture
def folder(films, tmp_path):
    """Eight different videos, the first of them again, smaller and worse, and as it is."""
    place = tmp_path / "videos"
    (place / "deep").mkdir(parents=True)
    for seed in range(8):
        films.film(place / f"{seed}.mp4", seed=seed, side=128, options={"preset": "ultrafast"})
    films.film(place / "deep" / "again.mkv", side=96, pictures=films.scaled(0, 96), options={"crf": "30"})
    (place / "same.mp4").write_bytes((place / "0.mp4").read_bytes())
    return place


def test_videos_and_what_is_told_of_them_become_posts(folder, tmp_path):
    rows = [{"file": f"{i}.mp4", "title": f"t{i}", "label_spam": i % 2, "split": ("train", "test")[i // 4]}
            for i in range(8)]  # fmt: skip
    rows += [{"file": name, "label_spam": -1, "split": "train"} for name in ("deep/again.mkv", "same.mp4")]
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {
        "post_id": "seven",
        "title": "its own",
        "region": "br",
        "created_at": "2025-01-31T12:00:00Z",
        "asr_text": "hi",
    }
    (folder / "7.json").write_text(json.dumps(own))
    (folder / "6.csv").write_text("title,language\nsix,pt-BR\n")
    posts = import_videos(folder, tmp_path / "posts", reading=PLAIN)
    table = posts.table().set_index("post_id")
    assert posts.categories == ("spam",) and posts.splits == {"train": 6, "test": 4}
    assert table.loc["seven", ["title", "region", "asr_text"]].tolist() == ["its own", "BR", "hi"]
    assert table.loc["6.mp4", ["title", "language", "label_spam"]].tolist() == ["six", "pt-BR", 0]
    copies = ["0.mp4", "deep/again.mkv", "same.mp4"]
    assert set(table.loc[copies, "group"]) == {"copies:0.mp4"}
    assert (table.drop(copies)["group"] == "").all()
    assert all(len(row["frames"]) == 3 for row in posts.split())
    about = {row["post_id"]: row for row in lines(posts.folder / VIDEOS)}
    assert about["seven"]["times"] == [0.5, 1.5, 2.5] and about["seven"]["seconds"] == 3
    assert not (posts.folder / PARTIAL).exists() and lines(posts.folder / SET_ASIDE) == []
    check_posts(posts.folder)


def test_traffic_without_labels_is_unlabelled_and_given_groups_hold_copies_together(folder, tmp_path):
    (folder / "same.json").write_text('{"group": "campaign"}')
    (folder / "5.json").write_text('{"group": "campaign"}')
    posts = import_videos(folder, tmp_path / "posts", reading=PLAIN, categories=["spam", "scam"])
    table = posts.table().set_index("post_id")
    assert posts.splits == {"unlabelled": 10} and (table[["label_spam", "label_scam"]] == -1).all(axis=None)
    assert set(table.index[table["group"] == "campaign"]) == {"0.mp4", "deep/again.mkv", "same.mp4", "5.mp4"}
    check_posts(posts.folder)


def test_a_hundred_bad_videos_of_twenty_kinds_stop_nothing(films, folder, tmp_path):
    kinds = films.bad_kinds()
    assert len(kinds) >= 20
    bad = {f"{name} {i}.mp4": write for i in range(5) for name, write in kinds.items()}
    for i, (name, write) in enumerate(bad.items()):
        write(folder / name, i)
    posts = import_videos(folder, tmp_path / "posts", reading=PLAIN, categories=["spam"])
    aside = {row["file"]: row["cause"] for row in lines(posts.folder / SET_ASIDE)}
    assert set(aside) == set(bad) and all(aside.values()) and len(posts) == 10 and len(bad) >= 100
    assert posts.info["set_aside"] == len(bad)


def test_wrong_sidecars_are_set_aside_and_wrong_values_quarantined(folder, tmp_path):
    (folder / "1.json").write_text("{")
    (folder / "2.csv").write_text("title\na\nb\n")
    (folder / "3.json").write_text('{"region": "nowhere"}')
    (folder / "posts.csv").write_text("file,title\n4.mp4,a\n4.mp4,b\nnone.mp4,c\n")
    posts = import_videos(folder, tmp_path / "posts", reading=PLAIN, categories=["spam"])
    assert [row["file"] for row in lines(posts.folder / SET_ASIDE)] == ["1.mp4", "2.mp4", "4.mp4", "none.mp4"]
    assert [row["post_id"] for row in lines(posts.folder / "quarantine.jsonl")] == ["3.mp4"]
    assert len(posts) == 6


def test_bad_use_is_one_error_before_a_video_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(from_video, "keep_video", None)
    (tmp_path / "none").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "corpus.json").write_text("{}")
    (tmp_path / "table.csv").write_text("name,label_spam\n0.mp4,1\n")
    for options in ({"folder": tmp_path / "no"}, {"folder": tmp_path / "none"}, {"out": tmp_path / "taken"},
                    {"table": tmp_path / "table.csv"}, {"categories": []}):  # fmt: skip
        chosen = {"folder": folder, "out": tmp_path / "out", "categories": ["spam"], "reading": PLAIN} | options
        with pytest.raises(RadarError):
            import_videos(**chosen)


def test_when_nothing_can_be_read_the_causes_are_kept(films, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    films.bad_kinds()["text"](folder / "a.mp4", 0)
    with pytest.raises(RadarError):
        import_videos(folder, tmp_path / "out", reading=PLAIN, categories=["spam"])
    assert [row["file"] for row in lines(tmp_path / "out" / SET_ASIDE)] == ["a.mp4"]


class Deadly(pathlib.PosixPath):
    """A path that ends the process that receives it, as a decoder's crash would."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_file_that_ends_its_process_is_set_aside_and_the_others_are_read(films, folder, tmp_path):
    files = {name: folder / name for name in ("0.mp4", "1.mp4", "2.mp4", "3.mp4")}
    files = {"0.mp4": files["0.mp4"], "deadly.mp4": Deadly(folder / "deadly.mp4"), **files}
    abouts = read_all(files, dict.fromkeys(files, "und"), tmp_path / PARTIAL, PLAIN, root=folder, workers=1)
    assert set(abouts) == set(files) and [file for file in files if "cause" in abouts[file]] == ["deadly.mp4"]


def test_killed_and_resumed_gives_the_same_bytes(folder, tmp_path):
    whole = import_videos(folder, tmp_path / "whole", reading=PLAIN, categories=["spam"], workers=1)
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "radar_suite", "posts", "from-video", str(folder), "--out", str(out),
               "--frames", "3", "--no-ocr", "--categories", "spam", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob(f"{PARTIAL}/*/about.json")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    read = {path: path.stat().st_mtime_ns for path in out.glob(f"{PARTIAL}/*/about.json")}
    assert read and not (out / "corpus.json").exists()
    resumed = import_videos(folder, out, reading=PLAIN, categories=["spam"], workers=2)
    assert resumed.digest == whole.digest and bytes_of(out) == bytes_of(whole.folder)
    assert open_posts(out).splits == {"unlabelled": 10}
