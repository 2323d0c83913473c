"""The published form of the real checkpoints, at a small size: their files and tensor names load, and our prompts and
pixels are those of each family's own processor."""

import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from radar_lib.models.backbones import load_backbone
from radar_lib.models.base import INSTRUCTION
from radar_lib.models.checkpoints import open_checkpoint
from radar_lib.models.text import post_text

QWEN_TURN = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}{%- for item in message.content %}"
    "{%- if item.type == 'image' %}{{- 'IMAGE' }}{%- elif 'text' in item %}{{- item.text }}{%- endif %}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
GEMMA_TURN = (
    "{{ bos_token }}{%- for message in messages %}{{ '<start_of_turn>' + message.role + '\\n' }}"
    "{%- for item in message.content %}{%- if item.type == 'image' %}{{ '<start_of_image>' }}"
    "{%- else %}{{ item.text | trim }}{%- endif %}{%- endfor %}{{ '<end_of_turn>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{%- endif %}"
)
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
GEMMA_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
LLAVA_TOKENS = {"image_token": "<image>", "video_token": "<video>"}

# Per stand-in: published tensor names from those of transformers 5, class, tokenizer and image processor as named in
# the published files, and where the chat template is (an older checkpoint has it where only processors look).
PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen3-vl-8b": {
        "class": "Qwen3VLForConditionalGeneration", "head": "lm_head.weight", "names": {"": "model."},
        "tokenizer": {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False},
        "images": "Qwen2VLImageProcessorFast", "processor": "Qwen3VLProcessor",
        "template": ("chat_template.json", QWEN_TURN.replace("IMAGE", IMAGE)),
    },
    "gemma3-4b": {
        "class": "Gemma3ForConditionalGeneration", "head": None,
        "names": {"language_model.": "language_model.model.", "vision_tower.": "vision_tower.vision_model."},
        "tokenizer": {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False,
                      "extra_special_tokens": GEMMA_TOKENS, **GEMMA_TOKENS},
        "images": "Gemma3ImageProcessor", "processor": "Gemma3Processor", "processor_config": {"image_seq_length": 9},
        "template": ("chat_template.json", GEMMA_TURN),
    },
    "llava-ov-0.5b": {
        "class": "LlavaOnevisionForConditionalGeneration", "head": None,
        "names": {"language_model.": "language_model.model.", "vision_tower.": "vision_tower.vision_model."},
        "tokenizer": {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": LLAVA_TOKENS, **LLAVA_TOKENS},
        "images": "LlavaOnevisionImageProcessor", "processor": "LlavaOnevisionProcessor",
        "processor_config": {"num_image_tokens": 9, "vision_feature_select_strategy": "full"},
        "template": ("chat_template.json", QWEN_TURN.replace("IMAGE", "<image>\\n")),
    },
    "siglip2": {
        "class": "SiglipModel", "head": None, "names": {},
        "tokenizer": {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True,
                      "padding_side": "right"},
        "images": "SiglipImageProcessor", "processor": "SiglipProcessor", "template": None,
    },
}  # fmt: skip


