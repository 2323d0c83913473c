"""RadarRouter: one backbone, LoRA, an MLP and one head per risk (section 3.2 of the paper).

pooled vector -> LayerNorm -> Linear -> GELU -> K separate Linear heads -> K logits. The paper says "MLP" and "separate
heads"; the LayerNorm (the families' hidden states differ in scale by an order of magnitude) and the MLP's width (the
pooled width) are our choices. MLP and heads are float32 whatever the backbone is. An expert is a router with K = 1.
Which layers LoRA adapts stands in `lora`; which state stands for a post (pooling) in each family's `forward`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radar_lib.errors import RadarError
from radar_lib.files import atomic_path, changed_file, digest_file, read_sealed, write_sealed
from radar_lib.labels import check_categories
from radar_lib.models.base import Backbone
from radar_lib.models.checkpoints import open_checkpoint, read_header
from radar_lib.models.lora import fold_narrow_adapters, lora_targets
from radar_lib.models.text import TextLimit
from radar_lib.ranges import Range, check_ranges

ADAPTER = "adapter_model.safetensors"
HEADS = "heads.safetensors"
CONFIG = "router_config.json"
SEALED = (ADAPTER, "adapter_config.json", HEADS)  # files whose digests CONFIG holds; peft's own reads the second
MOST = 1 << 16  # of rank, alpha and width: larger ones are slips, and would take all memory


@dataclass(frozen=True)
class RouterConfig:
    """What a router is, besides its backbone.

    Attributes:
        categories: names of the K risks, in the order of the logits.
        lora_rank, lora_alpha: the paper's 128 and 256.
        lora_vision: adapt the vision tower as well as the language model. Its output can then not be cached. (A dual
            encoder has no language model above its towers, so both of them are adapted either way.)
        mlp_hidden: width of the MLP; None for the backbone's pooled width.
    """

    categories: tuple[str, ...]
    lora_rank: int = 128
    lora_alpha: float = 256
    lora_dropout: float = 0.0
    lora_vision: bool = False
    mlp_hidden: int | None = None
    mlp_dropout: float = 0.0

    def __post_init__(self):
        try:
            names = (self.categories,) if isinstance(self.categories, str) else tuple(self.categories)
            object.__setattr__(self, "categories", check_categories(names))
        except (TypeError, ValueError) as error:
            raise RadarError(f"a router's categories are {self.categories!r:.60}: {error}") from error
        if not names:
            raise RadarError("a router needs at least one category.")
        whole = {"lora_rank": self.lora_rank, "mlp_hidden": self.mlp_hidden}
        if wrong := [name for name, value in whole.items() if not isinstance(value, int | None)]:
            raise RadarError(f"{wrong[0]} is {whole[wrong[0]]!r}; it must be a whole number.")
        if not isinstance(self.lora_vision, bool):
            raise RadarError(f"lora_vision is {self.lora_vision!r}; it must be true or false.")
        size, dropout = Range(1, MOST), Range(0, 0.99)
        check_ranges(vars(self), {"lora_rank": size, "mlp_hidden": size, "lora_alpha": Range(0, MOST, above=True),
                                  "lora_dropout": dropout, "mlp_dropout": dropout})  # fmt: skip


class RadarRouter(nn.Module):
    """Posts' pooled vectors to K risk logits.

    The backbone is borrowed, not copied: LoRA layers are put into it, and `detach` takes them out again, after which
    the backbone computes exactly what it did before and can carry the next router.

    Args:
        seed: of the LoRA, MLP and head initialisation; the global generator is left as it was.
        prior: optional probability of each risk; the heads' biases start at its log-odds instead of 0.
    """

    def __init__(
        self, backbone: Backbone, config: RouterConfig, *, seed: int = 1, prior: Sequence[float] | None = None
    ):
        super().__init__()
        from peft import LoraConfig, get_peft_model

        if hasattr(backbone.model, "peft_config"):
            raise RadarError(f"{backbone.checkpoint} already carries a router; call its detach() first.")
        self.config = config
        self.backbone = backbone
        if config.lora_vision and backbone.vision_lora_targets:
            backbone.features_cacheable = False  # from now on its tower changes; `detach` takes this back
        commit = backbone.digest.partition("@")[2]  # of a Hub checkpoint
        name = backbone.model.name_or_path = backbone.checkpoint.removesuffix(f"@{commit}")  # peft looks there too
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout,
            target_modules=lora_targets(backbone, vision=config.lora_vision), base_model_name_or_path=name,
            revision=commit or None,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with warnings.catch_warnings():
                # peft asks transformers for a property under its old name
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                peft_model = get_peft_model(backbone.model, lora)
            fold_narrow_adapters(peft_model)
            width = config.mlp_hidden or backbone.hidden_size
            self.mlp = nn.Sequential(
                nn.LayerNorm(backbone.hidden_size), nn.Linear(backbone.hidden_size, width), nn.GELU(),
                nn.Dropout(config.mlp_dropout),
            )  # fmt: skip
            self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in config.categories)
        self._peft = [peft_model]  # in a list: its weights are the backbone's, and must not be registered twice
        for parameter in backbone.own_parameters().values():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(True)
        for k, head in enumerate(self.heads):
            nn.init.zeros_(head.bias)
            if prior is not None:
                head.bias.data.fill_(torch.logit(torch.tensor(float(prior[k]))).item())
        self.to(backbone.device)

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "batch category"]:
        """Logits, float32."""
        pooled = self.backbone(batch).float()
        with torch.autocast(pooled.device.type, enabled=False):  # float32 also where the backbone's products are not
            hidden = self.mlp(pooled)
            return torch.cat([head(hidden) for head in self.heads], dim=1)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """LoRA, MLP, heads, and what pooling adds."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy in all that training changes, by name: the values of `named_parameters` that require a gradient.

        Raises:
            RadarError: the names or shapes are not this router's.
        """
        own = {name: p for name, p in self.named_parameters() if p.requires_grad}
        if own.keys() != state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise RadarError("the saved state belongs to a router of another backbone, rank or number of categories")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def detach(self) -> Backbone:
        """Take the LoRA layers out and give the backbone back, bit for bit as it was. The router is then unusable."""
        if self._peft:
            self._peft.pop().unload()
            self.backbone.model.requires_grad_(False)
            self.backbone.__dict__.pop("features_cacheable", None)
            if hasattr(self.backbone.model, "peft_config"):
                del self.backbone.model.peft_config
            for parameter in self.backbone.own_parameters().values():
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)
        return self.backbone

    def _head_state(self) -> dict[str, Tensor]:
        state = {f"mlp.{name}": value for name, value in self.mlp.state_dict().items()}
        state |= {f"heads.{name}": value for name, value in self.heads.state_dict().items()}
        state |= {f"backbone.{name}": value.data for name, value in self.backbone.own_parameters().items()}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a Hub-ready folder: peft adapter, heads, configuration, model card. Whole or not at all.

        The adapter alone loads in plain peft: `PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder)`.
        """
        with atomic_path(folder) as temporary:
            self._peft[0].save_pretrained(str(temporary), save_embedding_layers=False)
            save_file(self._head_state(), str(temporary / HEADS))
            b = self.backbone
            base = {"checkpoint": b.checkpoint, "digest": b.digest, "family": b.family, "text": asdict(b.text)}
            files = {name: digest_file(temporary / name) for name in SEALED}
            write_sealed(temporary / CONFIG, {**asdict(self.config), "base": base, "files": files})
            (temporary / "README.md").write_text(_card(self), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, backbone: Backbone | None = None) -> RadarRouter:
        """Load what `save_pretrained` wrote.

        Args:
            backbone: the base to put it on; None loads the one that the folder names.

        Raises:
            RadarError: a file is missing or not what was written, a value of the configuration is out of its range, a
                weight is not finite, or the base is not the one that the adapter was trained on (told by its digest,
                before a weight of either is used) or reads another part of a post's text.
        """
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        from radar_lib.models.backbones import load_backbone

        folder = Path(folder)
        for name in (CONFIG, *SEALED):
            if not (folder / name).is_file():
                raise RadarError(f"{folder} is not a saved router: {name} is missing.")
        for name in (ADAPTER, HEADS):
            read_header(folder / name)
        config, base, text, files = _read_config(folder)
        if wrong := changed_file(folder, files):
            raise RadarError(f"{folder / wrong} is not what was written. Fetch the folder again, or train again.")
        found = None if backbone else open_checkpoint(base["checkpoint"])
        name, digest = (found.reference, found.digest) if found else (backbone.checkpoint, backbone.digest)
        if digest != base["digest"]:
            raise RadarError(
                f"{folder} was trained on {base['checkpoint']} (digest {base['digest']}), not on {name} "
                f"(digest {digest}). Load that base, or train again on this one."
            )
        if backbone and backbone.text != text:
            raise RadarError(f"{folder} was trained with {text}, and the backbone has {backbone.text}: load it with "
                             "text=... as it was.")  # fmt: skip
        adapter, heads = load_file(str(folder / ADAPTER)), load_file(str(folder / HEADS))
        for name, tensor in {**adapter, **heads}.items():
            if not tensor.isfinite().all():
                raise RadarError(f"{folder}: {name} has weights that are not finite. Train the router again.")
        router = cls(backbone or load_backbone(found, text=text), config)
        own = get_peft_model_state_dict(router._peft[0], save_embedding_layers=False)
        if _shapes(adapter) != _shapes(own) or _shapes(heads) != _shapes(router._head_state()):
            router.detach()
            raise RadarError(f"{folder}: its weights do not fit its {CONFIG}. Save the router again.")
        set_peft_model_state_dict(router._peft[0], adapter)
        with torch.no_grad():
            for prefix, module in (("mlp.", router.mlp), ("heads.", router.heads)):
                module.load_state_dict({k.removeprefix(prefix): v for k, v in heads.items() if k.startswith(prefix)})
            for name, parameter in router.backbone.own_parameters().items():
                parameter.copy_(heads[f"backbone.{name}"])
        return router


