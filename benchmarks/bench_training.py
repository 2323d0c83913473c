"""Training and inference throughput: our loop beside the ordinary recipe (HF Trainer + peft), and each technique alone.

All lines train the same router (LoRA on the language model, MLP and heads) on the same posts at the same batch with
SDPA attention, bfloat16 weights on a GPU. Image decoding and tokenising are done before the clock starts, for all.

    ours            `radar_lib.training.loop.train`: length-bucketed batches, the tower's patched attention and patch
                    embedding, and, where there are several epochs, the frozen tower's features cached; the pass that
                    fills the cache is inside the clock
    ordinary        transformers' Trainer, peft, shuffled batches, pixels through the stock tower at each step, and
                    transformers' and peft's own layers throughout
    MFU             operations that the posts require (no padding, no recomputation; the tower once per pass that has
                    to run it) per second, over the peak of a matrix product measured in this process. On a CPU the
                    seconds are the process's own, because other programs take their share of the wall's
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn

from radar_lib.losses import radar_loss
from radar_lib.models import families
from radar_lib.models import router as routers
from radar_lib.models.backbones import load_backbone
from radar_lib.models.base import Backbone, Encoded
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_lib.training.encoded import EncodedPosts
from radar_lib.training.inference import predict
from radar_lib.training.loop import Recipe, TrainingSet, no_bar, train
from radar_suite.chain.flops import Cost, config_of, router_cost
from radar_suite.world.build import plan_corpus, render_posts
from radar_suite.world.dials import CorpusConfig
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.standins import FOLDER as STANDINS

MODELS = ("2B", "4B", "8B")
ORDINARY = "train: ordinary (HF Trainer + peft)"


@dataclass
class Case:
    """What all lines of a record share."""

    backbone: Backbone
    posts: list[Encoded]
    labels: np.ndarray
    recipe: Recipe
    rank: int
    device: str
    px: int

    def router(self, backbone: Backbone, seed: int = 1) -> RadarRouter:
        config = RouterConfig(CATEGORIES, lora_rank=self.rank, lora_alpha=2 * self.rank)
        return RadarRouter(backbone, config, seed=seed)

    def cost(self) -> Cost:
        """Of a post of mean length and frames."""
        frames = float(np.mean([len(post.frame_tokens) for post in self.posts]))
        words = float(np.mean([post.n_tokens - sum(post.frame_tokens) for post in self.posts]))
        return router_cost(self.backbone.model.config, words=words, frames=frames, px=self.px, rank=self.rank)

    def flops(self) -> dict[str, float]:
        """Operations that one pass over all posts requires, by what is done."""
        cost, n = self.cost(), len(self.posts)
        (text, text_step), (tower, tower_step) = ([n * value for value in pair] for pair in (cost.text, cost.tower))
        return {"tower": tower, "inference": text + tower, "step": text_step + tower_step,
                "step_features_given": text_step}  # fmt: skip


@contextlib.contextmanager
def stock_tower() -> Iterator[None]:
    """Backbones made inside keep transformers' own vision tower."""
    with mock.patch.object(families, "speed_up_vision_tower", lambda tower: None):
        yield


def random_backbone(config: Any, *, device: str, dtype: torch.dtype, px: int) -> Backbone:
    """A Qwen3-VL of this configuration with random weights. Its tokenizer is a stand-in's and only pads."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    size = {"shortest_edge": px * px, "longest_edge": px * px}
    processor = Qwen2VLImageProcessorPil(patch_size=config.vision_config.patch_size, size=size)
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(STANDINS / "qwen3-vl-2b")
    return families.Qwen3VL(model, tokenizer, processor, checkpoint="random", digest="random").to(device).eval()


def random_posts(backbone: Backbone, count: int, *, frames: int, px: int, text: tuple[int, int]) -> list[Encoded]:
    """Posts of random pixels and token ids; the number of text tokens is uniform between `text`'s two."""
    rng, image = np.random.default_rng(1), backbone.image_token_id
    posts = []
    for _ in range(count):
        pictures = tuple(torch.from_numpy(rng.integers(0, 256, (3, px, px), np.uint8)) for _ in range(frames))
        tokens = [backbone.visual_tokens(picture) for picture in pictures]
        words = torch.from_numpy(rng.integers(5, min(1000, image), rng.integers(text[0], text[1] + 1)))
        parts = [part for n in tokens for part in (torch.full((n,), image), torch.tensor([3]))]
        ids = torch.cat([*parts, words[frames:]])
        posts.append(Encoded(ids, pictures, tuple(tokens), backbone.positions(ids, pictures)))
    return posts


