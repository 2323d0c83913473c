"""What a frozen backbone makes of posts: the pooled vectors that a router's MLP reads, without any LoRA."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from radar_lib.files import atomic_path
from radar_lib.training.encoder import Encoder
from radar_lib.training.inference import predict

FILE = "features.npy"


def pooled_features(lab: Encoder, backbone: str, split: str) -> Float[np.ndarray, "post hidden"]:
    """Pooled vectors (float32) of a split's posts, in the order of `lab.table(split)`; kept in the cache."""
    entry = lab.features_entry(backbone, split)
    if not entry.complete:
        inputs = lab.encoded(backbone, split)
        title = f"{backbone}: frozen features of {split}"
        found = predict(lab.backbone(backbone), inputs, batch_size=inputs.at_once, device=lab.device, title=title)
        with atomic_path(entry.path(FILE)) as temporary, open(temporary, "wb") as file:
            np.save(file, found.astype(np.float32), allow_pickle=False)
        entry.finish({"posts": len(found), "width": found.shape[1]})
    return np.load(entry.path(FILE), allow_pickle=False)
