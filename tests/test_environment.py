"""pyproject.toml, constraints.txt and environment.yml agree, and the maths imports without the models."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
    for requirement in [Requirement(line)]
}


def test_every_dependency_is_pinned_to_a_version_that_it_allows():
    asked = PROJECT["dependencies"] + [item for group in PROJECT["optional-dependencies"].values() for item in group]
    for text in asked:
        requirement = Requirement(text)
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin), f"{text} does not allow the pinned {pin}"


def test_conda_users_get_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(item["pip"] for item in conda["dependencies"] if isinstance(item, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[test]"]
    python = next(item for item in conda["dependencies"] if str(item).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[1] + ".0")


def test_the_packages_that_the_project_is_about_are_direct_dependencies():
    direct = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    named = {"jupyterlab", "papermill", "torch", "transformers", "peft", "matplotlib", "seaborn", "scikit-learn"}
    assert direct >= named


LIBRARY_FLOORS = ("errors", "files", "sources", "data", "models", "training", "routing")
SUITE_FLOORS = ("places", "world", "intake", "exercises", "report", "studies", "decisions", "diagnosis", "chain")


def imports(path: Path) -> list[str]:
    """Rooms that a file imports from: 'radar_lib.data' for `from radar_lib.data.posts import labels`."""
    return re.findall(r"^\s*(?:from|import) (radar_(?:lib|suite)\.\w+)", path.read_text(), re.M)


def test_the_suite_imports_the_library_and_never_the_other_way():
    for path in sorted((ROOT / "radar_lib").rglob("*.py")):
        assert "radar_suite" not in path.read_text(), f"{path.relative_to(ROOT)} names radar_suite"
        own = path.relative_to(ROOT / "radar_lib").parts[0].removesuffix(".py")
        for other in (name.removeprefix("radar_lib.") for name in imports(path)):
            if own in LIBRARY_FLOORS and other in LIBRARY_FLOORS:
                lower = LIBRARY_FLOORS.index(other) <= LIBRARY_FLOORS.index(own)
                assert lower, f"{path.relative_to(ROOT)} imports radar_lib.{other}"


def test_the_suite_stands_on_floors():
    for path in sorted((ROOT / "radar_suite").rglob("*.py")):
        own = path.relative_to(ROOT / "radar_suite").parts[0].removesuffix(".py")
        for other in (name.removeprefix("radar_suite.") for name in imports(path) if name.startswith("radar_suite")):
            if own in SUITE_FLOORS:
                lower = SUITE_FLOORS.index(other) <= SUITE_FLOORS.index(own)
                assert lower, f"{path.relative_to(ROOT)} imports radar_suite.{other}"


def test_the_machine_of_the_author_is_nowhere():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    texts = {".py", ".md", ".ipynb", ".yaml", ".yml", ".toml", ".json", ".txt"}
    for name in tracked.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix in texts:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(?:work|home|root|Users)/\w", text), f"{name} names a path of a machine"
