"""The blind evaluation: plant, learn from the development runs, diagnose the test runs, and only then open the key.

    python -m radar_suite.diagnosis.evaluate --size smoke --out runs/diagnosis

Planter and diagnosis are processes of their own: the one that diagnoses is given the runs' folder and the development
table, never a key. Each step is kept; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from radar_lib.errors import RadarError, error_ends_process
from radar_lib.files import atomic_path, digest_json, locked, read_json, read_sealed, write_json
from radar_suite.diagnosis import finetuned
from radar_suite.diagnosis.blind import deviations_below
from radar_suite.diagnosis.diagnose import HEALTHY, KNOWLEDGE, REFERENCE, UNKNOWN, Model, readable
from radar_suite.diagnosis.faults import HISTORY
from radar_suite.intake.audit import wilson

SIZES = {  # plans for development, and for the test
    "smoke": (("smoke-dev-1",), ("smoke-test",)), "quick": (("quick-dev-1", "quick-dev-2"), ("quick-test",)),
    "full": (tuple(f"full-dev-{n}" for n in range(1, 7)), ("held-out-facts", "held-out-standin")),
    "lora": ((), tuple(finetuned.PLANS)),  # diagnosed by what the committed reference learned on heads
}  # fmt: skip
ABOUT = ("truth", "latent", "world")  # of a development run, beside its deviations
METHODS = ("posterior", "rules", "nearest")
BARS = (  # set before anything was built: measure, knowledge, bar
    ("detection_f1", "BLC", 0.95), ("false_alarms", "BLC", 0.02), ("top1", "B", 0.75), ("top1", "BL", 0.85),
    ("top1", "BLC", 0.92), ("exact_pairs", "BLC", 0.60), ("unknown", "BLC", 0.70),
)  # fmt: skip


def open_key(key: Path, runs: Path, verdicts: Path) -> dict[str, dict[str, Any]]:
    """The answers, once everything is diagnosed.

    Raises:
        RadarError: there are no verdicts yet, or not on every run, or the key is not the one that was sealed.
    """
    if not verdicts.is_file():
        raise RadarError(f"{key} stays closed: {verdicts} does not exist. Diagnose the runs first.")
    answers = read_sealed(key / "key.json")["answers"]
    if digest_json({"answers": answers}) != read_json(runs / "key_digest.json"):
        raise RadarError(f"{key / 'key.json'} is not the key that was sealed with {runs}. Plant the runs again.")
    missing = {name for name, one in answers.items() if one["kind"] != "band"} - set(read_json(verdicts))
    if missing:
        raise RadarError(f"{key} stays closed: {len(missing)} runs have no verdict. Diagnose them first.")
    return answers


def learn(folders: list[tuple[Path, Path]], out: Path) -> None:
    """Write the table of development runs: their deviations from their own band, and their causes."""
    parts = []
    for runs, key in folders:
        found, answers = deviations_below(runs), read_sealed(key / "key.json")["answers"]
        found = {name: vector for name, vector in found.items() if answers[name]["kind"] != "history"}
        truth = {name: UNKNOWN if answers[name]["kind"] == "outside" else "+".join(answers[name]["causes"])
                 for name in found}  # fmt: skip
        latent = {name: not all((answers[name]["hurt"] or {}).values()) for name in found}
        about = {"truth": pd.Series(truth), "latent": pd.Series(latent), "world": key.parent.name}
        parts.append(pd.DataFrame(found).T.assign(**about))
    table = pd.concat(parts).fillna(0.0).reset_index(drop=True)
    numbers = [name for name in table if name not in ABOUT]
    table[numbers] = table[numbers].astype(np.float32).round(2)
    with atomic_path(out) as temporary:
        table.to_parquet(temporary, index=False)


def share(right: list[bool]) -> dict[str, float | int | None]:
    """A share with its 95 % interval (Wilson)."""
    if not right:
        return {"share": None, "low": None, "high": None, "n": 0}
    low, high = wilson(np.array(sum(right)), np.array(len(right)))
    return {"share": sum(right) / len(right), "low": float(low), "high": float(high), "n": len(right)}


def macro_f1(pairs: list[tuple[str, str]]) -> float:
    """Mean F1 over the causes that were planted, of (truth, verdict) pairs."""
    out = []
    for cause in {truth for truth, _ in pairs}:
        hit = sum(t == v == cause for t, v in pairs)
        out.append(2 * hit / (sum(t == cause for t, _ in pairs) + sum(v == cause for _, v in pairs)))
    return float(np.mean(out)) if out else float("nan")


def judge(answers: dict[str, dict[str, Any]], verdict: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one method with one knowledge.

    Faults that do not hurt (`hurt` False, by the rule of the planter) are latent and counted apart. Of a two-fault run
    both must hurt; one outside the taxonomy must hurt, too.
    """
    kinds = defaultdict(list)
    for name, one in answers.items():
        latent = one["hurt"] is not None and not all(one["hurt"].values())
        kinds[one["kind"] + (" latent" if latent else "")].append((name, one))
    single = [(one["causes"][0], verdict(name)["verdict"]) for name, one in kinds["single"]]
    ill = [verdict(name)["verdict"] != HEALTHY for kind in ("single", "pair", "outside") for name, _ in kinds[kind]]
    alarms = [verdict(name)["verdict"] != HEALTHY for name, _ in kinds["healthy"]]
    return {
        "detected": share(ill), "false_alarms": share(alarms),
        "detection_f1": 2 * sum(ill) / max(sum(ill) + sum(alarms) + len(ill), 1),
        "top1": share([t == v for t, v in single]), "macro_f1": macro_f1(single),
        "exact_pairs": share([set(verdict(n)["causes"]) == set(one["causes"]) for n, one in kinds["pair"]]),
        "one_of_pair": share([verdict(n)["verdict"] in one["causes"] for n, one in kinds["pair"]]),
        "unknown": share([verdict(n)["verdict"] == UNKNOWN for n, _ in kinds["outside"]]),
        "known_called_unknown": share([v == UNKNOWN for _, v in single]),
        "latent": share([verdict(n)["verdict"] == one["causes"][0] for n, one in kinds["single latent"]]),
        "by_cause": {c: share([v == c for t, v in single if t == c]) for c in sorted({t for t, _ in single})},
        "confused": [[*pair, n] for pair, n in Counter((t, v) for t, v in single if t != v).most_common(12)],
    }  # fmt: skip


