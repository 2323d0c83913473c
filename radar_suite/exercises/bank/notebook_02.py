"""Notebook 02: from a post to K logits: the token that is read, and what LoRA makes of a layer."""

import numpy as np
import torch

from radar_suite.exercises.exercise import Exercise


def pooled(hidden, attention_mask):
    last = [max(i for i, real in enumerate(row) if real) for row in attention_mask.tolist()]
    return hidden[torch.arange(len(hidden)), last]


def _padded_batch(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Six posts of 2 to 5 tokens among 8, padded on the right, left or both sides."""
    hidden, mask = torch.tensor(generator.normal(size=(6, 8, 3)), dtype=torch.float32), torch.zeros(6, 8, dtype=int)
    for row, start, length in zip(mask, (0, 3, 2, 1, 0, 3), (2, 5, 4, *generator.integers(2, 6, 3)), strict=True):
        row[start : start + length] = 1
    return hidden, mask


POOLED = Exercise(
    name="pooled",
    task="""Write `pooled(hidden, attention_mask) -> vectors`: each post's last hidden state of its last *real* token.
    `hidden` is a tensor of posts x tokens x width, `attention_mask` (posts x tokens) is 1 for real tokens and 0 for
    padding, which may stand on either side. The result is posts x width.""",
    hints=("A causal model's last real token has seen the whole post; what stands behind it is padding.",
           "Multiply the mask by the positions 1, 2, ...: where is each row largest?",
           "`hidden[torch.arange(len(hidden)), last]` takes one token of every post."),
    answer=pooled,
    why="This is why section 2's vector does not depend on a post's neighbours in its batch. The library's line is "
    "`(attention_mask * (positions + 1)).argmax(dim=1)`.",
    mistakes=(
        (lambda h, m: h[:, -1], "that is the batch's last column: padding, for posts that are padded on the right"),
        (lambda h, m: h[torch.arange(len(h)), m.sum(1) - 1],
         "the number of real tokens tells the last one's place only where all padding is on the right"),
        (lambda h, m: (h * m[..., None]).sum(1) / m.sum(1, keepdim=True),
         "that is the mean over real tokens; the router reads one token"),
        (lambda h, m: h[torch.arange(len(h)), m.argmax(1)],
         "that is the first real token: in a causal model it has seen nothing but itself"),
        (lambda h, m: h.mean(1), "padding must not count, and the router reads one token, not a mean"),
    ),
    case=_padded_batch,
)  # fmt: skip


def lora_weight(W, A, B, alpha):
    return W + alpha / len(A) * B @ A


def _layer_and_adapter(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """A layer of 4 x 6, an adapter of rank 3, and an alpha."""
    draws = (torch.tensor(generator.normal(size=shape), dtype=torch.float32) for shape in ((4, 6), (3, 6), (4, 3)))
    return *draws, float(generator.integers(4, 20))


LORA_WEIGHT = Exercise(
    name="lora_weight",
    task="""Write `lora_weight(W, A, B, alpha)`: the one matrix that computes what a linear layer with weight `W`
    (out x in) computes once LoRA's `A` (rank x in) and `B` (out x rank) are trained.""",
    hints=("Section 3 has it in words: W + s B A.", "s = alpha / rank, and the rank is a side of A and of B."),
    answer=lora_weight,
    why="So a trained adapter can be merged and costs nothing when the router serves. It trains rank (in + out) "
    "numbers instead of in times out, and with B = 0 it starts as the layer that was pretrained.",
    mistakes=(
        (lambda W, A, B, alpha: W + B @ A, "the product is scaled, by alpha / rank"),
        (lambda W, A, B, alpha: W + alpha * B @ A, "alpha is divided by the rank"),
        (lambda W, A, B, alpha: W + alpha / A.shape[1] * B @ A,
         "you divide by the layer's width; the rank is the short side of A"),
        (lambda W, A, B, alpha: alpha / len(A) * B @ A, "that is the change alone: the layer's own W stays"),
    ),
    case=_layer_and_adapter,
)  # fmt: skip


EXERCISES = (POOLED, LORA_WEIGHT)