def _read_config(folder: Path) -> tuple[RouterConfig, dict[str, Any], TextLimit, dict[str, str]]:
    """A saved router's configuration, its base, how much text it reads, and the digests of its files."""
    saved = read_sealed(folder / CONFIG)
    try:
        base, files = saved.pop("base"), saved.pop("files")
        named = all(isinstance(base[name], str) for name in ("checkpoint", "digest"))
        if not named or not {*SEALED} <= {*dict(files)}:
            raise TypeError("its base is no text, or a file has no digest.")
        return RouterConfig(**saved), base, TextLimit(**base["text"]), files
    except (KeyError, TypeError, ValueError, RadarError) as error:
        raise RadarError(f"{folder / CONFIG}: {error!s:.300} Save the router again.") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _card(router: RadarRouter) -> str:
    config, backbone = router.config, router.backbone
    trained = sum(p.numel() for p in router.trainable_parameters())
    risks = ", ".join(config.categories)
    lora = router._peft[0].peft_config["default"]
    return f"""---
library_name: peft
base_model: {lora.base_model_name_or_path}
tags: [content-moderation, risk-routing, lora]
---

# RADAR router on {backbone.checkpoint}

Gives one logit per risk ({risks}) for a post of title, OCR text, speech transcript and video frames.

- Base: `{backbone.checkpoint}`, digest `{backbone.digest}`. The adapter fits no other base.
- LoRA rank {config.lora_rank}, alpha {config.lora_alpha:g}, on the layers that match `{lora.target_modules}`;
  {trained:,} trained parameters with the MLP and {len(config.categories)} head(s).
- Files: `{ADAPTER}` (peft), `{HEADS}`, `{CONFIG}`.

```python
from radar_lib.models.router import RadarRouter

router = RadarRouter.from_pretrained("path/of/this/folder").eval()
encoded = router.backbone.encode([{{"title": "...", "ocr_text": "", "asr_text": "", "frames": []}}])
logits = router(router.backbone.collate(encoded))
```
"""