def reached(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar, what was reached with its 95 % interval (of F1: both shares drawn again), and whether it is met."""
    rows = []
    for measure, knowledge, bar in BARS:
        one = scores["posterior"][knowledge]
        if measure == "detection_f1":
            random, (ill, well) = np.random.default_rng(1), (one["detected"], one["false_alarms"])
            hits, alarms = (random.binomial(s["n"], s["share"] or 0.0, 2000) for s in (ill, well))
            low, high = np.quantile(2 * hits / np.maximum(hits + alarms + ill["n"], 1), [0.025, 0.975])
            found = {"share": one[measure], "low": float(low), "high": float(high), "n": ill["n"] + well["n"]}
        else:
            found = one[measure]
        value = found["share"]
        met = None if value is None else value <= bar if measure == "false_alarms" else value >= bar
        rows.append({"measure": measure, "knowledge": knowledge, "bar": bar, "met": met, **found})
    return rows


def cross_validated(reference: pd.DataFrame) -> dict[str, Any]:
    """The numbers on development runs, each world diagnosed by what the others teach; no contracts, no second look."""
    causes = [[c for c in truth.split("+") if c] for truth in reference["truth"]]
    kinds = ["outside" if its == [UNKNOWN] else ("healthy", "single", "pair")[len(its)] for its in causes]
    hurt = [{"any": not latent} for latent in reference["latent"]]
    answers = {str(i): dict(zip(("kind", "causes", "hurt"), one, strict=True))
               for i, one in enumerate(zip(kinds, causes, hurt, strict=True))}  # fmt: skip
    out = {}
    for knowledge in KNOWLEDGE[:2]:
        columns, found = readable([name for name in reference if name not in ABOUT], knowledge), {}
        for world, rows in reference.groupby("world"):
            model = Model.of(reference[reference["world"] != world].reset_index(drop=True), columns)
            found |= {str(i): model.diagnose(dict(row)) for i, row in rows[list(model.columns)].iterrows()}
        out[knowledge] = judge(answers, found.__getitem__)
    return out


def calibration_error(answers: dict[str, dict[str, Any]], verdicts: dict[str, Any], *, bins: int = 5) -> float:
    """Expected calibration error of the verdict's posterior, over healthy runs and harmful single faults."""
    rows = []
    for name, one in answers.items():
        if one["kind"] == "healthy" or (one["kind"] == "single" and all((one["hurt"] or {"": True}).values())):
            found = verdicts[name]
            rows.append((found["posterior"][found["verdict"]], found["verdict"] == ([*one["causes"], HEALTHY][0])))
    p, right = np.array(rows, float).T
    place = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs(p[place == b].mean() - right[place == b].mean()) * (place == b).mean()
                     for b in np.unique(place)))  # fmt: skip


