"""Every way of generating that users expect works steered, or is refused with a reason.

The reference is the same call of the Hugging Face model under hand-written hooks.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import StoppingCriteriaList, TextStreamer

from interv import VLM, Add, Capture, Prompt, Site
from tests.property.reference import hooked
from tests.real_vocabularies import BPE, build_bpe
from tests.tiny_models import RANDOM, build

LAYER = 1


def picture(seed: int, side: int = 28) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def ops(vlm: VLM, rows: int, strength: float = 3.0) -> list[Add]:
    vectors = torch.randn(rows, vlm.d_model, generator=torch.Generator().manual_seed(1))
    return [Add(Site(LAYER), vectors, strength=strength)]


def by_hand(vlm: VLM, prompts: list[Prompt], op: Add, **options: Any) -> list[list[int]]:
    """The Hugging Face model's own generate, its last prompt token and all later ones pushed by a plain hook."""
    inputs = vlm.encode(prompts).model_inputs()
    inputs.pop("position_ids")
    copies = max(options.get("num_beams", 1), options.get("num_return_sequences", 1))
    push = (op.strength * op.vector).repeat_interleave(copies, dim=0)

    def change(hidden: torch.Tensor) -> torch.Tensor:
        changed = hidden.clone()
        changed[:, -1] += push
        return changed

    options = {"do_sample": False, **options}
    with hooked(vlm, f"{vlm.layout.blocks}.{LAYER}", "output", change):
        output = vlm.model.generate(**inputs, **options)
    return [row[inputs["input_ids"].shape[1] :].tolist() for row in output]


def padded(rows: list[list[int]], pad: int) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [pad] * (longest - len(row)) for row in rows]


PROMPTS = [Prompt(picture(1), "one?"), Prompt(picture(2), "a longer one?")]


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"min_new_tokens": 7},
        {"repetition_penalty": 1.5},
        {"bad_words_ids": [[60], [61]]},
    ],
    ids=str,
)
def test_deterministic_options_give_what_hooks_give(vlm: VLM, options: dict[str, Any]) -> None:
    steering = ops(vlm, 2)
    ours = vlm.generate(PROMPTS, steering, max_new_tokens=7, **options)
    theirs = by_hand(vlm, PROMPTS, steering[0], max_new_tokens=7, **options)
    pad = vlm.model.generation_config.pad_token_id
    assert padded(ours.token_ids, pad) == padded(theirs, pad)


def test_sampling_repeats_with_its_seed_and_leaves_the_global_state_alone(vlm: VLM) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "temperature": 1.5, "top_p": 0.95}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = vlm.generate(PROMPTS, ops(vlm, 2, 0.2), seed=3, **settings)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert vlm.generate(PROMPTS, ops(vlm, 2, 0.2), seed=3, **settings).token_ids == first.token_ids
    others = [vlm.generate(PROMPTS, ops(vlm, 2, 0.2), seed=seed, **settings).token_ids for seed in range(4, 12)]
    assert any(other != first.token_ids for other in others)


def test_sampled_tokens_are_those_of_hooks_at_the_same_seed(vlm: VLM) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3, "top_k": 5}
    steering = ops(vlm, 2, 0.2)
    ours = vlm.generate(PROMPTS, steering, seed=3, **settings)
    torch.manual_seed(3)
    theirs = by_hand(vlm, PROMPTS, steering[0], **settings)
    assert len(ours) == 6
    pad = vlm.model.generation_config.pad_token_id
    assert padded(ours.token_ids, pad) == padded(theirs, pad)


@pytest.mark.parametrize("name", [*RANDOM, *BPE])
def test_a_stop_string_ends_its_row_alone(name: str) -> None:
    vlm = build_bpe(name) if name in BPE else build(name)
    decode = vlm.processor.tokenizer.decode
    free = vlm.generate(PROMPTS, ops(vlm, 2), max_new_tokens=16, eos_token_id=[])
    windows = (decode(free.token_ids[0][start : start + 2]) for start in range(1, 14))
    text = next(text for text in windows if text.strip() and "\ufffd" not in text and text not in free[1])
    stopped = vlm.generate(PROMPTS, ops(vlm, 2), max_new_tokens=16, eos_token_id=[], stop_strings=[text])
    length = len(stopped.token_ids[0])
    assert stopped.token_ids == [free.token_ids[0][:length], free.token_ids[1]]
    assert stopped.finish_reason == ["stop", "length"]
    assert text in decode(stopped.token_ids[0])
    assert text not in decode(stopped.token_ids[0][:-1])


