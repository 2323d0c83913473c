"""Profiles and --set: every mistake stops before a kernel starts, and names its remedy."""

from pathlib import Path

import pytest

from radar_lib.errors import RadarError
from radar_suite.chain.exits import UsageError
from radar_suite.chain.parameters import parse_parameters
from radar_suite.chain.profiles import Value, absolute_paths, load_profile, parse_override, profile_name, resolve

DECLARED = {
    "01_a": parse_parameters("seed: int = 1\nepochs: int = 3\nposts: str = ''", notebook="01_a"),
    "02_b": parse_parameters(
        "seed: int = 1\nlr: float = 1e-3\ngrid: tuple[float, ...] = (0.0,)", notebook="02_b"
    ),
}


def given(**values):
    return {name: Value(value, "profiles/smoke.yaml") for name, value in values.items()}


def test_each_notebook_gets_its_own_subset_and_defaults_for_the_rest():
    values = resolve(DECLARED, given(seed=2, grid=[0, 1]))
    assert values == {
        "01_a": {"seed": 2, "epochs": 3, "posts": ""},
        "02_b": {"seed": 2, "lr": 1e-3, "grid": (0.0, 1.0)},
    }


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"epoch": 1}, ["profiles/smoke.yaml", "'epoch'", "Did you mean 'epochs'"]),
        ({"zzz": 1}, ["'zzz'", "Known: epochs, grid, lr, posts, seed"]),
        ({"epochs": "three"}, ["01_a", "`epochs: int`", "default 3", "'three' (str)"]),
        ({"lr": "1e-5"}, ["02_b", "`lr: float`", "YAML reads this as text", "1.0e-5"]),
        ({"epochs": None}, ["`epochs: int`", "None (NoneType)"]),
    ],
)
def test_a_wrong_name_or_type_is_one_clear_error(values, parts):
    with pytest.raises(UsageError) as error:
        resolve(DECLARED, given(**values))
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("lr=1e-4", 1e-4), ("grid=[0.5, 1]", (0.5, 1.0)), ("posts=123", "123"), ("posts=", ""), ("lr=1", 1.0)],
)
def test_set_takes_yaml_literals_and_plain_text(text, expected):
    name, value = parse_override(text)
    values = resolve(DECLARED, {name: value})
    assert expected in [parameters.get(name) for parameters in values.values()]


@pytest.mark.parametrize(
    "text", ["seed", "=3", "a b=3", "grid=[1,", "runs_dir=x", "profile=x", "seed=2024-99-99", "x=" + "[" * 1000]
)
def test_set_refuses_what_it_cannot_read(text):
    with pytest.raises(UsageError, match="--"):
        parse_override(text)


def test_an_ill_typed_set_shows_what_was_typed():
    with pytest.raises(
        UsageError, match=r"--set epochs: 01_a declares `epochs: int`, from 1 to 10,000 \(default 3\), got many"
    ):
        resolve(DECLARED, dict([parse_override("epochs=many")]))


def test_profiles_are_found_by_name_or_path(tmp_path: Path):
    (tmp_path / "smoke.yaml").write_text("profile: smoke\nseed: 3\n")
    (tmp_path / "empty.yaml").write_text("# defaults\n")
    assert load_profile("smoke", tmp_path)[1]["seed"] == Value(3, "profiles/smoke.yaml")
    assert load_profile("empty", tmp_path) == ("empty", {})
    name, values = load_profile(str(tmp_path / "smoke.yaml"), tmp_path / "elsewhere")
    assert name == "smoke" and values["seed"].value == 3
    assert [profile_name(text) for text in ("a.v2", "of/a.v2.yaml", "cpu")] == ["a.v2", "a.v2", "cpu"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: 1\nseed: 2\n", "given twice"),
        (b"1: 2\n", "not a parameter's name"),
        (b"profile: cpu\n", "must be 'bad'"),
        *((content, "bad.yaml: not a flat YAML map") for content in (
            b"- 1\n- 2\n", b"a: [1\n", b"\xff\xfeseed: 1", b"seed: 2024-99-99", b"seed: " + b"[" * 1000, b"seed: !!x y"
        )),
    ],
)
def test_a_broken_profile_says_what_is_wrong(tmp_path: Path, content, message):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_profile("bad", tmp_path)


def test_an_unknown_profile_lists_all_and_names_the_nearest(tmp_path: Path):
    for name in ("smoke", "cpu"):
        (tmp_path / f"{name}.yaml").write_text("")
    with pytest.raises(UsageError, match=r"no profile 'smok'. Did you mean 'smoke'\? Profiles: cpu, smoke"):
        load_profile("smok", tmp_path)


def test_folders_become_absolute_where_they_were_meant(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "posts": Value("mine", "--posts"),
        "public_sources": Value("data/public", "profiles/public.yaml"),
        "checkpoints": Value("standins", "profiles/public.yaml"),
    }
    out = absolute_paths(values, project=tmp_path / "project")
    assert out["posts"].value == str(tmp_path / "mine")
    assert out["public_sources"].value == str(tmp_path / "project/data/public")
    assert out["checkpoints"].value == "standins"


@pytest.mark.parametrize("name", ["cache", "Cache", ".hidden", "-x", "a\nb", "$(id)"])
def test_a_profile_whose_run_would_have_no_folder_of_its_own_is_refused(tmp_path, name):
    (tmp_path / f"{name}.yaml").write_text("seed: 1")
    with pytest.raises(RadarError, match="no run can be called"):
        load_profile(str(tmp_path / f"{name}.yaml"), tmp_path)


def test_names_with_spaces_and_dots_are_names(tmp_path):
    for name in ("my profile", "v1.2_b+c", "é"):
        (tmp_path / f"{name}.yaml").write_text("seed: 1")
        assert load_profile(name, tmp_path)[0] == name