def built_in_posts(count: int, *, px: int) -> tuple[list[dict], np.ndarray]:
    """Training posts of the built-in corpus as rows with pictures, and their labels."""
    none = dict.fromkeys(("validation_posts", "test_posts", "calibration_posts", "unlabelled_posts", "audit_posts"), 0)
    config = CorpusConfig(train_posts=count, frame_px=px, **none)
    rows = list(render_posts(config, plan_corpus(config)[0], 0, count))
    for row in rows:
        row["frames"] = [Image.open(io.BytesIO(data)) for data in row["frames"]]
    return rows, np.array([[row[f"label_{c}"] for c in CATEGORIES] for row in rows], dtype=np.int8)


def make_case(model: str, *, device: str, posts: int, batch: int) -> tuple[Case, Backbone]:
    """Our backbone with its posts, and the same model with the stock tower."""
    if device.startswith("cuda"):
        config = config_of(f"Qwen3-VL-{model}")
        case = random_case(config, device=device, posts=posts, batch=batch, rank=128, px=384, text=(64, 192))
        with stock_tower():
            plain = random_backbone(config, device=device, dtype=torch.bfloat16, px=384)
        plain.model.load_state_dict(case.backbone.model.state_dict(), assign=True)  # one copy of the weights
        return case, plain
    folder = STANDINS / f"qwen3-vl-{model.lower()}"
    rows, labels = built_in_posts(posts, px=96)
    backbone = load_backbone(folder)
    with stock_tower():
        plain = load_backbone(folder)
    recipe = Recipe(epochs=2, batch_size=batch, learning_rate=2e-3)
    return Case(backbone, backbone.encode(rows), labels, recipe, 8, device, 96), plain


