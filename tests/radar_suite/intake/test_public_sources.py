"""The three public sources, in small files with the layouts of their own repositories."""

import csv
import gzip
import re

import pytest

from radar_lib.errors import RadarError
from radar_suite.intake.check import check_posts
from radar_suite.intake.public import SOURCES, YOUTUBE_FILES, import_public, near_key, open_public

STYLED = "main di \U0001d40c\U0001d40e\U0001d40d\U0001d404\U0001d413 yuk {}"  # mathematical bold capitals
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty")


def phrase(i):
    """A text whose words no other `i` below 1,000 has."""
    return " ".join(WORDS[int(d)] + letter for d, letter in zip(f"{i:03d}", "xyz", strict=True))


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    bait, news = ([f"{kind} {phrase(i)}" for i in range(60)] for kind in ("You Will Not Believe", "Minister visits"))
    for name, lines in (("clickbait_data", bait), ("non_clickbait_data", news)):
        path = folder / "stop_clickbait" / "dataset" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n\n".join(lines).encode()))
    rows = [("", "", STYLED.format(phrase(i)), 1) for i in range(40)]
    rows += [("", "", f"enak {phrase(i)}", 0) for i in range(60)]
    rows += [("", "", "enak " + phrase(0), 0), ("", "", "ENAK  " + phrase(1), 0)]  # an exact and a normalised duplicate
    rows += [("", "", "sama", 0), ("", "", "Sama", 1), ("", "", " ", 0)]  # conflicting labels, and no text
    write_csv(folder / "judol" / "dataset_judol_labelled.csv", ["comment_id", "author", "comment_text", "label"], rows)
    for video, name in enumerate(YOUTUBE_FILES):
        rows = [("", "", "2015-05-28T21:39:52.376000", f"nice {phrase(100 * video + i)}\ufeff", 0) for i in range(20)]
        rows += [("", "", "", f"check {phrase(100 * video + i)}", 1) for i in range(20)]
        rows += [("", "", "", f"Subscribe {'!' * video} <br />", 1)]  # near duplicates across all videos
        write_csv(folder / "youtube_spam" / name, ["COMMENT_ID", "AUTHOR", "DATE", "CONTENT", "CLASS"], rows)
    return folder


def test_each_source_is_a_pipeline_verified_for_its_own_risk(sources, tmp_path):
    posts = import_public(sources, tmp_path / "out")
    table = posts.table()
    assert posts.kind == "public" and posts.categories == ("LQC", "RCS", "FE")
    assert len(check_posts(posts.folder).posts) == len(posts)
    for source, n in zip(SOURCES, (120, 100, 201), strict=True):
        pipeline, category = source.name, source.category
        part = table[table["pipeline"] == pipeline]
        assert len(part) == n, pipeline
        assert set(part["language"]) == {source.language} and set(part["region"]) == {source.region}
        assert set(part[f"label_{category}"]) == {0, 1}
        others = [f"label_{c}" for c in posts.categories if c != category]
        assert (part[others] == -1).all(axis=None)
    assert table["post_id"].is_unique and set(table["split"]) == {"train", "validation", "calibration", "test"}
    assert table["created_at"].notna().sum() == 100
    info = posts.info["sources"]
    assert info["judol"]["rows"] == 105 and info["judol"]["dropped"] == {
        "empty": 1, "exact duplicate": 1, "normalised duplicate": 1, "conflicting labels": 2,
        "left out by max_train or max_test": 0,
    }  # fmt: skip
    assert info["youtube_spam"]["dropped"]["near duplicate across videos"] == 4


def test_youtube_is_split_by_video_and_its_near_duplicates_stay_in_the_latest_split(sources, tmp_path):
    table = import_public(sources, tmp_path / "out", seed=4).table()
    comments = table[table["pipeline"] == "youtube_spam"]
    comments = comments[~comments["title"].str.startswith("Subscribe")]
    number = {word: i for i, word in enumerate(WORDS)}
    video = comments["title"].map(lambda title: number[re.sub("x$", "", title.split()[1])])
    splits = comments.groupby(video)["split"].agg(lambda part: tuple(sorted(set(part))))
    assert sorted(splits) == [("calibration", "validation"), ("test",), ("train",), ("train",), ("train",)]
    assert table.loc[table["title"].str.startswith("Subscribe"), "split"].tolist() == ["test"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Mantaaap nyo!!", "mantap NYO", True), ("check out my channel <br />&quot;", "Check out my channel", True),
     ("\U0001d40c\U0001d40e\U0001d40d\U0001d404\U0001d413 88", "monet 99", True), ("nice song", "bad song", False),
     ("😂", "😭", False), ("😂 ", "😂\ufeff", True)],
)  # fmt: skip
def test_near_key(one, other, same):
    assert (near_key(one) == near_key(other)) is same


