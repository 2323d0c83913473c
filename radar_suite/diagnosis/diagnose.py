"""The diagnosis of a run: exact checks, signals against a band of healthy reruns, a posterior over causes, and the test
that separates the first two.

The posterior is linear and so can be read: each cause has one weight per signal, learned by ridge regression on planted
development runs. Whether anything is wrong, and whether any known cause explains it, is decided from how large the
signals and the causes' scores are. Signals that cost a second look (regime R) are computed only by the test that
separates the first two causes, and then move their odds by a likelihood ratio. This module opens no answer key and
does not know the planter.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, read_json, write_json
from radar_suite.diagnosis.runs import RUN, RunFolder, read_run
from radar_suite.diagnosis.signals import SECOND_LOOK, SIGNALS, Values, broken_contracts, compute
from radar_suite.diagnosis.taxonomy import read_taxonomy

REFERENCE = Path(__file__).with_name("reference.parquet")
HEALTHY, UNKNOWN = "healthy", "unknown"
LEAST = 5  # reruns of a band
FLOOR = 0.02  # added to the spread of a signal over the band
RIDGE = 20.0
PAIRED = 4  # synthetic two-fault runs per development run with one
FOLDS = 5
# what a diagnosis may read: signals, with logs and ablations, with contracts, and with a second look where in doubt
KNOWLEDGE = ("B", "BL", "BLC", "BLCR")
DOUBT = 0.02  # odds of the second cause below which no test is run
FALSE_ALARMS = 0.01  # share of the development's healthy runs that may be called faulty
UNLIKE = 0.1  # share of the development's faulty runs that may be called unknown
CERTAIN = 3.0  # added to the score of a cause whose contract is broken

Vector = dict[str, float]


@dataclass(frozen=True)
class Band:
    """Mean and spread of each signal over healthy reruns."""

    mean: dict[str, Values]
    spread: dict[str, Values]

    @classmethod
    def of(cls, runs: Sequence[dict[str, Values]]) -> Band:
        """Of the signals of reruns.

        Raises:
            RadarError: too few reruns.
        """
        if len(runs) < LEAST:
            raise RadarError(f"{len(runs)} healthy reruns: a band takes {LEAST} or more. Train some more seeds.")
        names = [name for name in SIGNALS if all(name in run for run in runs)]
        values = {name: np.array([run[name] for run in runs]) for name in names}
        return cls({name: np.nanmean(v, axis=0) for name, v in values.items()},
                   {name: np.nanstd(v, axis=0, ddof=1) for name, v in values.items()})  # fmt: skip

    def deviations(self, signals: dict[str, Values]) -> Vector:
        """Signed log1p of each signal's distance from the band in its spreads; of a signal by category the mean and
        the extreme one."""
        out: Vector = {}
        for name in self.mean.keys() & signals.keys():
            z = np.atleast_1d((signals[name] - self.mean[name]) / (self.spread[name] + FLOOR))
            z = np.nan_to_num(np.sign(z) * np.log1p(np.abs(z)), nan=0.0, posinf=5.0, neginf=-5.0)
            out[name] = float(z.mean())
            if len(z) > 1:
                out[f"{name}, extreme"] = float(z[np.argmax(np.abs(z))])
        return out


def _regime(column: str) -> str:
    return SIGNALS[column.removesuffix(", extreme")].regime


def _unit(x: Float[np.ndarray, "run signal"]) -> Float[np.ndarray, "run signal"]:
    """Direction of what lies more than two spreads outside the band."""
    x = np.sign(x) * np.maximum(np.abs(x) - np.log1p(2.0), 0)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-9)


@dataclass(frozen=True)
class Model:
    """What development runs teach of some signals.

    Attributes:
        table: one development run per row: `truth` (causes joined by '+', '' for none), `world`, and deviations.
        columns: signals, as `Band.deviations` names them, that a diagnosis reads.
    """

    table: pd.DataFrame
    columns: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str]) -> Model:
        return cls(table, tuple(sorted(set(table.columns) & set(names))))

    @cached_property
    def causes(self) -> list[str]:
        return sorted({c for truth in self.table["truth"] for c in truth.split("+") if c})

    @cached_property
    def _x(self) -> Float[np.ndarray, "run signal"]:
        return self.table[list(self.columns)].to_numpy(float)

    @cached_property
    def _y(self) -> Bool[np.ndarray, "run cause"]:
        return np.array([[c in truth.split("+") for c in self.causes] for truth in self.table["truth"]])

    def _fit(self, rows: np.ndarray, without: int | None = None) -> Float[np.ndarray, "signal_and_1 cause"]:
        """Weights from some rows; two-fault runs are made of pairs, by the larger deviation of each signal."""
        x, y = self._x[rows], self._y[rows]
        if without is not None:
            x, y = x[~y[:, without]], y[~y[:, without]]
        random = np.random.default_rng(len(x))
        single = np.flatnonzero(y.sum(axis=1) == 1)
        a, b = random.choice(single, (2, PAIRED * len(single)))
        apart = (y[a] != y[b]).any(axis=1)
        a, b = a[apart], b[apart]
        both = np.where(np.abs(x[a]) > np.abs(x[b]), x[a], x[b])
        weight = np.concatenate([np.ones(len(x)), np.full(len(a), 1 / PAIRED)])
        x, y = np.concatenate([x, both]), np.concatenate([y, y[a] | y[b]]).astype(float)
        x = np.column_stack([x, np.ones(len(x))])
        # a cause is one of many: its runs weigh as much as all others together
        out = np.zeros((x.shape[1], y.shape[1]))
        penalty = np.diag([RIDGE] * (x.shape[1] - 1) + [1e-3])
        for k in range(y.shape[1]):
            if k != without and y[:, k].any():
                w = weight * np.where(y[:, k] == 1, 0.5 * len(y) / y[:, k].sum() / 4, 1.0)
                out[:, k] = np.linalg.solve((x * w[:, None]).T @ x + penalty, (x * w[:, None]).T @ y[:, k])
        return out

    @cached_property
    def weights(self) -> Float[np.ndarray, "signal_and_1 cause"]:
        return self._fit(np.arange(len(self.table)))

    def scores(self, x: Float[np.ndarray, "run signal"], weights: np.ndarray | None = None) -> np.ndarray:
        """Score of each cause: about 1 where it is at work and 0 elsewhere."""
        return np.column_stack([x, np.ones(len(x))]) @ (self.weights if weights is None else weights)

    def _strengths(
        self, x: np.ndarray, scores: np.ndarray, known: Bool[np.ndarray, " run"]
    ) -> Float[np.ndarray, "run strength"]:
        """How large scores and signals are, and how alike (cosine) the most similar of the `known` faulty runs is."""
        top = np.sort(scores, axis=1)[:, ::-1]
        size = np.sort(np.abs(x), axis=1)[:, ::-1]
        others = self._x[known & self._y.any(axis=1)]
        alike = (_unit(x) @ _unit(others).T).max(axis=1)
        return np.column_stack([top[:, 0], top[:, 1], size[:, :3].mean(1), size[:, :15].mean(1), size.mean(1),
                                top[:, 0] / (0.3 + size[:, :15].mean(1)), alike])  # fmt: skip

    @cached_property
    def _held_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Scores of each development run by weights that have not seen it, and strengths of three kinds of run:
        healthy 0, faulty 1, and faulty with its cause left out 2."""
        worlds = pd.factorize(self.table["world"])[0]  # another world is what a diagnosis meets
        fold = worlds if worlds.max() > 0 else np.arange(len(self.table)) % FOLDS
        scores, strength = np.zeros(self._y.shape), [np.empty(0)] * len(fold)
        for f in np.unique(fold):
            rows = np.flatnonzero(fold == f)
            scores[rows] = self.scores(self._x[rows], self._fit(np.flatnonzero(fold != f)))
            for row, one in zip(rows, self._strengths(self._x[rows], scores[rows], fold != f), strict=True):
                strength[row] = one
        kind, strengths = [self._y.any(axis=1).astype(int)], [np.stack(strength)]
        for k in range(len(self.causes)):
            rows = np.flatnonzero(self._y[:, k] & (self._y.sum(axis=1) == 1))
            if len(rows):
                blind = self.scores(self._x[rows], self._fit(np.arange(len(self.table)), without=k))
                strengths.append(self._strengths(self._x[rows], blind, ~self._y[:, k]))
                kind.append(np.full(len(rows), 2))
        return scores, np.concatenate(strengths), np.concatenate(kind), fold

    @cached_property
    def _deciders(self) -> tuple[LogisticRegression, LogisticRegression, float, float, float, float]:
        scores, strengths, kind, _ = self._held_out
        n = len(self.table)
        faulty = LogisticRegression(C=1.0, max_iter=2000).fit(strengths[:n], kind[:n] > 0)
        healthy = faulty.decision_function(strengths[:n][kind[:n] == 0])
        alarm = max(float(np.quantile(healthy, 1 - FALSE_ALARMS)), 0.0)
        ill = kind > 0
        known = LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced").fit(strengths[ill], kind[ill] == 1)
        doubt = float(np.quantile(known.decision_function(strengths[kind == 1]), UNLIKE))
        single = self._y.sum(axis=1) == 1
        sharpness = max(np.arange(2.0, 16.0), key=lambda a: np.log(
            softmax(a * scores[single], axis=1)[self._y[single]] + 1e-9).sum())  # fmt: skip
        second = max(np.arange(0.2, 0.9, 0.05), key=lambda t: self._exact(scores[self._y.any(1)], t))
        return faulty, known, alarm, doubt, float(sharpness), float(second)

    def _exact(self, scores: np.ndarray, second: float) -> float:
        order = np.argsort(-scores, axis=1)
        out = np.zeros(scores.shape, bool)
        out[np.arange(len(out)), order[:, 0]] = True
        also = np.take_along_axis(scores, order[:, 1:2], axis=1)[:, 0] > second
        out[np.flatnonzero(also), order[also, 1]] = True
        truth = self._y[self._y.any(axis=1)]
        right, pair = (out == truth).all(axis=1), truth.sum(axis=1) == 2
        return float(right[~pair].mean() + (right[pair].mean() if pair.any() else 0))

    def likelihood_ratio(self, test: Vector, first: str, second: str) -> float:
        """log P(test | first) / P(test | second) of signals that were not read before: balanced logistic regression on
        the development runs with one of the two causes alone; 0 where there are fewer than three of either."""
        names = [name for name in test if name in self.table]
        rows = self.table["truth"].isin((first, second))
        x, y = self.table.loc[rows, names].to_numpy(float), self.table.loc[rows, "truth"] == first
        if not names or min(y.sum(), (~y).sum()) < 3:
            return 0.0
        fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(x, y)
        return float(fitted.decision_function([[test[name] for name in names]])[0])

    def diagnose(self, vector: Vector, broken: Sequence[str] = (), *, odds: Vector | None = None) -> dict[str, Any]:
        """Verdict on a run: posterior over causes, healthy and unknown, the set of causes, and the evidence.

        Args:
            broken: causes whose contract the run breaks.
            odds: log likelihood ratios of some causes against all others, from a test.
        """
        x = np.array([[vector.get(name, 0.0) for name in self.columns]])
        raw = self.scores(x)
        faulty, known, alarm, doubt, sharpness, second = self._deciders
        strengths = self._strengths(x, raw, np.ones(len(self.table), bool))
        p_ill = 1 / (1 + np.exp(alarm - faulty.decision_function(strengths)[0]))
        p_known = 1 / (1 + np.exp(doubt - known.decision_function(strengths)[0]))
        score = raw[0] + CERTAIN * np.isin(self.causes, list(broken))
        score = score + [(odds or {}).get(cause, 0.0) / sharpness for cause in self.causes]
        if broken:
            p_ill, p_known = max(p_ill, 0.99), max(p_known, 0.99)
        share = softmax(sharpness * score)
        posterior = dict(zip(self.causes, (p_ill * p_known * share).tolist(), strict=True))
        posterior |= {HEALTHY: float(1 - p_ill), UNKNOWN: float(p_ill * (1 - p_known))}
        order = np.argsort(-score)
        if p_ill < 0.5:
            verdict, causes = HEALTHY, []
        elif p_known < 0.5:
            verdict, causes = UNKNOWN, []
        else:
            verdict = self.causes[order[0]]
            causes = [verdict] + [self.causes[order[1]]] * bool(score[order[1]] > second)
        parts = x[0] * self.weights[:-1, order[0]]
        evidence = [
            {"signal": self.columns[i], "deviation": round(float(x[0, i]), 3), "part": round(float(parts[i]), 3)}
            for i in np.argsort(-parts)[:3]
        ]
        return {"verdict": verdict, "causes": causes, "posterior": posterior, "evidence": evidence,
                "first_two": [self.causes[i] for i in order[:2]]}  # fmt: skip


