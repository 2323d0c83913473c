"""The same log from Ray actors, one of which is killed on its way. Runs where the extra `ray` is installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from radar_suite.decisions.log import replay, route_files

ROOT = Path(__file__).parents[3]
ON_RAY = """
import sys
from radar_suite.decisions import log
from radar_suite.decisions.bundle import open_bundle
log.PART_ROWS = 64
if __name__ == "__main__":
    bundle = open_bundle(sys.argv[1])
    log.route_files(bundle, *sys.argv[2:4], bar=lambda done, rows: print(done, flush=True), actors=2)
"""


@pytest.mark.slow
def test_an_actor_that_is_killed_changes_nothing(bundle, make, tmp_path):
    pytest.importorskip("ray")
    import psutil

    make.write(tmp_path / "p.parquet", make.hostile(640)[0])
    local = route_files(bundle, tmp_path / "p.parquet", tmp_path / "local.parquet")
    line = [sys.executable, "-W", "ignore", "-c", ON_RAY, *map(str, (bundle.folder, tmp_path / "p.parquet",
                                                                  tmp_path / "ray.parquet"))]  # fmt: skip
    killed = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for _ in process.stdout:
            for one in psutil.process_iter(["name", "cmdline"]) if not killed else ():
                named = "PartRouter" in f"{one.info['name']} {one.info['cmdline']}"
                if named and any(above.pid == process.pid for above in one.parents()):
                    os.kill(one.pid, signal.SIGKILL)
                    killed.append(one.pid)
                    break
    assert process.returncode == 0 and killed
    was, now = (pq.read_table(log).drop_columns(["decided_at"]) for log in (local, tmp_path / "ray.parquet"))
    names = [name for name in was.column_names if not name.startswith(("logit_", "probability_"))]
    assert was.select(names).equals(now.select(names)) and replay(tmp_path / "ray.parquet", bundle).same
