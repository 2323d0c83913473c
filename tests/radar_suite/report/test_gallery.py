"""Galleries escape what posts say."""

from PIL import Image

from radar_suite.report.gallery import gallery_html


def test_galleries_show_labels_and_escape_what_posts_say():
    title = "<script>alert(1)</script> \u0645\u0631\u062d\u0628\u0627"
    post = {"frames": [Image.new("RGB", (300, 20))], "title": title, "ocr_text": "a & b", "asr_text": ""}
    post |= {"label_A": 1, "label_B": -1, "split": "train", "pipeline": "p", "language": "ar", "region": "EG"}
    html = gallery_html([post, {**post, "frames": [], "title": ""}], ("A", "B"), notes=["first", "second"])
    assert "<script" not in html and "<style" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert html.count("A violating") == 2 and "B violating" not in html and "second" in html
    assert html.count("data:image/jpeg;base64,") == 1