def readable(names: Sequence[str], knowledge: str) -> list[str]:
    """Columns of deviations that a diagnosis with this knowledge reads before any test."""
    return [name for name in names if _regime(name) in knowledge and _regime(name) != SECOND_LOOK]


def read_reference(path: Path = REFERENCE) -> pd.DataFrame:
    """The development runs' deviations.

    Raises:
        RadarError: the file is absent.
    """
    if not path.is_file():
        raise RadarError(f"{path} does not exist: `make diagnosis-eval` plants development runs and writes it.")
    return pd.read_parquet(path)


class Diagnoser:
    """Diagnoses runs of one band; models are fitted once per set of signals that is there."""

    def __init__(self, band: Band, reference: pd.DataFrame):
        self.band, self.reference = band, reference
        self._models: dict[tuple[str, ...], Model] = {}

    def _model(self, names: Sequence[str]) -> Model:
        key = tuple(sorted(names))
        if key not in self._models:
            self._models[key] = Model.of(self.reference, key)
        return self._models[key]

    def __call__(
        self, run: RunFolder, knowledge: str = "BLCR", *, computed: tuple[dict[str, Values], list[str]] | None = None
    ) -> dict[str, Any]:
        """The verdict; the look-alike that a test ruled out, or the test that would decide; what could not be run.

        Args:
            computed: signals and absent ones, where `compute` was called before.
        """
        signals, absent = computed or compute(run)
        vector, taxonomy = self.band.deviations(signals), read_taxonomy()
        broken = broken_contracts(run) if "C" in knowledge else {}
        named = [cause.name for cause in taxonomy.causes if cause.contract in broken]
        columns = readable(list(vector), knowledge)
        model = self._model(columns)
        found = model.diagnose(vector, named)
        first, second = found["first_two"]
        test = None if second in found["causes"] or not found["causes"] else taxonomy.separating_test(first, second)
        ruled_out, next_test = None, None
        if test:
            costly = [name for name in taxonomy.tests[test].reads if SIGNALS[name].regime == SECOND_LOOK]
            unread = [name for name in taxonomy.tests[test].reads if name not in signals and name not in costly]
            sure = bool(named) or found["posterior"][second] < DOUBT * found["posterior"][first]
            if costly and not sure and SECOND_LOOK in knowledge:
                looked = self.band.deviations(compute(run, costly)[0])
                ratio = model.likelihood_ratio(looked, first, second)
                found = model.diagnose(vector, odds={first: ratio / 2, second: -ratio / 2})
                first, second = found["first_two"]
                unread += [name for name in costly if not looked]
            elif not sure:
                unread += costly
            if unread:
                next_test = {"test": test, "between": [first, second], "cost": taxonomy.tests[test].cost}
            else:
                ruled_out = {"cause": second, "test": test}
        fixes = [step.model_dump() for name in found["causes"] for step in taxonomy.cause(name).interventions]
        return found | {"broken": broken, "ruled_out": ruled_out, "next_test": next_test, "fixes": fixes,
                        "absent": absent}  # fmt: skip


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


