"""Replies, stop strings, parsers and special tokens under vocabularies of the kinds in use."""

# ruff: noqa: RUF001
import pytest
import torch

from interv import Prompt
from methods import P2S, Query, steer
from studies.tasks.pope.pope import FIRST_TOKENS, parse_first_characters, parse_first_word, parse_official
from tests.property.reference import bitwise
from tests.real_vocabularies import BPE, LLAVA_TEMPLATE, MERGES, QWEN_TEMPLATE, build_bpe
from tests.unit.test_ways_of_generating import PROMPTS, picture

names = pytest.mark.parametrize("name", BPE)
TEXTS = (
    "Yes, there is a dog.",
    "no",
    " No. I can't see one.",
    "Ja, größer",
    "はい、犬がいます。",
    "👍🏽 yes",
    "𝕏 ᚠ is unknown",
)


@names
def test_the_vocabulary_is_of_its_kind(name: str) -> None:
    """Words are merged, other letters are bytes, and every text comes back."""
    tokenizer = build_bpe(name).processor.tokenizer
    assert len(tokenizer) > MERGES
    assert len(tokenizer("there is a dog", add_special_tokens=False).input_ids) <= 6
    assert len(tokenizer("𝕏", add_special_tokens=False).input_ids) >= 4
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids).strip() == text.strip()


def test_prompts_are_written_as_the_checkpoints_write_them() -> None:
    prompts = [
        Prompt(picture(1), "Is there a dog?"),
        Prompt(picture(1), "And a cat?", "No", "Be brief.", history=(("user", "Hi"), ("assistant", "Yes."))),
    ]
    wanted = {
        "bpe-llava": [
            "<s> USER: IMAGE \nIs there a dog? ASSISTANT:",
            "<s> Be brief. USER: Hi ASSISTANT: Yes. USER: IMAGE \nAnd a cat? ASSISTANT: No",
        ],
        "bpe-qwen2vl": [
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>IMAGE"
            "<|vision_end|>Is there a dog?<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes."
            "<|im_end|>\n<|im_start|>user\n<|vision_start|>IMAGE<|vision_end|>And a cat?<|im_end|>\n"
            "<|im_start|>assistant\nNo",
        ],
    }
    for name, texts in wanted.items():
        vlm = build_bpe(name)
        assert vlm.processor.chat_template == {"bpe-llava": LLAVA_TEMPLATE, "bpe-qwen2vl": QWEN_TEMPLATE}[name]
        encoded, image = vlm.encode(prompts), vlm.processor.image_token
        for row, text in enumerate(texts):
            written = vlm.processor.tokenizer.decode(encoded.tokens(row)).replace(image, "#")
            assert written.replace("#" * written.count("#"), "IMAGE") == text


@names
def test_rows_begin_and_pad_by_the_rules_of_their_tokenizer(name: str) -> None:
    vlm = build_bpe(name)
    tokenizer = vlm.processor.tokenizer
    encoded = vlm.encode([*PROMPTS, Prompt(None, "a")])
    begins = [int(encoded.tokens(row)[0]) for row in range(3)]
    assert set(begins) == {tokenizer.convert_tokens_to_ids("<s>" if name == "bpe-llava" else "<|im_start|>")}
    assert all(encoded.tokens(row).tolist().count(tokenizer.bos_token_id) == (name == "bpe-llava") for row in range(3))
    assert (encoded.input_ids[encoded.attention_mask == 0] == tokenizer.pad_token_id).all()
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@names
def test_a_reply_ends_with_its_end_token_and_without_its_text(name: str) -> None:
    vlm = build_bpe(name)
    free = vlm.generate(PROMPTS, max_new_tokens=6, eos_token_id=[])
    assert list(free) == [vlm.processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in free.token_ids]
    end = free.token_ids[0][2]
    ended = vlm.generate(PROMPTS, max_new_tokens=6, eos_token_id=[end])
    cut = free.token_ids[0].index(end) + 1
    assert (ended.token_ids[0], ended.finish_reason[0]) == (free.token_ids[0][:cut], "stop")
    if end not in free.token_ids[1]:
        assert (ended.token_ids[1], ended.finish_reason[1]) == (free.token_ids[1], "length")


@names
@pytest.mark.parametrize("padding", ["pad", "eos", "unused"])
def test_what_pads_a_row_decides_nothing(name: str, padding: str) -> None:
    vlm = build_bpe(name)
    tokenizer = vlm.processor.tokenizer
    token = {"pad": tokenizer.pad_token_id, "eos": tokenizer.eos_token_id, "unused": 7}[padding]
    encoded = vlm.encode([*PROMPTS, Prompt(None, "a")])
    ids = torch.where(encoded.attention_mask.bool(), encoded.input_ids, token)
    changed = type(encoded)(**{**vars(encoded), "input_ids": ids})
    together = vlm.generate(vlm.prefill(changed), max_new_tokens=4, logits=True)
    bitwise(together.logits, vlm.generate(vlm.prefill(encoded), max_new_tokens=4, logits=True).logits)


@names
def test_steered_batches_are_single_replies(name: str) -> None:
    vlm = build_bpe(name)
    vectors = torch.randn(len(TEXTS), vlm.d_model, generator=torch.Generator().manual_seed(0))
    prompts = [Prompt(picture(row) if row % 2 else None, text) for row, text in enumerate(TEXTS)]
    steerer = P2S(1, 1, vlm.fingerprint)
    together = steer(vlm, prompts, steerer, vectors=vectors, max_new_tokens=5)
    for row, prompt in enumerate(prompts):
        ops = steerer.ops(Query(vectors[row : row + 1], vectors[row : row + 1]))
        alone = vlm.generate([prompt], ops, max_new_tokens=5)
        assert (alone[0], alone.token_ids[0]) == (together[row], together.token_ids[row])


@names
@pytest.mark.parametrize(
    ("text", "label"),
    [("Yes, there is.", "yes"), (" no", "no"), ("No. I can't", "no"), ("犬 yes", "yes"), ("👍🏽", ""), ("Know", "")],
)
def test_parsers_read_what_the_tokenizer_wrote(name: str, text: str, label: str) -> None:
    tokenizer = build_bpe(name).processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False).input_ids[:FIRST_TOKENS]
    reply = tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)
    assert parse_first_word(reply) == label
    assert parse_first_characters(reply) == ("no" if text == "Know" else label)
    assert parse_official(reply.strip()) == ("no" if label == "no" else "yes")
