"""The paper's experiments by name, as run specifications: the thirteen rows of Tables 1-2, the lambda grid of Figure 2.

Adding a row is adding an `Experiment`; nothing else knows how many there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from radar_lib.data.posts import LABEL_PREFIX, Posts, labels, valid_mask
from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, digest_file
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, Run, RunSpec, SoftLabels
from radar_lib.training.loop import Execution, Recipe
from radar_lib.training.parallel import train_all
from radar_suite.intake.texts import text_limit
from radar_suite.report.workspace import Workspace
from radar_suite.world.dials import OWN_TEST
from radar_suite.world.standins import locate_checkpoints

EXECUTION = ("accumulate", "gradient_checkpointing", "packing")  # parameters that change how steps are computed
EXPERTS = "Individual Experts"
EXPERT_BACKBONE = "Qwen3-VL-8B"
LAMBDA_STUDY_BACKBONE = "Qwen3-VL-4B"

TINY = ("SigLIP2", "LLaVA-OV-0.5B", "Qwen3-VL-2B")
SMALL = ("Gemma3-4B", "LLaVA-OV-1.5-4B", "Qwen3-VL-4B")


@dataclass(frozen=True)
class Experiment:
    """One row of Tables 1 and 2: the loss group and the method as the paper prints them, and what they mean here."""

    loss: str
    method: str
    objective: str = "masked"
    distilled: bool = False

    @property
    def is_experts(self) -> bool:
        return self.method == EXPERTS

    @property
    def backbone(self) -> str:
        return EXPERT_BACKBONE if self.is_experts else self.method


ROUTER_ROWS: tuple[Experiment, ...] = (
    *(Experiment("BCE w/o Mask", name, objective="unmasked") for name in TINY),
    *(Experiment("Masked BCE", name) for name in TINY + SMALL),
    *(Experiment("Masked BCE + Distill", name, distilled=True) for name in SMALL),
)
TABLE_ROWS: tuple[Experiment, ...] = (Experiment("BCE", EXPERTS), *ROUTER_ROWS)


@dataclass(frozen=True)
class Settings:
    """What a profile decides about training; the notebooks fill it from their parameters."""

    epochs: int
    batch_size: int
    learning_rate: float
    lora_rank: int
    lora_alpha: int
    seed: int
    expert_epochs: int | None = None

    def spec(
        self,
        backbone: str,
        categories: Sequence[str],
        *,
        objective: str = "masked",
        lam: float = 0.0,
        epochs: int | None = None,
    ) -> RunSpec:
        """Specification of one fine-tune under these settings."""
        recipe = Recipe(
            objective=objective,
            lam=float(lam),  # 0 and 0.0 are one run
            epochs=epochs or self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
        )
        return RunSpec(backbone, tuple(categories), recipe, self.lora_rank, self.lora_alpha)

    def expert(self, category: str) -> RunSpec:
        """The expert of one risk: a router with K = 1 on the expert backbone, trained on its own pipeline only."""
        return self.spec(EXPERT_BACKBONE, [category], epochs=self.expert_epochs)

    def router(self, row: Experiment, categories: Sequence[str], *, lam: float) -> RunSpec:
        """The router of one table row; `lam` is used by the distilled rows only."""
        return self.spec(row.backbone, categories, objective=row.objective, lam=lam if row.distilled else 0.0)

    def lambda_point(self, lam: float, categories: Sequence[str]) -> RunSpec:
        """One point of Figure 2."""
        return self.spec(LAMBDA_STUDY_BACKBONE, categories, lam=lam)


def set_up(
    name: str, names: Mapping[str, Any], *, scored: Sequence[str] = ("test", OWN_TEST)
) -> tuple[Workspace, Posts, Lab, Settings | None]:
    """What a notebook starts from: its workspace, the posts, the lab and, where it trains, the profile's settings.

    Args:
        name: the notebook's.
        names: its parameters, `globals()` in the cell after them.
        scored: splits that what it trains is scored on, where the corpus has them.
    """
    ws = Workspace.open(name, names)
    posts, given = ws.open_corpus(), ws.parameters
    execution = Execution(*(given.get(key, default) for key, default in zip(EXECUTION, (1, False, False), strict=True)))
    lab = Lab(
        posts, Cache(ws.cache_dir), checkpoints=locate_checkpoints(given["checkpoints"]), device=ws.device,
        checkpoint_seconds=given.get("checkpoint_seconds", 30.0), execution=execution,
        text=text_limit(posts, given["text_tokens"]), score_splits=scored,
    )  # fmt: skip
    shared = ("batch_size", "learning_rate", "lora_rank", "lora_alpha", "seed")
    if "batch_size" not in given:
        return ws, posts, lab, None
    epochs, expert_epochs = given.get("epochs"), given.get("expert_epochs")
    settings = Settings(epochs=epochs or expert_epochs, **{key: given[key] for key in shared})
    return ws, posts, lab, settings


def kept_teacher(workspace: Workspace) -> SoftLabels:
    """The experts' soft labels, as notebook 04 left them.

    Raises:
        RadarError: they are not there, or not what that notebook wrote.
    """
    folder = "04_teacher_inference"
    path, about = workspace.upstream(f"{folder}/soft_labels.parquet"), workspace.read(f"{folder}/soft_labels.json")
    return SoftLabels.open(path, digest=about["digest"])


def in_training_order(rows: Sequence[Experiment]) -> list[Experiment]:
    """Rows grouped by backbone, smallest first, so that each backbone is loaded and its posts encoded once."""
    order = {name: position for position, name in enumerate(TINY + SMALL)}
    return sorted(rows, key=lambda row: (order[row.backbone], row.loss))


def train_seeds(
    lab: Lab, specs: Sequence[RunSpec], *, titles: Sequence[str], seeds: int, **options: Any
) -> list[list[Run]]:
    """Each specification's runs at `seeds` seeds, its own seed first, then counting up; options as in `train_all`.

    Where there is nothing to mask, a specification without the mask has the run of the one with it.

    Raises:
        RadarError: as `train_all`, or `seeds` is below 1.
    """
    if seeds < 1:
        raise RadarError(f"seeds is {seeds}; it counts the runs of each row, so it is at least 1.")
    if any(spec.recipe.objective == "unmasked" for spec in specs) and nothing_to_mask(lab.posts):
        one = {"unmasked": "masked"}
        specs = [spec.with_recipe(objective=one.get(spec.recipe.objective, spec.recipe.objective)) for spec in specs]
    repeats = [
        (spec.with_recipe(seed=spec.recipe.seed + n), f"{title}, seed {spec.recipe.seed + n}" if seeds > 1 else title)
        for spec, title in zip(specs, titles, strict=True)
        for n in range(seeds)
    ]
    each: dict[RunSpec, str] = {}
    for spec, title in repeats:  # a run that is asked for twice is trained once, under its first title
        each.setdefault(spec, title)
    runs = dict(zip(each, train_all(lab, list(each), titles=list(each.values()), **options), strict=True))
    found = [runs[spec] for spec, _ in repeats]
    return [found[start : start + seeds] for start in range(0, len(found), seeds)]


def nothing_to_mask(posts: Posts) -> bool:
    """Whether every training post that is verified for a risk is verified for all: as it always is with one risk."""
    columns = [LABEL_PREFIX + category for category in posts.categories]
    valid = valid_mask(labels(posts.table("train", columns=columns), posts.categories))
    return bool(valid[valid.any(axis=1)].all())


def by_seed(index: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Index entries of the training notebooks, seed by seed, lowest first.

    The first seed's experts are the teacher of all routers, and curves and intervals over test posts are its own.
    """
    seeds = sorted({entry["seed"] for entry in index})
    return [[entry for entry in index if entry["seed"] == seed] for seed in seeds]