def band_of(runs: Path, of: RunFolder | None = None) -> tuple[Band, list[str]]:
    """The band of a folder of runs, and its runs' names (`band.json` lists them; without it all runs are its).

    Args:
        of: the run that it is a band of; without it, of its first one.

    Raises:
        RadarError: as `Band.of`; a run cannot be read, is about other categories or posts, or is there twice, or is
            the run that it is a band of.
    """
    listed = runs / "band.json"
    names = read_json(listed, list[str]) if listed.is_file() else sorted(p.parent.name for p in runs.glob(f"*/{RUN}"))
    if not names:
        raise RadarError(f"{runs} holds no run folders. Name a folder of {LEAST} or more healthy reruns.")
    band = [read_run(runs / name) for name in names]
    first = of or band[0]
    seen = {first.matrix("audit", "logit").tobytes()} if of else set()
    for name, run in zip(names, band, strict=True):
        if run.categories != first.categories:
            said, wanted = ", ".join(run.categories), ", ".join(first.categories)
            raise RadarError(f"{runs / name} is about {said}, not {wanted}. Name reruns of the same run.")
        if not run.splits["audit"]["post_id"].isin(first.splits["audit"]["post_id"]).any():
            raise RadarError(f"{runs / name} was audited on other posts. Name reruns of the same run.")
        if (logits := run.matrix("audit", "logit").tobytes()) in seen:
            raise RadarError(f"{runs / name} is the run itself, or another of the band, again. Leave it out.")
        seen.add(logits)
    return Band.of([compute(run, SIGNALS)[0] for run in band]), names


def deviations_below(runs: Path) -> dict[str, Vector]:
    """Deviations of each run of a folder that is not of its band; kept in `deviations.parquet` there."""
    kept = runs / "deviations.parquet"
    band, names = band_of(runs)
    others = sorted(p.parent.name for p in runs.glob(f"*/{RUN}") if p.parent.name not in names)
    found = {name: band.deviations(compute(read_run(runs / name), SIGNALS)[0]) for name in others}
    with atomic_path(kept) as temporary:
        pd.DataFrame(found).T.to_parquet(temporary)
    return found


def main() -> None:
    """Diagnose all runs of a folder with each knowledge and each method, and write the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    band, names = band_of(args.runs)
    reference = read_reference(args.reference)
    diagnoser, out = Diagnoser(band, reference), {}
    for place in sorted(p.parent for p in args.runs.glob(f"*/{RUN}")):
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
    write_json(args.out, out)


if __name__ == "__main__":
    main()