def test_a_streamer_sees_the_steered_tokens(vlm: VLM) -> None:
    seen: list[str] = []

    class Listener(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            seen.append(text)

    listener = Listener(vlm.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    reply = vlm.generate(PROMPTS[:1], ops(vlm, 1), max_new_tokens=6, streamer=listener)[0]
    assert "".join(seen).split() == reply.split()


def test_a_stopping_criterion_of_the_user_ends_the_run(vlm: VLM) -> None:
    calls = StoppingCriteriaList([lambda ids, scores, **kwargs: torch.full((len(ids),), True)])
    replies = vlm.generate(PROMPTS, ops(vlm, 2), max_new_tokens=6, stopping_criteria=calls)
    assert {len(ids) for ids in replies.token_ids} == {1}


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(None, "text only?"),
        Prompt([picture(1), picture(2)], "two images?"),
        Prompt(picture(1), "who are you?", system="answer carefully ."),
        Prompt(picture(1), "and now?", history=(("user", "hello"), ("assistant", "hi"))),
        Prompt(picture(1), "go on", answer="It is"),
        Prompt(picture(1), "closed", closed=True),
    ],
    ids=["text only", "two images", "system", "history", "forced answer", "closed turn"],
)
def test_every_kind_of_prompt_is_steered_as_by_hand(vlm: VLM, prompt: Prompt) -> None:
    steering = ops(vlm, 1)
    ours = vlm.generate([prompt], steering, max_new_tokens=5, eos_token_id=[])
    assert ours.token_ids == by_hand(vlm, [prompt], steering[0], max_new_tokens=5, eos_token_id=[])


def test_a_batch_may_mix_kinds_of_prompts(vlm: VLM) -> None:
    prompts = [
        Prompt(None, "text"),
        PROMPTS[0],
        replace(PROMPTS[1], answer="It"),
        Prompt([picture(1), picture(3)], "two?"),
    ]
    steering = ops(vlm, len(prompts))
    together = vlm.generate(prompts, steering, max_new_tokens=5)
    for row, prompt in enumerate(prompts):
        alone = vlm.generate([prompt], [Add(Site(LAYER), steering[0].vector[row], strength=3.0)], max_new_tokens=5)
        assert alone.token_ids[0] == together.token_ids[row]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_cache": False}, "continues from the prompt's cache"),
        ({"prefill_chunk_size": 4}, "the prompt has run already"),
        ({"cache_implementation": "static"}, "the prompt's cache is there already"),
        ({"assistant_model": object()}, "several tokens a step"),
        ({"prompt_lookup_num_tokens": 3}, "several tokens a step"),
    ],
    ids=["use_cache", "chunks", "static cache", "assistant", "prompt lookup"],
)
def test_what_cannot_be_steered_is_refused_with_a_reason(vlm: VLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vlm.generate(PROMPTS, ops(vlm, 2), max_new_tokens=3, **options)


def test_captures_and_beams_do_not_mix(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="swap rows at every step"):
        vlm.generate(PROMPTS, [Capture(Site(LAYER), "generated")], max_new_tokens=3, num_beams=2)


def test_installed_hooks_work_without_a_cache(vlm: VLM) -> None:
    steering = ops(vlm, 2)
    inputs = vlm.encode(PROMPTS).model_inputs()
    inputs.pop("position_ids")
    with vlm.installed(steering):
        output = vlm.model.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=False)
    pad = vlm.model.generation_config.pad_token_id
    new = [row[inputs["input_ids"].shape[1] :].tolist() for row in output]
    ours = padded(vlm.generate(PROMPTS, steering, max_new_tokens=5).token_ids, pad)
    assert [row[: len(ours[0])] for row in new] == ours
