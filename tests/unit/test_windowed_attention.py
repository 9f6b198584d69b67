"""Gemma 3's blocks attend in a window: prompts that are longer than it."""

import pytest
import torch

from interv import VLM, Add, Capture, Prompt, Site
from methods import ContrastPair, capture_contrasts
from tests.property.attention_cases import Pull, Scene
from tests.property.attention_reference import attention
from tests.property.cases import Ask
from tests.property.test_law_13_attention import check_edits_equal_a_pass_by_hand, check_trace_equals_hooks
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


def test_attention_is_edited_inside_the_window(gemma: VLM) -> None:
    """Columns move through the window as the reply grows; the reference is one full pass a token, by hand."""
    asks = (Ask("what is it ? " * 8, ((56, 56),), 0), Ask("short", ((56, 56),), 1))
    pulls = (
        Pull("boost", "image", 0, None, "response", 1.0),
        Pull("gate", "after_image", 1, (0, 3), "response", 1.0, threshold=0.2),
        Pull("boost", "text", 2, None, "response", 1.0),
    )
    scene = Scene(asks, pulls, 6)
    assert gemma.encode(scene.prompts()).input_ids.shape[1] > gemma.model.config.get_text_config().sliding_window
    check_edits_equal_a_pass_by_hand(gemma, scene)
    check_trace_equals_hooks(gemma, scene)


def test_captured_weights_have_a_column_for_every_token(gemma: VLM) -> None:
    """Outside the window they are zero, as in eager attention."""
    inputs = gemma.encode(PROMPTS).model_inputs()
    with attention(gemma, "eager"), torch.no_grad():
        eager = gemma.model(**inputs, output_attentions=True).attentions
    read = gemma.capture(PROMPTS, [Site(layer, "hook_pattern") for layer in range(gemma.n_layers)])
    for layer, (site, own) in enumerate(read.items()):
        torch.testing.assert_close(own, eager[layer][:, :, -1], atol=1e-5, rtol=1e-5, msg=str(site))
    capture = Capture(Site(0, "hook_pattern"), "response")
    replies = gemma.generate(PROMPTS, [capture], max_new_tokens=4, eos_token_id=[])
    window, width = gemma.model.config.get_text_config().sliding_window, inputs["input_ids"].shape[1] + 3
    weights = replies.captured[capture][0]
    assert weights.shape == (4, 4, width)
    assert float(weights[-1, :, : width - window].abs().sum()) == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 4))
