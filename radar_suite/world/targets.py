"""The declared targets of the built-in world, measured again: what was tuned, on facts alone, before any training.

``radar corpus targets`` prints the table. Every number follows from the facts, the policies and the pipelines; no
model, no frame and no test split is involved, and no difference between training methods is a target.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from radar_lib.metrics import average_precision
from radar_suite.world.dials import SHARE, CorpusConfig, plan_corpus
from radar_suite.world.facts import sample_block
from radar_suite.world.policies import CATEGORIES, posteriors

SEED = 20_250  # of the posts on which targets are measured; no corpus of the suite has it


@dataclass(frozen=True)
class Target:
    """One measured property; ``paper`` is what the paper states, ``low`` to ``high`` what was declared beforehand."""

    name: str
    measured: float
    low: float
    high: float
    paper: float | None = None

    @property
    def met(self) -> bool:
        return self.low <= self.measured <= self.high


def weighted_to(
    truth: Bool[np.ndarray, "post"], prevalence: float, weights: Float[np.ndarray, "post"] | None = None
) -> Float[np.ndarray, "post"]:
    """Factors that give a sample, weighted or not, the wanted share of positives."""
    share = np.average(truth, weights=weights)
    return np.where(truth, prevalence / share, (1 - prevalence) / (1 - share))


def targets(config: CorpusConfig | None = None, *, blocks: int = 40) -> Iterator[Target]:
    """Measure the targets on ``blocks`` x 4,096 posts of traffic and on 1/100 of the paper's training posts."""
    config = replace(config or CorpusConfig(), seed=SEED, train_posts=17_000, validation_posts=0, unlabelled_posts=0,
                     audit_posts=0, pretrain_posts=0, calibration_positives=0, duplicate_rate=0.0)
    facts = [sample_block(SEED, "targets", b, co_violation=config.co_violation) for b in range(blocks)]
    p = np.concatenate([posteriors(f) for f in facts])
    truth = np.random.Generator(np.random.Philox(SEED)).random(p.shape) < p
    for k, c in enumerate(CATEGORIES):
        paper = CorpusConfig().test_prevalence[k]
        yield Target(f"{c}: prevalence in traffic", p[:, k].mean(), 0.6 * paper, 1.4 * paper, paper)
    ceilings = [average_precision(truth[:, k], p[:, k], weights=weighted_to(truth[:, k], rate))
                for k, rate in enumerate(config.test_prevalence)]
    yield Target("oracle: average PR-AUC at test prevalence", float(np.mean(ceilings)), 0.70, 0.85)
    disagree = (np.abs(p - 0.5) < 0.25).any(axis=1).mean()
    yield Target("posts on which honest reviewers disagree", float(disagree), 0.005, 0.03)
    train, test = plan_corpus(config)
    for s, prevalences in ((train, config.train_prevalence), (test, config.test_prevalence)):
        for k, c in enumerate(CATEGORIES):
            own, paper = s.pipeline == k, prevalences[k]
            margin = 3 * np.sqrt(paper * (1 - paper) / own.sum())
            yield Target(f"{c}: prevalence in {s.split}", (s.labels[own, k] == 1).mean(), paper - margin,
                         paper + margin, paper)
    for k, c in enumerate(CATEGORIES):
        share, measured = SHARE[k] / sum(SHARE), (train.pipeline == k).mean()
        yield Target(f"{c}: share of the training posts", measured, share - 1e-3, share + 1e-3, share)
    unseen = train.truth[train.pipeline > 0, 0].mean()
    yield Target("LQC: violating among posts that others annotate", unseen, 0.10, 0.20)


def table(targets: Iterable[Target]) -> str:
    """The targets as aligned lines: measured, declared, the paper's, met or not."""
    lines = [f"{'':52}{'measured':>9}  {'declared':>15}  {'paper':>6}"]
    for t in targets:
        paper = "" if t.paper is None else f"{t.paper:.3f}"
        lines.append(f"{t.name:52}{t.measured:9.3f}  {t.low:6.3f} to {t.high:5.3f}  {paper:>6}  "
                     f"{'met' if t.met else 'NOT MET'}")
    return "\n".join(lines)
