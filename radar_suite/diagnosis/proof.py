"""Whether a fix beats a placebo: runs of both with the same seeds; the share of proven fixes over the runs of a plan.

    python -m radar_suite.diagnosis.proof --plan quick-dev-1 --folder runs/diagnosis/quick --cache runs/diagnosis/cache
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student_t
from tqdm import tqdm

from radar_lib.errors import RadarError
from radar_lib.files import read_json, read_sealed, write_json
from radar_lib.training.cache import Cache
from radar_suite.diagnosis import held_out
from radar_suite.diagnosis.bench import Bench, Size, open_bench
from radar_suite.diagnosis.evaluate import open_key, share
from radar_suite.diagnosis.fixes import FIXES, RESIZING, UNTRAINED, record
from radar_suite.diagnosis.plant import DEVELOPMENT, PLAN, Makings, planted
from radar_suite.diagnosis.runs import RunFolder
from radar_suite.diagnosis.setups import SEEDS, Setup, harms, learn, score
from radar_suite.diagnosis.taxonomy import read_taxonomy

TIE = 1e-6  # of a harm; less is none


def treat(setup: Setup, run: RunFolder, fixes: Sequence[str]) -> Setup:
    """A set-up with these fixes, in their order; those that change which posts are trained on come last."""
    treated = setup.copy()
    for name in sorted(fixes, key=lambda name: RESIZING.index(name) if name in RESIZING else -1):
        treated = FIXES[name](treated, run)
    return treated


def fixes_of(causes: Sequence[str]) -> list[str]:
    """The first fix of each cause that runs on heads."""
    steps = [[step.runs for step in read_taxonomy().cause(name).interventions if step.runs] for name in causes]
    return [runs[0] for runs in steps if runs]


def placebo_of(causes: Sequence[str], posterior: dict[str, float]) -> list[str]:
    """The fix of the likeliest other cause; none that is known to treat the causes themselves."""
    taxonomy = read_taxonomy()
    taxonomy.check_fixes(FIXES)
    own = {step.runs for name in causes for step in taxonomy.cause(name).interventions}
    others = sorted({c.name for c in taxonomy.causes} - set(causes), key=lambda name: -posterior.get(name, 0.0))
    return next([fix] for name in others for fix in fixes_of([name]) if fix not in own)


def verify(
    setup: Setup, fix: Sequence[str], placebo: Sequence[str], seeds: Sequence[int], *, harm: str = "pr_auc",
    others: dict[str, Sequence[str]] | None = None, healthy: Setup | None = None,
) -> dict[str, Any]:
    """Train as it is, with a fix and with a placebo, with the same seeds, and compare the harm.

    Args:
        harm: measure of `setups.harms`; more is worse.
        others: further fixes to compare with, by name.
        healthy: the set-up without its fault, where it is known; `recovered` is then the share of what was lost.

    Returns:
        harm of each arm by seed; `gain` of the fix over the better of placebo and none, seed by seed: its mean, and
        `low` and `high`, its 95 % interval (Student's t over seeds); `wins`, seeds with a gain; `verified`, all of
        them: a tie is no win.
    """
    began, run = time.monotonic(), record(setup, seed=seeds[0])
    untouched = learn(setup, list(seeds))[0]
    arms: dict[str, list[float]] = {"none": [harms(setup, score(setup, w))[harm] for w in untouched]}
    reviewed: dict[str, float] = {}
    for arm, fixes in ({"fix": fix, "placebo": placebo} | (others or {})).items():
        treated = treat(setup, run, fixes)
        weights = untouched if set(fixes) <= UNTRAINED else learn(treated, list(seeds))[0]
        arms[arm] = [harms(treated, score(treated, w))[harm] for w in weights]
        reviewed[arm] = treated.said.get("reviewed", 0)
    if healthy is not None:
        arms["healthy"] = [harms(healthy, score(healthy, w))[harm] for w in learn(healthy, list(seeds))[0]]
    values = {arm: np.array(v) for arm, v in arms.items()}

    def gain_of(arm: str) -> np.ndarray:
        return np.minimum(values["placebo"], values["none"]) - values[arm]

    gains, n = gain_of("fix"), len(seeds)
    half = float(student_t.ppf(0.975, n - 1) * gains.std(ddof=1) / n**0.5)
    lost = values["none"].mean() - values["healthy"].mean() if healthy is not None else 0.0
    return {
        "harm": harm, "fix": list(fix), "placebo": list(placebo), "arms": arms, "reviewed": reviewed,
        "gain": float(gains.mean()), "low": float(gains.mean()) - half, "high": float(gains.mean()) + half,
        "wins": int((gains > TIE).sum()), "seeds": n, "verified": bool((gains > TIE).all()),
        "recovered": float((values["none"] - values["fix"]).mean() / lost) if lost > 0 else None,
        "seconds": round(time.monotonic() - began, 1),
    } | {f"{arm} verified": bool((gain_of(arm) > TIE).all()) for arm in others or {}}  # fmt: skip


def prove(
    verdict: dict[str, Any], key: Path, cache: Cache, name: str, *, bench: Bench | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was planted in a run, and `verify` of the fix that a verdict names, beside the runner-up's and a random one.

    Args:
        key: folder of the planter, who alone can train the run again.
        name: of the run.

    Raises:
        RadarError: the verdict names no cause, or the folder is no planter's, did not plant this run, or was changed.
    """
    if not verdict["causes"]:
        raise RadarError(f"{name} is {verdict['verdict']}: there is no cause, so no fix to apply. Leave out --apply.")
    if not (key / PLAN).is_file() or not (key / f"{name}.json").is_file():
        raise RadarError(f"{key} holds no {PLAN} or no {name}.json, so it cannot be trained again: a fix is "
                         "applied to planted runs. Name the key folder that it was planted with.")  # fmt: skip
    one, plan = read_json(key / f"{name}.json"), read_json(key / PLAN, dict[str, Any])
    if read_sealed(key / "key.json")["answers"].get(name) != one:
        raise RadarError(f"{key / name}.json is not what {key / 'key.json'} has. Plant the runs again.")
    bench = bench or bench_of(key, cache)
    makings = Makings(held_out.OUTSIDE, held_out.harmless) if plan.get("held_out") else DEVELOPMENT
    ill, well = (planted(bench, one, world=plan["world"], ill=ill, makings=makings) for ill in (True, False))
    fix, placebo = fixes_of(verdict["causes"]), placebo_of(verdict["causes"], verdict["posterior"])
    others = sorted(set(FIXES) - set(placebo))
    random = {"random": [str(np.random.default_rng(one["number"]).choice(others))]}
    seeds = [1000 * one["number"] + i for i in range(SEEDS)]
    harm = read_taxonomy().cause(verdict["verdict"]).harm
    return one, verify(ill, fix, placebo, seeds, harm=harm, others=random, healthy=well)


def bench_of(key: Path, cache: Cache) -> Bench:
    """The bench that a planter's runs stand on."""
    plan = read_json(key / PLAN)
    return open_bench(plan["backbone"], seed=plan["world"], size=Size(**plan["size"]), cache=cache)


def verify_plan(folder: Path, cache: Cache) -> dict[str, Any]:
    """Verify the fix of each harmful single fault of a plan that was diagnosed rightly; goes on where it was stopped.

    Args:
        folder: of the plan, with runs, key and verdicts.json; `fixes.json` is written there.

    Raises:
        RadarError: as `evaluate.open_key`.
    """
    key, verdicts, out = folder / "key", folder / "verdicts.json", folder / "fixes.json"
    answers, found = open_key(key, folder / "runs", verdicts), read_json(verdicts)
    verdict_of = {name: of[max(of, key=len)]["posterior"] for name, of in found.items()}  # with the most knowledge
    right = [(name, verdict_of[name]) for name, one in answers.items()
             if one["kind"] == "single" and verdict_of[name]["causes"] == one["causes"]]  # fmt: skip
    bench, rows = None, []
    for name, verdict in tqdm(right, desc="fixes verified"):
        kept = out.with_suffix("") / f"{name}.json"
        if not kept.is_file():
            bench = bench or bench_of(key, cache)
            one, row = prove(verdict, key, cache, name, bench=bench)
            write_json(kept, {"cause": verdict["verdict"], "severity": one["severity"], **row})
        rows.append(read_json(kept))
    result = verified_shares(rows)
    write_json(out, result)
    return result


def verified_shares(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of what `verify` found of runs: the share of verified fixes, in all and by cause, among runs that were harmed."""
    hurt = [row for row in rows if all(a > b for a, b in zip(row["arms"]["none"], row["arms"]["healthy"], strict=True))]
    return {
        "diagnosed": len(rows), "harmful": len(hurt), "verified": share([row["verified"] for row in hurt]),
        "random": share([row["random verified"] for row in hurt]),
        "by_cause": {c: share([row["verified"] for row in of])
                     | {"recovered": float(np.median([row["recovered"] for row in of]))}
                     for c in sorted({row["cause"] for row in hurt}) for of in [[r for r in hurt if r["cause"] == c]]},
        "seconds": float(np.median([row["seconds"] for row in rows])) if rows else None,
    }  # fmt: skip


def main() -> None:
    """Share of verified fixes over the runs of a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", required=True)
    for name in ("folder", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = verify_plan(args.folder / args.plan, Cache(args.cache))
    rows = result["by_cause"] | {"all": result["verified"], "random": result["random"]}
    print(pd.DataFrame(rows).T.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
