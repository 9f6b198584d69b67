"""A steered model inside transformers' pipeline: the replies of `methods.steer`, or a refusal by name."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TextIteratorStreamer, pipeline

from interv import VLM, Prompt
from methods import L2S, MeanSteering, NoSteering, PAILogits, PromptSteering, SteeredModel, Together, steer
from tests.baselines import contrasts, fitted
from tests.property.cases import Ask
from tests.tiny_models import build

EMBEDDED = ("tiny-llava", "tiny-qwen2vl")
QUESTIONS = ("is there a bus in the image ?", "describe the image .", "is there a cup in the image ?", "is it so ?")
SIZES = ((84, 84), (84, 56), (56, 84), (112, 56))
STRENGTH = 20.0  # enough to change what is said


@pytest.fixture(params=EMBEDDED)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


class Kept(LogitsProcessor):
    """Keeps what the model said at each step."""

    def __init__(self) -> None:
        self.said: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.said.append(scores.clone())
        return scores


def l2s(vlm: VLM) -> L2S:
    return L2S.fit(contrasts(vlm), epochs=3, hidden=4)


def prompts(system: str | None = None) -> list[Prompt]:
    images = [Ask("", (size,), number).prompt().image for number, size in enumerate(SIZES)]
    return [Prompt(image, text, system=system) for image, text in zip(images, QUESTIONS, strict=True)]


def chat(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt in the words of transformers."""
    first = [{"role": "system", "content": [{"type": "text", "text": prompt.system}]}] if prompt.system else []
    shown = [{"type": "image", "image": image} for image in prompt.images()]
    return [*first, {"role": "user", "content": [*shown, {"type": "text", "text": prompt.question}]}]


def piped(vlm: VLM, steerer: Any, strength: float = STRENGTH, **options: Any) -> Any:
    model = SteeredModel(vlm, steerer, strength)
    return pipeline("image-text-to-text", model=model, processor=vlm.processor, device=-1, **options)


def said(found: Any) -> list[str]:
    return [one["generated_text"] for one in (rows[0] if isinstance(rows, list) else rows for rows in found)]


@pytest.mark.parametrize("system", [None, "look with care ."])
def test_a_pipeline_answers_as_steer_does_to_the_bit(small: VLM, system: str | None) -> None:
    steerer, asked, here, there = l2s(small), prompts(system), Kept(), Kept()
    options = {"max_new_tokens": 8}
    expected = steer(small, asked, steerer, strength=STRENGTH, logits_processor=LogitsProcessorList([here]), **options)
    pipe = piped(small, steerer)
    found = pipe(
        text=[chat(one) for one in asked],
        batch_size=len(asked),
        return_full_text=False,
        generate_kwargs={"logits_processor": LogitsProcessorList([there])},
        **options,
    )
    assert [text.strip() for text in said(found)] == expected
    assert len(here.said) == len(there.said) > 1
    assert all(torch.equal(one, other) for one, other in zip(here.said, there.said, strict=True))
    assert expected != small.generate(asked, **options), "this steerer says the same as the model"


def test_one_by_one_is_steer_one_by_one(small: VLM) -> None:
    steerer = l2s(small)
    pipe = piped(small, steerer, max_new_tokens=6)
    found = pipe(text=[chat(one) for one in prompts()], return_tensors=True)
    for prompt, (row,) in zip(prompts(), found, strict=True):
        ids = steer(small, [prompt], steerer, strength=STRENGTH, max_new_tokens=6).token_ids[0]
        assert row["generated_token_ids"].tolist()[-len(ids) :] == ids


def test_unsteered_it_says_what_the_model_itself_says_in_a_pipeline(small: VLM) -> None:
    chats = [chat(one) for one in prompts()]
    own = pipeline("image-text-to-text", model=small.model, processor=small.processor, device=-1)
    for steerer in (NoSteering(0, 0, ""), l2s(small)):
        pipe = piped(small, steerer, 0.0)
        assert pipe(text=chats, batch_size=4, max_new_tokens=6) == own(text=chats, batch_size=4, max_new_tokens=6)


