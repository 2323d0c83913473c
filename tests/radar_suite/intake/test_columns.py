"""Which columns look like content that would be left out."""

import pytest

from radar_suite.intake.columns import check_header, content_of


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x", ["follow me and win a prize today", "look what my cat did on Sunday", ""]),
        ("x", ["сегодня в зале день ног и спины", "завтра готовим суп из тыквы"]),
        ("x", ["今天在健身房练腿然后和朋友一起去吃火锅真的很开心"]),
        ("x", ["memes/1.PNG", "memes/2.webp|memes/3.webp", None]),
        ("x", [["a.jpg", "b.jpg"], []]),
        ("x", ["https://example.org/a.jpg?w=300", "https://example.org/b.jpg"]),
        ("x", ["clips/1.mp4", "clips/2.mp4"]),
        ("description", ["short", "texts"]),
        ("captionText", ["short", "texts"]),
        ("img", ["0001", "a0002"]),
        ("POST-BODY", ["a"]),
    ],
)
def test_content(name, values):
    assert content_of(name, values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", ["", None, "  "]),
        ("views", ["10", "2000", 3]),
        ("text_length", ["12", "9"]),
        ("image_id", ["a1", "b2"]),
        ("author", ["Ann Lee", "Bo Chan", "Cy Dahl"]),
        ("when", ["Mon Jan 02 2024 10:00:00 GMT+0100", "Tue Jan 03 2024 11:00:00 GMT+0100"]),
        ("sha", ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "60303ae22b998861bce3b28f33eec1be758a213c"]),
        ("source", ["a forum for users of phones in Brazil"] * 50),
        ("meta", [{"a": 1}]),
    ],
)
def test_no_content(name, values):
    assert not content_of(name, values)


@pytest.mark.parametrize("risk", ["Drogen_Größe", "насилие", "诈骗", "ação", "a-1"])
def test_letters_of_any_script_name_a_risk(risk):
    assert check_header("t.csv", ["post_id", "title", f"label_{risk}"]) == ((risk,), [])
