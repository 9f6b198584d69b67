"""Law 5 under vocabularies of the kinds in use: contrasts of odd answers to odd questions equal full passes by hand."""

# ruff: noqa: RUF001
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from interv import VLM
from methods import ContrastPair, capture_contrasts
from methods.contrasts.shared_prefix import Pool
from tests.property import places
from tests.property.cases import Ask, Case
from tests.property.reference import close, from_scratch, full_pass, own_inputs
from tests.real_vocabularies import BPE, build_bpe

pytestmark = pytest.mark.slow

ANSWERS = (
    "yes",
    "No.",
    " Yes",
    "Yes ",
    "\nyes",
    "no\n",
    "  two  blanks",
    "it is",
    "I'm not sure",
    "a\tb",
    "1,000",
    "</b> & <i>",
    "…",
    "ÄÖÜ",
    "e\u0301te\u0301",
    "日本語です。",
    "👍🏽",
    "Yes, there is a dog on the sofa.",
)
QUESTIONS = ("", "Is there a dog?", "犬はいますか？", "¿Hay un perro?", " leading", "trailing \n", "Q:\n\n1. a\n2. ᚠ𝕏")
SHOWN = ((), ((56, 28),))
SAID = 3
images = pytest.mark.parametrize("sizes", SHOWN, ids=["no image", "an image"])
names = pytest.mark.parametrize("name", BPE)


@cache
def states(name: str, ask: Ask, said: tuple[int, ...] = ()) -> Tensor:
    """`[layers, tokens, d_model]` of one unpadded prompt; the last layer by a hook, before the final norm."""
    vlm = build_bpe(name)
    last: list[Tensor] = []
    block = vlm.model.get_submodule(f"{places.BLOCKS}.{vlm.n_layers - 1}")
    handle = block.register_forward_hook(lambda module, args, hidden: last.append(hidden))
    hidden = full_pass(vlm, Case((ask,), ()), 0, said, output_hidden_states=True).hidden_states
    handle.remove()
    return torch.stack([*hidden[1:-1], last[0]])[:, 0]


@cache
def ids(name: str, ask: Ask) -> tuple[int, ...]:
    return tuple(own_inputs(build_bpe(name), [ask])["input_ids"][0].tolist())


def reply(name: str, ask: Ask) -> tuple[int, ...]:
    """What the model says behind a forced answer and is fed back."""
    vlm = build_bpe(name)
    ends = {vlm.model.generation_config.eos_token_id}
    (tokens,), _ = from_scratch(vlm, Case((ask,), (), SAID + 1), eos_token_id=[*ends])
    stop = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[: stop - 1])


def pooled(name: str, ask: Ask, pool: str) -> Tensor:
    said = reply(name, ask) if pool == "mean_generated" else ()
    layers = states(name, ask, said)
    if pool in ("last", "before_last"):
        return layers[:, -1 if pool == "last" else -2]
    whole, bare = ids(name, ask), ids(name, replace(ask, answer=""))
    start = next((n for n, (one, two) in enumerate(zip(whole, bare, strict=False)) if one != two), len(bare))
    return layers[:, start:].mean(1)


def pairs(asks: list[tuple[Ask, str, str]]) -> list[ContrastPair]:
    made = []
    for number, (ask, positive, negative) in enumerate(asks):
        prompt = ask.prompt()
        answered = (replace(prompt, answer=answer) for answer in (positive, negative))
        made.append(ContrastPair(prompt, *answered, id=str(number)))
    return made


def check(name: str, asks: list[tuple[Ask, str, str]], pool: Any) -> None:
    bank = capture_contrasts(
        build_bpe(name), pairs(asks), batch_size=21, pool=pool, generated_tokens=SAID, progress=False
    )
    assert len(bank) == len(asks)
    for row, (ask, positive, negative) in enumerate(asks):
        close(bank.context[row], pooled(name, ask, "last"))
        close(bank.positive[row], pooled(name, replace(ask, answer=positive), pool))
        close(bank.negative[row], pooled(name, replace(ask, answer=negative), pool))


@names
@images
@pytest.mark.parametrize("pool", [pool for pool in get_args(Pool) if pool != "mean_generated"])
def test_every_answer_to_every_question_equals_full_passes(name: str, sizes: tuple, pool: str) -> None:
    """Each answer is the wanted one of one pair and the unwanted one of another, and so once in a full pass."""
    count = len(ANSWERS)
    asks = [
        (Ask(question, sizes, seed=number), ANSWERS[place], ANSWERS[(place + 5) % count])
        for number, question in enumerate(QUESTIONS)
        for place in range(count)
    ]
    check(name, asks, pool)


@names
@images
def test_what_the_model_says_behind_an_answer_equals_full_passes(name: str, sizes: tuple) -> None:
    asks = [
        (Ask(QUESTIONS[place % len(QUESTIONS)], sizes, seed=place % 2), ANSWERS[place], ANSWERS[place - 1])
        for place in range(0, len(ANSWERS), 2)
    ]
    check(name, asks, "mean_generated")


@names
@images
def test_the_shared_prefix_runs_once(name: str, sizes: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch runs whole, and what is shared reaches beyond the images, up to the answer or the token before it."""
    vlm, heads = build_bpe(name), []
    monkeypatch.setattr(VLM, "capture", lambda *args, **named: pytest.fail("a batch ran whole"))
    prefix = VLM.prefix
    monkeypatch.setattr(VLM, "prefix", lambda self, head, blocks: (heads.append(head), prefix(self, head, blocks))[1])
    asks = [(Ask(question, sizes), answer, "no") for question in QUESTIONS for answer in ANSWERS[::3]]
    capture_contrasts(vlm, pairs(asks), batch_size=len(asks), progress=False)
    (head,) = heads
    for row, (ask, _, _) in enumerate(asks):
        bare = ids(name, ask)
        assert tuple(head.tokens(row).tolist()) == bare[: len(head.tokens(row))]
        assert len(bare) - len(head.tokens(row)) <= 2