def random_case(config: Any, *, device: str, posts: int, batch: int, rank: int, px: int, text: tuple[int, int],
                frames: int = 4) -> Case:  # fmt: skip
    """A model with random weights and random posts, each verified for one risk."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    backbone = random_backbone(config, device=device, dtype=dtype, px=px)
    labels = np.full((posts, len(CATEGORIES)), -1, np.int8)
    labels[np.arange(posts), np.arange(posts) % 3] = np.arange(posts) % 5 == 0
    encoded = random_posts(backbone, posts, frames=frames, px=px, text=text)
    return Case(backbone, encoded, labels, Recipe(epochs=1, batch_size=batch, learning_rate=1e-5), rank, device, px)


class Shuffled(EncodedPosts):
    """Posts whose lengths are not told, so that batches are not bucketed."""

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.posts), int)


def ours(
    case: Case, backbone: Backbone, *, cached: bool = False, bucketed: bool = True, posts: list[Encoded] | None = None
) -> list[float]:
    """Train with our loop; the logged losses. `posts` may hold the features already."""
    router = case.router(backbone)
    posts = posts or (backbone.cache_features(case.posts) if cached else case.posts)
    inputs = (EncodedPosts if bucketed else Shuffled).in_memory(backbone, posts)
    data = TrainingSet(inputs, case.labels, [str(i) for i in range(len(posts))])
    try:
        with tempfile.TemporaryDirectory() as folder:
            history = train(router, data, case.recipe, folder=Path(folder), device=case.device,
                            checkpoint_seconds=1e9, bar=no_bar)  # fmt: skip
    finally:
        router.detach()
    return [step["loss"] for step in history.steps]


def ours_packed(case: Case, backbone: Backbone, **options: Any) -> list[float]:
    """`ours` with posts end to end instead of padded."""
    backbone.pack(True)
    try:
        return ours(case, backbone, **options)
    finally:
        backbone.pack(False)


class Ordinary(nn.Module):
    """A router as transformers' Trainer takes a model: labels in, loss out."""

    def __init__(self, router: RadarRouter):
        super().__init__()
        self.router, self.losses = router, []

    def forward(self, labels: torch.Tensor, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = radar_loss(self.router(batch), labels, lam=0.0)
        self.losses.append(loss.detach())
        return {"loss": loss}


def ordinary(case: Case, plain: Backbone, *, batches: Sequence[Sequence[int]] | None = None) -> list[float]:
    """Train with HF Trainer + peft; the loss of every step. `batches` replaces the Trainer's own shuffling.

    All tokens pass the last layer, padding is masked, and peft computes its adapters.
    """
    from torch.utils.data import DataLoader
    from transformers import Trainer, TrainingArguments

    r, gpu = case.recipe, case.device.startswith("cuda")
    with mock.patch.object(routers, "fold_narrow_adapters", lambda model: None):
        model = Ordinary(case.router(plain))

    def collate(indices: Sequence[int]) -> dict[str, torch.Tensor]:
        labels = torch.tensor(case.labels[list(indices)], dtype=torch.int64)
        return plain.collate([case.posts[i] for i in indices]) | {"labels": labels}

    class OneOrder(Trainer):
        def get_train_dataloader(self) -> DataLoader:
            if batches is None:
                return super().get_train_dataloader()
            return DataLoader(range(len(case.posts)), batch_sampler=batches, collate_fn=collate)

    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, per_device_train_batch_size=r.batch_size, num_train_epochs=r.epochs if batches is None else 1,
                learning_rate=r.learning_rate, lr_scheduler_type="cosine", warmup_steps=r.warmup,
                weight_decay=r.weight_decay, max_grad_norm=r.clip, logging_steps=10, save_strategy="no", report_to=[],
                bf16=gpu, use_cpu=not gpu, remove_unused_columns=False, disable_tqdm=True, seed=r.seed,
                dataloader_num_workers=4 if gpu else 0, dataloader_pin_memory=gpu, label_names=["labels"],
            )  # fmt: skip
            trainer = OneOrder(model, arguments, data_collator=collate, train_dataset=range(len(case.posts)))
            stock = (mock.patch.object(plain, name, False) for name in ("_narrow", "causal"))
            with contextlib.ExitStack() as inside:
                for way in (contextlib.redirect_stdout(io.StringIO()), *stock):
                    inside.enter_context(way)
                trainer.train()
    finally:
        model.router.detach()
    return [float(loss) for loss in model.losses]