def evaluate(size: str, out: Path, cache: Path) -> dict[str, Any]:
    """All steps; returns and writes `scores.json`."""
    development, tests = SIZES[size]

    def folders(plan: str) -> tuple[Path, Path]:
        return out / plan / "runs", out / plan / "key"

    def step(module: str, *options: Any) -> None:
        command = [sys.executable, "-m", f"radar_suite.diagnosis.{module}", *map(str, options)]
        if code := subprocess.run(command, check=False).returncode:
            raise RadarError(f"{module} ended with {code}. Its message stands above; the same command goes on.")

    for plan in (*development, *tests):
        runs, key = folders(plan)
        if not (key / "key.json").is_file():
            planter = "finetuned" if plan in finetuned.PLANS else "plant"
            step(planter, "--plan", plan, "--runs", runs, "--key", key, "--cache", cache)
    reference, answers, found = out / "reference.parquet" if development else REFERENCE, {}, {}
    if not reference.is_file():
        learn([folders(plan) for plan in development], reference)
    scores: dict[str, Any] = {"size": size, "keys": {}}
    for test in tests:
        (runs, key), verdicts = folders(test), out / test / "verdicts.json"
        if not verdicts.is_file():
            step("blind", "--runs", runs, "--reference", reference, "--out", verdicts)
        answers, found = answers | open_key(key, runs, verdicts), found | read_json(verdicts)
        scores["keys"][test] = read_json(runs / "key_digest.json")
    for method in METHODS:
        scores[method] = {k: judge(answers, lambda name, k=k, m=method: found[name][k][m]) for k in KNOWLEDGE}
    for k in KNOWLEDGE:
        ours = {name: found[name][k]["posterior"] for name in found}
        scores["posterior"][k]["calibration_error"] = calibration_error(answers, ours)
    right = {fault.__name__: cause for fault, cause in HISTORY.items()}
    scores["history"] = {  # bugs that this project had; shown apart
        one["causes"][0]: {"right": right[one["causes"][0]]}
        | {k: found[name][k]["posterior"]["verdict"] for k in KNOWLEDGE}
        for name, one in answers.items() if one["kind"] == "history"
    }  # fmt: skip
    scores["reached"] = reached(scores)
    if development and (developed := pd.read_parquet(reference))["world"].nunique() > 1:
        scores["development"] = cross_validated(developed)
    write_json(out / "scores.json", scores)
    return scores


def table(scores: dict[str, Any]) -> pd.DataFrame:
    """The scoreboard: methods and knowledge by measure."""
    rows = []
    for method in METHODS:
        for knowledge in KNOWLEDGE:
            one = scores[method][knowledge]
            row: dict[str, Any] = {"method": method, "knowledge": knowledge}
            for name in ("detection_f1", "macro_f1"):
                row[name] = round(one[name], 2)
            for name in ("false_alarms", "top1", "exact_pairs", "one_of_pair", "unknown"):
                s = one[name]
                row[name] = "-" if not s["n"] else f"{s['share']:.2f} [{s['low']:.2f}, {s['high']:.2f}] /{s['n']}"
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """`make diagnosis-eval`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="smoke")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with error_ends_process(), locked(args.out / f"{args.size}.lock"):
        scores = evaluate(args.size, args.out / args.size, args.cache or args.out / "cache")
    print(table(scores).to_string(index=False))


if __name__ == "__main__":
    main()
