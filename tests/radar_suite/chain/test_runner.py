"""Whole chains of toy notebooks: order, resume, reasons, failures and limits. Each kernel start costs two seconds."""

import io
import json
import os
from pathlib import Path

import psutil
import pytest

from radar_lib.files import write_json
from radar_suite.chain import exits, runner
from radar_suite.chain.progress import Progress, duration, failure_screen

COMMON = 'profile: str = "cpu"\nruns_dir: str = "../runs"\nseed: int = 1\n'
SETTINGS = """\
import os, sys, matplotlib.pyplot as plt
plt.plot([1, 2])
plt.show()
seen = {"hash": os.environ["PYTHONHASHSEED"], "grid": grid, "cwd": os.getcwd(), "python": sys.executable}
seen["digest"] = os.environ["RADAR_NOTEBOOK_DIGEST"]"""


def test_a_chain_runs_resumes_and_knows_what_changed(project, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # would drop every inline figure without a word
    project.profile("cpu", "grid: [0, 0.5]\n")
    project.add(
        "00_a", COMMON + "grid: tuple[float, ...] = (1.0,)\n", "# Title", "## 1. Look", SETTINGS,
        "print('to the log')\nfolder = f'{runs_dir}/{profile}/00_a'\nos.makedirs(f'{folder}/figures')",
        "import json\njson.dump(seen, open(f'{folder}/out.json', 'w'))\nplt.savefig(f'{folder}/figures/f.png');",
        "from radar_lib.files import digest_file\n"
        "entry = {'files': {'f.png': digest_file(f'{folder}/figures/f.png')}, 'tolerance': 0, 'notebook': '00_a'}\n"
        "entry |= {'caption': 'c', 'seed': seed, 'device': 'd', 'inputs': {}}\n"
        "json.dump({'entries': {'f': entry}}, open(f'{folder}/figures/manifest.json', 'w'))",
        writes=["out.json"],
    )  # fmt: skip
    project.step("01_b", "print('second')", reads=("00_a/out.json",))
    assert project.run() == exits.OK
    out = capsys.readouterr().out
    assert "[1/2] 00_a · runs: never run" in out and "[2/2] 01_b · done" in out
    run = project.runs / "cpu"
    seen = json.loads((run / "00_a/out.json").read_text())
    assert seen["hash"] == "0" and seen["grid"] == [0.0, 0.5] and seen["cwd"] == str(project.notebooks)
    executed = (run / "00_a/executed.ipynb").read_text()
    assert "(0.0, 0.5)" in executed and "image/png" in executed  # a tuple stays one; the figure is there
    log = (run / "00_a/log.txt").read_text()
    assert "to the log" in log and "cell 2/5 1. Look" in log
    entry = project.entries()["00_a"]
    assert entry["state"] == "done" and entry["peak_memory_mb"] > 20 and entry["seconds"] > 0
    assert (project.root / "figures/cpu/f.png").exists() and (run / "report/index.html").exists()
    assert not list(run.rglob(".running.ipynb"))

    assert project.run() == exits.OK  # nothing changed
    out = capsys.readouterr().out
    assert "[1/2] 00_a · up to date" in out and "[2/2] 01_b · up to date" in out


def test_a_failure_is_one_screen_and_the_next_run_goes_on(project, capsys):
    project.step("00_a", "print('first')")
    library = "from radar_lib.errors import RadarError\n\n\ndef check(x):\n    raise RadarError('the shard is empty.')"
    project.step("01_b", "## 3.2 Training", library, "y = 1\ncheck(\n    y)", reads=("00_a/out.json",))
    assert project.run("--set", "seed=2") == exits.FAILURE
    out = capsys.readouterr().out
    screen = out[out.index("FAILED") :]
    assert "01_b · cell 3/4 · 3.2 Training" in screen and "check(" in screen
    assert "  the shard is empty." in screen and "RadarError" not in screen
    assert "log.txt" in screen and "failed.ipynb" in screen and len(screen.splitlines()) < 24
    assert screen.rstrip().endswith(f"reproduce --profile cpu --notebooks {project.notebooks} --set seed=2")
    folder = project.runs / "cpu/01_b"
    assert (folder / "failed.ipynb").exists() and not (folder / "executed.ipynb").exists()
    assert project.entries()["01_b"]["where"] == "3.2 Training"

    assert project.run("--set", "seed=2", "--dry-run") == exits.OK
    out = capsys.readouterr().out
    assert "      up to date" in out and "runs: failed last time (3.2 Training): the shard is empty." in out


def test_a_dead_kernel_and_a_missing_output_are_failures(project, capsys):
    die = "import os, signal, subprocess\nsubprocess.Popen(['sleep', '88'])\nos.kill(os.getpid(), signal.SIGKILL)"
    project.add("00_a", COMMON, "## 1. Die", die, "print(1)")
    assert project.run() == exits.FAILURE
    assert "the kernel died" in capsys.readouterr().out
    assert not any(process.info["cmdline"] == ["sleep", "88"] for process in psutil.process_iter(["cmdline"]))
    assert project.entries()["00_a"]["state"] == "failed"
    project.add("00_a", COMMON, "pass", writes=["never.json"])
    assert project.run() == exits.FAILURE
    assert "the declared output never.json was not written" in capsys.readouterr().out


KILL_SPARE = """\
import psutil, time
def waiting():
    return [p for p in psutil.process_iter(["cmdline"]) if "radar_suite.chain.execute" in (p.info["cmdline"] or [])
            and f"{runs_dir}/{profile}/01_b/" in p.info["cmdline"][-1]]
[process.kill() for process in waiting()]"""


def test_a_waiting_process_that_somebody_killed_is_replaced(project, monkeypatch, capsys):
    monkeypatch.setattr(runner, "SPARE_BYTES", 0)
    project.step("00_a", KILL_SPARE)
    project.step("01_b", "print(1)", reads=("00_a/out.json",))
    assert project.run() == exits.OK, capsys.readouterr().out


@pytest.mark.parametrize(("script", "code", "message"), [
    ("echo boom >&2; exit 3", exits.FAILURE, "the notebook's process ended with code 3. boom"),
    ("printf '{\"event'; kill -9 $$", exits.FAILURE, "the notebook's process was killed by signal 9."),
    ("echo OSError: [Errno 28] No space left on device >&2; exit 1", exits.ENVIRONMENT, "ENVIRONMENT  00_a"),
    ("""echo '{"event": "failed", "error": "no kernel", "setup": true}'; exit 1""", exits.ENVIRONMENT, "no kernel"),
])  # fmt: skip
def test_a_process_that_ends_badly_is_a_failure(project, tmp_path, monkeypatch, capsys, script, code, message):
    project.add("00_a", COMMON, "pass")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(python))
    assert project.run() == code
    assert message in capsys.readouterr().out and project.entries()["00_a"]["state"] == "failed"


