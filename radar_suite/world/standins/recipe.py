"""Make the stand-in checkpoints: tokenizers, then pretraining on describing posts.

    python -m radar_suite.world.standins.recipe                          # all seven, as committed (1.5 core-hours)
    python -m radar_suite.world.standins.recipe --only qwen3-vl-2b --posts 4000 --epochs 1 --out /tmp/checkpoints
    python -m radar_suite.world.standins.recipe --posts 0 --out /tmp/checkpoints   # random weights, seconds

A folder that is finished is left alone (delete it to make it again), and a run that was stopped goes on where it was:
the corpus shard by shard, the training from its last checkpoint. With `--posts 0` nothing is trained, and the
tokenizers have bytes only. Use a folder made anywhere with `resolve_checkpoint(spec, "/tmp/checkpoints")`.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from radar_lib.files import digest_file, read_json, write_json
from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.models.base import Backbone, Encoded
from radar_lib.models.text import TITLE_FIRST, post_text
from radar_lib.training.batches import epoch_batches
from radar_suite.world.standins import FOLDER as STANDINS
from radar_suite.world.standins.checkpoint import RunState, write_checkpoint, write_random_standin
from radar_suite.world.standins.describe import (
    Describer,
    caption_targets,
    caption_vocabulary,
    description_loss,
    description_quality,
    word_quality,
    word_weights,
)  # fmt: skip
from radar_suite.world.standins.geometry import GEOMETRIES
from radar_suite.world.standins.model_cards import standin_card

CORPUS_SEED = 7001  # never the seed of a corpus that routers are trained or tested on
HELD_OUT = 1000  # or a fifth of a small run
SAVE_EVERY = 200  # steps
TOKENIZER_POSTS = 12_000


@dataclass(frozen=True)
class PretrainingRecipe:
    """Settings of one pretraining run. `posts` includes the held-out ones.

    Weight matrices inside the towers and layers are trained by Muon (orthogonalised momentum: Jordan et al. 2024), its
    update scaled to AdamW's size (Liu et al. 2025, arXiv 2502.16982); embeddings, heads and vectors by AdamW.
    """

    posts: int = 61_000
    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    auxiliary: float = 0.5
    seed: int = 1


@dataclass(frozen=True)
class PretrainPosts:
    """Pretrain posts in memory: texts, decoded frames in one array, caption targets."""

    texts: list[dict[str, str]]
    frames: np.ndarray
    first_frame: np.ndarray
    targets: np.ndarray
    vocabulary: list[str]
    held_out: int
    corpus: dict[str, Any]

    def rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Posts as `Backbone.encode` takes them."""
        out = []
        for i in indices:
            frames = self.frames[self.first_frame[i] : self.first_frame[i + 1]]
            out.append({**self.texts[i], "frames": [torch.from_numpy(np.array(frame)) for frame in frames]})
        return out


