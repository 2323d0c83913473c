import numpy as np
import pandas as pd
import pytest

from radar_suite.diagnosis.runs import About, RunFolder

CATEGORIES = ["A", "B"]


@pytest.fixture
def run():
    """`run(seed, **changes)`: a made-up run of two categories; a change is a function of its tables by part."""

    def make(seed=0, change=lambda posts: posts, **about):
        random, parts = np.random.default_rng(seed), []
        for split, n in (("train", 400), ("validation", 200), ("audit", 400), ("serve", 300)):
            truth = (random.random((n, 2)) < 0.3).astype(int)
            part = pd.DataFrame({
                "post_id": [f"{split}{i}" for i in range(n)], "split": split,
                "pipeline": random.choice(CATEGORIES, n), "region": random.choice(["r", "s", "t"], n),
                "language": random.choice(["en", "es", "ar"], n), "month": random.integers(0, 12, n),
                "group": [f"{split}{i}" for i in range(n)], "content": [f"{split}{i}" for i in range(n)],
            })  # fmt: skip
            for k, c in enumerate(CATEGORIES):
                z = 2.0 * truth[:, k] - 1.5 + random.normal(0, 1, n)
                own = (part["pipeline"] == c) | (split in ("audit", "serve"))
                part[f"label_{c}"] = np.where(own & (split != "serve"), truth[:, k], -1)
                part[f"logit_{c}"], part[f"teacher_{c}"] = z, z + random.normal(0, 0.5, n)
                part[f"no_frames_{c}"], part[f"no_text_{c}"] = 0.5 * z, z + random.normal(0, 1, n)
                part[f"served_{c}"] = z
            parts.append(part)
        posts = change(pd.concat(parts, ignore_index=True))
        return RunFolder(About(version=1, categories=CATEGORIES, **about), posts)

    return make
