"""Posts dealt to parts by a hash of their ids: the same part whatever the order, the split or the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def part_of(post_ids: Sequence[str], count: int) -> Int[np.ndarray, " post"]:
    """The part of each post, from 0 to `count` - 1; parts are about equally large.

    >>> part_of([f"post-{i}" for i in range(8)], 2).tolist()
    [1, 1, 1, 0, 1, 0, 0, 1]
    """
    digests = (hashlib.blake2b(str(post).encode(), digest_size=8).digest() for post in post_ids)
    return np.array([int.from_bytes(digest, "big") % count for digest in digests], dtype=np.int64)
