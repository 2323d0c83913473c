"""`radar verify`: do the committed results follow from their own scores, and does a run agree with them?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.chain import exits
from radar_suite.chain.ledger import FIGURES
from radar_suite.chain.progress import near
from radar_suite.chain.reproduce import notebooks_folder, runs_folder

if TYPE_CHECKING:
    from radar_suite.report.verify import Difference

TRAINING = ("03_expert_training/experts.json", "05_router_training/routers.json", "05_router_training/references.json",
            "06_tables_1_and_2/references.json")  # fmt: skip
ROWS, LAMBDAS = "06_tables_1_and_2", "07_lambda_study"
SHOWN = 20  # differences printed of each kind

HELP = """\
Recompute every cell of Tables 1 and 2, of Figure 2, every interval and verdict of figures/<profile>/ from the scores
that lie beside them; no run, no training, no GPU. Studies and durations are not covered. Where runs/<profile>/ holds
a finished run, its score files are held against their digests, its results against its scores, and its numbers and
verdicts against the committed ones: a cell differs if it leaves the committed 95 % interval. Changes within it are
counted in one line, and are a failure only where posts, device, versions, library code, parameters and seeds are
equal, since results are then equal too. Of other numbers of seeds the means are compared, and changed verdicts are
named but are no failure.

examples:
  radar verify                             figures/cpu, and runs/cpu if it is there
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


def verify(args: argparse.Namespace) -> int:
    """`radar verify`."""
    from radar_suite.report.record import FILE
    from radar_suite.report.verify import GRID, TABLES, check_folder

    name = Path(args.profile).stem
    record = args.against or notebooks_folder(args).parent / "figures" / name
    if not (record / f"{TABLES}.parquet").is_file():
        raise RadarError(f"{near(record)} is no record that can be recomputed: it holds no {TABLES}.parquet. "
                         "`radar reproduce` writes one into figures/<profile>.")  # fmt: skip
    runs = record / FILE if (record / FILE).is_file() else None
    found, compared = [], 0
    for scores in (TABLES, GRID):
        if (record / f"{scores}.parquet").is_file():
            more, count = check_folder(record, scores, record=runs)
            found, compared = found + more, compared + count
    _report(f"{near(record)}: {compared:,} cells recomputed from its scores", found)
    run = runs_folder(args) / name
    return exits.FAILURE if verify_run(run, record) + len(found) else exits.OK


def verify_run(run: Path, record: Path) -> int:
    """Check a run's own integrity and hold it against a record, in a few lines; returns how much differs."""
    from radar_suite.report import verify as check
    from radar_suite.report.record import FILE

    tables, grid = run / ROWS / FIGURES, run / LAMBDAS / FIGURES
    if not (tables / f"{check.TABLES}.parquet").is_file():
        print(f"{near(run)}: no finished run, so nothing is held against the record")
        return 0
    found, compared = [], 0
    for folder, name, files in (
        (tables, check.TABLES, (f"{ROWS}/results.json", f"{ROWS}/claims.json")),
        (grid, check.GRID, (f"{LAMBDAS}/lambda.json",)),
    ):
        if not (folder / f"{name}.parquet").is_file():
            continue
        more, count = check.check_folder(folder, name, record=run / FILE)
        found, compared = found + more, compared + count
        scores = check.read_row_scores(folder / f"{name}.parquet")
        found += check.check_scores(run.parent, _index(run, name == check.GRID), scores)
        expected = check.expected_files(folder, name, scores)
        for file in files:
            found += check.check_json(file, read_json(run / file), expected)
    _report(f"{near(run)}: {compared:,} cells recomputed from its scores, and its score files' digests", found)
    return len(found) + agree(run, record, what=f"{near(run)} against {near(record)}")


def agree(run: Path, record: Path, *, what: str) -> int:
    """Say how a run agrees with a record, in a few lines; returns how much is a disagreement."""
    from radar_suite.report import agreement, stated
    from radar_suite.report.record import FILE

    tables, grid = run / ROWS / FIGURES, run / LAMBDAS / FIGURES
    folders = zip((stated.INTERVALS, *stated.VERDICTS), (tables, tables, grid), strict=True)
    found = agreement.compare({file: folder / file for file, folder in folders}, record)
    apart = agreement.apart(tables, record, records=(run / FILE, record / FILE))
    means = agreement.numbers_of_seeds_differ(tables, record)
    if not apart:
        print(f"{what}: posts, device, versions, library code, parameters and seeds are equal, so results must be")
        _report(f"{what}: {found.cells:,} cells", found.outside + found.inside)
    else:
        print(f"{what}: other {', '.join(apart)}{'; means over other numbers of seeds are compared' if means else ''}")
        _report(f"{what}: {found.cells:,} cells, those outside the record's 95 % interval", found.outside)
        if found.inside:
            print(f"  {len(found.inside):,} of {found.cells:,} cells changed within their interval, largest "
                  f"{found.largest:.2f} points")  # fmt: skip
    _report(f"{what}: verdicts{', which rest on other numbers of seeds' if means else ''}", found.verdicts)
    return len(found.outside) + (0 if apart else len(found.inside)) + (0 if means else len(found.verdicts))


def _index(run: Path, grid: bool) -> list[dict]:
    if grid:
        return read_json(run / LAMBDAS / "lambda.json")["runs"]
    return [entry for file in TRAINING for entry in read_json(run / file)]


def _report(what: str, found: Iterable[Difference]) -> None:
    found = list(found)
    print(f"{what}: {f'{len(found):,} differ' if found else 'all agree'}", flush=True)
    for one in found[:SHOWN]:
        print(f"  {one}", flush=True)
    if len(found) > SHOWN:
        print(f"  and {len(found) - SHOWN:,} more", flush=True)
