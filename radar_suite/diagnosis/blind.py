"""Runs of a folder diagnosed without their key: verdicts of the diagnosis with each knowledge, and of two baselines.

A process of its own, which is given runs and the development runs' deviations, and cannot know the planter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.errors import error_ends_process
from radar_lib.files import write_json
from radar_suite.diagnosis.diagnose import HEALTHY, KNOWLEDGE, Diagnoser, Vector, band_of, read_reference, readable
from radar_suite.diagnosis.runs import RUN, read_run
from radar_suite.diagnosis.signals import SIGNALS, compute
from radar_suite.diagnosis.taxonomy import read_taxonomy


def rules(vector: Vector, columns: Sequence[str]) -> dict[str, Any]:
    """The baseline of fixed rules: the cause whose signatures lie furthest on their side of the band, none within two
    spreads."""
    best, size = HEALTHY, np.log1p(2.0)
    for cause in read_taxonomy().causes:
        sides = [abs(v) if side == "either" else v if side == "high" else -v
                 for name, side in cause.signatures.items()
                 for v in [vector.get(f"{name}, extreme", vector.get(name, 0.0))] if name in columns]  # fmt: skip
        if sides and np.mean(sides) > size:
            best, size = cause.name, np.mean(sides)
    return {"verdict": best, "causes": [best] if best != HEALTHY else []}


def nearest(vector: Vector, columns: Sequence[str], reference: pd.DataFrame) -> dict[str, Any]:
    """The baseline of the nearest development run, by Euclidean distance of the deviations."""
    names = [name for name in columns if name in reference]
    x = np.array([vector[name] for name in names])
    row = ((reference[names].to_numpy(float) - x) ** 2).sum(axis=1).argmin()
    causes = [c for c in reference["truth"].iloc[row].split("+") if c]
    return {"verdict": causes[0] if causes else HEALTHY, "causes": causes}


def deviations_below(runs: Path) -> dict[str, Vector]:
    """Deviations of each run of a folder that is not of its band."""
    band, names = band_of(runs)
    others = sorted(p.parent.name for p in runs.glob(f"*/{RUN}") if p.parent.name not in names)
    return {name: band.deviations(compute(read_run(runs / name), SIGNALS)[0]) for name in others}


def verdicts(runs: Path, reference: pd.DataFrame) -> dict[str, Any]:
    """What each method says of each run of a folder, with each knowledge."""
    band, names = band_of(runs)
    diagnoser, out = Diagnoser(band, reference), {}
    for place in sorted(p.parent for p in runs.glob(f"*/{RUN}")):
        if place.name in names:
            continue
        run = read_run(place)
        computed = compute(run)
        vector = band.deviations(computed[0])
        out[place.name] = {}
        for knowledge in KNOWLEDGE:
            columns = readable(list(vector), knowledge)
            out[place.name][knowledge] = {
                "posterior": diagnoser(run, knowledge, computed=computed), "rules": rules(vector, columns),
                "nearest": nearest(vector, columns, reference),
            }  # fmt: skip
    return out


def main() -> None:
    """Diagnose all runs of a folder with each knowledge and each method, and write the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with error_ends_process():
        write_json(args.out, verdicts(args.runs, read_reference(args.reference)))


if __name__ == "__main__":
    main()
