"""All methods, fitted on a few prompts of the test models, and the batches that they are asked."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from interv import VLM, Prompt
from methods import (
    ADHH,
    BASELINES,
    CAST,
    COMBINED,
    EXTENSIONS,
    ITI,
    L2S,
    PAI,
    STEERERS,
    VCD,
    ContrastBank,
    ContrastPair,
    Contrasts,
    L2SGated,
    L2SLayers,
    PAILogits,
    RandomHeads,
    Said,
    attribute_heads,
    capture_contrasts,
    capture_heads,
)
from methods.attribution import Attribution
from methods.head_contrasts import HeadContrasts
from methods.steerer import Fitted
from tests.property.cases import Ask

NAMES = tuple(method.__name__ for method in BASELINES)
CATALOGUE = {method.__name__: method for method in (*STEERERS, *BASELINES, *EXTENSIONS, *COMBINED)}
NEED_IMAGES = ("PAI", "ADHH", "RandomHeads", "L2SWithPAI", "L2SWithADHH")
QUICK = {"epochs": 3, "hidden": 4}
SIZES = ((28, 28), (84, 56), (56, 84), (28, 56))


def pairs() -> list[ContrastPair]:
    """Of two behaviours: to say yes of small images, no of others."""
    made = []
    for row in range(12):
        prompt = Ask("is it so ?"[: 4 + row % 5], (SIZES[row % 4],), row).prompt()
        words = ("yes", "no") if row % 2 else ("no", "yes")
        sides = [replace(prompt, answer=word) for word in words]
        made.append(ContrastPair(prompt, *sides, behavior=words[0], id=str(row)))
    return made


@cache
def bank(vlm: VLM) -> ContrastBank:
    return capture_contrasts(vlm, pairs(), progress=False)


@cache
def pooled(vlm: VLM) -> ContrastBank:
    return bank(vlm).reading(vlm, [pair.prompt for pair in pairs()], "text")


@cache
def heads(vlm: VLM) -> HeadContrasts:
    return capture_heads(vlm, pairs())


@cache
def attribution(vlm: VLM) -> Attribution:
    return attribute_heads(vlm, [Said(pair.prompt, row % 3 == 0) for row, pair in enumerate(pairs()[:5])])


def contrasts(vlm: VLM) -> Contrasts:
    return bank(vlm).at(vlm.n_layers - 1, 1)


def both_kinds(vlm: VLM) -> Contrasts:
    """Every other pair needs nothing."""
    return contrasts(vlm).silenced(ids=contrasts(vlm).id[::2])


def fitted(vlm: VLM, name: str, **changes: Any) -> Fitted:
    """The method of this name; `changes` are of its fields."""
    return replace(_fitted(vlm, name), **changes)


@cache
def _fitted(vlm: VLM, name: str) -> Fitted:
    match name:
        case "CAST":
            return CAST.fit(pooled(vlm).at(vlm.n_layers - 1, 0))
        case "ITI":
            return ITI.fit(heads(vlm), share=0.2)
        case "PAI":
            return PAI.fit(contrasts(vlm), vlm=vlm)
        case "PAILogits":
            return PAILogits.fit(contrasts(vlm), excess=1.0)
        case "ADHH":
            return ADHH.fit(attribution(vlm), share=0.2, threshold=0.3)
        case "RandomHeads":
            return RandomHeads.fit(attribution(vlm), share=0.2, threshold=0.3)
        case "VCD":
            return VCD.fit(contrasts(vlm))
        case "L2S":
            return L2S.fit(contrasts(vlm), **QUICK)
        case "L2SGated":
            return L2SGated.fit(both_kinds(vlm), network=_fitted(vlm, "L2S"))  # type: ignore[arg-type]
        case "L2SLayers":
            first, second = (bank(vlm).at(vlm.n_layers - 1, block) for block in (0, 2))
            return L2SLayers.fit(first, others=[second], **QUICK)
        case "L2SWithPAI" | "L2SWithADHH":
            method = CATALOGUE[name]
            return method.of([_fitted(vlm, part) for part in method.made_of])  # type: ignore[attr-defined]
    return CATALOGUE[name].fit(replace(contrasts(vlm), agnostic=contrasts(vlm).vectors))


def sixteen(name: str) -> list[Prompt]:
    """Prompts of many lengths about images of many sizes; without any, and with two, where the method takes that."""
    asks = []
    for row in range(16):
        sizes = (SIZES[row % 4],) if row % 5 else (SIZES[row % 4], SIZES[(row + 1) % 4])
        if row % 7 == 3 and name not in NEED_IMAGES:
            sizes = ()
        asks.append(Ask("tell me what you see there"[: 2 + (row * 7) % 23], sizes, row))
    return [ask.prompt() for ask in asks]


def strengths(count: int) -> torch.Tensor:
    """Of zero, of one, and between and beyond."""
    return torch.tensor([0.0, 1.0, 0.5, 2.0])[torch.arange(count) % 4]


def warm(vlm: VLM) -> None:
    """Fit all of them, so that what is kept was made before a fault was planted."""
    for name in NAMES:
        _fitted(vlm, name)
    contrasts(vlm)