def seed_note(index: Sequence[Mapping[str, Any]]) -> str:
    """For captions: which seeds the numbers are from."""
    seeds = [str(entries[0]["seed"]) for entries in by_seed(index)]
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean and standard deviation over seeds {', '.join(seeds[:-1])} and {seeds[-1]}"


def keep_run(workspace: Workspace, run: Run, **names: Any) -> dict[str, Any]:
    """Write a run's scores into the notebook's folder as `scores/<run_hash>.parquet`; returns its index entry."""
    target = workspace.path(f"scores/{run.digest}.parquet")
    with atomic_path(target) as temporary:
        run.scores().to_parquet(temporary, index=False)
    return {
        **names,
        "run": run.digest,
        "scores_path": f"{workspace.profile}/{workspace.name}/scores/{run.digest}.parquet",
        "scores_digest": digest_file(target),
        "router": run.router_folder.relative_to(workspace.runs_dir).as_posix(),
        "backbone": run.spec.backbone,
        "checkpoint": run.record["checkpoint"],
        "backbone_parameters": run.record["backbone_parameters"],
        "trainable_parameters": run.record["trainable_parameters"],
        "lambda": run.spec.recipe.lam,
        "objective": run.spec.recipe.objective,
        "seed": run.spec.recipe.seed,
        "seconds": round(run.record["history"]["seconds"], 1),
        "config": run_config(run.spec),
    }


def run_config(spec: RunSpec) -> dict[str, Any]:
    """What a run was trained with, but for its seed, as flat JSON values for the record of runs."""
    own = {key: value for key, value in asdict(spec).items() if key not in ("recipe", "categories")}
    recipe = {key: value for key, value in asdict(spec.recipe).items() if key != "seed" and value is not None}
    return own | recipe | {"categories": list(spec.categories)}