def test_the_model_inside_stays_as_it_is(small: VLM) -> None:
    before, chats = vars(small.model).copy(), [chat(one) for one in prompts()]
    own = pipeline("image-text-to-text", model=small.model, processor=small.processor, device=-1)
    plain = own(text=chats, max_new_tokens=6)
    pipe = piped(small, l2s(small))
    pipe(text=chats, max_new_tokens=6)
    with pytest.raises(ValueError, match="assistant_model"):
        pipe(text=chats, generate_kwargs={"assistant_model": small.model})
    assert own(text=chats, max_new_tokens=6) == plain
    assert vars(small.model) == before


def test_methods_that_look_elsewhere_and_scopes_of_the_prompt_are_as_in_steer(small: VLM) -> None:
    whole = replace(MeanSteering.fit(contrasts(small)), scope="all")
    for steerer in (whole, fitted(small, "CAST"), fitted(small, "PAI")):
        expected = steer(small, prompts(), steerer, strength=STRENGTH, max_new_tokens=6)
        found = piped(small, steerer)(
            text=[chat(one) for one in prompts()], batch_size=4, max_new_tokens=6, return_full_text=False
        )
        assert [text.strip() for text in said(found)] == expected


def test_beams_and_sampling_are_as_in_steer(small: VLM) -> None:
    steerer, chats = l2s(small), [chat(one) for one in prompts()]
    pipe = piped(small, steerer)
    for options in ({"num_beams": 2}, {"do_sample": True, "top_k": 4, "seed": 3}):
        expected = steer(small, prompts(), steerer, strength=STRENGTH, max_new_tokens=6, **options)
        found = pipe(text=chats, batch_size=4, max_new_tokens=6, return_full_text=False, generate_kwargs=dict(options))
        assert [text.strip() for text in said(found)] == expected


def test_a_streamed_reply_is_the_reply(small: VLM) -> None:
    steerer, (prompt, *_) = l2s(small), prompts()
    streamer = TextIteratorStreamer(small.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    piped(small, steerer)(text=chat(prompt), max_new_tokens=8, generate_kwargs={"streamer": streamer})
    assert "".join(streamer).strip() == steer(small, [prompt], steerer, strength=STRENGTH, max_new_tokens=8)[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"assistant_model": "itself"}, "assistant_model"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"generation_config": GenerationConfig(max_new_tokens=3)}, "give its settings as keywords"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate"),
        ({"use_cache": False}, "continues from the prompt's cache"),
        ({"position_ids": torch.zeros(1, 4, dtype=torch.long)}, "position_ids"),
        ({"pixel_values_videos": torch.zeros(1, 4)}, "pixel_values_videos"),
    ],
)
def test_what_cannot_be_steered_is_refused_by_name(options: dict[str, Any], reason: str) -> None:
    vlm = build("tiny-llava")
    model = SteeredModel(vlm, l2s(vlm))
    given = {name: vlm.model if value == "itself" else value for name, value in options.items()}  # type: ignore[comparison-overlap]
    inputs = vlm.encode(prompts()[:1])
    with pytest.raises(ValueError, match=reason):
        model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, **inputs.media, **given)


def test_padding_on_the_right_is_refused() -> None:
    vlm = build("tiny-llava")
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    with pytest.raises(ValueError, match="padding_side = 'left'"):
        SteeredModel(vlm, l2s(vlm)).generate(torch.full((2, 6), 5), attention_mask=mask)


@pytest.mark.parametrize("name", ["forward", "save_pretrained", "generate_batch", "language_model", "push_to_hub"])
def test_all_else_that_would_run_or_give_away_the_unsteered_model_is_refused(name: str) -> None:
    vlm = build("tiny-llava")
    model = SteeredModel(vlm, l2s(vlm))
    with pytest.raises(AttributeError, match=r"unsteered|no attribute"):
        getattr(model, name)
    with pytest.raises(AttributeError, match="unsteered"):
        model(input_ids=torch.ones(1, 2, dtype=torch.long))


def test_methods_that_need_the_words_of_the_prompt_are_refused() -> None:
    vlm = build("tiny-llava")
    words = PromptSteering(1, 1, vlm.fingerprint, suffix="look .")
    for steerer in (words, Together.of([l2s(vlm), words])):
        with pytest.raises(ValueError, match="changes the words"):
            SteeredModel(vlm, steerer)
    with pytest.raises(ValueError, match="asks each prompt once more"):
        SteeredModel(vlm, PAILogits.fit(contrasts(vlm)))
