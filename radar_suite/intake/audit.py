"""What is in the posts and who labelled what: tidy tables from `Posts.table()` and `scan.scan_frames`.

Each function is pure; tables are one row per fact, so that they print, plot and save as they are.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int, Num
from scipy.stats import chi2, norm

from radar_lib.data.schema import FRAMES, LABEL_PREFIX, TEXT_COLUMNS, group_numbers, labels, valid_mask

LEAST = 20  # verified posts of a group that is tested for uneven prevalence


def wilson(
    positives: Num[np.ndarray, " group"], n: Num[np.ndarray, " group"], *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Binomial interval of a share, low and high (Wilson, 1927); NaN where n is 0.

    >>> [round(float(end), 3) for end in wilson(0, 10)]
    [0.0, 0.278]
    """
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    positives, n = np.asarray(positives, float), np.where(np.asarray(n) > 0, n, np.nan).astype(float)
    centre = (positives + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * positives * (n - positives) / n + z2**2 / 4) / (n + z2)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def validity_matrix(table: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Verified posts per pipeline (rows) and risk (columns): the disjoint annotation of Eq. 4, counted."""
    valid = pd.DataFrame(valid_mask(labels(table, categories)), columns=list(categories), index=table.index)
    return valid.groupby(table["pipeline"]).sum()


def co_annotation(table: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Posts verified for both of two risks, K x K; the diagonal counts the verified posts of each."""
    valid = valid_mask(labels(table, categories)).astype(np.int64)
    return pd.DataFrame(valid.T @ valid, index=list(categories), columns=list(categories))


def prevalence(table: pd.DataFrame, categories: Sequence[str], *, by: str = "split") -> pd.DataFrame:
    """Violating share of the verified posts, per risk and group.

    Posts of one `group` of the table are not independent: n verified ones count as n / d, d being the design effect,
    the variance of the share by sums within groups over that of independent posts, at least 1. Where all labels agree
    nothing tells it, and each group counts as one post.

    Args:
        by: a column, or 'month' of `created_at` (posts without a time are left out).

    Returns:
        Columns group, category, posts, verified, positives, effective (independent posts that say as much as the
        verified ones), prevalence, low, high (95 % binomial interval; NaN where nothing is verified).
    """
    groups = table["created_at"].dt.strftime("%Y-%m") if by == "month" else table[by]
    parts, clusters = [], group_numbers(table)
    for category in categories:
        label = table[LABEL_PREFIX + category]
        counts = {"posts": label >= -1, "verified": label >= 0, "positives": label == 1}
        part = pd.DataFrame(counts).groupby(groups.rename("group"), sort=by != "split").sum().reset_index()
        effective = part["verified"] if clusters is None else _effective(label, groups, clusters, part["group"])
        parts.append(part.assign(category=category, effective=effective))
    tidy = pd.concat(parts, ignore_index=True)
    tidy["prevalence"] = tidy["positives"] / tidy["verified"].where(tidy["verified"] > 0)
    counted = tidy["positives"] * (tidy["effective"] / tidy["verified"].where(tidy["verified"] > 0))
    tidy["low"], tidy["high"] = wilson(counted.to_numpy(), tidy["effective"].to_numpy())
    return tidy[["group", "category", "posts", "verified", "positives", "effective", "prevalence", "low", "high"]]


def _effective(label: pd.Series, groups: pd.Series, clusters: Int[np.ndarray, " post"], names: pd.Series) -> np.ndarray:
    """Verified posts of each named group over their design effect."""
    known = pd.DataFrame({"group": groups, "cluster": clusters, "y": label})[(label >= 0).to_numpy()]
    known = known.assign(y=known["y"] - known.groupby("group")["y"].transform("mean"))
    alone = known["y"].pow(2).groupby(known["group"]).sum()
    sums = known.groupby(["group", "cluster"])["y"].sum()
    together, number = (getattr(one.groupby("group"), how)() for one, how in ((sums.pow(2), "sum"), (sums, "size")))
    independent = (known.groupby("group").size() / (together / alone).clip(lower=1)).where(alone > 1e-9, number)
    return independent.reindex(names).fillna(0).to_numpy()


def uneven(rates: pd.DataFrame) -> pd.DataFrame:
    """Does prevalence differ between the groups of a `prevalence` table by more than chance?

    Pearson's chi-squared test of equal shares, over groups with `LEAST` verified posts or more, which count as they
    do in the intervals.

    Returns:
        Columns category, groups, lowest, highest (prevalence), p_value; risks with fewer than two groups, or with
        labels of one kind only, are left out.
    """
    rows = []
    for category, part in rates[rates["verified"] >= LEAST].groupby("category", sort=False):
        share = part["positives"].sum() / part["verified"].sum()
        if len(part) > 1 and 0 < share < 1:
            spread = part["effective"] * (part["prevalence"] - share) ** 2
            p_value = chi2.sf(spread.sum() / (share * (1 - share)), len(part) - 1)
            rows.append((category, len(part), part["prevalence"].min(), part["prevalence"].max(), float(p_value)))
    return pd.DataFrame(rows, columns=["category", "groups", "lowest", "highest", "p_value"])


def frame_statistics(frames: pd.DataFrame) -> pd.DataFrame:
    """Per split: frames, share of frames that repeat the one before (same bytes), and medians of size and light.

    Args:
        frames: `FrameScan.table`.

    Returns:
        Columns group, frames, repeated, width, height, n_bytes, brightness, sharpness (medians).
    """
    same = frames[["post_id", "digest"]].eq(frames[["post_id", "digest"]].shift()).all(axis=1)
    grouped = frames.assign(repeated=same).groupby(frames["split"].rename("group"), sort=False)
    medians = grouped[["width", "height", "n_bytes", "brightness", "sharpness"]].median()
    return pd.concat([grouped.size().rename("frames"), grouped["repeated"].mean(), medians], axis=1).reset_index()


def missing_modalities(table: pd.DataFrame, with_frames: pd.Series) -> pd.DataFrame:
    """Share of posts without each modality, by split.

    Args:
        with_frames: ids of the posts that have a frame.

    Returns:
        Columns group, posts, one per text column, frames, everything.
    """
    absent = pd.DataFrame({name: table[name].str.len() == 0 for name in TEXT_COLUMNS})
    absent[FRAMES] = ~table["post_id"].isin(with_frames)
    absent["everything"] = absent.all(axis=1)
    grouped = absent.groupby(table["split"].rename("group"), sort=False)
    shares = grouped.mean().reset_index()
    shares.insert(1, "posts", grouped.size().to_numpy())
    return shares


def text_cut(
    languages: pd.Series, tokens: Int[np.ndarray, "post field"], read: Int[np.ndarray, "post field"]
) -> pd.DataFrame:
    """How much of each text field a checkpoint does not read, over all posts and by language.

    Args:
        tokens, read: of `Backbone.tokens_read`, fields in the order of `TEXT_COLUMNS`.

    Returns:
        Columns language ('*': all), field, posts (with this field), cut (of them), tokens, unread (share of these);
        fields and languages without a token are left out.
    """
    parts = [pd.DataFrame({"language": languages.to_numpy(), "field": name, "posts": have > 0, "cut": left < have,
                           "tokens": have, "unread": have - left})
             for name, have, left in zip(TEXT_COLUMNS, tokens.T, read.T, strict=True)]  # fmt: skip
    every = pd.concat(parts, ignore_index=True)
    every = pd.concat([every.assign(language="*"), every], ignore_index=True)
    sums = every.groupby(["language", "field"], sort=False).sum().reset_index()
    sums["unread"] = sums["unread"] / sums["tokens"].where(sums["tokens"] > 0)
    return sums[sums["tokens"] > 0].reset_index(drop=True)


def across_splits(table: pd.DataFrame, column: str) -> list[str]:
    """Streams (`stream_id`) or groups whose posts lie in more than one split; none where there is no such column."""
    if column not in table:
        return []
    splits = table[table[column] != ""].groupby(column)["split"].nunique()
    return sorted(splits.index[splits > 1])


def sample_posts(table: pd.DataFrame, most: int, *, seed: int) -> pd.DataFrame:
    """All posts, or `most` of them at random, in their order. A sample of a share s finds about s^2 of the pairs."""
    return table if len(table) <= most else table.sample(most, random_state=seed).sort_index().reset_index(drop=True)
