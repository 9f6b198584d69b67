"""A value prints as one line that a person can read: names and sizes, no weights."""

from dataclasses import dataclass, replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Add, Capture, Prompt, Replace, Site
from methods import L2S, STEERERS, Contrasts, MeanSteering, PromptSteering, Query
from methods.contrasts.bank import ContrastBank
from methods.contrasts.sharded import ShardedContrasts
from methods.steerer import Fitted


@pytest.fixture(scope="module")
def train() -> Contrasts:
    context, positive, negative = torch.randn(3, 12, 16).unbind()
    return Contrasts(context, positive, negative, ("yes",) * 12, tuple(map(str, range(12))), 3, 2, "0123", context)


def test_a_method_shows_its_layers_and_sizes(train: Contrasts) -> None:
    network = L2S.fit(train, hidden=4, epochs=1)
    assert repr(network) == "L2S(reads=3, writes=2, hidden=4, width=16)"
    assert repr(replace(network, scope="all", activation="relu")) == (
        "L2S(reads=3, writes=2, hidden=4, scope='all', activation='relu', width=16)"
    )
    assert repr(MeanSteering.fit(train)) == "MeanSteering(reads=3, writes=2, width=16)"
    assert repr(PromptSteering.fit(train, suffix="Look.")) == "PromptSteering(reads=3, writes=2, suffix='Look.')"


@pytest.mark.parametrize("method", STEERERS)
def test_every_method_is_one_line(method: type[Fitted], train: Contrasts) -> None:
    line = repr(method.fit(train))
    assert "\n" not in line
    assert len(line) < 120
    assert "tensor" not in line


def test_a_method_of_ones_own_is_shown_so_too(train: Contrasts) -> None:
    @dataclass(frozen=True, eq=False)
    class Own(Fitted):
        vector: Float[Tensor, " d_model"]

        @classmethod
        def fit(cls, train: Contrasts) -> "Own":
            return cls(train.reads, train.writes, train.fingerprint, train.mean_vector)

        def ops(self, query: Query, strength: float = 1.0) -> tuple[Add, ...]:
            return self.add(self.vector, strength)

    assert repr(Own.fit(train)) == "Own(reads=3, writes=2, width=16)"


def test_ops_show_their_site_and_shapes() -> None:
    vector = torch.ones(16)
    assert repr(Add(Site(3), vector, strength=2.0)) == "Add(site=blocks.3.hook_resid_post, vector=[16], strength=2.0)"
    assert repr(Add(Site(3), vector, strength=torch.ones(2))) == (
        "Add(site=blocks.3.hook_resid_post, vector=[16], strength=[2])"
    )
    assert repr(Replace(Site(3), torch.ones(2, 16))) == "Replace(site=blocks.3.hook_resid_post, value=[2, 16])"
    assert repr(Capture(Site(3), "all")) == "Capture(site=blocks.3.hook_resid_post, tokens='all')"


def test_contrasts_show_how_many_and_where(train: Contrasts) -> None:
    assert repr(train) == "Contrasts(pairs=12, reads=3, writes=2, width=16)"
    assert repr(ShardedContrasts((train, train))) == "ShardedContrasts(pairs=24, shards=2, reads=3, writes=2)"
    layers = torch.zeros(5, 2, 16)
    bank = ContrastBank(layers, layers, layers, None, ("",) * 5, tuple("abcde"), (3, 7), "0", (("f", "torn"),))
    assert repr(bank) == "ContrastBank(pairs=5, layers=(3, 7), width=16, skipped=1)"
    assert repr(Query(train.context)) == "Query(context=[12, 16])"


def test_a_model_and_a_prefill_are_one_line() -> None:
    vlm = VLM.load("tiny-llava")
    assert repr(vlm) == "VLM(tiny-llava: LlavaForConditionalGeneration, 8 blocks, width 96)"
    prefill = vlm.prefill([Prompt(None, "is there a bus in the image ?")], reads=[Site(3)])
    tokens = prefill.encoded.input_ids.shape[1]
    assert repr(prefill) == f"Prefill(prompts=1, tokens={tokens}, images=0, captured=['blocks.3.hook_resid_post'])"