def same_losses(case: Case, plain: Backbone) -> dict[str, float]:
    """Our loop and the Trainer on the same batches of one epoch of ten steps: how far are the losses apart?"""
    short = Case(**{**vars(case), "posts": case.posts[: 10 * case.recipe.batch_size],
                    "labels": case.labels[: 10 * case.recipe.batch_size]})  # fmt: skip
    short.recipe = Recipe(**{**vars(case.recipe), "epochs": 1})
    number, collate, batches = {id(post): i for i, post in enumerate(short.posts)}, short.backbone.collate, []

    def recording(posts: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        batches.append([number[id(post)] for post in posts])
        return collate(posts)

    with mock.patch.object(short.backbone, "collate", recording):
        mine = ours(short, short.backbone)
    theirs = ordinary(short, plain, batches=batches)
    return {"steps": len(mine), "largest_difference": float(f"{np.abs(np.subtract(mine, theirs)).max():.2g}"),
            "first": round(mine[0], 4), "last": round(mine[-1], 4)}  # fmt: skip


@torch.inference_mode()
def experts(case: Case, routers: int) -> None:
    """As many experts as `routers` score every post, the tower run once."""
    given = EncodedPosts.in_memory(case.backbone, case.backbone.cache_features(case.posts))
    for seed in range(routers):
        router = case.router(case.backbone, seed)
        predict(router, given, batch_size=4 * case.recipe.batch_size, device=case.device)
        router.detach()


@torch.inference_mode()
def read_pixels(case: Case, backbone: Backbone, *, bucketed: bool) -> None:
    """One forward pass over all posts, from pixels."""
    inputs = (EncodedPosts if bucketed else Shuffled).in_memory(backbone, case.posts)
    predict(backbone, inputs, batch_size=4 * case.recipe.batch_size, device=case.device)


def timed(line: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds by the wall and of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    line()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def matrix_peak(device: str = "cpu", *, seconds: float = 0.5) -> float:
    """Operations per second of a large square matrix product, the best of many: what a device can do at most.

    bfloat16 on a GPU; float32 on a CPU, with as many threads as torch has now.
    """
    size, dtype = (8192, torch.bfloat16) if device.startswith("cuda") else (512, torch.float32)
    a = torch.ones(size, size, dtype=dtype, device=device)
    out, best, end = torch.empty_like(a), float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        started = time.perf_counter()
        torch.mm(a, a, out=out)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def training_record(model: str, *, device: str, posts: int, batch: int, repeats: int) -> dict[str, Any]:
    """The record of one model on one device."""
    return compare(*make_case(model, device=device, posts=posts, batch=batch), repeats=repeats) | {"model": model}


def compare(case: Case, plain: Backbone, *, repeats: int) -> dict[str, Any]:
    """All lines, interleaved `repeats` times after one warm-up; medians."""
    epochs, n = case.recipe.epochs, len(case.posts)
    cached, need = epochs > 1, case.flops()
    tower, inference, step, given = need.values()
    own, held = case.backbone, (epochs * given + tower if cached else epochs * step)
    kept = own.cache_features(case.posts) if cached else None
    lines = {  # name: (what to run, passes over the posts, operations required)
        "train: ours": (lambda: ours(case, own, cached=cached), epochs, held),
        ORDINARY: (lambda: ordinary(case, plain), epochs, epochs * step),
        "train: ours, features of an earlier run": (lambda: ours(case, own, posts=kept), epochs, epochs * given),
        "train: ours, packed": (lambda: ours_packed(case, own, cached=cached), epochs, held),
        "train: ours, no length buckets": (lambda: ours(case, own, cached=cached, bucketed=False), epochs, held),
        "train: ours, no cached features": (lambda: ours(case, own), epochs, epochs * step),
        "train: ours, no cached features, stock tower": (lambda: ours(case, plain), epochs, epochs * step),
        "read: ours": (lambda: read_pixels(case, own, bucketed=True), 1, inference),
        "read: stock tower, no length buckets": (lambda: read_pixels(case, plain, bucketed=False), 1, inference),
        "read: tower only": (lambda: own.cache_features(case.posts), 1, tower),
        "read: three experts, tower once": (lambda: experts(case, 3), 1, 3 * inference - 2 * tower),
    }
    if not cached:  # one epoch: ours is the line without cached features
        del lines["train: ours, no cached features"], lines["train: ours, features of an earlier run"]
    same = same_losses(case, plain)
    peak = matrix_peak(case.device)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for _ in range(repeats):
        for name, (line, _, _) in lines.items():
            times[name].append(timed(line, case.device))
        peak = max(peak, matrix_peak(case.device))
    gpu, out = case.device.startswith("cuda"), []
    for name, (_, passes, flops) in lines.items():
        wall, cpu = (median(values) for values in zip(*times[name], strict=True))
        out.append({"line": name, "posts_per_second": round(passes * n / wall, 1),
                    **({} if gpu else {"posts_per_cpu_second": round(passes * n / cpu, 1)}),
                    "mfu": round(flops / (wall if gpu else cpu) / peak, 3)})  # fmt: skip
        if name.startswith("train"):
            ratios = np.array(times[ORDINARY]) / np.array(times[name])  # repeat by repeat: by the wall, by the process
            out[-1]["times_the_ordinary"] = round(float(np.median(ratios[:, 0 if gpu else 1])), 2)
            out[-1]["range"] = [round(float(f(ratios[:, 0 if gpu else 1])), 2) for f in (np.min, np.max)]
    return {
        "what": "training and inference beside the ordinary recipe", "lines": out, "same_batches": same,
        "matrix_peak_tflops": round(peak / 1e12, 4), "parameters": int(case.cost().parameters), "lora_rank": case.rank,
        "posts": n, "epochs": epochs, "batch": case.recipe.batch_size, "repeats": repeats,
        "frame_px": case.px, "tokens_per_post": round(float(np.mean([post.n_tokens for post in case.posts])), 1),
        "gflop_per_post": {name: round(total / n / 1e9, 4) for name, total in need.items()},
    }  # fmt: skip
