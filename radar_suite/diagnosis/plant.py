"""The planter: finished run folders with a known fault, planted before training, and the sealed key that names it.

It knows nothing of signals or of the diagnosis. A run's name is a digest with a secret salt, and the key is written
apart, with its digest, before anything is diagnosed:

    python -m radar_suite.diagnosis.plant --plan test --runs DIR --key OTHER_DIR
"""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from radar_lib.errors import error_ends_process
from radar_lib.files import digest_json, read_json, read_sealed, write_json, write_sealed
from radar_lib.training.cache import Cache
from radar_suite.diagnosis.bench import Bench, Size, open_bench
from radar_suite.diagnosis.faults import FAULTS, HISTORY, OUTSIDE, Fault, harmless
from radar_suite.diagnosis.runs import RUN, write_run
from radar_suite.diagnosis.setups import (
    RECALL,
    SEEDS,
    Random,
    Setup,
    contract_of,
    deployed,
    harms,
    learn,
    posts_of,
    relabels_of,
    score,
)
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.world.policies import CATEGORIES

PLAN = "plan.json"  # beside the key: what was planted on


@dataclass(frozen=True)
class Plan:
    """What is planted; development and test differ in backbone, world and severities."""

    backbone: str
    world: int
    severities: tuple[float, ...]
    repeats: int  # of each cause and severity
    band: int
    healthy: int
    pairs: int
    outside: int = 0  # of each fault outside the taxonomy
    size: Size = Size()
    judged: bool = False  # apply the rule of harm


DEVELOPED = (0.2, 0.5, 0.8)
SMALL = Size(500, 200, 600, 500)
FULL = {"band": 30, "healthy": 60, "repeats": 2, "pairs": 30, "outside": 2, "judged": True}
QUICK = {"band": 16, "healthy": 24, "repeats": 1, "pairs": 6, "outside": 1}
SMOKE = {"band": 8, "healthy": 6, "repeats": 1, "pairs": 2}
PLANS = {
    "full-dev-1": Plan("facts", 101, DEVELOPED, **FULL),
    "full-dev-2": Plan("SigLIP2", 103, DEVELOPED, size=SMALL, **FULL),
    "full-dev-3": Plan("facts", 517, DEVELOPED, size=SMALL, **FULL),
    "full-dev-4": Plan("Qwen3-VL-2B", 618, DEVELOPED, size=SMALL, **FULL),
    "full-dev-5": Plan("facts", 519, DEVELOPED, size=SMALL, **FULL),
    "full-dev-6": Plan("facts", 521, DEVELOPED, size=SMALL, **FULL),
    "quick-dev-1": Plan("facts", 101, DEVELOPED, size=SMALL, **QUICK),
    "quick-dev-2": Plan("facts", 102, DEVELOPED, size=SMALL, **QUICK),
    "quick-test": Plan("facts", 902, (0.4, 0.95), size=SMALL, judged=True, **QUICK),
    "smoke-dev-1": Plan("facts", 201, (0.8,), size=SMALL, **SMOKE),
    "smoke-test": Plan("facts", 903, (0.65,), size=SMALL, **SMOKE),
}  # fmt: skip
HEALTHY, BAND = "healthy", "band"


@dataclass(frozen=True)
class Makings:
    """What a plan draws from: faults outside the taxonomy, and changes that do no harm."""

    outside: dict[str, Fault]
    harmless: Callable[[Setup, Random], None]

    def fault(self, name: str) -> Fault:
        return (FAULTS | self.outside | {fault.__name__: fault for fault in HISTORY})[name]


DEVELOPMENT = Makings(OUTSIDE, partial(harmless, width=1.5))  # wider than a band's


def runs_of(plan: Plan, makings: Makings = DEVELOPMENT) -> list[dict[str, Any]]:
    """What each run of a plan is: kind, causes and severity, in a fixed order."""
    kinds = [(BAND, [], 0.0)] * plan.band + [(HEALTHY, [], 0.0)] * plan.healthy
    kinds += [("single", [c], v) for c in FAULTS for v in plan.severities for _ in range(plan.repeats)]
    random = np.random.default_rng(plan.world)
    for _ in range(plan.pairs):
        kinds.append(("pair", sorted(random.choice(list(FAULTS), 2, replace=False).tolist()),
                      float(random.choice(plan.severities))))  # fmt: skip
    kinds += [("outside", [c], v) for c in makings.outside for v in np.resize(plan.severities, plan.outside).tolist()]
    kinds += [("history", [fault.__name__], 1.0) for fault in HISTORY if plan.outside]
    return [{"number": n, "kind": kind, "causes": causes, "severity": severity}
            for n, (kind, causes, severity) in enumerate(kinds)]  # fmt: skip


