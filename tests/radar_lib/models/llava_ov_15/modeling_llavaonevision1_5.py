"""Stands for the code in LLaVA-OneVision-1.5's repository: same names, same module tree, a fraction of the features."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel, Qwen3Model

from .configuration_llavaonevision1_5 import Llavaonevision1_5Config, RiceConfig


class RiceBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, config.intermediate_size), "fc2": nn.Linear(config.intermediate_size, width)}
        )

    def forward(self, x):
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        x = x + self.attn["proj"](F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class RiceTransformerPretrainedModel(PreTrainedModel):
    config_class = RiceConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        width, self.merge = config.hidden_size, config.spatial_merge_size**2
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)}
        )
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(RiceBlock(config) for _ in range(config.depth))
        self.merger = nn.ModuleDict(
            {"ln_q": nn.LayerNorm(width), "mlp": nn.Linear(width * self.merge, config.text_hidden_size)}
        )
        self.post_init()

    def forward(self, pixels, grid_thw):
        size = self.config.patch_size
        x = self.patch_embed["proj"](pixels.reshape(-1, 3, size, size)).flatten(1)
        out = []
        for image in x.split(grid_thw.prod(dim=1).tolist()):
            image = torch.cat([self.class_embedding[None], image])
            for block in self.blocks:
                image = block(image)
            out.append(image[1:])
        return self.merger["mlp"](self.merger["ln_q"](torch.cat(out)).reshape(-1, self.merge * x.shape[1]))


class LLaVAOneVision1_5_PreTrainedModel(PreTrainedModel):
    config_class = Llavaonevision1_5Config
    base_model_prefix = "model"
    _supports_sdpa = True


class LLaVAOneVision1_5_Model(LLaVAOneVision1_5_PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.visual = RiceTransformerPretrainedModel._from_config(config.vision_config)
        self.language_model = Qwen3Model._from_config(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values, image_grid_thw=None):
        return self.visual(pixel_values.type(self.visual.dtype), grid_thw=image_grid_thw)

    def forward(self, input_ids, attention_mask=None, pixel_values=None, image_grid_thw=None, use_cache=None):
        embeds = self.language_model.embed_tokens(input_ids)
        if pixel_values is not None:
            mask = (input_ids == self.config.image_token_id)[..., None].expand_as(embeds)
            embeds = embeds.masked_scatter(mask, self.get_image_features(pixel_values, image_grid_thw).to(embeds.dtype))
        return self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=use_cache)


class LLaVAOneVision1_5_ForConditionalGeneration(LLaVAOneVision1_5_PreTrainedModel):
    _checkpoint_conversion_mapping = {  # as in the repository; transformers 5 does not look at it
        "^visual": "model.visual",
        r"^model(?!\.(language_model|visual))": "model.language_model",
    }

    def __init__(self, config):
        super().__init__(config)
        self.model = LLaVAOneVision1_5_Model(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()