def write_published(source, folder, name, weights, *, dtype, shards, change):
    """Lay a stand-in's folder out as its published namesake's is; `weights` are the bare model's."""
    about = PUBLISHED[name]
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.jinja"))
    tensors = {_rename(key, about["names"]): value.to(getattr(torch, dtype)) for key, value in weights.items()}
    if about["head"]:
        embedding = next(value for key, value in tensors.items() if key.endswith("embed_tokens.weight"))
        tensors[about["head"]] = embedding.flip(0)
    shards(folder, tensors)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    if rope := text.pop("rope_parameters", None):
        text |= old_rope(name, rope)
    about_model = {"architectures": [about["class"]], "torch_dtype": dtype, "dtype": None, "ignore_index": -100}
    change(folder / "config.json", **about_model, text_config=text, transformers_version="4.57.0")
    change(folder / "generation_config.json", do_sample=True, temperature=0.7, transformers_version="4.57.0")
    tokenizer = {"backend": None, "is_local": None, "local_files_only": None, "processor_class": about["processor"]}
    change(folder / "tokenizer_config.json", **tokenizer, **about["tokenizer"])
    change(folder / "special_tokens_map.json", eos_token="<|im_end|>" if "qwen" in name else "<eos>")
    change(
        folder / "preprocessor_config.json", image_processor_type=about["images"], processor_class=about["processor"]
    )
    change(folder / "processor_config.json", processor_class=about["processor"], **about.get("processor_config", {}))
    if about["processor"] != "SiglipProcessor" and name != "gemma3-4b":
        change(folder / "video_preprocessor_config.json", video_processor_type="Qwen3VLVideoProcessor", merge_size=2)
    if about["template"]:
        file, template = about["template"]
        change(folder / file, chat_template=template)
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # some repositories have one; never read


