"""`radar verify`: do the committed results follow from their own scores, and does a run agree with them?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from radar_lib.errors import RadarError
from radar_suite.chain import exits
from radar_suite.chain.profiles import profile_name
from radar_suite.chain.progress import near
from radar_suite.chain.reproduce import notebooks_folder, runs_folder
from radar_suite.report.manifest import MANIFEST

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20  # differences printed of each kind

HELP = """\
Recompute every cell of Tables 1 and 2, of Figure 2, every interval and verdict of figures/<profile>/ from the scores
that lie beside them; compare every file with its digest in manifest.json, the studies against the record of their runs,
LaTeX against CSV, and the generated parts of README.md, docs/results.md and the data card against the record. No run,
no training, no GPU.

Where runs/<profile>/ holds a finished run, it is compared with its own scores too, and its numbers and verdicts against
the committed ones: a cell disagrees if it leaves the committed 95 % interval. Where posts, training, device, versions,
code, parameters and seed are equal, results must be equal, and any change counts. Of other numbers of seeds the means
are compared, and changed verdicts are named but are no failure.

examples:
  radar verify                             figures/cpu, and runs/cpu if it is there
  radar verify --json                      the same for programs: {"compared": n, "differences": [{"file", "row",
                                           "column", "stated", "found"}, ...], "run": {...} or null}
  radar verify --profile smoke             after `radar reproduce --profile smoke`
  radar verify --against other/figures/cpu another record, such as that of another commit

exit codes:
  0    all follows, and the run agrees
  1    something differs; cells and verdicts are named
  2    bad usage, or a record that is not complete
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Options of `radar verify`, beside the places."""
    command.add_argument("--against", type=Path, metavar="DIR", help="the record (default: figures/<profile>)")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")


def verify(args: argparse.Namespace) -> int:
    """`radar verify`."""
    from radar_suite.report import comparison

    name, project = profile_name(args.profile), notebooks_folder(args).parent
    record, run = args.against or project / "figures" / name, runs_folder(args) / name
    if not (record / MANIFEST).is_file():
        raise RadarError(f"{near(record)} is no record: it holds no {MANIFEST}. `radar reproduce` writes one into "
                         "figures/<profile>.")  # fmt: skip
    stated, said = comparison.check_record(record, None if args.against else project), not args.json
    if said:
        report(near(record), stated)
        if not (record / "test_scores.parquet").is_file():
            print("  it holds no scores, so that tables and verdicts could not be recomputed")
    about, failed = None, stated["differs"].any()
    if comparison.has_scores(run) and (record / "test_scores.parquet").is_file():
        own, beside = comparison.check_run(run), comparison.agree(run, record)
        failed = failed or own["differs"].any() or beside.disagreements
        about = {"other": beside.other, "cells": len(beside.cells), "outside": differences(beside.cells),
                 "inside": int(beside.cells["points"].count()), "largest": beside.cells["points"].fillna(0).max(),
                 "verdicts": differences(beside.verdicts), "same_seeds": beside.same_seeds,
                 "compared": len(own), "differences": differences(own)}  # fmt: skip
        if said:
            both = f"{near(run)} against {near(record)}"
            report(f"{near(run)} against its own scores", own)
            report(f"{both} (other {', '.join(beside.other)})" if beside.other else both, beside.cells)
            if beside.other:
                print(f"  {about['inside']:,} changed in their interval, by {about['largest']:.2f} points at most")
            report(f"{both}, verdicts" + ("" if beside.same_seeds else " of other numbers of seeds"), beside.verdicts)
    elif said:
        print(f"{near(run)}: no finished run, so nothing is compared with the record")
    if args.json:
        print(json.dumps({"compared": len(stated), "differences": differences(stated), "run": about}, indent=1,
                         ensure_ascii=False))  # fmt: skip
    return exits.FAILURE if failed else exits.OK


def differences(cells: pd.DataFrame) -> list[dict[str, str]]:
    """The cells that differ, for JSON."""
    return cells.loc[cells["differs"], ["file", "row", "column", "stated", "found"]].to_dict("records")


def report(what: str, cells: pd.DataFrame) -> None:
    """Print what was compared, and the first differences."""
    differ = differences(cells)
    print(f"{what}: {len(cells):,} cells, {f'{len(differ):,} differ' if differ else 'all agree'}", flush=True)
    for one in differ[:SHOWN]:
        print("  {file}: {row}; {column}: stated {stated}, found {found}".format(**one), flush=True)
    if len(differ) > SHOWN:
        print(f"  and {len(differ) - SHOWN:,} more", flush=True)
