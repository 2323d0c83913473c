"""The planter of LoRA fine-tunes: causes that live in the backbone, which heads on frozen features cannot have.

Set-ups, faults, harmless changes and run folders are those of the bulk (`plant`); what is trained is a router on the
smallest stand-in, by the library's `Lab`, and what is scored are posts that its backbone reads with the adapter. A
feature of a set-up is here the place of a post in its split. The lab's history has no curves by category, so the run
folders have none.

A fault counts where it leaves the run worse than each healthy one, band included, by its cause's measure of harm: no
run is matched over seeds, which would take five times the trainings. Faults of serving are planted on healthy runs.

    python -m radar_suite.diagnosis.finetuned --plan lora --runs DIR --key OTHER_DIR --cache CACHE
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from tqdm import tqdm

from radar_lib.data.posts import Posts
from radar_lib.data.schema import FRAMES, TEXT_COLUMNS
from radar_lib.errors import error_ends_process
from radar_lib.files import digest_json, read_json, write_json
from radar_lib.models.base import Encoded
from radar_lib.models.router import RadarRouter
from radar_lib.training.cache import Cache, Entry
from radar_lib.training.encoded import EncodedPosts
from radar_lib.training.inference import predict
from radar_lib.training.lab import Lab
from radar_lib.training.loop import Recipe, TrainingSet, no_bar
from radar_lib.training.scores import write_scores
from radar_lib.training.specs import Run, RunSpec, SoftLabels
from radar_suite.diagnosis.bench import FACTS, KEPT_CHARACTERS, SPLITS, Bench, corpus_of, open_bench
from radar_suite.diagnosis.faults import FAULTS, Fault
from radar_suite.diagnosis.plant import (
    BAND,
    DEVELOPMENT,
    HEALTHY,
    SMALL,
    Makings,
    Plan,
    name_runs,
    planted,
    seal,
    write_planted,
)
from radar_suite.diagnosis.runs import RUN
from radar_suite.diagnosis.setups import Random, Setup, harms
from radar_suite.diagnosis.taxonomy import read_taxonomy
from radar_suite.world.build import build_corpus, corpus_digest
from radar_suite.world.policies import CATEGORIES
from radar_suite.world.standins import WORD, locate_checkpoints

Scores = dict[tuple[str, str], Float[np.ndarray, "post category"]]

LOOKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {  # what changes of a post
    "no_frames": lambda row: {FRAMES: []}, "no_text": lambda row: dict.fromkeys(TEXT_COLUMNS, ""),
    "cut": lambda row: {name: row[name][:KEPT_CHARACTERS] for name in TEXT_COLUMNS},
}  # fmt: skip
LAYERS = ("k_proj", "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SERVING = ("serving_modality", "serving_truncation")
PLANS = {"lora": Plan("LLaVA-OV-0.5B", 731, (0.35, 0.65, 0.95), repeats=1, band=8, healthy=8, pairs=0, size=SMALL)}


@dataclass
class FineTune(Setup):
    """What a fine-tune trains, scores and serves; the usual recipe is long, since posts are few.

    Attributes:
        rank: of LoRA.
        targets: its layers, a regular expression; empty for those of the family.
    """

    learning_rate: float = 2e-3
    epochs: int = 12
    batch: int = 32
    rank: int = 8
    targets: str = ""


def low_capacity(s: FineTune, severity: float, random: Random) -> None:
    """Rank 1, on some kinds of layers of the first block alone, the worst choice first."""
    kinds = LAYERS[: max(1, round((1 - severity) * len(LAYERS)))]
    s.rank, s.targets = 1, rf".*language_model\.layers\.0\..*\.({'|'.join(kinds)})"


CAUSES: dict[str, Fault] = {"low_capacity": low_capacity} | {
    name: FAULTS[name] for name in ("modality_lost", "undertrained", "unstable_training", "unmasked_loss", *SERVING)
}
MAKINGS = Makings(CAUSES, DEVELOPMENT.harmless)


def runs_of(plan: Plan) -> list[dict[str, Any]]:
    """What each run is, as `plant.runs_of` says it; `trained` is the number of the run whose training it has."""
    kinds = [(BAND, [], 0.0)] * plan.band + [(HEALTHY, [], 0.0)] * plan.healthy
    kinds += [("single", [c], v) for c in CAUSES for v in plan.severities for _ in range(plan.repeats)]
    return [{"number": n, "kind": kind, "causes": causes, "severity": severity,
             "trained": plan.band + n % plan.healthy if {*causes} & {*SERVING} else n}
            for n, (kind, causes, severity) in enumerate(kinds)]  # fmt: skip


class PlantedLab(Lab):
    """A lab that reads its posts, and trains on them, as a set-up has them.

    Args:
        backbone: of all its runs.
        others: of `Lab`.
    """

    setup: FineTune

    def __init__(self, posts: Posts, cache: Cache, *, backbone: str, **others: Any):
        super().__init__(posts, cache, **others)
        self.name, self._looks = backbone, {}

    def use(self, setup: FineTune) -> None:
        """Read and train by this set-up from now on."""
        self.setup, model = setup, self.backbone(self.name)
        model.lora_targets = setup.targets or type(model).lora_targets

    def spec(self, seed: int) -> RunSpec:
        s = self.setup
        recipe = Recipe(lam=s.lam, epochs=max(1, round(s.stop * s.epochs)), batch_size=s.batch, seed=seed,
                        learning_rate=s.learning_rate, weight_decay=s.decay)  # fmt: skip
        return RunSpec(self.name, CATEGORIES, recipe, s.rank, 2 * s.rank)

    def entry(self, spec: RunSpec, **files: Any) -> Entry:
        s = self.setup
        looks = {look: chosen["train"].tolist() for look, chosen in s.looks.items() if "train" in chosen}
        changed = digest_json([s.targets, s.x["whole"]["train"].tolist(), looks, s.read.tolist()])
        return self.cache.entry("training", {**super().entry(spec, **files).inputs, "planted": changed})

    def training_set(self, spec: RunSpec, teacher: SoftLabels | None, side: Any = None) -> TrainingSet:
        ids = self.table("train")["post_id"].to_numpy()[self.setup.x["whole"]["train"][:, 0]].tolist()
        guide = teacher.logits(ids, spec.categories) if teacher is not None else None
        return TrainingSet(self.seen("train"), self.setup.read, ids, guide)

    def seen(self, split: str, changed: dict[str, Bool[np.ndarray, " post"]] | None = None) -> EncodedPosts:
        """The set-up's posts of a split as the backbone takes them, some of them `changed` to another look besides."""
        rows = self.setup.x["whole"][split][:, 0]
        looks = np.full(len(rows), "whole", object)
        made = {look: chosen[split] for look, chosen in self.setup.looks.items() if split in chosen}
        for look, chosen in [*made.items(), *(changed or {}).items()]:
            looks[chosen] = look
        posts = [self._as(look, split)[row] for look, row in zip(looks, rows, strict=True)]
        return EncodedPosts.in_memory(self.backbone(self.name), posts)

    def _as(self, look: str, split: str) -> Sequence[Encoded]:
        """All posts of a split with one look; the frozen tower sees their frames once."""
        whole = self.encoded(self.name, SPLITS[split]).posts
        if look == "whole":
            return whole
        if (look, split) not in self._looks:
            rows = ({**row, **LOOKS[look](row)} for row in self.posts.split(SPLITS[split]))
            changed = [self.backbone(self.name).encode([row])[0] for row in rows]
            self._looks[look, split] = [replace(post, frames=(), features=one.features if post.frames else None)
                                        for post, one in zip(changed, whole, strict=True)]  # fmt: skip
        return self._looks[look, split]

    def scores_of(self, run: Run) -> Scores:
        """As `setups.score`, of a trained router."""
        audit, serve = (len(self.setup.posts[split]) for split in ("audit", "serve"))
        place = np.random.default_rng(serve).random(serve)
        router = RadarRouter.from_pretrained(run.router_folder, backbone=self.backbone(self.name))
        try:
            found = {("logit", split): predict(router, self.seen(split)) for split in SPLITS}
            found |= {(look, "audit"): predict(router, self.seen("audit", {look: np.ones(audit, bool)}))
                      for look in ("no_frames", "no_text")}  # fmt: skip
            online = {look: place < share for look, share in self.setup.blank.items()}
            return found | {("served", "serve"): predict(router, self.seen("serve", online))}
        finally:
            router.detach()


