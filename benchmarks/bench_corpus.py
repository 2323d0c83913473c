"""Speed and memory of the built-in corpus: the plan of 10k to 1.7M posts, and some shards of each.

Each size has a process of its own, whose peak resident memory is the operating system's figure (`VmHWM`, Linux). It
plans the whole corpus and then draws and writes its first shards, which is what one worker and its parent do together.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SIZES = (10_000, 50_000, 200_000, 1_700_000)
CHILD = """
import json, re, sys, tempfile, time
from pathlib import Path
from radar_suite.world import build

posts, px, shards = map(int, sys.argv[1:])
peak = lambda: round(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
start = peak()
began, cpu, config = time.perf_counter(), time.process_time(), build.CorpusConfig(train_posts=posts, frame_px=px)
plan = build.plan_corpus(config)
planned, spent, after = time.perf_counter() - began, time.process_time() - cpu, peak()
began, cpu = time.perf_counter(), time.process_time()
with tempfile.TemporaryDirectory() as folder:
    paths = [Path(folder) / f"{i}.parquet" for i in range(shards)]
    for i, path in enumerate(paths):
        build._build_shard((config, build._shard(plan[0], i), path))
    size = sum(path.stat().st_size for path in paths)
drawn, seconds, own = shards * build.SHARD_POSTS, time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({
    "train_posts": posts, "posts": sum(map(len, plan)), "frame_px": px, "plan_seconds": round(planned, 1),
    "plan_cpu_seconds": round(spent, 1),
    "imports_mib": start, "plan_peak_mib": after, "build_peak_mib": peak(),
    "posts_per_second": round(drawn / seconds), "posts_per_cpu_second": round(drawn / own),
    "bytes_per_post": round(size / drawn),
}))
"""


def corpus_record(*, shards: int, sizes: tuple[int, ...] = SIZES, px: int = 96) -> dict[str, Any]:
    """One line per size at `px`, and one at 384 px for the smallest size."""
    jobs = [(size, px) for size in sizes] + [(sizes[0], 384)]
    lines = [measure(size, px, shards) for size, px in jobs]
    plain = lines[: len(sizes)]
    growth = {f"{line['train_posts']:,}": line["build_peak_mib"] - plain[0]["build_peak_mib"] for line in plain}
    return {"what": "building the built-in corpus", "shards_drawn": shards, "lines": lines,
            "peak_mib_above_the_smallest": growth}  # fmt: skip


def measure(posts: int, px: int, shards: int) -> dict[str, Any]:
    """Plan `posts` training posts and draw the first `shards` shards in a process of their own."""
    command = [sys.executable, "-c", CHILD, str(posts), str(px), str(shards)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