def test_samples_are_seeded_and_nested(sources, tmp_path):
    full, small, smaller = (
        import_public(sources, tmp_path / str(n), max_train=n, max_test=n and n // 2) for n in (None, 30, 20)
    )
    ids = [set(posts.table()["post_id"]) for posts in (full, small, smaller)]
    assert ids[2] < ids[1] < ids[0]
    sizes = small.table().groupby(["pipeline", "split"]).size()
    assert sizes.xs("train", level="split").max() == 30 and sizes.drop("train", level="split").max() == 15
    for path in list(sources.rglob("*clickbait_data.gz")):  # unpacked headlines are read, too
        (path.parent / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    again = import_public(sources, tmp_path / "again", max_train=20, max_test=10)
    assert again.digest == smaller.digest
    assert import_public(sources, tmp_path / "seed", seed=2, max_train=20, max_test=10).digest != smaller.digest


def test_nfkc_makes_styled_letters_plain_and_keeps_ids_and_splits(sources, tmp_path):
    raw, plain = (import_public(sources, tmp_path / str(nfkc), nfkc=nfkc) for nfkc in (False, True))
    a, b = (posts.table().set_index("post_id") for posts in (raw, plain))
    assert a["split"].equals(b["split"]) and plain.info["nfkc"] is True and raw.info["nfkc"] is False
    assert a["title"].str.contains("\U0001d40c").sum() == 40 and a["title"].str.contains("\ufeff").sum() == 100
    assert b["title"].str.contains("main di MONET yuk").sum() == 40 and not b["title"].str.contains("\ufeff").any()


A_FILE = ("non_clickbait_data.gz", "dataset_judol_labelled.csv", YOUTUBE_FILES[2])  # of each source


@pytest.mark.parametrize(("source", "name"), list(zip(SOURCES, A_FILE, strict=True)))
def test_a_missing_file_is_named_with_its_origin(sources, tmp_path, source, name):
    next(sources.rglob(name)).unlink()
    with pytest.raises(RadarError, match=f"{name} is missing.*{re.escape(source.url)}"):
        import_public(sources, tmp_path / "out")
    with pytest.raises(RadarError, match="is no folder"):
        import_public(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("clickbait_data.gz", b"no gzip", "damaged archive"),
        ("clickbait_data.gz", gzip.compress(b"text", mtime=0)[:-9], "damaged archive"),
        ("clickbait_data.gz", gzip.compress(b"fine\nca\xe9", mtime=0), "line 2: not UTF-8"),
        ("dataset_judol_labelled.csv", b"text,label\na,1\n", "row 1: no column comment_text"),
        ("dataset_judol_labelled.csv", b"comment_text,label\na,2\n", "row 2, column label: '2' is no label"),
        ("dataset_judol_labelled.csv", b"comment_text,label\na,1\nb\n", "row 3, column label: the row is cut short"),
        ("Youtube01-Psy.csv", b"DATE,CONTENT,CLASS\nnoon,a,1\n", "row 2, column DATE: 'noon' is no ISO 8601 time"),
        ("Youtube01-Psy.csv", b"", "no column CONTENT"),
    ],
)
def test_a_damaged_file_is_named_with_the_row(sources, tmp_path, name, data, message):
    next(sources.rglob(name)).write_bytes(data)
    with pytest.raises(RadarError, match=f"{name}.*{message}"):
        import_public(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_videos_or_too_small_a_sample(sources, tmp_path):
    with pytest.raises(RadarError, match="in split 'train'"):
        import_public(sources, tmp_path / "out", max_train=1)
    for path in sorted((sources / "youtube_spam").glob("*.csv"))[2:]:
        path.write_text("CONTENT,CLASS\n")
    with pytest.raises(RadarError, match="at least 3"):
        import_public(sources, tmp_path / "out")


def test_near_duplicates_share_a_split(sources, tmp_path):
    path = sources / "judol" / "dataset_judol_labelled.csv"
    with open(path, "a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(("", "", f"mantap{'p' * i} bang {i}!!", 0) for i in range(30))
    table = import_public(sources, tmp_path / "out").table()
    assert table.loc[table["title"].str.startswith("mantap"), "split"].nunique() == 1


def test_the_bytes_of_the_sources_name_what_is_kept_of_them(sources, tmp_path):
    first = open_public(sources, tmp_path / "kept", max_train=20)
    assert open_public(sources, tmp_path / "kept", max_train=20).folder == first.folder
    assert open_public(sources, tmp_path / "kept", max_train=10).folder != first.folder
    table = next(path for path in sources.rglob("*.csv"))
    table.write_text(table.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert open_public(sources, tmp_path / "kept", max_train=20).folder != first.folder
