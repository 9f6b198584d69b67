"""The golden numbers, and the same quantities computed through the public interface."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from interv import VLM, Prompt
from methods import ContrastPair, Contrasts, capture_contrasts
from methods.training import Weights
from studies.recipes import Recipe
from studies.recipes.named import CODE_POPE_LLAVA

DATA = Path(__file__).parent / "data"
LAYER = 3  # of the context and of the contrast


@dataclass(frozen=True)
class Golden:
    """What the published code gave."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def network(self, name: str) -> Weights:
        """ "init", "last" or "saved"."""
        parts = ("encoder.weight", "encoder.bias", "decoder.weight")
        return Weights(*(self.tensors[f"network.{name}.{part}"] for part in parts))

    @cached_property
    def train(self) -> Contrasts:
        """The training contrasts from the golden activations themselves."""
        items = self.facts["train"]
        return Contrasts(
            self["train.context"],
            self["train.pos.average"],
            self["train.neg.average"],
            tuple(item["answer"] for item in items),
            tuple(item["image"] for item in items),
            LAYER,
            LAYER,
            "golden",
        )


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(json.loads((DATA / "golden.json").read_text()), load_file(DATA / "golden.safetensors"))


@pytest.fixture(scope="session")
def tiny() -> VLM:
    """Not `vlm`, which stands for each of the models that the other tests run on."""
    return VLM.load(str(DATA / "tiny-llava"))


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The published code on POPE, where the golden run differs from it: no continuation, other layers, greedy."""
    return replace(CODE_POPE_LLAVA, reads=LAYER, writes=LAYER, pool="mean", sampled=False, max_new_tokens=24)


@pytest.fixture(scope="session")
def pairs(golden: Golden, recipe: Recipe) -> dict[str, list[ContrastPair]]:
    return {
        part: [
            recipe.pair(DATA / "images" / item["image"], item["question"], item["answer"], item["image"])
            for item in golden.facts[part]
        ]
        for part in ("train", "test")
    }


@pytest.fixture(scope="session")
def captured(tiny: VLM, recipe: Recipe, pairs: dict[str, list[ContrastPair]]) -> dict[str, Contrasts]:
    """The contrasts of this toolkit, in batches of eight."""
    return {
        part: capture_contrasts(tiny, rows, **recipe.capturing(rows), progress=False).at(LAYER, LAYER)
        for part, rows in pairs.items()
    }


@pytest.fixture(scope="session")
def prompts(pairs: dict[str, list[ContrastPair]]) -> list[Prompt]:
    return [pair.prompt for pair in pairs["test"][:20]]
