"""Files are finished or absent."""

import errno
import os
import subprocess
import sys

import pytest

from radar_lib import files
from radar_lib.errors import RadarError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ZeroDivisionError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert files.read_json(path) == {"x": 1} and os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    code = "import os, pathlib, sys; from radar_lib.files import atomic_path\n"
    code += "with atomic_path(pathlib.Path(sys.argv[1])) as path: path.write_text('half'); os._exit(9)"
    for name in ("a", "deep/er/b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.rglob("*.tmp"))) == 2
    (tmp_path / "99999999.tmp").mkdir()  # somebody else's
    with files.atomic_path(tmp_path / "c") as living:
        living.write_text("whole")
        files.remove_leftovers(tmp_path)
        assert {*tmp_path.rglob("*.tmp")} == {living.parent, tmp_path / "99999999.tmp"}
    assert (tmp_path / "c").read_text() == "whole"


def test_an_error_about_another_file_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "copy") as copy:
        copy.write_bytes((tmp_path / "absent").read_bytes())
    with pytest.raises(RadarError, match="cannot write .*copy"), files.atomic_path(tmp_path / "copy") as copy:
        (copy / "no folder").write_text("x")
    assert not os.listdir(tmp_path)


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with files.atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert os.listdir(tmp_path / "folder") == ["two"]


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RadarError, match="cannot write .*a.txt: No space left on device. Free some space"):
        files.atomic_write_text(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == []


def test_json_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(RadarError, match="does not exist"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"x": ')
    with pytest.raises(RadarError, match="b.json, line 1: not valid JSON"):
        files.read_json(tmp_path / "b.json")
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "c.json", float("nan"))


def test_digests_depend_on_content_and_names_only(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert files.digest_json({"a": 1, "b": 2}) == files.digest_json({"b": 2, "a": 1})
    assert files.digest_file(tmp_path / "a") == files.digest_bytes(b"1")


KILLED = """
import os, sys
from pathlib import Path
from radar_lib.files import atomic_path
left = int(sys.argv[2])
def killed(real):
    def act(*arguments, **options):
        global left
        left -= 1
        return os._exit(9) if left < 0 else real(*arguments, **options)
    return act
for name in ("rename", "replace", "unlink", "rmdir"):
    setattr(os, name, killed(getattr(os, name)))
with atomic_path(Path(sys.argv[1])) as new:
    new.mkdir()
    (new / "a").write_text("new")
"""


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_a_folder_is_the_old_one_or_the_new_one_whole(tmp_path, moment):
    place = tmp_path / "folder"
    place.mkdir()
    for name in "abc":
        (place / name).write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), str(moment)], check=False)
    assert killed.returncode == 9
    files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["folder"]
    assert {path.name: path.read_text() for path in place.iterdir()} in ({"a": "new"}, dict.fromkeys("abc", "old"))


def test_a_folder_that_could_not_be_replaced_is_back_in_its_place(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").touch()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), files.atomic_path(tmp_path / "folder") as new:
        new.mkdir()
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == ["old"]


@pytest.mark.parametrize(("content", "message"), [
    (b"\xff\xfe", "not as expected"), (b"[" * 100_000, "not as expected"),
    (b"[1]", "should be an object"), (b'{"a": [1, "2"]}', "a.1: not as expected .*integer"),
])  # fmt: skip
def test_json_of_another_shape_is_named_with_the_place(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RadarError, match=f"a.json.*{message}.*Delete it and run its step again"):
        files.read_json(tmp_path / "a.json", dict[str, list[int]])
    with pytest.raises(RadarError, match="cannot be read"):
        files.read_json(tmp_path)
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert files.read_json(tmp_path / "a.json", dict[str, list[int]]) == {"a": [1]}
