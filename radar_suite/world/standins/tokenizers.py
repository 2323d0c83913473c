"""Tokenizers of the stand-ins: real tokenizer files, trained on the built-in corpus' pretrain texts.

Byte-level BPE with Qwen's special tokens for the Qwen and LLaVA families; metaspace BPE with byte fallback and Gemma's
special tokens for Gemma; the same without image tokens for SigLIP. Any text in any script has an encoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from radar_suite.world.standins.geometry import TEXT_TOKENS

VOCABULARY = 2560

# What a stand-in's prompt looks like: frames, text, end of turn. No roles: they would cost eight tokens a post.
_TEMPLATE = (
    "{{%- for message in messages %}}{start}{{%- for item in message['content'] %}}"
    "{{%- if item['type'] == 'image' %}}{{{{ '{image}' }}}}{{%- else %}}{{{{ item['text'] }}}}{{%- endif %}}"
    "{{%- endfor %}}{{{{ '{end}' }}}}{{%- endfor %}}"
)
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
                "<|video_pad|>", "<image>", "<video>")  # fmt: skip
GEMMA_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
                 "<end_of_image>", "<image_soft_token>")  # fmt: skip
SIGLIP_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")


def train_tokenizer(family: str, texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> Any:
    """Train and wrap one family's tokenizer.

    Args:
        texts: prompt texts as `radar_lib.models.text.post_text` writes them.
        vocabulary: size including special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if family in ("qwen3_vl", "llava_onevision"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(QWEN_SPECIAL), show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
        image = "<|vision_start|><|image_pad|><|vision_end|>" if family == "qwen3_vl" else "<image>"
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>",
            model_max_length=TEXT_TOKENS, chat_template=_TEMPLATE.format(start="", image=image, end="<|im_end|>"),
        )  # fmt: skip
    special = GEMMA_SPECIAL if family == "gemma3" else SIGLIP_SPECIAL
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[*special, *byte_tokens], show_progress=False, limit_alphabet=600
    )
    tokenizer.train_from_iterator(texts, trainer)
    if family == "gemma3":
        tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
        template = _TEMPLATE.format(start="{{ '<bos>' }}", image="<start_of_image>", end="<end_of_turn>")
    else:
        template = None
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", tokenizer.token_to_id("<eos>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
        padding_side="right", model_max_length=TEXT_TOKENS, chat_template=template,
        extra_special_tokens=[token for token in special if token not in ("<pad>", "<eos>", "<bos>", "<unk>")],
    )  # fmt: skip
