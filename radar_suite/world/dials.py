"""What to build: the settings of a corpus, their checks, its identity, and the choice of its posts."""

from dataclasses import asdict, dataclass, fields

import numpy as np

from radar_lib.errors import RadarError
from radar_lib.files import digest_json
from radar_lib.ranges import SEED, SHARE, Range, check_ranges
from radar_lib.sources import digest_sources
from radar_suite.world.facts import LANGUAGES, World
from radar_suite.world.flaws import plant_copies
from radar_suite.world.pipelines import Intake, Selection, check_quotas, select_annotated, select_traffic
from radar_suite.world.policies import CATEGORIES

PIPELINE_SHARES = (800, 300, 600)  # training posts per pipeline, ratio (LQC : RCS : FE)
OWN_TEST = "test_own"  # split: each pipeline's own queue at test prevalence
BLIND = ("test", "calibration", "audit")  # splits of traffic as it comes, adjudicated for all risks
SIZES = (
    "train_posts",
    "validation_posts",
    "test_posts",
    "own_test_posts",
    "calibration_posts",
    "unlabelled_posts",
    "audit_posts",
    "pretrain_posts",
)
DIALS = {
    "intake_beta": Range(0, 6), "stream_focus": SHARE, "queue_overlap": Range(0, 3),
    "co_violation": SHARE,
    "campaign_share": SHARE, "live_share": Range(0, 0.5), "duplicate_rate": Range(0, 0.2),
    "cross_split_duplicates": SHARE, "conflicting_duplicates": SHARE,
}  # fmt: skip
_KINDS = {int: "a whole number", float: "a number", tuple: "a list"}


@dataclass(frozen=True)
class CorpusConfig:
    """Everything that decides the bytes of a corpus.

    Splits of size 0 are left out. Test, calibration and audit posts are blind traffic, labelled for every risk;
    ``own_test_posts`` (split test_own) come from the pipelines' own queues at ``test_prevalence``, a third from each,
    adjudicated for its risk. ``pretrain_posts`` need another ``seed`` than the corpus that is trained on. ``languages``
    (BCP 47) empty means all. The dials are explained where they act: ``intake_beta``, ``stream_focus`` and
    ``queue_overlap`` in ``pipelines``, ``co_violation``, ``campaign_share`` and ``live_share`` in ``facts``, the copies
    in ``flaws``.
    """

    seed: int = 1
    train_posts: int = 8500
    validation_posts: int = 1000
    test_posts: int = 12_000
    own_test_posts: int = 0
    calibration_posts: int = 6_000
    unlabelled_posts: int = 4000
    audit_posts: int = 2000
    pretrain_posts: int = 0
    frame_px: int = 96
    min_frames: int = 2
    max_frames: int = 5
    train_prevalence: tuple[float, float, float] = (0.255, 0.177, 0.090)
    test_prevalence: tuple[float, float, float] = (0.044, 0.048, 0.033)
    intake_beta: float = 1.5
    stream_focus: float = 0.7
    queue_overlap: float = 1.5
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
        sizes = dict.fromkeys(SIZES, Range(0, 2**32 - 1))
        check_ranges(vars(self), {"seed": SEED, "frame_px": Range(32, 1024)} | sizes | DIALS)
        _require(any(getattr(self, name) for name in SIZES), "the corpus has no posts")
        _require(
            1 <= self.min_frames <= self.max_frames <= 5,
            f"min_frames {self.min_frames} and max_frames {self.max_frames} must be ordered within 1 to 5",
        )
        for name in ("train_prevalence", "test_prevalence"):
            rates = getattr(self, name)
            _require(
                len(rates) == 3 and all(isinstance(p, int | float) and 0 < p < 1 for p in rates),
                f"{name} is {rates}; it needs three shares between 0 and 1, for {', '.join(CATEGORIES)}",
            )
            object.__setattr__(self, name, tuple(float(p) for p in rates))
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
        thirds = tuple((self.own_test_posts + k) // 3 for k in (2, 1, 0))
        found = {"train": (sizes_of(self.train_posts), self.train_prevalence), OWN_TEST: (thirds, self.test_prevalence),
                 "validation": (sizes_of(self.validation_posts), self.train_prevalence)}  # fmt: skip
        return {split: reviewed for split, reviewed in found.items() if any(reviewed[0])}

    @property
    def intake(self) -> Intake:
        """The dials of the pipelines' queues."""
        return Intake(self.intake_beta, self.stream_focus, self.queue_overlap)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RadarError(f"corpus settings: {message}")


def corpus_digest(config: CorpusConfig) -> str:
    """Identity of a corpus, known before it is built: its configuration and the generator's sources."""
    return digest_json({"config": asdict(config), "sources": digest_sources("radar_suite.world.build")})


def plan_corpus(config: CorpusConfig) -> list[Selection]:
    """Choose the posts of every split; facts only, nothing is drawn yet.

    Raises:
        RadarError: a pipeline's quota cannot be filled, or a test set would hold no violation of some risk.
    """
    world = World(config.campaign_share, config.live_share, config.languages)
    seed, dials = config.seed, {"co_violation": config.co_violation, "world": world}
    plan = [select_annotated(seed, split, split, sizes, rates, intake=config.intake, noisy=split != OWN_TEST, **dials)
            for split, (sizes, rates) in config.reviewed.items()]
    for split in ("calibration", "test", "unlabelled", "audit", "pretrain"):
        if n := getattr(config, f"{split}_posts"):
            plan.append(select_traffic(seed, split, split, n, verified=split in BLIND, **dials))
    for selection in plan:
        if selection.split in ("test", "calibration"):
            found = (selection.labels == 1).sum(axis=0)
            least = CATEGORIES[int(found.argmin())]
            _require(
                found.min(),
                f"{selection.split} would hold {len(selection):,} posts and no violation of {least}; "
                f"raise {selection.split}_posts, or take another seed",
            )
        np.clip(
            selection.facts["n_frames"], config.min_frames - 1, config.max_frames - 1, out=selection.facts["n_frames"]
        )
    return plant_copies(
        plan,
        seed=seed,
        rate=config.duplicate_rate,
        cross_split=config.cross_split_duplicates,
        conflicts=config.conflicting_duplicates,
    )


def sizes_of(posts: int) -> tuple[int, int, int]:
    """Posts per pipeline in the paper's ratio, PIPELINE_SHARES."""
    first, second = (round(posts * share / sum(PIPELINE_SHARES)) for share in PIPELINE_SHARES[:2])
    return first, second, posts - first - second
