"""The diagnosis of a run: exact checks, signals against a band of healthy reruns, a posterior over causes, and the test
that separates the first two.

The posterior is linear and so can be read: each cause has one weight per signal, learned by ridge regression on planted
development runs. Whether anything is wrong, and whether any known cause explains it, is decided from how large the
signals and the causes' scores are. Signals that cost a second look (regime R) are computed only by the test that
separates the first two causes, and then move their odds by a likelihood ratio. This module opens no answer key and
does not know the planter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_suite.diagnosis.runs import RUN, RunFolder, read_run
from radar_suite.diagnosis.signals import SECOND_LOOK, SIGNALS, Values, broken_contracts, compute
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.report.parameter_ranges import RERUNS

REFERENCE = Path(__file__).with_name("reference.parquet")
HEALTHY, UNKNOWN = "healthy", "unknown"
FLOOR = 0.02  # added to the spread of a signal over the band
RIDGE = 10.0
QUIET = 0.8  # share of healthy runs within the distance that counts for nothing
PAIRED = 4  # synthetic two-fault runs per development run with one
FOLDS = 5
# what a diagnosis may read: signals, with logs and ablations, with contracts, and with a second look where in doubt
KNOWLEDGE = ("B", "BL", "BLC", "BLCR")
DOUBT = 0.02  # odds of the second cause below which no test is run
FALSE_ALARMS = 0.01  # share of the development's healthy runs that may be called faulty
UNLIKE = 0.08  # share of the development's faulty runs that may be called unknown
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
        if len(runs) < RERUNS.low:
            raise RadarError(f"{len(runs)} healthy reruns: a band takes {RERUNS.low} or more. Train some more seeds.")
        names = [name for name in SIGNALS if all(name in run for run in runs)]
        values = {name: np.array([run[name] for run in runs]) for name in names}
        return cls({name: np.nanmean(v, axis=0) for name, v in values.items()},
                   {name: np.nanstd(v, axis=0, ddof=1) for name, v in values.items()})  # fmt: skip

    def deviations(self, signals: dict[str, Values]) -> Vector:
        """Signed log1p of each signal's distance from the band in its spreads; of a signal by category the mean and
        the extreme one."""
        out: Vector = {}
        for name in (name for name in self.mean if name in signals):
            z = np.atleast_1d((signals[name] - self.mean[name]) / (self.spread[name] + FLOOR))
            z = np.nan_to_num(np.sign(z) * np.log1p(np.abs(z)), nan=0.0, posinf=5.0, neginf=-5.0)
            out[name] = float(z.mean())
            if len(z) > 1:
                out[f"{name}, extreme"] = float(z[np.argmax(np.abs(z))])
        return out


def _regime(column: str) -> str:
    return SIGNALS[column.removesuffix(", extreme")].regime


@dataclass(frozen=True)
class Fit:
    """What some development runs teach.

    Attributes:
        quiet: by signal, the distance from its band within which four of five healthy runs lie.
        weights: of the signals' excesses over it in the score of each cause, and a constant.
        faulty: excesses of the runs with known causes.
    """

    quiet: Float[np.ndarray, " signal"]
    weights: Float[np.ndarray, "signal_and_1 cause"]
    faulty: Float[np.ndarray, "run signal"]

    def excess(self, x: Float[np.ndarray, "run signal"]) -> Float[np.ndarray, "run signal"]:
        """Deviations less what a healthy run may show."""
        return np.sign(x) * np.maximum(np.abs(x) - self.quiet, 0)

    def scores(self, x: Float[np.ndarray, "run signal"]) -> Float[np.ndarray, "run cause"]:
        """Score of each cause: about 1 where it is at work and 0 elsewhere."""
        return self.excess(x) @ self.weights[:-1] + self.weights[-1]

    def strengths(self, x: Float[np.ndarray, "run signal"]) -> Float[np.ndarray, "run 7"]:
        """Score of the first cause; logs of the sum of the three largest excesses and of the mean of fifteen; score of
        the second cause and the first's lead; cosine of the nearest known faulty run, and of the nearest five."""
        top, excess = -np.sort(-self.scores(x), axis=1)[:, :2], self.excess(x)
        size = np.sort(np.abs(excess), axis=1)
        own, known = (e / (np.linalg.norm(e, axis=1, keepdims=True) + 1e-9) for e in (excess, self.faulty))
        alike = np.sort(own @ known.T, axis=1)
        return np.column_stack([top[:, 0], np.log(size[:, -3:].sum(1) + FLOOR), np.log(size[:, -15:].mean(1) + FLOOR),
                                top[:, 1], top[:, 0] - top[:, 1], alike[:, -1], alike[:, -5:].mean(1)])  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What development runs teach of some signals.

    Attributes:
        table: one development run per row: `truth` (causes joined by '+', '' for none, 'unknown' for one outside the
            taxonomy), `world`, and deviations.
        columns: signals, as `Band.deviations` names them, that a diagnosis reads.
    """

    table: pd.DataFrame
    columns: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str]) -> Model:
        return cls(table, tuple(sorted(set(table.columns) & set(names))))

    @cached_property
    def causes(self) -> list[str]:
        return sorted({c for truth in self.table["truth"] for c in truth.split("+")} - {"", UNKNOWN})

    @cached_property
    def _x(self) -> Float[np.ndarray, "run signal"]:
        return self.table[list(self.columns)].to_numpy(float)

    @cached_property
    def _y(self) -> Bool[np.ndarray, "run cause"]:
        return np.array([[c in truth.split("+") for c in self.causes] for truth in self.table["truth"]])

    @cached_property
    def _healthy(self) -> Bool[np.ndarray, " run"]:
        return (self.table["truth"] == "").to_numpy()

    def _fit(self, rows: Bool[np.ndarray, " run"]) -> Fit:
        """From some runs, of those outside the taxonomy none: a ridge regression per cause. Two-fault runs are made of
        pairs, by the larger excess of each signal; a cause's runs together weigh as much as an eighth of all."""
        rows = rows & (self._healthy | self._y.any(axis=1))
        x, y = self._x[rows], self._y[rows]
        quiet = np.quantile(np.abs(x[~y.any(axis=1)]), QUIET, axis=0)
        fit = Fit(quiet, np.zeros((x.shape[1] + 1, y.shape[1])), np.empty((0, x.shape[1])))
        x = fit.excess(x)
        random, single = np.random.default_rng(len(x)), np.flatnonzero(y.sum(axis=1) == 1)
        a, b = random.choice(single, (2, PAIRED * len(single)))
        apart = (y[a] != y[b]).any(axis=1)
        a, b = a[apart], b[apart]
        both = np.where(np.abs(x[a]) > np.abs(x[b]), x[a], x[b])
        weight = np.concatenate([np.ones(len(x)), np.full(len(a), 1 / PAIRED)])
        all_x = np.column_stack([np.concatenate([x, both]), np.ones(len(x) + len(a))])
        all_y = np.concatenate([y, y[a] | y[b]]).astype(float)
        penalty = np.diag([RIDGE] * x.shape[1] + [1e-3])
        for k in np.flatnonzero(y.any(axis=0)):
            w = weight * np.where(all_y[:, k] == 1, len(all_y) / all_y[:, k].sum() / 8, 1.0)
            fit.weights[:, k] = np.linalg.solve((all_x * w[:, None]).T @ all_x + penalty,
                                                (all_x * w[:, None]).T @ all_y[:, k])  # fmt: skip
        return replace(fit, faulty=x[y.any(axis=1)])

    @cached_property
    def fit(self) -> Fit:
        return self._fit(np.ones(len(self.table), bool))

    @cached_property
    def _deciders(self) -> tuple[Pipeline, Pipeline, float, float, float, float]:
        """Faulty or not, known or not, and their limits, sharpness of the posterior, least score of a second cause:
        from development runs as weights see them that have not learned from their world."""
        worlds = pd.factorize(self.table["world"])[0]  # another world is what a diagnosis meets
        fold = worlds if worlds.max() > 0 else np.arange(len(self.table)) % FOLDS
        n, ill, known = len(self.table), ~self._healthy, self._y.any(axis=1)
        scores, strengths = np.zeros(self._y.shape), np.zeros((n, 7))
        for f in np.unique(fold):
            rows, fit = fold == f, self._fit(fold != f)
            scores[rows], strengths[rows] = fit.scores(self._x[rows]), fit.strengths(self._x[rows])
        faulty = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(strengths[:, :2], ill)
        alarm = float(np.quantile(faulty.decision_function(strengths[~ill, :2]), 1 - FALSE_ALARMS))
        rows = ill if (ill & ~known).any() else np.ones(n, bool)  # where none is outside the taxonomy: not healthy
        kind = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
        kind.fit(strengths[rows], known[rows])
        doubt = float(np.quantile(kind.decision_function(strengths[known]), UNLIKE))
        single = self._y.sum(axis=1) == 1
        sharpness = max(np.arange(2.0, 16.0), key=lambda a: np.log(
            softmax(a * scores[single], axis=1)[self._y[single]] + 1e-9).sum())  # fmt: skip
        second = max(np.arange(0.1, 0.9, 0.02), key=lambda t: self._exact(scores[known], t))
        return faulty, kind, alarm, doubt, float(sharpness), float(second)

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
        raw, strengths = self.fit.scores(x), self.fit.strengths(x)
        faulty, known, alarm, doubt, sharpness, second = self._deciders
        p_ill = float(expit(faulty.decision_function(strengths[:, :2])[0] - alarm))
        p_known = float(expit(known.decision_function(strengths)[0] - doubt))
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
        parts = self.fit.excess(x)[0] * self.fit.weights[:-1, order[0]]
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

        def verdict(broken: Sequence[str] = (), odds: Vector | None = None) -> dict[str, Any]:
            """A second cause is not named on what is left where its leading signal could not be computed."""
            found = model.diagnose(vector, broken, odds=odds)
            leading = {cause: next(iter(taxonomy.cause(cause).signatures)) for cause in found["causes"][1:]}
            found["causes"][1:] = [cause for cause, signal in leading.items() if signal not in absent]
            return found

        found = verdict(named)
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
                found = verdict(odds={first: ratio / 2, second: -ratio / 2})
                unread += [name for name in costly if not looked]
            elif not sure:
                unread += costly
            lost, winner = sorted((first, second), key=found["posterior"].__getitem__)
            unlikely = found["posterior"][lost] < DOUBT * found["posterior"][winner]
            if unread or not unlikely or lost in found["causes"]:
                next_test = {"test": test, "between": [first, second], "cost": taxonomy.tests[test].cost}
            else:
                ruled_out = {"cause": lost, "test": test}
        fixes = [step.model_dump() for name in found["causes"] for step in taxonomy.cause(name).interventions]
        return found | {"broken": broken, "ruled_out": ruled_out, "next_test": next_test, "fixes": fixes,
                        "absent": absent}  # fmt: skip


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
        raise RadarError(f"{runs} holds no run folders. Name a folder of {RERUNS.low} or more healthy reruns.")
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
