"""What to build: the settings of a corpus, their checks, its identity, and the choice of its posts."""

import math
from dataclasses import asdict, dataclass, fields

import numpy as np

from radar_lib.errors import RadarError
from radar_lib.files import digest_json
from radar_lib.ranges import SEED, check_ranges
from radar_lib.sources import digest_sources
from radar_suite.world.facts import LANGUAGES, World
from radar_suite.world.flaws import plant_copies
from radar_suite.world.pipelines import Selection, check_quotas, select_annotated, select_traffic
from radar_suite.world.policies import CATEGORIES

SHARE = (800, 300, 600)  # training posts per pipeline, ratio (LQC : RCS : FE)
SIZES = ("train_posts", "validation_posts", "test_positives", "calibration_positives", "unlabelled_posts",
         "audit_posts", "pretrain_posts")
_KINDS = {int: "a whole number", float: "a number", tuple: "a list"}


@dataclass(frozen=True)
class CorpusConfig:
    """Everything that decides the bytes of a corpus.

    Splits of size 0 are left out. ``test_positives`` is the number of positives per risk in each of test and
    calibration; the number of posts follows from ``test_prevalence``. ``pretrain_posts`` need another ``seed`` than
    the corpus that is trained on. ``languages`` (BCP 47) empty means all. The dials are explained where they act:
    ``intake_beta`` and ``co_violation`` in ``pipelines``, ``campaign_share`` and ``live_share`` in ``facts``, the
    copies in ``flaws``.
    """

    seed: int = 1
    train_posts: int = 8500
    validation_posts: int = 1000
    test_positives: int = 100
    calibration_positives: int = 100
    unlabelled_posts: int = 4000
    audit_posts: int = 2000
    pretrain_posts: int = 0
    frame_px: int = 96
    min_frames: int = 2
    max_frames: int = 5
    train_prevalence: tuple[float, float, float] = (0.255, 0.177, 0.090)
    test_prevalence: tuple[float, float, float] = (0.044, 0.048, 0.033)
    intake_beta: float = 3.0
    co_violation: float = 0.9
    campaign_share: float = World.campaign_share
    live_share: float = World.live_share
    duplicate_rate: float = 0.01
    cross_split_duplicates: float = 0.3
    conflicting_duplicates: float = 0.3
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            allowed = {int: int, float: (int, float), tuple: (tuple, list)}[kind]
            _require(isinstance(value, allowed) and not isinstance(value, bool),
                     f"{field.name} is {value!r}; it is {_KINDS[kind]}")
        check_ranges(vars(self), {"seed": SEED})
        for name in SIZES:
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must be 0 or more")
        _require(any(getattr(self, name) for name in SIZES), "the corpus has no posts")
        _require(32 <= self.frame_px <= 1024, f"frame_px is {self.frame_px}; it must be between 32 and 1024")
        _require(1 <= self.min_frames <= self.max_frames <= 5,
                 f"min_frames {self.min_frames} and max_frames {self.max_frames} must be ordered within 1 to 5")
        for name in ("train_prevalence", "test_prevalence"):
            rates = getattr(self, name)
            _require(len(rates) == 3 and all(isinstance(p, int | float) and 0 < p < 1 for p in rates),
                     f"{name} is {rates}; it needs three shares between 0 and 1, for {', '.join(CATEGORIES)}")
            object.__setattr__(self, name, tuple(float(p) for p in rates))
        for name, most in (("co_violation", 1), ("campaign_share", 1), ("live_share", 0.5), ("duplicate_rate", 0.2),
                           ("cross_split_duplicates", 1), ("conflicting_duplicates", 1)):
            share = getattr(self, name)
            _require(0 <= share <= most, f"{name} is {share}; it is a share, 0 to {most}")
        _require(0 <= self.intake_beta <= 6, f"intake_beta is {self.intake_beta}; it must be between 0 and 6")
        object.__setattr__(self, "languages", tuple(self.languages))
        for code in self.languages:
            known = ", ".join(sorted(LANGUAGES))
            _require(code in LANGUAGES, f"unknown language {code!r}; the built-in corpus speaks {known}")
        _require(len(set(self.languages)) == len(self.languages), f"languages are {self.languages}; name each once")
        for split, (sizes, rates) in self.reviewed.items():
            check_quotas(split, sizes, rates)

    @property
    def reviewed(self) -> dict[str, tuple[tuple[int, ...], tuple[float, float, float]]]:
        """Posts per pipeline and their prevalences, of each split that the pipelines fill."""
        counts = {"train": self.train_posts, "validation": self.validation_posts}
        positives = {"calibration": self.calibration_positives, "test": self.test_positives}
        splits = {split: (sizes_of(n), self.train_prevalence) for split, n in counts.items() if n}
        return splits | {split: (tuple(math.floor(n / p) for p in self.test_prevalence), self.test_prevalence)
                         for split, n in positives.items() if n}


def sizes_of(posts: int) -> tuple[int, int, int]:
    """Posts per pipeline, in the ratio of `SHARE`."""
    first, second = (round(posts * share / sum(SHARE)) for share in SHARE[:2])
    return first, second, posts - first - second


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RadarError(f"corpus settings: {message}")


def corpus_digest(config: CorpusConfig) -> str:
    """Identity of a corpus, known before it is built: its configuration and the generator's sources."""
    return digest_json({"config": asdict(config), "sources": digest_sources("radar_suite.world.build")})


def plan_corpus(config: CorpusConfig) -> list[Selection]:
    """Choose the posts of every split; facts only, nothing is drawn yet."""
    world = World(config.campaign_share, config.live_share, config.languages)
    seed, dials = config.seed, {"co_violation": config.co_violation, "world": world}
    blind = {"beta": 0.0, "noisy": False}
    own = dict.fromkeys(("train", "validation"), {"beta": config.intake_beta, "noisy": True})
    plan = [select_annotated(seed, split, split, sizes, rates, **own.get(split, blind), **dials)
            for split, (sizes, rates) in config.reviewed.items()]
    for split, n in (("unlabelled", config.unlabelled_posts), ("audit", config.audit_posts),
                     ("pretrain", config.pretrain_posts)):
        if n:
            plan.append(select_traffic(seed, split, split, n, verified=split == "audit", **dials))
    for selection in plan:
        np.clip(selection.facts["n_frames"], config.min_frames - 1, config.max_frames - 1,
                out=selection.facts["n_frames"])
    return plant_copies(plan, seed=seed, rate=config.duplicate_rate, cross_split=config.cross_split_duplicates,
                        conflicts=config.conflicting_duplicates)


