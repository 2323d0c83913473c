"""Slices of the audit on which a router misses more: those that the metadata name, and those that a tree finds.

A unit is one violation of one group: posts of a campaign or stream that violate the same risk count as one. A tree is
grown on half of the groups and its leaves are tested on the other half, so that looking for them costs no validity;
declared slices are tested on all. Benjamini and Hochberg's q-values (1995) cover all slices together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import false_discovery_control, hypergeom
from sklearn.tree import DecisionTreeClassifier

from radar_lib.metrics import threshold_at_recall
from radar_suite.diagnosis.runs import RunFolder
from radar_suite.intake.audit import wilson

DECLARED = ("pipeline", "region", "language", "month")
LEAST = 5  # violations of a slice that is tested
LEAVES = 8
COLUMNS = ["slice", "found_by", "violations", "recall", "gap", "low", "high", "q"]


def find_slices(run: RunFolder, *, seed: int = 1) -> pd.DataFrame:
    """Slices by q-value: violations (as units), recall, its gap to that elsewhere with a 95 % interval (Newcombe's), q.

    Recall is at the deployed thresholds, or those that give the run's recall target on the audit. p-values are Fisher's
    exact, one-sided.

    Args:
        seed: of the halves.
    """
    units, rows = _units(run), []
    group, names = pd.factorize(units.pop("group"))
    half = (np.random.default_rng(seed).random(len(names)) < 0.5)[group]
    tests = [(*one, np.ones(len(units), bool), "metadata") for one in _declared(units)]
    tests += [(*one, ~half, "tree") for one in _leaves(units, half, seed=seed)]
    for name, inside, among, by in tests:
        hit, within = units["hit"].to_numpy()[among], inside[among]
        n, total, hits = within.sum(), len(within), hit.sum()
        if LEAST <= n <= total - LEAST:
            p = hypergeom.cdf(hit[within].sum(), total, hits, n)
            rows.append([name, by, int(n), *_gap(hit[within], hit[~within]), min(float(p), 1.0)])
    found = pd.DataFrame(rows, columns=COLUMNS)
    found["q"] = false_discovery_control(found["q"]) if len(found) else found["q"]
    return found.sort_values(["q", "gap"], ignore_index=True)


def _units(run: RunFolder) -> pd.DataFrame:
    """One row per group and risk that it violates: the group, whether most of its posts are found, their metadata."""
    audit, labels = run.splits["audit"], run.matrix("audit", "label")
    z, parts = run.matrix("audit", "logit").astype(float), []
    names = [name for name in DECLARED if name in audit and audit[name].nunique() > 1]
    for k in range(labels.shape[1]):
        violating, tau = labels[:, k] == 1, run.about.thresholds
        tau = tau[k] if tau else threshold_at_recall(labels[:, k], z[:, k], recall=run.about.recall)
        parts.append(audit.loc[violating, names].assign(
            hit=z[violating, k] > tau, group=audit.get("group", audit["post_id"])[violating]))  # fmt: skip
    by_group = [part.groupby("group", sort=False) for part in parts]
    return pd.concat([g.first().assign(hit=g["hit"].mean() >= 0.5) for g in by_group]).reset_index()


def _declared(units: pd.DataFrame) -> Iterator[tuple[str, Bool[np.ndarray, " unit"]]]:
    for column in units.columns.drop("hit"):
        for value in units[column].unique():
            yield f"{column} {value}", (units[column] == value).to_numpy()


def _leaves(
    units: pd.DataFrame, grown_on: Bool[np.ndarray, " unit"], *, seed: int
) -> Iterator[tuple[str, Bool[np.ndarray, " unit"]]]:
    """Leaves of more than one condition of a tree that tells missed units from found ones."""
    y = units["hit"][grown_on]
    if len(units.columns) == 1 or y.nunique() < 2:
        return
    numeric = [name for name in units.columns.drop("hit") if pd.api.types.is_numeric_dtype(units[name])]
    x = pd.get_dummies(units.drop(columns="hit"), columns=list(units.columns.drop(["hit", *numeric])),
                       prefix_sep=" ", dtype=float)  # fmt: skip
    tree = DecisionTreeClassifier(max_leaf_nodes=LEAVES, min_samples_leaf=LEAST, class_weight="balanced",
                                  random_state=seed).fit(x[grown_on], y)  # fmt: skip
    leaf, paths = tree.apply(x), tree.decision_path(x)
    inner = tree.tree_
    for node in np.unique(leaf):
        inside = leaf == node
        way = paths[np.flatnonzero(inside)[0]].indices[:-1]
        conditions = [_condition(x.columns[inner.feature[i]], inner.threshold[i], numeric,
                                 right=bool(x.iloc[np.flatnonzero(inside)[0], inner.feature[i]] > inner.threshold[i]))
                      for i in way]  # fmt: skip
        if len(conditions) > 1:
            yield ", ".join(conditions), inside


def _condition(name: str, threshold: float, numeric: list[str], *, right: bool) -> str:
    if name in numeric:
        return f"{name} {'>' if right else '<='} {threshold:g}"
    return name if right else f"not {name}"


def _gap(inside: Float[np.ndarray, " unit"], outside: Float[np.ndarray, " unit"]) -> tuple[float, float, float, float]:
    """Recall inside, its difference to that outside, and the interval of the difference (Newcombe 1998, method 10)."""
    counts = np.array([len(inside), len(outside)])
    p = np.array([inside.mean(), outside.mean()])
    low, high = wilson((p * counts).round(), counts)
    gap = p[0] - p[1]
    below = np.hypot(p[0] - low[0], high[1] - p[1])
    above = np.hypot(high[0] - p[0], p[1] - low[1])
    return float(p[0]), float(gap), float(gap - below), float(gap + above)