def test_a_notebook_that_passes_its_limit_is_stopped_with_all_its_processes(project, capsys):
    code = "import subprocess, time\nprint(subprocess.Popen(['sleep', '77']).pid, flush=True)\ntime.sleep(70)"
    project.add("00_a", COMMON, "## 2. Wait", code, time_limit_min=0.1)
    assert project.run() == exits.TIMEOUT
    out = capsys.readouterr().out
    assert "TIMEOUT  00_a · cell 2/2 · 2. Wait" in out and "passed its time limit of 6s. --no-limit" in out
    assert project.entries()["00_a"]["state"] == "failed"
    log = (project.runs / "cpu/00_a/log.txt").read_text()
    pids = [int(line) for line in log.splitlines() if line.isdigit()]
    (pid,) = pids
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # not reaped yet


def test_bad_parameters_and_names_stop_before_anything_is_written(project, capsys):
    project.step("00_a", "print(1)")
    project.profile("smoke", "sed: 3\n")
    for arguments, message in [
        (["--set", "sed=2"], "no notebook has a parameter 'sed'. Did you mean 'seed'"),
        (["--set", "seed=two"], "00_a declares `seed: int`, from 0 to 2,147,483,647 (default 1), got two (str)"),
        (["--profile", "smoke"], "profiles/smoke.yaml: no notebook has a parameter 'sed'"),
        (["--profile", "smoek"], "Did you mean 'smoke'"),
        (["--only", "00_b"], "no notebook '00_b'. Did you mean '00_a'"),
        (["--set", "runs_dir=x"], "use --runs instead"),
        (["--posts", "nowhere"], "is not a complete corpus folder"),
        (["--posts", "nowhere", "--public-sources", "nowhere"], "a run has posts of one kind"),
        (["--public-sources", "nowhere"], "nowhere is not a folder"),
    ]:
        assert project.run(*arguments) == exits.USAGE
        assert message in capsys.readouterr().err
    assert not project.runs.exists()