def open_lab(plan: Plan, posts: Path, cache: Cache) -> tuple[PlantedLab, Bench, SoftLabels]:
    """The built-in corpus with a lab on it, the same posts as a bench of their places, and its teacher as a file."""
    config = corpus_of(plan.world, plan.size)
    corpus = build_corpus(config, posts / corpus_digest(config))
    bench = open_bench(FACTS, seed=plan.world, size=plan.size, cache=cache)
    places = {split: np.arange(len(table))[:, None] for split, table in bench.posts.items()}
    lab = PlantedLab(corpus, cache, backbone=plan.backbone, checkpoints=locate_checkpoints(WORD),
                     score_splits=("validation",), bar=no_bar)  # fmt: skip
    path = posts / f"teacher-{corpus_digest(config)}.parquet"
    ids = lab.table("train")["post_id"].tolist()
    write_scores(path, post_ids=ids, splits=["train"] * len(ids), logits=bench.teacher["train"], categories=CATEGORIES)
    return lab, replace(bench, features={"whole": places}), SoftLabels.open(path)


def plant(plan: Plan, runs: Path, key: Path, cache: Cache) -> None:
    """Train and write the runs of a plan that are not there yet, and the key; goes on where it was stopped."""
    lab, bench, teacher = open_lab(plan, runs.with_name("posts"), cache)
    answers = {}
    for name, one in tqdm(name_runs(runs_of(plan), key, plan, held_out=False), desc="runs fine-tuned"):
        place, answer = runs / name, key / f"{name}.json"
        if not (place / RUN).is_file() or not answer.is_file():
            seed = one["trained"]
            setup = planted(bench, {**one, "number": seed}, world=plan.world, makings=MAKINGS, healthy=FineTune.of)
            lab.use(setup)
            scores = lab.scores_of(lab.fit(lab.spec(seed), teacher=teacher))
            write_planted(place, setup, scores, None, np.random.default_rng([plan.world, one["number"], 1]))
            write_json(answer, {**one, "harms": harms(setup, scores)})
        answers[name] = read_json(answer)
    seal(with_harm(answers), runs, key)


def with_harm(answers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The answers with `hurt`: whether a run is worse than every healthy one, by the measure of its cause."""
    harm = {c.name: c.harm for c in read_taxonomy().causes}
    well = [one["harms"] for one in answers.values() if not one["causes"]]
    hurt = {name: {c: all(one["harms"][harm[c]] > its[harm[c]] for its in well) for c in one["causes"]} or None
            for name, one in answers.items()}  # fmt: skip
    return {name: {**one, "hurt": hurt[name]} for name, one in answers.items()}


def main() -> None:
    """Plant one plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", choices=list(PLANS), required=True)
    for name in ("runs", "key", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with error_ends_process():
        plant(PLANS[args.plan], args.runs, args.key, Cache(args.cache))


if __name__ == "__main__":
    main()
