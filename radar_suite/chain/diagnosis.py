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
from radar_suite.report.parameter_ranges import RERUNS

FALSE_DISCOVERY = 0.1  # share of the slices shown that may be none

HELP = """\
RUN is a run of the chain (runs/<profile>, the default; --row names one of its routers), or a run folder: run.json,
posts.parquet, and optionally curve.parquet and relabels.parquet, as radar_suite/diagnosis/runs.py describes them.
--band measures deviations in the spread of healthy runs: a folder of five or more such reruns, which should differ in
what reruns really differ in (seed, rate, length, some posts fewer), or for a run of the chain the number of times that
its heads are trained anew with such changes, best twelve or more: what is wrong with posts or labels is then wrong
with the band, too. Without a band only the exact checks and the slices are made.

examples:
  radar diagnose                               the last router of runs/cpu: exact checks, slices, what could not be run
  radar diagnose runs/cpu --row "Masked BCE/Gemma3-4B" --band 12
  radar diagnose my/run --band my/reruns       posterior over causes, evidence, test, fix
  radar diagnose my/run --band my/reruns --json
  radar diagnose runs/ID --band runs/band --apply key      a planted run: is the fix better than the runner-up's?
"""


def diagnose(args: argparse.Namespace) -> int:
    """`radar diagnose`."""
    from radar_suite.diagnosis.diagnose import Band, Diagnoser, band_of, read_reference
    from radar_suite.diagnosis.from_chain import is_chain_run, read_chain
    from radar_suite.diagnosis.runs import read_run
    from radar_suite.diagnosis.signals import SIGNALS, broken_contracts, compute
    from radar_suite.diagnosis.slices import find_slices

    if args.apply and not args.band:
        raise RadarError("--apply needs --band: without it no cause is named, so there is no fix to apply.")
    refits = int(args.band) if args.band and args.band.isdecimal() else None
    place, band = args.run or runs_folder(args) / "cpu", None
    if refits is not None and (refits not in RERUNS or not is_chain_run(place)):
        raise RadarError(f"--band {args.band}: a run of the chain is refitted {RERUNS} times; of a run folder, name a "
                         "folder of reruns.")  # fmt: skip
    if args.band and refits is None and not Path(args.band).is_dir():
        raise RadarError(f"--band {args.band} is neither a number nor a folder of reruns. Name one of the two.")
    if args.apply and is_chain_run(place):
        raise RadarError(f"{near(place)} was not planted, so no key can train it again. Leave out --apply.")
    chain = read_chain(place, args.row) if is_chain_run(place) else None
    if args.row and chain is None:
        raise RadarError(f"{near(place)} is no run of the chain, and --row names a router of one. Leave --row out.")
    run = chain.run_folder() if chain else read_run(place)
    if refits:
        band = Band.of([compute(one, SIGNALS)[0] for one in chain.band(refits)])
    elif args.band:
        band = band_of(Path(args.band), run)[0]
    if band:
        found = Diagnoser(band, read_reference())(run)
    else:
        found = {"broken": broken_contracts(run), "absent": compute(run)[1]}
    found["slices"] = find_slices(run).to_dict("records")
    if args.apply:
        from radar_lib.training.cache import Cache
        from radar_suite.diagnosis.proof import prove

        found["proof"] = prove(found, args.apply, Cache(runs_folder(args) / CACHE), Path(place).resolve().name)[1]
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
        lines.append(("proof", f"{proof['wins']} of {proof['seeds']} seeds; {gain} over placebo and none"))
    shown = "{slice}: recall {recall:.2f} ({violations} violations), {gap:+.2f} [{low:+.2f}, {high:+.2f}], q {q:.3f}"
    lines += [("slice", shown.format(**one)) for one in found["slices"] if one["q"] < FALSE_DISCOVERY]
    lines += [("not run", name) for name in found["absent"]]
    return [f"{name:12s}{value}" for name, value in lines]


def taxonomy(args: argparse.Namespace) -> int:
    """`radar taxonomy`: docs/diagnosis.md."""
    from radar_suite.diagnosis.fixes import FIXES
    from radar_suite.diagnosis.taxonomy import read_taxonomy, write_document

    read_taxonomy().check_fixes(FIXES)
    path = notebooks_folder(args).parent / "docs/diagnosis.md"
    print(f"{near(path)}: {'renewed' if write_document(path) else 'up to date'}")
    return exits.OK
