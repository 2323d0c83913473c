"""A model applied to posts, and the precision that it runs in.

On CUDA the frozen backbone's weights are bfloat16, and its matrix products are; nothing is cast there and back in
every step. What is trained (LoRA, MLP, heads: about a hundredth of the weights) stays float32, as do its gradients and
AdamW's moments: a bfloat16 weight has 8 significant bits, so an update below 1/512 of it would be lost.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from radar_lib.training.batches import BatchSource
from radar_lib.training.ranks import rank_and_size, sum_over_processes


def weights_dtype(device: str | torch.device) -> torch.dtype:
    """What a frozen backbone's weights are on a device: bfloat16 on CUDA, float32 on a CPU."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def half_precision(device: str | torch.device) -> torch.autocast:
    """Matrix products in bfloat16 on CUDA; on a CPU everything stays as it is."""
    return torch.autocast("cuda", torch.bfloat16, enabled=torch.device(device).type == "cuda")


def spare_casts(router: nn.Module) -> None:
    """Let LoRA take a bfloat16 backbone's activations as they are.

    peft casts them to its weights' float32, and autocast would cast them back: the same bits, several copies more per
    layer. Such a router runs under `half_precision` only.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in router.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False


def to_device(batch: dict[str, Tensor], device: str | torch.device) -> dict[str, Tensor]:
    """A collated batch where the model is; `Backbone.collate` makes it on the CPU."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.inference_mode()
def predict(
    router: nn.Module, inputs: BatchSource, *, batch_size: int = 128, device: str = "cpu", title: str = ""
) -> Float[np.ndarray, "post category"]:
    """Logits (float32) of every post, in the order of `inputs`; a bar is shown where `title` is given.

    Under torchrun each process reads its share of the batches, and every process returns the whole.

    Raises:
        ValueError: there are no posts.
    """
    router.eval()
    order = np.argsort(np.asarray(inputs.lengths), kind="stable")
    rank, processes = rank_and_size()
    if not len(order):
        raise ValueError("there are no posts to score")
    plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = plan[rank::processes]
    result: np.ndarray | None = None
    # one without a share reads a batch for the number of categories only
    batches = zip(mine or plan[:1], inputs.batches(mine or plan[:1]), strict=True)
    for posts, batch in tqdm(batches, total=len(mine), desc=title, unit="batch", disable=not title, mininterval=2):
        with half_precision(device):
            logits = router(to_device(batch, device)).float().cpu().numpy()
        result = np.zeros((len(order), logits.shape[1]), np.float32) if result is None else result
        result[posts] = logits if mine else 0
    return sum_over_processes(result, device=device)
