"""Whatever a command is given in place of what it reads, it ends with one clear message, never with a traceback."""

import pytest

from radar_suite.chain import cli, exits

ODD = {
    "empty": b"", "binary": bytes(range(256)), "list": b"[]", "null": b"null", "number": b"1", "deep": b"[" * 1500,
    "cut": b'{"notebooks": {"00_a": {"state": "done", "seconds": 1.0, "peak_mem', "latin": b"seed: \xe9",
}  # fmt: skip
ENDS = {exits.OK, exits.FAILURE, exits.USAGE, exits.ENVIRONMENT}


@pytest.fixture(params=["a file", "a folder", "a link to nowhere", "a link to itself", "a long name"])
def thing(request, tmp_path):
    """Something that is not what a command expects."""
    path = tmp_path / "thing"
    match request.param:
        case "a file":
            path.write_bytes(ODD["binary"])
        case "a folder":
            path.mkdir()
        case "a link to nowhere":
            path.symlink_to("nowhere")
        case "a link to itself":
            path.symlink_to(path)
        case "a long name":
            path = tmp_path / ("x" * 300)
    return str(path)


OF_A_PROJECT = [
    "reproduce --list --posts", "reproduce --list --public-sources", "reproduce --list --runs", "verify --against",
    "reproduce --list --profile", "report --runs", "results --record", "studies --runs", "studies --profile",
]  # fmt: skip
PARAMETERS = "seed: int = 1\nposts: str = ''\npublic_sources: str = ''"


@pytest.mark.parametrize("command", OF_A_PROJECT)
def test_things_that_are_not_what_is_expected(project, thing, command, capsys):
    project.add("00_a", PARAMETERS, "print(seed, posts, public_sources)")
    room, *options = command.split()
    assert project.run(*options, thing, command=room) in ENDS
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reproduce --list --notebooks", "posts check", "posts import --out o --table"])
def test_things_that_are_no_projects_and_no_posts(thing, command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), thing]) in ENDS - {exits.OK}
    assert capsys.readouterr().err.startswith("radar: ")


@pytest.mark.parametrize("name", ["ledger.json", "00_a/figures/manifest.json", "00_a/executed.ipynb"])
@pytest.mark.parametrize("command", ["reproduce --list", "report"])
def test_files_of_a_run_that_are_damaged(project, name, command, capsys):
    from radar_suite.chain.ledger import Ledger
    from radar_suite.chain.notebooks import discover

    project.add("00_a", PARAMETERS, "print(seed, posts, public_sources)")
    path, figures = project.runs / "cpu" / name, project.runs / "cpu/00_a/figures"
    figures.mkdir(parents=True)
    (figures / "manifest.json").write_text('{"entries": {}}')
    (figures.parent / "executed.ipynb").write_text((project.notebooks / "00_a.ipynb").read_text())
    Ledger(project.runs / "cpu").finish(*discover(project.notebooks), {"seed": 1}, seconds=1.0, peak_memory_mb=1.0)
    room, *options = command.split()
    for content in ODD.values():
        path.write_bytes(content)
        code, said = project.run(*options, command=room), capsys.readouterr()
        if command == "report" or name == "ledger.json":
            assert code == exits.USAGE and said.err.startswith("radar: ") and path.name in said.err
        else:
            assert code == exits.OK and "missing or changed on disk" in said.out
