"""Vocabularies of the two kinds that are in use, trained when the tests run, in tiny random LLaVA and Qwen2-VL.

"bpe-qwen2vl" has Qwen2's byte-level BPE behind its pattern of words, "bpe-llava" LLaMA's BPE over whole sentences with
a blank before them, which falls back to bytes. Templates and special tokens are those that the checkpoints come with.
"""

# ruff: noqa: RUF001
import json
import random
from collections.abc import Iterator
from functools import cache
from pydoc_data import topics
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from studies.timing.official import TEMPLATES
from tests.tiny_models import tiny_llava, tiny_qwen2vl

MERGES = 3000
BPE = ("bpe-llava", "bpe-qwen2vl")
SENTENCES = (
    "Is there a dog in the image? Yes, there is a brown dog on the sofa. No, I can't see one.",
    "Describe the image in detail. The photo shows a man and two women at a table, with cups and plates.",
    "Gibt es einen Hund auf dem Bild? Ja, auf der grünen Straße läuft ein großer Hund über die Brücke.",
    "Y a-t-il un chien sur l'image ? Non, il n'y en a pas, mais un élève mange une crêpe à côté du garçon.",
    "¿Hay un perro en la imagen? Sí, el niño juega con un perro pequeño mañana por la mañana.",
    "Есть ли на картинке собака? Да, рядом с красной машиной стоит большая собака.",
    "Υπάρχει σκύλος στην εικόνα; Όχι, υπάρχει μόνο μια γάτα δίπλα στο παράθυρο.",
    "图片里有一只狗吗？是的，沙发上有一只棕色的狗。不，我没有看到猫。",
    "画像に犬がいますか？はい、ソファーの上に茶色い犬がいます。いいえ、猫はいません。",
    "사진에 개가 있습니까? 네, 소파 위에 갈색 개가 있습니다.",
    "هل يوجد كلب في الصورة؟ نعم، يوجد كلب بني على الأريكة.",
    "क्या चित्र में कुत्ता है? हाँ, सोफे पर एक भूरा कुत्ता है।",
    "USER: ASSISTANT: system user assistant You are a helpful assistant. 1, 2, 3, 10, 2024 👍 🐕 é ö ñ ß",
)
# Qwen2's words.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAVA_TEMPLATE, QWEN_TEMPLATE = TEMPLATES["llava"], TEMPLATES["qwen2_vl"]


def corpus() -> Iterator[str]:
    """A few hundred thousand characters: the sentences in many mixtures, and the interpreter's own manual."""
    yield from SENTENCES
    draw = random.Random(0)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    for _ in range(600):
        yield " ".join(draw.choices(words, k=12))
    for text in sorted(topics.topics.values())[:12]:
        yield from text.split("\n")


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Qwen2's kind: bytes as letters, words by a pattern, no beginning-of-sequence token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(vocab_size=256 + MERGES, initial_alphabet=alphabet, show_progress=False),
    )
    special = {f"{part}_token": f"<|{part}|>" for part in ("vision_start", "vision_end")}
    special |= {f"{part}_token": f"<|{part}_pad|>" for part in ("image", "video")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens={"start_token": "<|im_start|>", **special},
    )


@cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """LLaMA's kind: a blank before the text, blanks as letters, no words, and bytes for letters that it has not."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=MERGES, limit_alphabet=200))
    learnt = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            [tuple(merge) for merge in learnt["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )


@cache
def build_bpe(name: str) -> Any:
    """A VLM with such a vocabulary, made once a process."""
    from interv import VLM

    if name == "bpe-llava":
        model, processor = tiny_llava(tokenizer=byte_fallback(), template=LLAVA_TEMPLATE)
    else:
        model, processor = tiny_qwen2vl(tokenizer=byte_level(), template=QWEN_TEMPLATE)
    return VLM(model, processor, name)
