"""Copies: posts that are the same post again, byte for byte or after the small changes that reposting makes.

A near-duplicate of a post with text and frames shares its text and has frames that look alike, or has the same
frames, encoded again, under another text. Sentences alone prove nothing: campaigns share them, and so does everybody.
Segments of one live stream are alike by nature and are never called copies of each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from zlib import crc32

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from radar_lib.data.schema import LABEL_PREFIX, TEXT_COLUMNS
from radar_lib.intervals import Groups
from radar_suite.intake.scan import COLOUR_GRID, HASH_BITS, FrameScan
from radar_suite.intake.texts import all_text, plain_text

_DECORATION = re.compile(r"(?:[#@]\w+|https?://\S+)")
_SHINGLE = 4  # characters
_ALONE = 40  # characters that a text needs to prove a copy where there are no frames to compare
# Least similarity of texts, largest mean distance of frames (of 64 bits). Frames that have nothing to do with each
# other are 24 to 40 bits apart; cropping by a few per cent, scaling and re-encoding move one by 0 to 12.
TEXT_AND_FRAMES = ((0.70, 11.0), (0.95, 12.5))
MOST_APART = TEXT_AND_FRAMES[-1][1]
TEXT_ONLY = 0.85  # where neither post has frames
SAME_FRAMES = (4.0, 0.02)  # under any text: bits of 64, and mean difference of the colours on a 4 x 4 grid (0 to 1)
PAIR_TYPES = {"a": int, "b": int, "kind": str, "text_similarity": float, "frame_distance": float}


def text_core(text: str) -> str:
    """What stays of a text when it is posted again: letters and digits in plain form and one case, without
    hashtags, mentions, links, emoji and punctuation. A text of nothing but those keeps its letters."""
    plain = plain_text(text).casefold()
    return " ".join(re.findall(r"\w+", _DECORATION.sub(" ", plain)) or re.findall(r"\w+", plain))


def shingles(text: str) -> frozenset[str]:
    """Runs of four characters, spaces included; the whole text if it is shorter."""
    return frozenset(text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))) if text else frozenset()


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared shingles over all shingles; 1 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 1.0


def near_texts(texts: Sequence[str], *, least: float, n_hashes: int = 64, max_users: int = 50) -> set[tuple[int, int]]:
    """Candidate pairs (i < j) of texts whose shingles overlap by about `least` or more, by MinHash and LSH.

    Hashing finds most such pairs and some others: check them. Texts that more than `max_users` posts share word for
    word are no evidence on their own and are not paired.
    """
    users: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        if text:
            users.setdefault(text, []).append(place)
    keys = list(users)
    cut = ([shingle.encode() for shingle in shingles(key)] for key in keys)
    hashed = MinHash.bulk(cut, num_perm=n_hashes, seed=1, hashfunc=crc32)
    index = MinHashLSH(threshold=least, num_perm=n_hashes, weights=(0.3, 0.7))  # rather one pair too many
    with index.insertion_session() as session:
        for place, one in enumerate(hashed):
            session.insert(place, one)
    pairs: set[tuple[int, int]] = set()
    for place, one in enumerate(hashed):
        mine = users[keys[place]]
        if len(mine) <= max_users:
            pairs.update(combinations(mine, 2))
            for other in index.query(one):
                theirs = users[keys[other]]
                if other > place and len(theirs) <= max_users:
                    pairs.update((min(i, j), max(i, j)) for i in mine for j in theirs)
    return pairs


def near_hashes(hashes: Bool[np.ndarray, "picture bit"], *, within: int, block: int = 1_000) -> set[tuple[int, int]]:
    """All pairs (i < j) of perceptual hashes that differ in at most `within` bits.

    Every pair is compared, in blocks of one matrix product: exact, 2 s for 20,000 hashes, growing with the square.
    """
    signs = 2 * hashes.astype(np.float32) - 1
    agree = hashes.shape[1] - 2 * within
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(signs), block):
        rows, columns = np.nonzero(signs[start : start + block] @ signs[start:].T >= agree)
        later = columns > rows
        pairs.update(zip((rows[later] + start).tolist(), (columns[later] + start).tolist(), strict=True))
    return pairs


def frame_distance(a: Bool[np.ndarray, "frame bit"], b: Bool[np.ndarray, "frame bit"]) -> float:
    """Mean bits between each frame of the shorter post and the nearest frame of the other; NaN without frames."""
    return _nearest((a[:, None] != b[None]).sum(2)) if len(a) and len(b) else float("nan")


def colour_distance(a: Float[np.ndarray, "frame colour"], b: Float[np.ndarray, "frame colour"]) -> float:
    """As `frame_distance`, of coarse colours (0 to 1): equal shapes in other colours are other pictures."""
    return _nearest(np.abs(a[:, None] - b[None]).mean(2))


def _nearest(apart: Float[np.ndarray, "frame frame"]) -> float:
    return float(apart.min(1).mean() if len(apart) <= apart.shape[1] else apart.min(0).mean())


def _exact_pairs(table: pd.DataFrame, scan: FrameScan) -> set[tuple[int, int]]:
    """Posts with the same texts and the same frames, byte for byte and in order; none of posts without content."""
    frames = scan.table.groupby("post_id", sort=False)["digest"].agg("|".join).to_dict()
    places: dict[tuple[str, ...], list[int]] = {}
    for place, (post_id, *texts) in enumerate(table[["post_id", *TEXT_COLUMNS]].itertuples(index=False)):
        places.setdefault((*texts, frames.get(post_id, "")), []).append(place)
    return {pair for content, group in places.items() if any(content) for pair in combinations(group, 2)}


def duplicate_pairs(table: pd.DataFrame, scan: FrameScan, *, max_posts: int = 60_000) -> pd.DataFrame:
    """Exact and near duplicates among the posts of `table`.

    Args:
        table: posts; `stream_id` is respected where the column exists.
        scan: their frames (those of other posts, and those in which nothing is to be seen, are ignored).
        max_posts: up to here the pictures of all posts are compared; beyond, only of posts with similar texts.

    Returns:
        Columns a, b (places in `table`, a < b), kind (exact, near), text_similarity (Jaccard, of `text_core`),
        frame_distance (bits of 64; NaN where a post has no frames). All pairs within a group of exact copies are
        listed.
    """
    core = [text_core(text) for text in all_text(table)]
    owner = scan.table["post_id"].map(pd.Series(np.arange(len(table)), index=table["post_id"].to_numpy()))
    # Frames of one colour look alike, and are no evidence: they would make copies of posts that share nothing.
    kept = (owner.notna() & (scan.table["sharpness"] > 0)).to_numpy()
    owner, hashes, colours = owner[kept].astype(int).to_numpy(), scan.hashes[kept], scan.features[kept][:, COLOUR_GRID]
    rows_of = pd.Series(np.arange(len(owner))).groupby(owner).indices
    frames: dict[int, np.ndarray] = {int(post): hashes[rows] for post, rows in rows_of.items()}
    exact = _exact_pairs(table, scan)
    candidates = near_texts(core, least=TEXT_AND_FRAMES[0][0]) | exact
    alike: set[tuple[int, int]] = set()
    if 0 < len(frames) and len(table) <= max_posts:
        posts = np.array(list(frames))
        first = np.stack([frames[post][0] for post in posts])
        order = [(int(posts[i]), int(posts[j])) for i, j in near_hashes(first, within=8)]
        alike = {(min(pair), max(pair)) for pair in order}
    streams = table["stream_id"].to_numpy() if "stream_id" in table else np.full(len(table), "")
    nothing = np.empty((0, HASH_BITS), bool)
    rows, cut = [], {}
    for a, b in sorted(candidates | alike):
        if streams[a] and streams[a] == streams[b]:
            continue
        for post in (a, b):
            if post not in cut:
                cut[post] = shingles(core[post])
        similarity = jaccard(cut[a], cut[b])
        if similarity < TEXT_AND_FRAMES[0][0] and (a, b) not in alike:
            continue
        apart = frame_distance(frames.get(a, nothing), frames.get(b, nothing))
        if np.isnan(apart):
            lonely = a in frames or b in frames or min(len(core[a]), len(core[b])) < _ALONE
            same = similarity >= TEXT_ONLY and not lonely
        else:
            same = any(similarity >= least and apart <= most for least, most in TEXT_AND_FRAMES) and bool(core[a])
            if not same and apart <= SAME_FRAMES[0]:
                same = colour_distance(colours[rows_of[a]], colours[rows_of[b]]) <= SAME_FRAMES[1]
        if same or (a, b) in exact:
            rows.append((a, b, "exact" if (a, b) in exact else "near", similarity, apart))
    return pd.DataFrame(rows, columns=list(PAIR_TYPES)).astype(PAIR_TYPES)


def duplicate_groups(pairs: pd.DataFrame, n_posts: int) -> Int[np.ndarray, " post"]:
    """Group of each post: posts that are linked by pairs share a number; everybody else is alone in theirs."""
    links = coo_matrix((np.ones(len(pairs)), (pairs["a"], pairs["b"])), shape=(n_posts, n_posts))
    return connected_components(links, directed=False)[1]


def dependent_groups(copies: Int[np.ndarray, " post"], declared: Groups) -> Groups:
    """Group of each post, of copies and of posts of one declared group (`group_numbers`) together; None if all posts
    are alone.

    Args:
        copies: of `duplicate_groups`.
    """
    declared = np.arange(len(copies)) if declared is None else declared
    size = int(max(copies.max(initial=-1), declared.max(initial=-1))) + 1
    links = coo_matrix((np.ones(len(copies)), (copies, size + declared)), shape=(2 * size, 2 * size))
    numbers = np.unique(connected_components(links, directed=False)[1][copies], return_inverse=True)[1]
    return numbers if numbers.max(initial=-1) + 1 < len(numbers) else None


def between_splits(pairs: pd.DataFrame, splits: pd.Series) -> pd.DataFrame:
    """Pairs by the splits they join: columns split, other, kind, pairs, posts (posts of `split` with a copy in
    `other`); each pair of different splits is listed in both directions."""
    where = splits.to_numpy()
    ends = [pairs[["a", "b", "kind"]], pairs[["b", "a", "kind"]].set_axis(["a", "b", "kind"], axis=1)]
    both = pd.concat(ends, ignore_index=True)
    both = both.assign(split=where[both["a"].to_numpy()], other=where[both["b"].to_numpy()])
    one_way = both[(both["split"] != both["other"]) | (both["a"] < both["b"])]
    counts = one_way.groupby(["split", "other", "kind"], sort=False).size().rename("pairs")
    posts = both.groupby(["split", "other", "kind"], sort=False)["a"].nunique().rename("posts")
    return pd.concat([counts, posts], axis=1).reset_index()


def conflicting_labels(pairs: pd.DataFrame, table: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Copies of one post with opposite verified labels of one risk: one of the two labels is wrong.

    Returns:
        Columns a, b, kind, category, label_a, label_b; one row per pair and risk.
    """
    parts = []
    for category in categories:
        label = table[LABEL_PREFIX + category].to_numpy()
        ends = label[pairs["a"].to_numpy()], label[pairs["b"].to_numpy()]
        rows = pairs[(np.minimum(*ends) == 0) & (np.maximum(*ends) == 1)]
        a, b = (label[rows[end].to_numpy()] for end in "ab")
        parts.append(rows[["a", "b", "kind"]].assign(category=category, label_a=a, label_b=b))
    return pd.concat(parts, ignore_index=True)


def retrieval(found: set, wanted: set) -> dict[str, float]:
    """Precision and recall of a set against the true one: found, wanted, both, precision, recall (NaN: of nothing)."""
    both = len(found & wanted)
    return {"found": len(found), "wanted": len(wanted), "both": both,
            "precision": both / len(found) if found else float("nan"),
            "recall": both / len(wanted) if wanted else float("nan")}  # fmt: skip
