"""LLaVA-OneVision-1.5 as published: code of its own, which runs only when it is allowed by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from radar_lib.errors import RadarError
from radar_lib.models.backbones import load_backbone
from radar_lib.models.checkpoints import TRUST, checkpoint_digest

CODE = Path(__file__).parent / "llava_ov_15"
QWEN = {"tokenizer_class": "Qwen2Tokenizer", "is_local": None, "local_files_only": None, "backend": None}
TURN = (
    "{%- for message in messages %}{%- for item in message.content %}{%- if item.type == 'image' %}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- item.text }}{%- endif %}{%- endfor %}"
    "{{- '<|im_end|>' }}{%- endfor %}"
)
LLAVA_CONFIG = {
    "image_token_id": 5,
    "text_config": {
        "model_type": "LLaVAOneVision1_5_text", "vocab_size": 381, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
    },
    "vision_config": {"model_type": "rice_vit", "depth": 2, "hidden_size": 16, "intermediate_size": 32},
}  # fmt: skip


def write_llava_ov_15(source, folder, shards, change):
    """LLaVA-OneVision-1.5 as published: code of its own, tensors of the tower and the language model side by side."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.jinja"))
    for file in CODE.glob("*.py"):
        shutil.copy(file, folder)
    where = "LLaVAOneVision1_5_ForConditionalGeneration"
    auto = {"AutoConfig": "configuration_llavaonevision1_5.Llavaonevision1_5Config"}
    auto |= {kind: f"modeling_llavaonevision1_5.{where}" for kind in ("AutoModel", "AutoModelForCausalLM")}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llavaonevision1_5", "architectures": [where], "auto_map": auto, **LLAVA_CONFIG})
    )
    change(folder / "tokenizer_config.json", **QWEN)
    change(folder / "preprocessor_config.json", patch_size=8, temporal_patch_size=1, merge_size=2)
    change(folder / "chat_template.json", chat_template=TURN)
    text, vision = LLAVA_CONFIG["text_config"], LLAVA_CONFIG["vision_config"]
    width, wide = vision["hidden_size"], vision["intermediate_size"]
    shapes = {"visual.patch_embed.proj.weight": (width, 3, 8, 8), "visual.class_embedding": (width,),
              "visual.merger.ln_q.weight": (width,), "visual.merger.ln_q.bias": (width,),
              "visual.merger.mlp.weight": (text["hidden_size"], 4 * width),
              "visual.merger.mlp.bias": (text["hidden_size"],)}  # fmt: skip
    for i in range(vision["depth"]):
        for part, rows, columns in (("attn.qkv", 3 * width, width), ("attn.proj", width, width),
                                    ("mlp.fc1", wide, width), ("mlp.fc2", width, wide)):  # fmt: skip
            shapes |= {f"visual.blocks.{i}.{part}.weight": (rows, columns), f"visual.blocks.{i}.{part}.bias": (rows,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"visual.blocks.{i}.{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    from transformers import Qwen3Config, Qwen3Model

    language = Qwen3Model(Qwen3Config(**text)).state_dict()
    shapes |= {f"model.{name}": value.shape for name, value in language.items()}
    shapes["lm_head.weight"] = (text["vocab_size"], text["hidden_size"])
    generator = torch.Generator().manual_seed(4)
    shards(folder, {name: 0.1 * torch.randn(*shape, generator=generator) for name, shape in shapes.items()})


@pytest.fixture
def own_code(checkpoints, tmp_path, monkeypatch, shards, change_json):
    """A LLaVA-OneVision-1.5 folder as published, whose code leaves a mark when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.delenv(TRUST, raising=False)
    folder, mark = tmp_path / "llava-ov-1.5", tmp_path / "the code ran"
    write_llava_ov_15(checkpoints / "qwen3-vl-2b", folder, shards, change_json)
    code = folder / "configuration_llavaonevision1_5.py"
    code.write_text(f"open({str(mark)!r}, 'w').close()\n" + code.read_text())
    return folder, mark


def test_a_checkpoints_own_code_runs_only_when_it_is_allowed_by_name(own_code, monkeypatch, awkward_posts):
    folder, mark = own_code
    for value in (None, "1", "true", "owner/other"):
        if value:
            monkeypatch.setenv(TRUST, value)
        with pytest.raises(RadarError, match=f"run with all your rights.*{TRUST}={folder}"):
            load_backbone(folder)
    assert not mark.exists()
    monkeypatch.setenv(TRUST, f"owner/other,{folder}")
    before = checkpoint_digest(folder)
    backbone = load_backbone(folder)
    assert mark.exists() and backbone.unused_weights == () and backbone.digest == before
    encoded = backbone.encode(awkward_posts)
    with torch.no_grad():
        out = backbone(backbone.collate(encoded))
        cached = backbone(backbone.collate(backbone.cache_features(encoded)))
        alone = torch.cat([backbone(backbone.collate([post])) for post in encoded])
    assert out.isfinite().all() and torch.equal(cached, out) and encoded[1].frame_tokens == (9, 9, 9)
    torch.testing.assert_close(alone, out, rtol=0, atol=1e-5)
    code = folder / "modeling_llavaonevision1_5.py"
    code.write_text(code.read_text() + "\n")
    assert checkpoint_digest(folder) != before  # code decides what a checkpoint computes