def old_rope(name, rope):
    """Rotary embeddings in the words of transformers 4, in which the published configurations are written."""
    if name.startswith("qwen"):
        scaling = {"mrope_section": rope["mrope_section"], "mrope_interleaved": True, "rope_type": "default"}
        return {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
    if name.startswith("gemma"):
        local, whole = rope["sliding_attention"]["rope_theta"], rope["full_attention"]["rope_theta"]
        linear = {"factor": 8.0, "rope_type": "linear"}
        return {"rope_local_base_freq": local, "rope_theta": whole, "rope_scaling": linear}
    return {"rope_theta": rope["rope_theta"], "rope_scaling": None, "use_sliding_window": False}


def _rename(name: str, prefixes: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return re.sub(f"^{re.escape(old)}", new, name)
    return name


NAMES = tuple(PUBLISHED)
DTYPE = {"siglip2": "float32"}


@pytest.fixture(scope="module")
def folders(checkpoints, loaded, shards, change_json, tmp_path_factory):
    """One folder per family, laid out as published; from the tiny stand-ins' weights."""
    root = tmp_path_factory.mktemp("published")
    for name in NAMES:
        weights = loaded(name).model.state_dict()
        dtype = DTYPE.get(name, "bfloat16")
        write_published(
            checkpoints / name, root / name, name, weights, dtype=dtype, shards=shards, change=change_json
        )
    return root


@pytest.fixture(scope="module")
def backbones(folders):
    return {name: load_backbone(folders / name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_published_layout_loads_offline_with_every_weight_in_its_place(folders, backbones, loaded, name):
    files, backbone, head = open_checkpoint(folders / name), backbones[name], PUBLISHED[name]["head"]
    assert len(files.shards) == 3 and files.digest == backbone.digest
    assert backbone.unused_weights == ((head,) if head else ())
    expected = loaded(name).model.state_dict()
    assert backbone.model.state_dict().keys() == expected.keys()
    dtype = getattr(torch, DTYPE.get(name, "bfloat16"))
    for key, value in backbone.model.state_dict().items():
        assert torch.equal(value, expected[key].to(dtype).float()), key
    models = (loaded(name).model, backbone.model)
    old, new = (getattr(model.config.get_text_config(), "rope_parameters", None) for model in models)
    if name == "gemma3-4b":
        assert new["sliding_attention"] == old["sliding_attention"]
        assert new["full_attention"] == old["full_attention"] | {"factor": 8.0, "rope_type": "linear"}
    else:
        assert {key: value for key, value in (new or {}).items() if key != "mrope_interleaved"} == (old or {})
    inside = sum(p.numel() for p in backbone.model.parameters())
    assert files.parameters - inside == (files.tensors[head][1][0] * files.tensors[head][1][1] if head else 0)


class VideoProcessor(SimpleNamespace):
    """Two processors ask for one, which needs torchvision; none of these posts has a video."""

    merge_size, temporal_patch_size, model_input_names, unused_input_names = 2, 2, (), ()


def own_processor(name, backbone, monkeypatch):
    import transformers

    about = PUBLISHED[name]
    cls = getattr(transformers, about["processor"])
    options = dict(about.get("processor_config", {}))
    if name.startswith(("qwen", "llava")):
        monkeypatch.setattr(cls, "check_argument_for_proper_class", lambda *_: None)
        options["video_processor"] = VideoProcessor()
    template = {"chat_template": backbone.tokenizer.chat_template} if about["template"] else {}
    return cls(image_processor=backbone.frame_processor.processor, tokenizer=backbone.tokenizer, **options, **template)


@pytest.mark.parametrize("frames", [0, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_pixels_equal_the_familys_own_processor(backbones, make_frame, monkeypatch, name, frames):
    """LLaVA-OneVision's processor would cut a single frame into crops (ours takes its base tile, as it does for each
    of several frames): that is the one deliberate difference, and the test below states it. SigLIP's takes one frame a
    text; ours averages over frames."""
    backbone = backbones[name]
    processor = own_processor(name, backbone, monkeypatch)
    images = [make_frame(i, (70, 48) if i else (48, 48)) for i in range(frames)]
    post = {"title": "win a prize مرحبا", "ocr_text": "gana", "asr_text": "", "frames": images}
    row = backbone.encode([post])[0]
    batch = backbone.collate([row])
    if name == "siglip2":
        pixels = {"images": images} if images else {}
        options = {"padding": "max_length", "truncation": True, "max_length": 64, "return_tensors": "pt"}
        expected = processor(text=[post_text(post).lower()], **pixels, **options)
    else:
        content = [{"type": "image", "image": image} for image in images]
        content.append({"type": "text", "text": post_text(post) + "\n" + INSTRUCTION})
        expected = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt",
            add_generation_prompt=True,
        )  # fmt: skip
    assert row.input_ids.tolist() == expected["input_ids"][0].tolist()
    if images:
        mine = batch["pixel_values"]
        assert torch.equal(mine, expected["pixel_values"].reshape(mine.shape))
    for key in ("image_grid_thw",):
        assert (key in batch) == (key in expected) and (key not in batch or torch.equal(batch[key], expected[key]))
    if name == "gemma3-4b":
        assert torch.equal(backbone.extra_inputs(batch)["token_type_ids"], expected["token_type_ids"])
    if name.startswith("qwen") and images:
        positions, _ = backbone.model.get_rope_index(
            expected["input_ids"], mm_token_type_ids=expected["mm_token_type_ids"],
            image_grid_thw=expected["image_grid_thw"],
        )  # fmt: skip
        assert torch.equal(row.position_ids, positions[:, 0])


def test_a_single_llava_onevision_frame_is_its_base_tile(backbones, make_frame, monkeypatch):
    backbone = backbones["llava-ov-0.5b"]
    own = own_processor("llava-ov-0.5b", backbone, monkeypatch)(
        text="<image>", images=[make_frame(1)], return_tensors="pt"
    )
    row = backbone.encode([{"title": "", "ocr_text": "", "asr_text": "", "frames": [make_frame(1)]}])[0]
    crops = own["pixel_values"][0]
    assert len(crops) > 1 and (own["input_ids"] == backbone.image_token_id).sum() > sum(row.frame_tokens)
    assert torch.equal(backbone.image_inputs(row.frames)["pixel_values"][0, 0], crops[0])


def test_siglip_2_reads_lower_case(backbones, loaded):
    post = {"title": "WIN a Prize", "ocr_text": "", "asr_text": "", "frames": []}
    lower = post | {"title": "win a prize"}

    def ids(backbone, post):
        return backbone.encode([post])[0].input_ids.tolist()

    assert ids(backbones["siglip2"], post) == ids(backbones["siglip2"], lower)
    assert ids(loaded("siglip2"), post) != ids(loaded("siglip2"), lower)  # the stand-in has seen both cases
