"""Gemma 3's blocks attend in a window: prompts that are longer than it."""

import pytest
import torch

from interv import VLM, Add, Prompt, Site
from methods import ContrastPair, capture_contrasts
from tests.studies.benchmark_files import picture
from tests.tiny_families import family

LONG = Prompt(picture(0), "what is it ? " * 8)
PROMPTS = [LONG, Prompt(picture(1), "short")]


@pytest.fixture(scope="module")
def gemma() -> VLM:
    return family("gemma3")


def test_the_last_prompt_token_is_replayed_exactly(gemma: VLM) -> None:
    inputs = gemma.encode(PROMPTS).model_inputs()
    assert inputs["input_ids"].shape[1] > gemma.model.config.get_text_config().sliding_window
    with torch.no_grad():
        expected = gemma.model(**inputs).logits[:, -1]
    torch.testing.assert_close(gemma.logits(PROMPTS), expected, atol=1e-5, rtol=1e-5)


def test_replies_are_those_of_the_hugging_face_model(gemma: VLM) -> None:
    ops = [Add(Site(1), torch.ones(gemma.d_model), strength=0.5)]
    encoded = gemma.encode(PROMPTS)
    inputs = {name: value for name, value in encoded.model_inputs().items() if name != "position_ids"}
    for wanted in ([], ops):
        with gemma.installed(wanted) if wanted else torch.no_grad():
            tokens = gemma.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, encoded.input_ids.shape[1] :]
        replies = gemma.generate(PROMPTS, wanted, max_new_tokens=8)
        assert [
            row[: len(own)] for row, own in zip(tokens.tolist(), replies.token_ids, strict=True)
        ] == replies.token_ids


def test_contrasts_are_those_of_full_passes(gemma: VLM) -> None:
    answers = [Prompt(LONG.image, LONG.question, answer=word) for word in ("yes", "no")]
    bank = capture_contrasts(gemma, [ContrastPair(LONG, *answers)], progress=False)
    for layer in range(gemma.n_layers):
        train = bank.at(layer, layer)
        for own, prompt in ((train.context, LONG), (train.positive, answers[0]), (train.negative, answers[1])):
            full = gemma.capture([prompt], [Site(layer)])[Site(layer)]
            torch.testing.assert_close(own, full, atol=1e-4, rtol=1e-4)
