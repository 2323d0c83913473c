"""Which posts reach which annotation pipeline, and what its annotators write down.

Candidate post x of a stream is offered to one pipeline k, drawn with fixed shares, and enters its queue with a
probability proportional to

    exp(beta cue_k(x))                        intake: cue_k in [0, 1] is what the pipeline's recall models notice
    1 - phi + 3 phi [topic at home in k]      stream focus: each pipeline reviews surfaces of its own
    exp(h sum over j != k of p_j(x))          queue overlap: a queue is rich in posts that break other rules

with p_j the posterior of risk j. An annotator labels it for risk k alone, and the queue keeps reviewing until it holds
exactly its quota of violating and of cleared posts. The quotas are the label-dependent rate: prevalence is the same at
every setting. Settings, and why: `radar_suite.world.dials`.

Annotators of training and validation posts err (a share of violations is missed, a few cleared posts are flagged);
calibration, test and audit labels are adjudicated and carry the true label.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt32, UInt64

from radar_lib.data.schema import SPLITS
from radar_lib.errors import RadarError
from radar_suite.world.facts import BLOCK, DOMAINS, TOPICS, WORLD, Facts, World, sample_block, stream_key
from radar_suite.world.policies import CATEGORIES, intake_cues, posteriors

MISSED = (0.06, 0.03, 0.05)  # probability that an annotator clears a violation, by pipeline
FALSE_ALARM = (0.004, 0.002, 0.003)  # probability that an annotator flags a cleared post
MAX_CANDIDATES_PER_POST = 2_000
TRAFFIC = "traffic"
HOME = (  # topics of each pipeline's own surfaces, by CATEGORIES; a third of all topics each
    ("pets", "music", "travel", "cooking"), ("beauty", "fitness", "fashion", "tech"),
    ("gaming", "football", "diy", "study"),
)
PerCell = Float[np.ndarray, "post category"]


@dataclass(frozen=True)
class Signals:
    """What decides into which queues a candidate comes: cues, whether its topic is at home, posteriors."""

    cues: PerCell
    at_home: Bool[np.ndarray, "post category"]
    posteriors: PerCell

    @classmethod
    def of(cls, facts: Facts) -> "Signals":
        """Signals of posts, given their facts."""
        home = np.array([np.isin(TOPICS, topics) for topics in HOME]).T
        return cls(intake_cues(facts), home[facts["topic"]], posteriors(facts))

    @classmethod
    def join(cls, parts: Sequence["Signals"]) -> "Signals":
        """The signals of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, rows) -> "Signals":
        """These posts (a slice or indices)."""
        return Signals(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Intake:
    """The three dials of a queue; each is 0 where it does nothing."""

    beta: float = 0.0
    focus: float = 0.0
    overlap: float = 0.0

    def chance(self, x: Signals) -> PerCell:
        """Probability that a candidate offered to pipeline k enters its queue, in (0, 1]."""
        others = x.posteriors.sum(axis=1, keepdims=True) - x.posteriors
        most = len(CATEGORIES) - 1
        surface = (1 - self.focus + 3 * self.focus * x.at_home) / (1 + 2 * self.focus)
        return surface * np.exp(self.beta * (x.cues - 1) + self.overlap * (others - most))


@dataclass(frozen=True)
class Selection:
    """Posts chosen from one stream for one split: their index in the stream, facts, truth and labels.

    A post that copies another (``copy`` 1 exactly, 2 nearly) has that post's facts and truth; ``origin`` is the
    original's index and ``origin_split`` its split, as a position in SPLITS. A post takes 61 bytes here, since a
    process plans millions of them.
    """

    split: str
    stream: str
    index: UInt32[np.ndarray, "post"]
    pipeline: Int8[np.ndarray, "post"]  # position in CATEGORIES, or -1 for traffic
    labels: Int8[np.ndarray, "post category"]
    truth: Int8[np.ndarray, "post category"]
    facts: Facts
    copy: Int8[np.ndarray, "post"] = field(default=None)
    origin: UInt32[np.ndarray, "post"] = field(default=None)
    origin_split: Int8[np.ndarray, "post"] = field(default=None)

    def __post_init__(self) -> None:
        if self.copy is None:
            object.__setattr__(self, "copy", np.zeros(len(self.index), np.int8))
            object.__setattr__(self, "origin", self.index.copy())
            object.__setattr__(self, "origin_split", np.full(len(self.index), SPLITS.index(self.split), np.int8))

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows) -> "Selection":
        """These rows (a slice or indices)."""
        arrays = ("index", "pipeline", "labels", "truth", "copy", "origin", "origin_split")
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays},
                       facts={name: values[rows] for name, values in self.facts.items()})


