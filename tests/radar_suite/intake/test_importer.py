"""Tables of one's own become a corpus, or one clear error."""

import json
from collections import Counter

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_suite.chain.cli import main
from radar_suite.intake.importer import FRACTIONS, draw_split, import_table


def imported(place, table, **options):
    return import_table(table, place.images, place.out, **options)


def refused(place, table, *parts, **options):
    """The message; no corpus may be left, and the message fits on a screen."""
    with pytest.raises(RadarError) as caught:
        imported(place, table, **options)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert not (place.out / "corpus.json").exists() and not (place.out / "data").exists()
    assert len(message.splitlines()) <= 24 and max(map(len, message.splitlines())) < 400
    return message


@pytest.mark.parametrize(
    ("name", "options"),
    [("p.csv", {}), ("p.csv", {"encoding": "utf-8-sig"}), ("p.csv", {"delimiter": ";"}), ("p.tsv", {"delimiter": "\t"}),
     ("p.jsonl", None)],
)  # fmt: skip
def test_a_table_of_each_kind(place, name, options):
    rows = place.rows()
    posts = imported(place, place.jsonl(rows, name=name) if options is None else place.csv(rows, name=name, **options))
    assert posts.kind == "imported" and posts.name == "p" and posts.categories == ("A", "B")
    table = posts.table().set_index("post_id")
    for row in rows:
        for column in ("split", "title", "region", "label_A"):
            assert table.loc[row["post_id"], column] == row[column]
    n_frames = {post["post_id"]: len(post["frames"]) for post in posts.split()}
    assert [n_frames[f"p{i}"] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert posts.info["quarantined"] == 0 and not (place.out / "quarantine.jsonl").exists()


def test_frames_are_copied_byte_for_byte_or_scaled_down_and_lie_beside_the_table_by_default(place, image):
    (place.images / "big.png").write_bytes(image(60, 30))
    rows = [{**row, "frames": "images/big.png|images/a.png"} for row in place.rows()]
    posts = import_table(place.csv(rows), None, place.out, max_px=40)
    assert [frame.size for frame in posts.split("train")[0]["frames"]] == [(40, 20), (20, 12)]


def test_optional_columns_may_be_missing(place):
    rows = [{"post_id": i, "title": "x", "label_A": i % 2} for i in range(200)]
    posts = imported(place, place.csv(rows))
    table = posts.table()
    assert set(posts.splits) == set(FRACTIONS)
    assert set(table["pipeline"]) == {"A"} and set(table["region"]) == {"ZZ"} and set(table["language"]) == {"und"}
    assert table["created_at"].isna().all() and "stream_id" not in table


def test_drawn_splits_follow_the_fractions_and_the_seed():
    drawn = Counter(draw_split(str(i), seed=3) for i in range(20_000))
    assert all(abs(drawn[split] / 20_000 - share) < 0.02 for split, share in FRACTIONS.items())
    assert [draw_split(str(i), seed=3) for i in range(50)] != [draw_split(str(i), seed=4) for i in range(50)]


def test_drawn_splits_keep_streams_together_and_unverified_posts_unlabelled(place):
    rows = [{"post_id": f"p{i}", "title": "x", "stream_id": "", "segment": ""} for i in range(440)]
    for i, row in enumerate(rows):
        row |= {"stream_id": f"s{i // 4}", "segment": i % 4} if i < 400 else {}
        row |= {"label_A": i % 2, "label_B": i // 2 % 2} if i % 8 < 6 else {"label_A": -1, "label_B": -1}
    table = imported(place, place.csv(rows)).table()
    streams = table[table["stream_id"] != ""]
    assert (streams.groupby("stream_id")["split"].nunique() == 1).all() and streams["segment"].max() == 3
    alone = table[table["stream_id"] == ""]
    assert ((alone["split"] == "unlabelled") == (alone["label_A"] == -1)).all()
    assert set(table.loc[table["label_A"] == -1, "pipeline"]) == {"traffic"} and "A+B" in set(table["pipeline"])


def test_spellings_that_mean_the_same(place):
    rows = place.rows()
    rows[0] |= {"label_A": "1.0", "label_B": " 0", "created_at": "2024-05-01T10:00:00+02:00", "region": "br"}
    rows[1] |= {"created_at": "2024-05-01", "language": "pt-BR", "region": ""}
    rows[2] |= {"created_at": "", "language": ""}
    table = imported(place, place.csv(rows)).table().set_index("post_id")
    assert table.loc["p0", "created_at"] == pd.Timestamp("2024-05-01 08:00") and table.loc["p0", "label_A"] == 1
    assert tuple(table.loc[["p0", "p1"], "region"]) == ("BR", "ZZ")
    assert tuple(table.loc[["p1", "p2"], "language"]) == ("pt-BR", "und")


def test_json_lists_of_frames_and_keys_left_out_and_foreign_columns(place):
    rows = [{**row, "views": 3} for row in place.rows()]
    rows[0]["frames"] = ["a.png", "deep/b.jpg"]
    del rows[1]["region"], rows[1]["frames"]
    rows[2]["created_at"] = None
    posts = imported(place, place.jsonl(rows), name="mine")
    table = posts.table().set_index("post_id")
    assert len(posts.split("train")[0]["frames"]) == 2 and table.loc["p1", "region"] == "ZZ"
    assert posts.info["ignored_columns"] == ["views"] and posts.name == "mine" and "views" not in table


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    titles=st.lists(cells, min_size=8, max_size=12),
    categories=st.integers(1, 7).map(lambda k: [f"c-{i}" for i in range(k)]),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_any_text_and_any_number_of_risks_survive(place, tmp_path_factory, titles, categories, kind):
    rows = []
    for i, title in enumerate(titles):
        labels = {f"label_{c}": i // 2 % 2 for c in categories}
        rows.append({"post_id": f"p{i}", "split": ("train", "test")[i % 2], "title": title, **labels})
    table = getattr(place, kind)(rows)
    posts = import_table(table, None, tmp_path_factory.mktemp("out") / "c", allow_empty=True)
    assert posts.categories == tuple(categories)
    assert posts.table().set_index("post_id")["title"].to_dict() == {row["post_id"]: row["title"] for row in rows}


BAD_ROWS = {
    "label of 2": ({"label_A": 2}, "column label_A", "2 is no label", "1 (violating), 0 (cleared) or -1"),
    "label in words": ({"label_A": "yes"}, "column label_A", "'yes' is no label"),
    "label of NaN": ({"label_A": "nan"}, "column label_A", "is no label"),
    "empty label": ({"label_B": ""}, "column label_B", "empty"),
    "duplicate id": ({"post_id": "p3"}, "column post_id", "'p3' is there already"),
    "empty id": ({"post_id": " "}, "column post_id", "is no id"),
    "split": ({"split": "dev"}, "column split", "'dev' is no split", "pretrain, train"),
    "time": ({"created_at": "yesterday"}, "column created_at", "'yesterday' is no time", "ISO 8601"),
    "language": ({"language": "english (us)"}, "column language", "BCP 47"),
    "region": ({"region": "Brazil"}, "column region", "ISO 3166-1"),
    "missing image": ({"frames": "a.png|none.png"}, "column frames", "'none.png' is missing"),
    "path up": ({"frames": "../posts.csv"}, "column frames", "'../posts.csv' leaves the images folder"),
    "no image": ({"frames": "text.png"}, "column frames", "no image", "'text.png'", "Replace the image"),
    "truncated": ({"frames": "cut.png"}, "column frames", "damaged", "'cut.png'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_bad_row_is_named_or_set_aside(place, image, case, kind):
    (place.images / "text.png").write_text("no pixels here")
    (place.images / "cut.png").write_bytes(image(64, 64)[:3000])
    change, *parts = BAD_ROWS[case]
    rows = [{"created_at": "", "language": "", **row} for row in place.rows(40)]
    rows[10] |= change
    table = getattr(place, kind)(rows)
    row = "row 12" if kind == "csv" else "row 11"
    assert "--on-error quarantine" in refused(place, table, "1 problem in", f"{table.name}, {row}, ", *parts)
    posts = imported(place, table, on_error="quarantine")
    (line,) = (place.out / "quarantine.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["file"], f"row {entry['row']}") == (table.name, row) and entry["problems"][0]["what"]
    assert len(posts) == 39 and posts.info["quarantined"] == 1 and len(open_posts(place.out).table()) == 39


WRONG_VALUES = {
    "jsonl": [
        ({"title": None}, "column title (post 'p7'): it is null"),
        ({"label_A": None}, "column label_A (post 'p7'): it is null"),
        ({"post_id": None}, "column post_id: it is null"),
        ({"frames": None}, "None is no list of paths"),
        ({"title": "\ud800"}, "no valid Unicode"),
        ({"title": 5}, "5 is no text"),
        ({"label_A": [1]}, "[1] is no label"),
        ({"label_A": 10**400}, "is no label"),
        ({"post_id": ["p"]}, "['p'] is no id"),
        ({"region": ["BR"], "language": 7}, "7 is no language"),
        ({"created_at": 1700000000}, "1700000000 is no time"),
        ({"created_at": "0001-01-01T00:00:00+05:00"}, "is no time"),
        ({"stream_id": ["s"], "segment": "1"}, "column stream_id (post 'p7'): ['s'] is no text"),
        ({"frames": ["a\0.png", "\ud800.png"]}, "embedded null byte"),
        *(({name: value}, f"column {name}", f"{value} is no ") for value in (True, False) for name in (
            "label_A", "label_B", "post_id", "group", "stream_id", "segment", "title", "split")),
    ],
    "csv": [({name: value}, f"column {name} (post 'p7'): {value!r} is no") for name, value in (
        ("label_A", "0_1"), ("label_A", "\uff11"), ("label_A", "1e0"), ("label_A", "01"), ("region", "\xdf"))],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in WRONG_VALUES.items() for case in cases])
def test_values_of_the_wrong_kind_and_spellings_that_only_python_takes(place, kind, case):
    rows, (change, *parts) = [{"group": "", "stream_id": "", "segment": 0, **row} for row in place.rows()], case
    rows[7] |= change
    refused(place, getattr(place, kind)(rows), f"row {8 + (kind == 'csv')}", *parts)


@pytest.mark.parametrize(
    ("segment", "stream", "part"),
    [(-1, "s", "column segment"), (2**31, "s", "column segment"), ("two", "s", "'two' is no segment"),
     (0, "t", "stream 't' is in 'train' and in 'test'")],
)  # fmt: skip
def test_streams_and_segments(place, segment, stream, part):
    rows = [{**row, "stream_id": "", "segment": 0} for row in place.rows()]
    rows[0]["stream_id"] = "t"
    rows[6] |= {"stream_id": stream, "segment": segment}
    refused(place, place.csv(rows), "row 8", part)


def test_all_problems_are_counted_the_first_twenty_listed_and_no_gap_is_seen_where_rows_can_be_corrected(place):
    rows = [{**row, "label_A": 2 + i if i < 50 else row["label_A"]} for i, row in enumerate(place.rows(60))]
    message = refused(place, place.csv(rows), "50 problems", "30 more")
    assert message.count("posts.csv, row ") == 20
    refused(place, place.csv([{**row, "region": "?"} for row in place.rows()]), "20 problems")


def test_problems_of_one_row_are_all_named(place):
    rows = place.rows()
    rows[5] |= {"label_A": 7, "region": "?", "frames": "none.png|../x"}
    refused(place, place.csv(rows), "4 problems", "7 is no label", "'?' is no region", "missing", "leaves")


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
@pytest.mark.parametrize(
    ("keep", "parts"),
    [
        (lambda r: r["split"] != "train", ["no post is in split 'train'"]),
        (lambda r: (r["split"], r["label_B"]) != ("test", 1), ["label_B", "no violating post", "'test'"]),
        (lambda r: (r["split"], r["label_A"]) != ("train", 0), ["label_A", "no cleared post", "'train'"]),
    ],
)
def test_what_only_the_whole_shows(place, keep, parts, on_error):
    refused(place, place.csv([row for row in place.rows() if keep(row)]), *parts, on_error=on_error)


def test_quarantine_that_leaves_too_little_says_why(place):
    rows = [{**row, "region": "nowhere"} for row in place.rows()]
    refused(place, place.csv(rows), "no post is in split 'train'", "20 rows were bad", on_error="quarantine")


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("post_id,title", ["no label column", "Add label_<category>"]),
        ("title,label_A", ["no column post_id"]),
        ("post_id,label_A,region", ["without text and frames"]),
        ("post_id,title,label_A B", ["cannot be called 'A B'"]),
        ("post_id,title,label_A,label_A", ["'label_A' is there twice"]),
        ("post_id,titel,title,label_A", ["'titel'", "Did you mean title?"]),
        ("post_id,title,label_A,lable_B", ["'lable_B'", "Did you mean label_<category>?"]),
        ("post_id,title,label_A,segment", ["segment without stream_id"]),
        ("post_id,title,label_A,label_", ["'label_' names no risk", "Write label_<category>"]),
        ("post_id,title,label_A," + "x" * 131_073, ["row 1 (line 1): field larger than field limit", "Put quotes"]),
        ("", ["no header"]),
    ],
)
def test_bad_headers(place, header, parts):
    table = place.folder / "posts.csv"
    table.write_text(header + "\n")
    refused(place, table, "posts.csv", *parts)


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("none.csv", None, ["does not exist"]),
        ("posts.xlsx", None, ["unknown kind of table", ".jsonl"]),
        ("latin.csv", b"post_id,title,label_A\n1,caf\xe9,1\n", ["latin.csv, row 2, column title", "as UTF-8"]),
        ("long.csv", b"post_id,title,label_A\n1," + b"x" * 140_000 + b",1\n",
         ["long.csv, row 2, column title (post '1'): 140,000 characters", "a quote may be missing"]),
        ("open.csv", b'post_id,title,label_A\n1,"a,1\n2,b,1\n', ["open.csv, row 2", "use JSONL"]),
        ("wide.csv", "post_id,title,label_A\n1,a,1\n".encode("utf-16"), ["wide.csv, header", "as UTF-8"]),
        ("quotes.csv", b'post_id,title,label_A\n1,"a"b,1\n', ["quotes.csv, row 2 (line 2)", "double the quotes"]),
        ("cells.csv", b"post_id,title,label_A\n\n1,a, b,1\n2,a\n",
         ["row 3, column label_A (post '1'): 4 cells under 3 columns", "row 4, column title"]),
    ],
)  # fmt: skip
def test_files_that_are_no_tables(place, name, data, parts):
    table = place.folder / name
    if data:
        table.write_bytes(data)
    refused(place, table, *parts)


def test_json_lines_that_are_no_objects(place):
    table = place.jsonl(place.rows())
    table.write_text(table.read_text() + "\n[1]\n{broken\n" + "[" * 100_000 + "\n")
    refused(place, table, "row 22", "no object", "row 23", "no valid JSON", "row 24")
    posts = imported(place, table, on_error="quarantine")
    assert posts.info["quarantined"] == 3


def test_folders_that_will_not_do(place):
    table = place.csv(place.rows())
    with pytest.raises(RadarError, match="is no folder"):
        import_table(table, place.folder / "nowhere", place.out)
    imported(place, table)
    with pytest.raises(RadarError, match="already holds a corpus"):
        imported(place, table)


def test_the_same_table_gives_the_same_posts(place):
    table = place.csv([{k: v for k, v in row.items() if k != "split"} for row in place.rows(100)])
    made = (import_table(table, place.images, place.folder / f"out{i}", workers=i, seed=5) for i in (1, 4))
    assert len({posts.digest for posts in made}) == 1


def grouped_rows(place, n=400):
    rows = [{"post_id": f"p{i}", "title": "x", "label_A": i % 2, "label_B": i // 2 % 2} for i in range(n)]
    return [row | {"group": f"g{i // 5}" if i < 350 else ""} for i, row in enumerate(rows)]


def test_drawn_splits_never_cut_a_group_and_a_stream_is_one_where_none_is_given(place):
    rows = grouped_rows(place)
    found = imported(place, place.csv(rows)).table()
    together = found[found["group"] != ""]
    assert len(together) == 350 and (together.groupby("group")["split"].nunique() == 1).all()
    assert together.groupby("group").first()["split"].nunique() == 4
    rows = [{**row, "stream_id": f"s{i // 2}" if i >= 350 else ""} for i, row in enumerate(rows)]
    found = import_table(place.jsonl(rows), None, place.folder / "streams").table()
    assert (found["group"] != "").all() and (found.groupby("group")["split"].nunique() == 1).all()
    assert found.loc[found["stream_id"] != "", "group"].str.startswith("s").all()
    numbered = [{**row, "group": i // 4} for i, row in enumerate(rows)]  # an account's number, as JSON has it
    assert set(import_table(place.jsonl(numbered), None, place.folder / "numbers").table()["group"]) >= {"0", "99"}


def test_given_splits_that_cut_a_group_are_refused_or_set_aside(place):
    rows = [{**row, "group": "campaign" if i in (3, 11) else ""} for i, row in enumerate(place.rows())]
    splits = [rows[i]["split"] for i in (3, 11)]
    assert splits[0] != splits[1]
    message = refused(place, place.csv(rows), f"group 'campaign' is in {splits[0]!r} and in {splits[1]!r}", "row 13")
    assert "column group (post 'p11')" in message and "in one split" in message
    assert imported(place, place.csv(rows), on_error="quarantine").info["quarantined"] == 1


@pytest.mark.parametrize("column", ["text", "description", "body", "caption_text", "image_path", "image", "url"])
def test_content_under_another_name_is_refused_or_left_out_by_name(place, column):
    holds = {"image_path": "images/{}.png", "image": "{}.jpg", "url": "example.org/{}"}.get(column, "{} win a prize")
    rows = [{**row, "title": "", column: holds.format(row["post_id"])} for row in place.rows()]
    for table in (place.csv(rows), place.jsonl(rows)):
        refused(place, table, f"'{column}' (", "title, ocr_text, asr_text, frames", f"--ignore {column}")
    rows = [{**row, "title": "x"} for row in rows]
    posts = imported(place, place.csv(rows), ignore=[column])
    assert posts.info["ignored_columns"] == [column] and {"title", "frames"} <= set(posts.info["read_columns"])
    with pytest.raises(RadarError, match="no column 'none' to ignore"):
        imported(place, place.csv(rows), ignore=["none"])


@pytest.mark.parametrize("field", ["title", "asr_text"])
def test_a_text_longer_than_any_post_is_the_fault_of_its_row(place, field):
    rows = place.rows(40)
    rows[10] |= {"title": "x", field: "word " * 40_000}
    rows = [{"asr_text": "", "views": "", **row} for row in rows]
    rows[12]["views"] = "9" * 200_000  # nobody reads it
    refused(place, place.csv(rows), f"row 12, column {field} (post 'p10'): 200,000 characters")
    assert len(imported(place, place.csv(rows), on_error="quarantine")) == 39


def test_a_byte_that_is_no_utf8_is_the_fault_of_its_row(place):
    table = place.csv([{**row, "views": "ü"} for row in place.rows()])
    latin = table.read_bytes().replace("ü".encode(), b"\xfc")  # in a column that nobody reads
    table.write_bytes(latin.replace("é".encode(), b"\xe9"))
    refused(place, table, "20 problems", "column title: 20 rows, first rows 2, 3, 4: it is no valid Unicode")
    table.write_bytes(latin.replace('éllo, ""7""'.encode(), b"\xe9"))
    refused(place, table, "1 problem", "row 9, column title (post 'p7')", "Save the table as UTF-8")
    assert len(imported(place, table, on_error="quarantine")) == 19


def test_equal_faults_are_one_line(place):
    rows = [{**row, "region": "?" if i in (1, 2, 5) or i > 30 else "BR"} for i, row in enumerate(place.rows(188))]
    rows[4]["label_A"] = 7
    message = refused(place, place.csv(rows), "161 problems", "column region: 160 rows, first rows 3, 4, 7: '?' is no")
    assert message.count("column region") == 1 and "row 6, column label_A (post 'p4')" in message


def test_an_empty_post_is_a_fault_unless_it_is_allowed(place):
    rows = [{**row, "frames": ""} for row in place.rows(40)]
    rows[3]["title"], rows[4]["title"], rows[5] = "", " \u200b ", {**rows[5], "title": "", "frames": "a.png"}
    table = place.csv(rows)
    refused(place, table, "2 problems", "2 rows, first rows 5, 6: neither text nor frames", "--allow-empty")
    assert len(imported(place, table, on_error="quarantine")) == 38
    again = import_table(table, place.images, place.folder / "all", allow_empty=True)
    assert len(again) == 40


def test_the_command_says_what_it_reads_leaves_out_and_sets_aside(place, capsys):
    rows = [{**row, "views": 3, "notes": f"{row['title']} and more of it"} for row in place.rows(40)]
    rows[3]["region"] = "?"
    command = ["posts", "import", "--table", str(place.csv(rows)), "--images", str(place.images), "--out"]
    assert main([*command, str(place.out), "--on-error", "quarantine"]) and "notes" in capsys.readouterr().err
    assert main([*command, str(place.out), "--on-error", "quarantine", "--ignore", "notes"]) == 0
    read, left_out, aside, *_ = capsys.readouterr().out.splitlines()
    assert "title" in read and "frames" in read and "views" not in read
    assert "views" in left_out and "notes" in left_out and "1" in aside and "quarantine.jsonl" in aside


def test_content_that_begins_far_below_the_header_is_refused(place):
    rows = [{**row, "note": "" if i < 1005 else f"{i} win a prize today, friends"}
            for i, row in enumerate({**row, "frames": ""} for row in place.rows(1010))]  # fmt: skip
    for table in (place.csv(rows), place.jsonl(rows)):
        refused(place, table, "'note' (texts such as '1005 win", "--ignore note")
    assert len(imported(place, table, ignore=["note"]).table()) == 1010


def test_a_key_given_twice_is_the_fault_of_its_row(place):
    rows = [{**row, "about": {"x": 1}} for row in place.rows()]
    lines = place.jsonl(rows).read_text().replace('"x": 1', '"x": 1, "x": 2').splitlines()
    lines[2] = lines[2][:-1] + ', "label_A": 1}'
    table = place.folder / "posts.jsonl"
    table.write_text("\n".join(lines))
    refused(place, table, "posts.jsonl, row 3, column label_A (post 'p2'): the key is there twice. Keep one.")
    assert imported(place, table, on_error="quarantine").info["quarantined"] == 1


def test_a_stream_is_not_the_group_of_the_same_name(place):
    rows = [{**row, "group": "", "stream_id": ""} for row in place.rows(40)]
    rows[0]["group"] = rows[1]["stream_id"] = "7"
    rows[2] |= {"stream_id": 9, "group": " "}  # JSON numbers, and blanks are no group
    rows[3] |= {"stream_id": " ", "group": "\t"}
    del rows[1]["group"]
    groups = imported(place, place.jsonl(rows)).table().set_index("post_id")["group"]
    assert groups[["p0", "p1", "p2", "p3"]].tolist() == ["7", "stream:7", "stream:9", ""]
    del rows[0]["stream_id"]
    rows[0]["group"] = "stream:7"
    message = "column group (post 'p0'): 'stream:7' is how the group of a stream is called. Begin it with other"
    with pytest.raises(RadarError) as caught:
        import_table(place.jsonl(rows), place.images, place.folder / "again")
    assert message in str(caught.value)