def load_posts(folder: Path, *, posts: int, workers: int) -> PretrainPosts:
    """Build (or open) the pretrain corpus below `folder` and decode its frames once into a memory-mapped file."""
    from radar_suite.world.build import CorpusConfig, build_corpus, corpus_digest
    from radar_suite.world.dials import SIZES

    config = CorpusConfig(seed=CORPUS_SEED, **(dict.fromkeys(SIZES, 0) | {"pretrain_posts": posts}))
    digest = corpus_digest(config)
    corpus = build_corpus(config, folder / f"pretrain-{digest}", workers=workers)
    table = corpus.table("pretrain")
    array = folder / f"frames-{digest}.npy"
    counts_file = folder / f"frames-{digest}.json"
    if not counts_file.is_file():
        split, counts = corpus.split("pretrain"), []
        size = (sum(len(row["frames"]) for row in _bare(split)), 3, config.frame_px, config.frame_px)
        out = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=size)
        n = 0
        for row in tqdm(split, desc="decode frames", unit="post"):
            for frame in row["frames"]:
                out[n] = np.asarray(frame.convert("RGB")).transpose(2, 0, 1)
                n += 1
            counts.append(len(row["frames"]))
        out.flush()
        write_json(counts_file, counts)
    first = np.concatenate([[0], np.cumsum(read_json(counts_file))])
    captions = table["caption"].tolist()
    held_out = min(HELD_OUT, posts // 5)
    vocabulary = caption_vocabulary(captions[:-held_out])
    texts = table[["title", "ocr_text", "asr_text"]].to_dict("records")
    info = {"name": corpus.name, "seed": CORPUS_SEED, "posts": posts, "digest": digest}
    return PretrainPosts(
        texts, np.load(array, mmap_mode="r"), first, caption_targets(captions, vocabulary), vocabulary, held_out, info
    )


def _bare(split: Any) -> Iterator[dict]:
    from datasets import Image, List

    return iter(split.select_columns(["frames"]).cast_column("frames", List(Image(decode=False))))


def encode_all(backbone: Backbone, posts: PretrainPosts) -> list[Encoded]:
    """Token ids of every post; frames stay in the memory map until a batch needs them."""
    out = []
    for start in range(0, len(posts.texts), 512):
        out += backbone.encode(posts.rows(range(start, min(start + 512, len(posts.texts)))))
    return [Encoded(e.input_ids, (), e.frame_tokens, e.position_ids) for e in out]


def with_frames(encoded: Encoded, row: dict[str, Any]) -> Encoded:
    """Put a post's frames back."""
    return Encoded(encoded.input_ids, tuple(row["frames"]), encoded.frame_tokens, encoded.position_ids)


def schedule(step: int, steps: int, *, warmup: float) -> float:
    """Learning-rate factor: linear warm-up, then a cosine to zero."""
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def make_optimizers(model: Describer, recipe: PretrainingRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices that map hidden states to hidden states, AdamW for all else; vectors are not decayed."""
    hidden, other, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inner = parameter.ndim == 2 and not re.search("embed|head|pos", name)
            (vectors if parameter.ndim < 2 else hidden if inner else other).append(parameter)
    rate, decay = recipe.learning_rate, recipe.weight_decay
    rest = [{"params": other, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98)),
    ]


@torch.no_grad()
def evaluate(model: Describer, encoded: Sequence[Encoded], posts: PretrainPosts) -> dict[str, dict[str, float]]:
    """Quality of each word on the held-out posts."""
    model.eval()
    held = np.arange(len(encoded) - posts.held_out, len(encoded))
    held = held[np.argsort([encoded[i].n_tokens for i in held], kind="stable")]
    logits = []
    for start in range(0, len(held), 128):
        rows = posts.rows(held[start : start + 128])
        chunk = [with_frames(encoded[i], row) for i, row in zip(held[start : start + 128], rows, strict=True)]
        logits.append(model(model.backbone.collate(chunk))[0])
    model.train()
    return word_quality(torch.cat(logits).numpy(), posts.targets[held], posts.vocabulary)


def pretrain(
    backbone: Backbone, posts: PretrainPosts, recipe: PretrainingRecipe, *, name: str, state_file: Path,
    max_steps: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train all of a backbone's parameters to describe posts, in place. Resumes from `state_file`.

    Args:
        max_steps: stop there, with a state to go on from.

    Returns:
        The record: settings, loss curve, held-out quality, throughput.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Describer(backbone, posts.vocabulary)
    encoded = encode_all(backbone, posts)
    n_train = len(encoded) - posts.held_out
    lengths = [e.n_tokens for e in encoded[:n_train]]
    per_epoch = n_train // recipe.batch_size
    steps = max(1, round(recipe.epochs * per_epoch))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers = make_optimizers(model, recipe)
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    weights = word_weights(posts.targets[:n_train])
    state = RunState(model, optimizers)
    step, losses, seconds = state.load(state_file)
    model.train()
    bar = tqdm(total=steps, initial=step, desc=name, unit="batch", mininterval=5)
    plan: list[np.ndarray] = []
    stop = steps if max_steps is None else min(steps, max_steps)
    while step < stop:
        epoch, within = divmod(step, per_epoch)
        if not plan or within == 0:
            every = epoch_batches(lengths, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch)
            plan = [batch for batch in every if len(batch) == recipe.batch_size]
        started = time.perf_counter()
        chosen = plan[within]
        rows = posts.rows(chosen)
        batch = backbone.collate([with_frames(encoded[i], row) for i, row in zip(chosen, rows, strict=True)])
        targets = torch.from_numpy(posts.targets[chosen]).float()
        loss = description_loss(model(batch), targets, weights=weights, auxiliary=recipe.auxiliary)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        factor = schedule(step, steps, warmup=recipe.warmup)
        for group, peak in peaks:
            group["lr"] = peak * factor
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        seconds += time.perf_counter() - started
        losses.append(round(loss.item(), 5))
        bar.update()
        bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
        if step % SAVE_EVERY == 0 or step == max_steps:
            state.save(state_file, step, losses, seconds)
    bar.close()
    by_word = evaluate(model, encoded, posts)
    backbone.model.requires_grad_(False).eval()
    return {
        "steps": step, "posts_seen": step * recipe.batch_size,
        "posts_per_second": round(step * recipe.batch_size / max(seconds, 1e-9), 1),
        "loss_every_20_steps": [round(float(np.mean(losses[i : i + 20])), 5) for i in range(0, len(losses), 20)],
        "held_out_posts": posts.held_out, "quality": description_quality(by_word), "by_word": by_word,
        "words": len(posts.vocabulary), "corpus": posts.corpus, "mean_tokens": round(float(np.mean(lengths)), 1),
    }  # fmt: skip


def make_standin(name: str, out: Path, posts: PretrainPosts | None, recipe: PretrainingRecipe, work: Path) -> None:
    """One finished folder: checkpoint, record and card."""
    folder = out / name
    if (folder / "record.json").is_file():
        return
    texts = [post_text(row) for row in posts.texts[:TOKENIZER_POSTS]] if posts else []
    start = work / f"start-{name}"
    if not (start / "config.json").is_file():
        write_random_standin(start, name, texts, seed=recipe.seed)
    backbone = load_backbone(start, text=TITLE_FIRST)
    record: dict[str, Any] = {"standin": name, "parameters": sum(p.numel() for p in backbone.model.parameters())}
    if posts:
        run = work / f"run-{name}.safetensors"
        record |= {"recipe": recipe.__dict__, **pretrain(backbone, posts, recipe, name=name, state_file=run)}
    record |= {"threads": torch.get_num_threads(), "device": "cpu", "versions": _versions()}
    processor = backbone.frame_processor.processor
    write_checkpoint(folder, backbone.model, backbone.tokenizer, processor)
    record["sha256"] = {path.name: digest_file(path) for path in folder.glob("*.safetensors")}
    spec = next(spec for spec in BACKBONES.values() if spec.folder == name)
    (folder / "README.md").write_text(standin_card(spec, GEOMETRIES[name], record), encoding="utf-8")
    write_json(folder / "record.json", record)


def _versions() -> dict[str, str]:
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    defaults = PretrainingRecipe()
    parser = argparse.ArgumentParser(prog="recipe", description="Make the stand-in checkpoints.")
    parser.add_argument("--posts", type=int, default=defaults.posts, help="pretrain posts, held-out ones included")
    parser.add_argument("--epochs", type=float, default=defaults.epochs)
    parser.add_argument("--only", nargs="+", default=list(GEOMETRIES), choices=list(GEOMETRIES), metavar="NAME")
    parser.add_argument("--out", type=Path, default=STANDINS, help="where the folders go")
    parser.add_argument("--work", type=Path, default=Path("runs/cache/standins"), help="corpus and unfinished runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1, help="processes that draw the corpus")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    recipe = PretrainingRecipe(posts=options.posts, epochs=options.epochs)
    options.work.mkdir(parents=True, exist_ok=True)
    todo = [name for name in options.only if not (options.out / name / "record.json").is_file()]
    posts = load_posts(options.work, posts=recipe.posts, workers=options.workers) if todo and recipe.posts else None
    work = options.work / f"{posts.corpus['digest']}-{recipe.epochs:g}" if posts else options.work / "random"
    for name in todo:
        make_standin(name, options.out, posts, recipe, work)
        print(f"{name}: {options.out / name}")


if __name__ == "__main__":
    main()