def truth_of(p: PerCell, seed: int, stream: str, block: int) -> Bool[np.ndarray, "post category"]:
    """True labels of a block's posts: one Bernoulli draw of the posterior per post and risk."""
    bits = np.random.Philox(key=np.array([stream_key(seed, stream, "truth"), block], np.uint64))
    return np.random.Generator(bits).random((BLOCK, len(CATEGORIES))) < p


def panel_votes(s: Selection, seed: int) -> Int8[np.ndarray, "post category"]:
    """How many of three honest reviewers find a violation; the first one's verdict is the true label.

    Each of them is one Bernoulli draw of the posterior, so they disagree (1 or 2 votes) where it is in the middle.
    """
    p, key = posteriors(s.facts), np.uint64(stream_key(seed, s.stream, "panel"))
    votes = s.truth.copy()
    for k in range(p.shape[1]):
        for reviewer in (1, 2):
            votes[:, k] += hash_uniform(s.index, key + np.uint64(2 * k + reviewer)) < p[:, k]
    return votes


def _blocks(
    seed: int, stream: str, co_violation: float, world: World
) -> Iterator[tuple[int, Facts, Signals, Bool[np.ndarray, "post category"]]]:
    for block in itertools.count():
        facts = sample_block(seed, stream, block, co_violation=co_violation, world=world)
        signals = Signals.of(facts)
        yield block, facts, signals, truth_of(signals.posteriors, seed, stream, block)


def quotas(sizes: Sequence[int], prevalences: Sequence[float]) -> Int[np.ndarray, "category label"]:
    """Cleared and violating posts that each pipeline reviews."""
    positives = np.rint(np.asarray(sizes) * prevalences).astype(int)
    return np.stack([np.asarray(sizes) - positives, positives], axis=1)


def check_quotas(
    name: str, sizes: Sequence[int], prevalences: Sequence[float]
) -> Int[np.ndarray, "category label"]:
    """`quotas` of what is called `name`.

    Raises:
        RadarError: one holds no violating or no cleared post.
    """
    quota = quotas(sizes, prevalences)
    for pipeline, size, (negatives, positives) in zip(CATEGORIES, sizes, quota, strict=True):
        if min(negatives, positives) < 1:
            raise RadarError(f"{name}: {size} posts for {pipeline} would hold {positives} violating and {negatives} "
                             "cleared ones; ask for more posts, or for a prevalence further from 0 and 1")
    return quota


