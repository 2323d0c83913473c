"""The pretraining task of the stand-ins: describe a post, in the words of its caption.

A caption has two parts, "Seen: ..." (what the frames show) and "Read: ..." (what the text says). Its words, by part,
are a closed vocabulary, and a model predicts which of them occur (a multi-label task with binary cross-entropy, as in
caption-word classification, Huang et al. 2024, arXiv 2411.03313) from the very vector that a router will later read.
A second, auxiliary head predicts the seen words from the visual tokens alone, so that the vision tower gets a direct
gradient. Both heads are thrown away. No label of any risk is involved.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from radar_lib.errors import RadarError
from radar_lib.metrics import average_precision
from radar_lib.models.base import Backbone
from radar_lib.models.siglip import Siglip
from radar_lib.training.teachers import IMAGE_INPUTS

PARTS = ("seen", "read")
_CAPTION = re.compile(r"Seen: (?P<seen>.*?)\.\s*Read: (?P<read>.*)", re.DOTALL)


def caption_words(caption: str) -> set[str]:
    """The words of a caption as "part:word".

    Raises:
        RadarError: the caption has no "Seen:" and "Read:" part.
    """
    match = _CAPTION.fullmatch(caption.strip())
    if not match:
        raise RadarError(f'a caption must read "Seen: ... . Read: ... ."; this one is {caption[:80]!r}')
    return {f"{part}:{word}" for part in PARTS for word in re.findall(r"[^\s;,.]+", match[part])}


def caption_vocabulary(captions: Sequence[str], *, least: float = 0.002) -> list[str]:
    """Words worth predicting: in at least a share `least` and at most 98 % of the captions; sorted."""
    counts = Counter(word for caption in captions for word in caption_words(caption))
    n = len(captions)
    return sorted(word for word, count in counts.items() if least * n <= count <= 0.98 * n)


def caption_targets(captions: Sequence[str], vocabulary: Sequence[str]) -> Bool[np.ndarray, "post word"]:
    """Which words of the vocabulary each caption has."""
    column = {word: i for i, word in enumerate(vocabulary)}
    out = np.zeros((len(captions), len(vocabulary)), dtype=bool)
    for i, caption in enumerate(captions):
        for word in caption_words(caption) & column.keys():
            out[i, column[word]] = True
    return out


class Describer(nn.Module):
    """A backbone with all parameters trained, and the two heads that are thrown away afterwards."""

    def __init__(self, backbone: Backbone, vocabulary: Sequence[str]):
        super().__init__()
        self.backbone = backbone
        self.seen = torch.tensor([word.startswith("seen:") for word in vocabulary])
        backbone.model.requires_grad_(True)
        self.head = nn.Sequential(nn.LayerNorm(backbone.hidden_size), nn.Linear(backbone.hidden_size, len(vocabulary)))
        if isinstance(backbone, Siglip):
            config = backbone.model.config
            backbone.model.logit_scale.requires_grad_(False)  # contrastive scale and bias: this task has no use of them
            backbone.model.logit_bias.requires_grad_(False)
            image, text = config.vision_config.hidden_size, config.text_config.projection_size
            self.read_head = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, int((~self.seen).sum())))
        else:
            image = backbone.hidden_size
        self.seen_head = nn.Sequential(nn.LayerNorm(image), nn.Linear(image, int(self.seen.sum())))

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Float[Tensor, "batch word"], list[tuple[Tensor, Tensor]]]:
        """Logits of all words from the pooled vector, and pairs (auxiliary logits, mask of the words they are for)."""
        if isinstance(self.backbone, Siglip):
            image, text = self.backbone.embed_frames(batch), self.backbone.embed_text(batch)
            both = self.head(torch.cat([image, text], dim=1))
            return both, [(self.seen_head(image), self.seen), (self.read_head(text), ~self.seen)]
        if "pixel_values" not in batch:
            return self.head(self.backbone(batch)), []
        levels = self.backbone.tower({k: batch[k] for k in IMAGE_INPUTS if k in batch})
        batch = {k: v for k, v in batch.items() if k not in IMAGE_INPUTS}
        batch |= {f"features_{i}": level for i, level in enumerate(levels)}
        pooled = self.backbone(batch)
        owner = (batch["input_ids"] == self.backbone.image_token_id).nonzero()[:, 0]
        counts = torch.bincount(owner, minlength=len(pooled)).clamp(min=1)
        mean = torch.zeros_like(pooled).index_add(0, owner, levels[0].float()) / counts[:, None]
        return self.head(pooled), [(self.seen_head(mean), self.seen)]


def word_weights(targets: Bool[np.ndarray, "post word"], *, largest: float = 5.0) -> Float[Tensor, " word"]:
    """Weight of a word that occurs, sqrt((1 - f) / f) of its frequency f, at most `largest`.

    Most words are rare. Without the weight a short run learns how frequent each is and little else.
    """
    frequency = torch.from_numpy(targets.mean(axis=0)).float().clamp(1e-6, 1 - 1e-6)
    return ((1 - frequency) / frequency).sqrt().clamp(max=largest)


def description_loss(
    out: tuple[Tensor, list[tuple[Tensor, Tensor]]], targets: Float[Tensor, "batch word"], *,
    weights: Float[Tensor, " word"] | None = None, auxiliary: float = 0.5,
) -> Float[Tensor, ""]:  # fmt: skip
    """Binary cross-entropy averaged over posts and words, plus `auxiliary` times that of each auxiliary head."""
    logits, extra = out
    loss = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    for auxiliary_logits, words in extra:
        own = None if weights is None else weights[words]
        cells = F.binary_cross_entropy_with_logits(auxiliary_logits, targets[:, words], pos_weight=own)
        loss = loss + auxiliary * cells
    return loss


def word_quality(
    logits: Float[np.ndarray, "post word"], targets: Bool[np.ndarray, "post word"], vocabulary: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Average precision `ap` and `prevalence` (that of a random ranking), in percent, of words that some posts have."""
    return {
        word: {"ap": round(100 * average_precision(targets[:, i], logits[:, i]), 1),
               "prevalence": round(100 * float(targets[:, i].mean()), 1)}
        for i, word in enumerate(vocabulary) if 0 < targets[:, i].mean() < 1
    }  # fmt: skip


def description_quality(words: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean average precision over the words of each part, beside their mean prevalence. `words`: of `word_quality`."""
    out = {}
    for part in PARTS:
        mine = [word for name, word in words.items() if name.startswith(part + ":")]
        out[f"{part}_map"] = round(float(np.mean([word["ap"] for word in mine])), 1)
        out[f"{part}_prevalence"] = round(float(np.mean([word["prevalence"] for word in mine])), 1)
    return out
