"""Can the soft labels be trusted? Reliability of an expert on a group of cells: (post, risk) pairs, labels known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int8
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, log_loss

from radar_lib.metrics import average_precision


def reliability_bins(
    labels: Int8[np.ndarray, " cell"], logits: Float[np.ndarray, " cell"], *, bins: int = 10
) -> pd.DataFrame:
    """Mean predicted probability and observed rate in equally large groups of cells, sorted by the prediction.

    Args:
        labels: 0 or 1.
        bins: number of groups; fewer where there are fewer cells than that.

    Returns:
        Columns predicted, observed, posts, and low and high, the ends of Wilson's 95 % interval of the observed rate;
        one line per group.
    """
    probs, lines = expit(np.asarray(logits, dtype=np.float64)), []
    for group in np.array_split(np.argsort(logits, kind="stable"), bins):
        if len(group):
            interval = binomtest(int(labels[group].sum()), len(group)).proportion_ci(method="wilson")
            lines.append((probs[group].mean(), labels[group].mean(), len(group), *interval))
    return pd.DataFrame(lines, columns=["predicted", "observed", "posts", "low", "high"])


def quality(labels: Int8[np.ndarray, " cell"], logits: Float[np.ndarray, " cell"]) -> dict[str, float]:
    """Numbers of one expert on one group of cells: count, rate, mean probability, PR-AUC, log loss (nats).

    The expected calibration error is the mean of |predicted - observed| over the `reliability_bins`, weighted by posts.
    Agreement is the share of cells where the label is the likelier of the two to the expert, and kappa (Cohen's) how
    much of that is more than two judges with these rates would reach by chance: 0 for none, 1 for all.
    """
    probs, bins = expit(np.asarray(logits, dtype=np.float64)), reliability_bins(labels, logits)
    both = 0 < np.mean(labels) < 1
    return {
        "cells": len(labels),
        "observed rate": float(np.mean(labels)),
        "mean probability": float(probs.mean()),
        "PR-AUC": float(average_precision(labels, logits)) if both else float("nan"),
        "log loss": float(log_loss(labels, probs, labels=[0, 1])),
        "calibration error": float(np.average((bins["predicted"] - bins["observed"]).abs(), weights=bins["posts"])),
        "agreement": float(np.mean((probs > 0.5) == labels)),
        "kappa": float(cohen_kappa_score(labels, probs > 0.5)) if both else float("nan"),
    }
