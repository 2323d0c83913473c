"""Can the soft labels be trusted? Reliability of the experts by kind of cell, and what they say where nobody looked.

A cell is a (post, risk) pair. An expert trained on the verified cells of its own pipeline; all other cells are new to
it, and its confidence may differ between the two.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, log_loss

from radar_lib.data.posts import Posts
from radar_lib.labels import UNVERIFIED
from radar_lib.metrics import average_precision


def reliability_bins(
    labels: Int8[np.ndarray, " cell"], logits: Float[np.ndarray, " cell"], *, bins: int = 10
) -> pd.DataFrame:
    """Mean predicted probability and observed rate in equally large groups of cells, sorted by the prediction.

    Args:
        labels: 0 or 1.
        logits: of the same cells.
        bins: number of groups; fewer where there are fewer cells than that.

    Returns:
        Columns predicted, observed, posts, and low and high, the ends of Wilson's 95 % interval of the observed rate;
        one line per group.
    """
    order = np.argsort(logits, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    probs = expit(np.asarray(logits, dtype=np.float64))
    lines = []
    for g in groups:
        interval = binomtest(int(labels[g].sum()), len(g)).proportion_ci(method="wilson")
        lines.append((probs[g].mean(), labels[g].mean(), len(g), *interval))
    return pd.DataFrame(lines, columns=["predicted", "observed", "posts", "low", "high"])


def calibration_error(
    labels: Int8[np.ndarray, " cell"], logits: Float[np.ndarray, " cell"], *, bins: int = 10
) -> float:
    """Expected calibration error over equally large groups: mean |predicted - observed|, weighted by posts."""
    table = reliability_bins(labels, logits, bins=bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["posts"]))


def quality(labels: Int8[np.ndarray, " cell"], logits: Float[np.ndarray, " cell"]) -> dict[str, float]:
    """Numbers of one expert on one group of cells: count, rate, mean probability, PR-AUC, log loss (nats), ECE.

    Agreement is the share of cells where the label is the likelier of the two to the expert, and kappa (Cohen's) how
    much of that is more than two judges with these rates would reach by chance: 0 for none, 1 for all.
    """
    probs = expit(np.asarray(logits, dtype=np.float64))
    return {
        "cells": len(labels),
        "observed rate": float(np.mean(labels)),
        "mean probability": float(probs.mean()),
        "PR-AUC": float(average_precision(labels, logits)) if len(np.unique(labels)) == 2 else float("nan"),
        "log loss": float(log_loss(labels, probs, labels=[0, 1])),
        "calibration error": calibration_error(labels, logits),
        "agreement": float(np.mean((probs > 0.5) == labels)),
        "kappa": float(cohen_kappa_score(labels, probs > 0.5)) if 0 < np.mean(labels) < 1 else float("nan"),
    }


def unverified_mass(
    labels: Int8[np.ndarray, "post category"], teacher: Float[np.ndarray, "post category"], categories: tuple[str, ...]
) -> pd.DataFrame:
    """What the experts say of the cells that were never verified: how many, and how many violations they expect.

    The expected number is the sum of the soft labels: what training without the mask would call 0.
    """
    probs = expit(np.asarray(teacher, dtype=np.float64))
    lines = []
    for k, category in enumerate(categories):
        hidden = labels[:, k] == UNVERIFIED
        expected = probs[hidden, k].sum()
        line = {"category": category, "verified cells": int((~hidden).sum()), "unverified cells": int(hidden.sum())}
        line |= {"expected violations among them": float(expected)}
        lines.append(line | {"share (%)": float(100 * expected / max(hidden.sum(), 1))})
    return pd.DataFrame(lines)


def hidden_truth(posts: Posts, split: str) -> Int8[np.ndarray, "post category"] | None:
    """True labels of all K risks, in the order of the split; None where nobody knows them.

    Only the built-in corpus knows them. They are for audits and evaluation: no training or inference code reads them.
    """
    path = posts.folder / "hidden" / "truth.parquet"
    if not path.exists():
        return None
    truth = pd.read_parquet(path, columns=["post_id", *(f"true_{category}" for category in posts.categories)])
    ids = posts.table(split, columns=["post_id"])["post_id"]
    return truth.set_index("post_id").loc[ids].to_numpy(dtype=np.int8)
