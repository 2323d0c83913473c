"""Notebook 04: what the experts' soft labels are worth: entropy, temperature, confidence, and their files."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from radar_suite.exercises.exercise import Exercise


def bernoulli_entropy(logits):
    said_yes = torch.sigmoid(logits) * F.logsigmoid(logits)
    said_no = torch.sigmoid(-logits) * F.logsigmoid(-logits)
    return -(said_yes + said_no)


def _naive_entropy(logits):
    p = torch.sigmoid(logits)
    return -(p * p.log() + (1 - p) * (1 - p).log())


BERNOULLI_ENTROPY = Exercise(
    name="bernoulli_entropy",
    task="""Write `bernoulli_entropy(logits) -> entropy` of each teacher's Bernoulli distribution, in nats. It must be
    right for a logit of 200 as well, where the probability rounds to 1.""",
    hints=("-(t log t + (1 - t) log(1 - t)). Where does log 0 come from?",
           "`F.logsigmoid(z)` is log t and `F.logsigmoid(-z)` is log(1 - t), both finite."),
    answer=bernoulli_entropy,
    why="The entropy is what separates Eq. 6 from a cross-entropy: a constant of the teacher, without gradient. A "
    "teacher of low entropy says little more than a hard label would.",
    mistakes=(
        (_naive_entropy, "0 * log 0 gave NaN: at a logit of 200 the probability rounds to 1; stay with logits"),
        (lambda z: bernoulli_entropy(z) / np.log(2), "these are bits; use the natural logarithm"),
        (lambda z: -bernoulli_entropy(z), "the sign: an entropy is not negative"),
    ),
    case=lambda generator: (torch.tensor([*(3 * generator.normal(size=4)), 200.0, -200.0], dtype=torch.float32),),
)  # fmt: skip


def temperature(logits, labels):
    def nll(log_t):
        z = logits / np.exp(log_t)
        return np.mean(np.logaddexp(0, z) - labels * z)

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def _overconfident(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    logits = generator.normal(-1, 2, size=1000)
    labels = (generator.random(1000) < 1 / (1 + np.exp(-logits))).astype(int)
    return logits * generator.uniform(2, 4), labels


TEMPERATURE = Exercise(
    name="temperature",
    task="""An over-confident teacher can be cooled: t = sigmoid(logit / T). Write `temperature(logits, labels) -> T`,
    the temperature in [0.1, 10] with the lowest mean negative log-likelihood (to within 3 %).""",
    hints=(
        "The loss of one post is log(1 + exp(z)) - y z, with z = logit / T; `np.logaddexp(0, z)` is its stable half.",
        "A grid of a few hundred temperatures is enough; `scipy.optimize.minimize_scalar` is finer.",
    ),
    answer=temperature,
    why="T > 1 means that the teacher claims more than it knows. Scaling keeps the order, hence every metric of the "
    "tables; but it changes the soft labels that a student is trained on.",
    mistakes=(
        (lambda z, y: 1 / temperature(z, y), "that is 1 / T: logits are divided by the temperature"),
        (lambda z, y: 1.0, "at T = 1 nothing is cooled, and this teacher is over-confident"),
        (lambda z, y: 10.0, "the likelihood is to be as high as possible, not the entropy"),
    ),
    case=_overconfident,
    tolerance=0.03,
)  # fmt: skip


def confidence(teacher_logits, labels):
    sure = torch.sigmoid(teacher_logits.abs())
    return sure[labels != -1].mean(), sure[labels == -1].mean()


def _teacher_cells(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor(generator.integers(-1, 2, (8, 3)))
    labels[0] = torch.tensor([1, 0, -1])
    return torch.tensor(2 * generator.normal(size=(8, 3)), dtype=torch.float32), labels


CONFIDENCE = Exercise(
    name="confidence",
    task="""A teacher's confidence in a cell is max(t, 1 - t). Write `confidence(teacher_logits, labels) -> (verified,
    unverified)`: its mean over cells that a human verified, and over the others.""",
    hints=("max(t, 1 - t) is the sigmoid of the logit's absolute value.",
           "Index with `labels != -1` and with `labels == -1`."),
    answer=confidence,
    why="Expert k was trained on the verified cells of column k. Higher confidence there than elsewhere is partly "
    "memory; it is on the unverified cells that the student depends on the teacher alone.",
    mistakes=(
        (lambda z, y: confidence(z, y)[::-1], "the two means are swapped"),
        (lambda z, y: (torch.sigmoid(z)[y != -1].mean(), torch.sigmoid(z)[y == -1].mean()),
         "a teacher that says 0.01 is confident too: take max(t, 1 - t)"),
        (lambda z, y: (torch.sigmoid(z.abs())[y == 1].mean(), torch.sigmoid(z.abs())[y != 1].mean()),
         "a cleared post was verified as well: labels of 0 belong to the first mean"),
    ),
    case=_teacher_cells,
)  # fmt: skip


def ranks_lost(logits):
    stored = torch.sigmoid(logits).bfloat16()
    return len(logits.unique()) - len(stored.unique())


RANKS_LOST = Exercise(
    name="ranks_lost",
    task="""A file stores teachers as bfloat16 *probabilities*. Write `ranks_lost(logits) -> count`: how many distinct
    values the float32 logits have more than the file.""",
    hints=("`tensor.unique()` gives the distinct values.", "First the sigmoid, then `.bfloat16()`."),
    answer=ranks_lost,
    why="bfloat16 has 8 significant bits: all probabilities above about 0.998 are one number. Posts that tie can no "
    "longer be told apart by any threshold. The suite stores float32 logits.",
    mistakes=(
        (lambda z: len(torch.sigmoid(z).bfloat16().unique()), "that many are left; how many were lost?"),
        (lambda z: len(z.unique()) - len(z.bfloat16().unique()),
         "take the sigmoid first: it is there that most are lost"),
        (lambda z: len(z.unique()) - len(torch.sigmoid(z).unique()), "that is a float32 file; this one is bfloat16"),
    ),
    case=lambda generator: (torch.tensor(generator.normal(4, 3, size=400), dtype=torch.float32),),
    tolerance=1e-6,
)  # fmt: skip

EXERCISES = (BERNOULLI_ENTROPY, TEMPERATURE, CONFIDENCE, RANKS_LOST)
