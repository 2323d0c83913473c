"""`radar diagnose` and `radar taxonomy`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.progress import near
from radar_suite.chain.reproduce import notebooks_folder, runs_folder
from radar_suite.places import CACHE

HELP = """\
RUN is a run folder: run.json, posts.parquet, and optionally curve.parquet and relabels.parquet, as
radar_suite/diagnosis/runs.py describes them. --band names a folder of such runs that are known to be healthy, at least
five reruns with other seeds: deviations are measured in their spread. Without it only the exact checks are made.

examples:
  radar diagnose my/run                        exact checks, and which signals the run has no parts for
  radar diagnose my/run --band my/reruns       posterior over causes, evidence, test, fix
  radar diagnose my/run --band my/reruns --json
  radar diagnose runs/ID --band runs/band --apply key      a planted run: is the fix better than the runner-up's?
"""


def diagnose(args: argparse.Namespace) -> int:
    """`radar diagnose`."""
    from radar_suite.diagnosis.diagnose import Diagnoser, band_of, read_reference
    from radar_suite.diagnosis.runs import read_run
    from radar_suite.diagnosis.signals import broken_contracts, compute

    if args.apply and not args.band:
        raise RadarError("--apply needs --band: without it no cause is named, so there is no fix to apply.")
    run = read_run(args.run)
    if args.band:
        found = Diagnoser(band_of(args.band, run.categories)[0], read_reference())(run)
    else:
        found = {"broken": broken_contracts(run), "absent": compute(run)[1]}
    if args.apply:
        from radar_lib.training.cache import Cache
        from radar_suite.diagnosis.proof import prove

        found["proof"] = prove(found, args.apply, Cache(runs_folder(args) / CACHE), Path(args.run).resolve().name)[1]
    print(json.dumps(found, indent=1) if args.json else "\n".join(card(found)))
    return exits.OK


def card(found: dict[str, Any]) -> list[str]:
    """The lines of a diagnosis: name and value."""
    lines = [("verdict", found["verdict"])] if "verdict" in found else []
    posterior = sorted(found.get("posterior", {}).items(), key=lambda item: -item[1])[:4]
    lines += [("probability", f"{name} {p:.2f}") for name, p in posterior]
    lines += [("contract", f"{name} {value:.2f}") for name, value in found["broken"].items()]
    lines += [("evidence", f"{one['signal']} {one['deviation']:+.2f}") for one in found.get("evidence", ())]
    if out := found.get("ruled_out"):
        lines.append(("ruled out", f"{out['cause']}, by {out['test']}"))
    if test := found.get("next_test"):
        lines.append(("next test", f"{test['test']}, between {' and '.join(test['between'])} ({test['cost']})"))
    lines += [("fix", f"{one['fix']} ({one['cost']})") for one in found.get("fixes", ())]
    if proof := found.get("proof"):
        gain = "{gain:+.4f} [{low:+.4f}, {high:+.4f}]".format(**proof)
        lines.append(("proof", f"{proof['wins']} of {proof['seeds']} seeds; {proof['harm']} {gain} over the placebo"))
    lines += [("not run", name) for name in found["absent"]]
    return [f"{name:12s}{value}" for name, value in lines]


def taxonomy(args: argparse.Namespace) -> int:
    """`radar taxonomy`: docs/diagnosis.md."""
    from radar_suite.diagnosis.taxonomy import write_document

    path = notebooks_folder(args).parent / "docs/diagnosis.md"
    print(f"{near(path)}: {'renewed' if write_document(path) else 'up to date'}")
    return exits.OK
