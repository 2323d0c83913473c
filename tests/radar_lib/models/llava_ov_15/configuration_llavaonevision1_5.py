"""Stands for the code in LLaVA-OneVision-1.5's repository: same names, same module tree, a fraction of the features."""

from transformers import PretrainedConfig, Qwen3Config


class RiceConfig(PretrainedConfig):
    model_type = "rice_vit"

    def __init__(self, depth=2, hidden_size=16, intermediate_size=32, num_heads=2, patch_size=8, spatial_merge_size=2,
                 text_hidden_size=16, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        self.depth, self.hidden_size, self.intermediate_size, self.num_heads = (
            depth, hidden_size, intermediate_size, num_heads
        )  # fmt: skip
        self.patch_size, self.spatial_merge_size, self.text_hidden_size = (
            patch_size, spatial_merge_size, text_hidden_size
        )  # fmt: skip


class Llavaonevision1_5Config(PretrainedConfig):
    model_type = "llavaonevision1_5"
    sub_configs = {"vision_config": RiceConfig, "text_config": Qwen3Config}

    def __init__(self, text_config=None, vision_config=None, image_token_id=5, **kwargs):
        text = {k: v for k, v in (text_config or {}).items() if k != "model_type"}
        self.text_config, self.vision_config = Qwen3Config(**text), RiceConfig(**(vision_config or {}))
        self.image_token_id = image_token_id
        super().__init__(**kwargs)
