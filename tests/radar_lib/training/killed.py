"""Train one run in a forked process that is killed, again and again, until it is done: started by test_killed.py."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from radar_lib.data.posts import open_posts
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.specs import RunSpec


def train(posts: Path, checkpoints: Path, cache: Path, on_step) -> None:
    def bar(**about):
        shown = no_bar(**about)
        shown.update = lambda n=1: on_step() if about["unit"] == "step" else None
        return shown

    corpus = open_posts(posts)
    lab = Lab(corpus, Cache(cache), checkpoints=str(checkpoints), checkpoint_seconds=0, bar=bar)
    lab.train(RunSpec("Qwen3-VL-8B", corpus.categories, Recipe(epochs=3, batch_size=3, learning_rate=5e-3), 4, 8))


def killed_trainer(steps: int, pause: float, *where: Path) -> None:
    """Fork a trainer and kill it some moments after it has done `steps` more steps."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        train(*where, lambda: os.write(writes, b"."))
        os._exit(0)
    os.close(writes)
    with open(reads, "rb") as told:
        assert len(told.read(steps)) == steps, "it ended by itself"
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    import peft  # noqa: F401  what each fork would import anew
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: F401
    from transformers.models.auto.image_processing_auto import AutoImageProcessor  # noqa: F401

    gc.freeze()  # each trainer collects its garbage first: not all of transformers again
    posts, checkpoints, folder = map(Path, sys.argv[1:])
    train(posts, checkpoints, folder / "whole", lambda: None)
    random = np.random.default_rng(1)
    for _ in range(10):
        killed_trainer(int(random.integers(1, 6)), random.uniform(0, 0.03), posts, checkpoints, folder / "killed")
    train(posts, checkpoints, folder / "killed", lambda: None)
