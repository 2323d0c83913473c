"""Random cases that exercises of several notebooks draw from."""

import numpy as np
import torch


def label_matrix(generator: np.random.Generator) -> np.ndarray:
    """Twelve posts, three risks, each cell 1, 0 or -1; the first post verified throughout, the second not at all."""
    labels = generator.integers(-1, 2, (12, 3))
    labels[0], labels[1] = 1, -1
    return labels


def two_logits(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A teacher's and a student's logits in four cells."""
    return tuple(torch.tensor(2 * generator.normal(size=(2, 4)), dtype=torch.float32))