@pytest.fixture
def quick(project, monkeypatch):
    """Three notebooks, and a stand-in for the process that runs one: it writes the declared outputs."""
    for name, reads in {"00_a": (), "01_b": ("00_a/out.json",), "02_c": ("01_b/out.json",)}.items():
        project.step(name, "print(1)", reads=reads)
    project.ran = []

    def execute(job, chain, progress):
        notebook, folder = job.notebook, job.folder
        project.ran.append(notebook.name)
        (folder / "out.json").write_text(json.dumps([notebook.code, chain.parameters[notebook.name]["seed"]]))
        (folder / runner.RUNNING).write_text((project.notebooks / f"{notebook.name}.ipynb").read_text())
        return runner.Outcome("done", 1.0, 10.0, {"number": 1, "of": 1, "section": "s"})

    monkeypatch.setattr(runner, "run_notebook", execute)
    waiting = classmethod(lambda cls, notebook, chain: cls(notebook, chain.run_dir / notebook.name, None))
    monkeypatch.setattr(runner.Job, "start", waiting)
    monkeypatch.setattr(runner.Job, "end", lambda self: None)
    monkeypatch.setattr(runner.Job, "alive", True)
    return project


def test_only_and_from_leave_the_others_alone_and_say_when_they_are_stale(quick, capsys):
    assert quick.run("--only", "01") == exits.USAGE
    assert "01_b reads 00_a/out.json, but 00_a has not finished" in capsys.readouterr().err
    assert quick.run() == exits.OK and quick.ran == ["00_a", "01_b", "02_c"]
    quick.ran.clear()
    assert quick.run("--from", "1") == exits.OK and quick.ran == []
    assert quick.run("--from", "1", "--force") == exits.OK and quick.ran == ["01_b", "02_c"]
    assert "runs: --force" in capsys.readouterr().out
    quick.ran.clear()
    quick.step("00_a", "print('new')")
    assert quick.run("--only", "02") == exits.OK and quick.ran == []
    assert quick.run("--only", "01_b", "--force") == exits.OK and quick.ran == ["01_b"]
    assert "note: 00_a is used as it is, but is not up to date: code changed" in capsys.readouterr().out


def test_equal_results_upstream_spare_the_notebooks_below(quick, capsys):
    assert quick.run() == exits.OK
    quick.add("00_a", COMMON + "note: str = ''", "print(1)", writes=["out.json"])
    quick.run("--force", "--only", "0")
    quick.ran.clear()
    assert quick.run("--dry-run", "--set", "note=x") == exits.OK
    out = capsys.readouterr().out
    assert "parameter note changed '' -> 'x'" in out and "upstream 00_a runs first" in out
    assert quick.run("--set", "note=x") == exits.OK and quick.ran[:1] == ["00_a"]
    out = capsys.readouterr().out
    assert "[1/3] 00_a · done" in out and "--figures DIR copies them" in out  # with --set they are not the profile's
    quick.ran.clear()
    assert quick.run("--set", "note=y") == exits.OK and quick.ran == ["00_a"]  # it wrote the same again


def test_list_shows_everything_and_starts_nothing(quick, capsys):
    assert quick.run("--list") == exits.OK
    out = capsys.readouterr().out
    assert "[3/3] 02_c" in out and "reads 01_b/out.json" in out
    assert "runs: never run; upstream 01_b runs first" in out
    assert quick.ran == [] and not quick.runs.exists()


def test_own_posts_run_beside_the_built_in_ones(quick, tmp_path, capsys):
    posts = tmp_path / "my posts"
    posts.mkdir()
    (posts / "corpus.json").write_text("{}")
    quick.add("00_a", COMMON + "posts: str = ''", "print(posts)", writes=["out.json"])
    assert quick.run("--posts", str(posts)) == exits.OK
    assert quick.entries("cpu-my_posts")["00_a"]["parameters"]["posts"] == str(posts)
    assert quick.entries("cpu-my_posts")["00_a"]["parameters"]["profile"] == "cpu-my_posts"
    assert not (quick.runs / "cpu").exists()