def planted(
    bench: Bench, one: dict[str, Any], *, world: int, ill: bool = True, makings: Makings = DEVELOPMENT,
    healthy: Callable[[Bench], Setup] = Setup.of,
) -> Setup:  # fmt: skip
    """The set-up of a run, or of the healthy run that it is matched with.

    All have harmless changes; those of a band are the same in every plan.
    """
    setup = healthy(bench)
    change = harmless if one["kind"] == BAND else makings.harmless
    change(setup, np.random.default_rng([world, one["number"]]))
    random = np.random.default_rng([world, one["number"], 2])
    for cause in one["causes"] if ill else ():
        makings.fault(cause)(setup, one["severity"], random)
    return setup


def plant(plan: Plan, runs: Path, key: Path, cache: Cache, makings: Makings = DEVELOPMENT) -> None:
    """Write the runs of a plan that are not there yet, and the key; goes on where it was stopped."""
    bench, listed = open_bench(plan.backbone, seed=plan.world, size=plan.size, cache=cache), runs_of(plan, makings)
    harm, answers = {c.name: c.harm for c in read_taxonomy().causes}, {}
    for name, one in tqdm(name_runs(listed, key, plan, held_out=makings is not DEVELOPMENT), desc="runs planted"):
        place, answer = runs / name, key / f"{name}.json"
        if not (place / RUN).is_file() or not answer.is_file():
            judged, hurt = plan.judged and bool(one["causes"]), None
            seeds = [1000 * one["number"] + i for i in range(SEEDS if judged else 1)]
            setup = planted(bench, one, world=plan.world, makings=makings)
            trained, curve = learn(setup, seeds)
            scores = [score(setup, weights) for weights in trained]
            if judged:
                matched = planted(bench, one, world=plan.world, ill=False, makings=makings)
                well = [harms(matched, score(matched, weights)) for weights in learn(matched, seeds)[0]]
                ill = [harms(setup, its) for its in scores]
                hurt = {c: all(a[m] > b[m] for a, b in zip(ill, well, strict=True))
                        for c in one["causes"] for m in [harm.get(c, "pr_auc")]}  # fmt: skip
            write_planted(place, setup, scores[0], curve, np.random.default_rng([plan.world, one["number"], 1]))
            write_json(answer, {**one, "hurt": hurt})
        answers[name] = read_json(answer)
    seal(answers, runs, key)


def name_runs(
    listed: list[dict[str, Any]], key: Path, plan: Plan, *, held_out: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Each run with its opaque name; writes the salt and the plan beside the key."""
    if not (key / "salt.json").is_file():
        write_json(key / "salt.json", secrets.token_hex(16))
    write_json(key / PLAN, asdict(plan) | {"held_out": held_out})
    salt = read_json(key / "salt.json")
    return [(digest_json([salt, one["number"]]), one) for one in listed]


def write_planted(
    place: Path, setup: Setup, scores: dict[tuple[str, str], Any], curve: pd.DataFrame | None, random: Random
) -> None:
    """Write the folder of a run with what an honest log says, its second look drawn at random."""
    about = {"categories": list(CATEGORIES), "recall": RECALL, "thresholds": deployed(setup, scores),
             "contract": contract_of(setup)}  # fmt: skip
    write_run(place, about, posts_of(setup, scores), curve, relabels_of(setup, random))


def seal(answers: dict[str, dict[str, Any]], runs: Path, key: Path) -> None:
    """Write which runs are the band, the key, and the key's digest beside the runs."""
    write_json(runs / "band.json", [name for name, one in answers.items() if one["kind"] == BAND])
    write_sealed(key / "key.json", {"answers": answers})
    write_json(runs / "key_digest.json", digest_json(read_sealed(key / "key.json")))


def main() -> None:
    """Plant one plan."""
    from radar_suite.diagnosis import held_out  # which is written on this module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=list(PLANS | held_out.PLANS), required=True)
    for name in ("runs", "key", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    makings = Makings(held_out.OUTSIDE, held_out.harmless) if args.plan in held_out.PLANS else DEVELOPMENT
    with error_ends_process():
        plant((PLANS | held_out.PLANS)[args.plan], args.runs, args.key, Cache(args.cache), makings)


if __name__ == "__main__":
    main()
