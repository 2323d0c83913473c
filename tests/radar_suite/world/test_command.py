"""`radar corpus build`: what it writes, and one clear error for bad input."""

import pytest

from radar_lib.data.posts import open_posts
from radar_suite.chain import cli, exits

SMALL = "--set test_posts=0 calibration_posts=0 validation_posts=0 unlabelled_posts=10 audit_posts=10"


def build(out, *words):
    few = [f"--set={setting}" for setting in SMALL.split()[1:]]
    return cli.main(["corpus", "build", "--out", str(out), *few, *words])


def test_it_builds_what_was_asked_for(tmp_path, capsys):
    assert build(tmp_path / "w", "--posts", "102", "--seed", "5", "--workers", "2", "--size", "40", "--languages", "tr",
                 "ar") == exits.OK
    posts = open_posts(tmp_path / "w")
    assert posts.splits["train"] == 102 and posts.info["config"]["seed"] == 5
    assert posts.split("audit")[0]["frames"][0].size == (40, 40)
    assert set(posts.table()["language"]) == {"tr", "ar"}
    assert f"digest {posts.digest}" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    (("--posts", "0"), "from 1 to"), (("--posts", "100", "--workers", "0"), "from 1 to"),
    (("--posts", "100", "--languages", "en", "tlh"), "unknown language 'tlh'; the built-in corpus speaks ar, de"),
    (("--posts", "100", "--set", "train_prevalence=[0.2, 0.001, 0.1]"), "0 violating"),
    (("--posts", "100", "--set", "sed=3"), "Did you mean 'seed'"),
    (("--posts", "100", "--set", "seed=one"), "seed is 'one'; it is a whole number"),
])
def test_bad_input_is_one_error_and_leaves_nothing(words, said, tmp_path, capsys):
    try:
        code = build(tmp_path / "bad", *words)
    except SystemExit as stop:  # of what argparse itself refuses
        code = stop.code
    assert code == exits.USAGE
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and len(error) < 400
    assert not (tmp_path / "bad").exists()