def test_runs_elsewhere_keep_their_figures_unless_asked(quick, tmp_path, capsys):
    quick.add("00_a", COMMON, "print(1)")
    elsewhere = tmp_path / "elsewhere"
    for name in ("00_a", "01_b", "02_c"):
        quick.step(name, "print(1)")
    assert quick.run("--runs", str(elsewhere)) == exits.OK
    assert (elsewhere / "cpu/ledger.json").exists() and not (quick.root / "figures").exists()
    assert quick.run("--runs", str(elsewhere), "--figures", str(tmp_path / "shown")) == exits.OK
    assert "shown/cpu" in capsys.readouterr().out


def test_what_an_earlier_run_left_is_not_taken_for_this_one(quick):
    assert quick.run() == exits.OK
    folder = quick.runs / "cpu/00_a"
    (folder / "figures").mkdir()
    for name in ("old.png", "yours.png"):
        (folder / "figures" / name).write_text("x")
    about = {"caption": "", "tolerance": 0, "notebook": "00_a", "seed": 1, "device": "", "inputs": {}}
    write_json(folder / "figures/manifest.json", {"entries": {"old": {"files": {"old.png": "0"}} | about}})
    assert quick.run("--only", "0", "--force") == exits.OK
    assert [path.name for path in (folder / "figures").iterdir()] == ["yours.png"]


def test_upstream_work_that_was_edited_or_deleted_is_named_and_the_command_that_is_named_makes_it_again(quick, capsys):
    assert quick.run() == exits.OK
    made = quick.runs / "cpu/00_a/out.json"
    for break_it in (edit, Path.unlink):
        before = made.read_bytes()
        break_it(made)
        quick.ran.clear()
        assert quick.run("--only", "01", "--force") == exits.USAGE and quick.ran == []
        assert "00_a: output out.json missing or changed on disk. Add it to --only" in capsys.readouterr().err
        assert quick.run("--only", "00", "01") == exits.OK and quick.ran == ["00_a"]
        assert made.read_bytes() == before and quick.run("--only", "01", "--force") == exits.OK


def edit(path):
    """Other bytes of the same length, at the same time."""
    about, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_full_disk_under_the_ledger_stops_the_chain_and_keeps_the_old_one(quick, monkeypatch, capsys):
    assert quick.run("--only", "0") == exits.OK
    before = quick.entries()

    def full(path, value):
        raise exits.RadarError(f"cannot write {path}: No space left on device.")

    monkeypatch.setattr("radar_suite.chain.ledger.write_json", full)
    assert quick.run() == exits.ENVIRONMENT
    assert "No space left" in capsys.readouterr().err
    assert quick.entries() == before


def test_durations_and_screens_fit():
    assert [duration(seconds) for seconds in (4.7, 80, 3599, 7500)] == ["4s", "1m20s", "59m59s", "2h05m"]
    long = {"error": "\n".join(f"line {index}" for index in range(40)), "raised": "a.py:3 in f"}
    screen = failure_screen("01_b", None, long, verdict="FAILED", paths={}, resume="radar reproduce")
    assert len(screen.splitlines()) < 20 and "raised at a.py:3 in f" in screen


@pytest.mark.parametrize(("terminal", "pause", "lines"), [(True, 20.0, 5), (False, 20.0, 2), (False, 0.0, 5)])
def test_a_terminal_gets_one_line_that_is_rewritten_and_a_file_few(monkeypatch, terminal, pause, lines):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("radar_suite.chain.progress.PLAIN_SECONDS", pause)
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    progress = Progress(out)
    progress.begin("[3/8] 03_expert_training", ["never run"])
    progress.update(None)
    progress.update({"number": 12, "of": 40, "section": "3.2 Training"})
    progress.update({"number": 13, "of": 40, "section": "3.2 A very long section title that does not fit"})
    progress.end("done")
    texts = out.getvalue().split("\r\x1b[2K")[1:] if terminal else out.getvalue().splitlines()
    assert len(texts) == lines and texts[-1].strip() == "[3/8] 03_expert_training · done"
    if lines == 5:
        assert "[3/8] 03_expert_training · cell 12/40 · 3.2 Training · 0s" in texts
    assert not terminal or max(len(text) for text in texts) <= 62