def select_annotated(seed: int, stream: str, split: str, sizes: Sequence[int], prevalences: Sequence[float], *,
                     intake: Intake, co_violation: float, noisy: bool, world: World = WORLD) -> Selection:
    """Fill each pipeline's quota by scanning the candidates of a stream in order.

    Args:
        sizes, prevalences: posts per pipeline and their share of positive labels, in the order of CATEGORIES.
        intake: of all pipelines; at 0 posts are selected on the label alone.
        noisy: annotators err as MISSED and FALSE_ALARM say.

    Raises:
        RadarError: a quota would hold no positive or no negative post, or cannot be filled.
    """
    quota = check_quotas(split, sizes, prevalences)
    sizes = np.asarray(sizes)
    shares = np.cumsum(quota[:, 1] / quota[:, 1].sum())
    filled, chosen, k_all = np.zeros_like(quota), _Chosen(sizes.sum()), len(CATEGORIES)
    for block, facts, signals, truth in _blocks(seed, stream, co_violation, world):
        if (filled >= quota).all():
            break
        if block * BLOCK > MAX_CANDIDATES_PER_POST * sizes.sum() + 100 * BLOCK:
            raise RadarError(f"{split}: {block * BLOCK:,} candidate posts did not fill the pipelines at prevalences "
                             f"{tuple(prevalences)}; violations are rarer than that in this world")
        bits = np.random.Philox(key=np.array([stream_key(seed, stream, "intake"), block], np.uint64))
        u = np.random.Generator(bits).random((BLOCK, 3))
        k = np.minimum(np.searchsorted(shares, u[:, 0], side="right"), k_all - 1)
        row = np.arange(BLOCK)
        enters = u[:, 1] < intake.chance(signals)[row, k]
        true_k = truth[row, k]
        flipped = u[:, 2] < np.where(true_k, np.take(MISSED, k), np.take(FALSE_ALARM, k)) if noisy else False
        label = (true_k ^ flipped).astype(int)
        keep = np.zeros(BLOCK, bool)
        for c in range(k_all):
            for y in (0, 1):
                rows = np.flatnonzero(enters & (k == c) & (label == y))[: quota[c, y] - filled[c, y]]
                keep[rows], filled[c, y] = True, filled[c, y] + len(rows)
        kept = np.flatnonzero(keep)
        labels = np.full((len(kept), k_all), -1, np.int8)
        labels[np.arange(len(kept)), k[kept]] = label[kept]
        chosen.keep(block, kept, k[kept], labels, truth, facts)
    return chosen.selection(split, stream)


def select_traffic(seed: int, stream: str, split: str, n: int, *, co_violation: float, verified: bool,
                   world: World = WORLD) -> Selection:
    """The first ``n`` posts of a stream as they come; ``verified`` gives them all K true labels, else none."""
    chosen = _Chosen(n)
    for block, facts, _, truth in _blocks(seed, stream, co_violation, world):
        if block * BLOCK >= n:
            break
        rows = np.arange(min(BLOCK, n - block * BLOCK))
        labels = truth[rows].astype(np.int8) if verified else np.full((len(rows), len(CATEGORIES)), -1, np.int8)
        chosen.keep(block, rows, -1, labels, truth, facts)
    return chosen.selection(split, stream)


class _Chosen:
    """The chosen rows of all blocks as columns, no wider than their values and allocated once."""

    def __init__(self, n: int):
        k, self.filled = len(CATEGORIES), 0
        self.columns = {"index": np.empty(n, np.uint32), "pipeline": np.empty(n, np.int8),
                        "labels": np.empty((n, k), np.int8), "truth": np.empty((n, k), np.int8)}
        self.columns |= {name: np.empty(n, np.int16 if len(values) > 256 else np.uint8)
                         for name, values in DOMAINS.items()}

    def keep(self, block: int, rows, pipeline, labels, truth, facts: Facts) -> None:
        """Add rows of a block; ``pipeline`` and ``labels`` are of these rows, ``truth`` and ``facts`` of the block."""
        at = slice(self.filled, self.filled + len(rows))
        values = {"index": rows + block * BLOCK, "pipeline": pipeline, "labels": labels, "truth": truth[rows]}
        for name, column in self.columns.items():
            column[at] = values[name] if name in values else facts[name][rows]
        self.filled = at.stop

    def selection(self, split: str, stream: str) -> Selection:
        """What was kept, ordered by a hash of the index: the scan fills quotas one after another, and row order must
        not tell labels."""
        order = np.argsort(_mix(self.columns["index"].astype(np.uint64)))
        for name in self.columns:  # one after another, so that only one is held twice
            self.columns[name] = self.columns[name][order]
        own = (self.columns.pop(name) for name in ("index", "pipeline", "labels", "truth"))
        return Selection(split, stream, *own, self.columns)


def hash_uniform(index: UInt32[np.ndarray, "post"], key: np.uint64) -> Float[np.ndarray, "post"]:
    """Uniform on [0, 1) for each index, a hash of (key, index) alone."""
    return _mix(_mix(index.astype(np.uint64)) ^ key) / 2.0**64


def _mix(x: UInt64[np.ndarray, "post"]) -> UInt64[np.ndarray, "post"]:
    """SplitMix64's finaliser, a fixed bijection of 64-bit integers that looks random."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    return x ^ (x >> np.uint64(31))
