"""What a method, a query and a call of `steer` are given is checked where it enters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interv import VLM, Add, Prompt, Site
from methods import (
    L2S,
    P2S,
    STEERERS,
    Contrasts,
    MeanSteering,
    MeanSteeringBA,
    NormRnd,
    PromptSteering,
    Query,
    ShardedContrasts,
    Steerer,
    load_steerer,
    steer,
)
from methods.steerer import Fitted, Strength
from methods.training import initial_weights, train_network
from tests.property.cases import Ask
from tests.property.reference import bitwise
from tests.property.test_law_12_steerers import contrasts, query

learning = pytest.mark.parametrize("method", [MeanSteering, MeanSteeringBA, NormRnd, L2S])
kept_as = pytest.mark.parametrize("kept", [lambda train: train, lambda train: ShardedContrasts((contrasts(1), train))])


def spoilt(name: str, rows: tuple[int, ...], value: float = torch.nan) -> Contrasts:
    train = contrasts()
    tensor = getattr(train, name).clone()
    tensor[list(rows), 3] = value
    return replace(train, **{name: tensor})


@learning
@kept_as
@pytest.mark.parametrize("name", ["context", "positive", "agnostic"])
def test_numbers_that_are_not_finite_are_refused(method: type[Fitted], kept: Callable, name: str) -> None:
    with pytest.raises(ValueError, match=r"2 of \d+ training contrasts hold NaN or infinite numbers: '4', '95'\."):
        method.fit(kept(spoilt(name, (4, 95))))


@learning
def test_infinite_numbers_are_refused_and_three_named(method: type[Fitted]) -> None:
    train = replace(spoilt("negative", (0, 2, 9, 11), torch.inf), id=("",) * 96)
    with pytest.raises(ValueError, match=r"4 of 96 .*: row 0, row 2, row 9 and others\."):
        method.fit(train)


@learning
@pytest.mark.parametrize("train", [contrasts().rows([]), ShardedContrasts(())], ids=["memory", "shards"])
def test_no_contrasts_are_refused(method: type[Fitted], train: Any) -> None:
    with pytest.raises(ValueError, match="There are no training contrasts"):
        method.fit(train)


@kept_as
def test_a_validation_set_is_checked_too(kept: Callable) -> None:
    with pytest.raises(ValueError, match=r"1 of \d+ validation contrasts hold NaN"):
        L2S.fit(contrasts(), validation=kept(spoilt("context", (5,))), epochs=1)
    with pytest.raises(ValueError, match="There are no validation contrasts"):
        L2S.fit(contrasts(), validation=contrasts().rows([]), epochs=1)


@pytest.mark.parametrize("choice", ["activation", "schedule"])
def test_a_misspelt_choice_is_told_what_exists(choice: str) -> None:
    train = contrasts()
    start = initial_weights(train, 4, "random", 0)
    with pytest.raises(ValueError, match=f"'tahn' is no {choice}; there are (tanh, relu|constant, cosine)"):
        unwrap(train_network)(start, train, **{choice: "tahn"})  # as it is without the tests' own checks of types


def test_a_network_of_no_known_activation_is_refused() -> None:
    fitted = L2S.fit(contrasts(), epochs=1)
    with pytest.raises(ValueError, match="'gelu' is no activation; there are tanh, relu"):
        unwrap(L2S.__init__)(fitted, 0, 0, "", *fitted._weights(), "gelu")


@pytest.mark.parametrize(
    ("context", "vectors", "said"),
    [
        ((8,), None, r"context has shape \[8\]; it must be \[batch, d_model\]"),
        ((2, 3, 8), None, r"context has shape \[2, 3, 8\]"),
        ((2, 8), (8,), r"vectors has shape \[8\].*must be \[2, d_model\]"),
        ((2, 8), (3, 8), r"vectors has shape \[3, 8\].*must be \[2, d_model\]"),
    ],
)
def test_a_query_is_a_batch_and_so_are_its_vectors(context: tuple, vectors: tuple | None, said: str) -> None:
    made = object.__new__(Query)
    with pytest.raises(ValueError, match=said):
        unwrap(Query.__init__)(made, torch.ones(context), None if vectors is None else torch.ones(vectors))


@dataclass(frozen=True, eq=False)
class Louder(Fitted):
    """A user's own method: the mean, so many times."""

    vector: Tensor
    times: float

    @classmethod
    def fit(cls, train: Contrasts) -> "Louder":
        return cls(train.reads, train.writes, train.fingerprint, train.mean_vector, 2.0)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.vector * self.times, strength)


def test_a_users_own_method_is_loaded_back(tmp_path: Path) -> None:
    steerer = replace(Louder.fit(contrasts()), scope="all")
    steerer.save(tmp_path)
    with pytest.raises(ValueError, match=r"holds a 'Louder'.*load_steerer\(folder, others="):
        load_steerer(tmp_path)
    again = load_steerer(tmp_path, [Louder])
    assert isinstance(again, Louder)
    assert (again.times, again.scope, again.fingerprint) == (2.0, "all", steerer.fingerprint)
    bitwise(again.ops(query())[0].vector, steerer.ops(query())[0].vector)


@dataclass(frozen=True, eq=False)
class Twice(Fitted):
    """A user's own method whose fields are one tensor, and a part of it."""

    first: Tensor
    second: Tensor
    part: Tensor

    fit = Louder.fit
    ops = Louder.ops


def test_fields_that_share_a_tensor_are_saved(tmp_path: Path) -> None:
    rows = torch.randn(3, 8, requires_grad=True)
    steerer = Twice(1, 0, "", rows, rows, rows[1])
    steerer.save(tmp_path)
    again = load_steerer(tmp_path, [Twice])
    for name in ("first", "second", "part"):
        bitwise(getattr(again, name), getattr(steerer, name).detach())
    train = contrasts()
    replace(train, negative=train.positive).save(tmp_path / "contrasts")
    bitwise(Contrasts.load(tmp_path / "contrasts").negative, train.positive)


def test_a_scope_is_given_by_name_and_tensors_are_required() -> None:
    vector = torch.ones(4)
    assert MeanSteering(1, 0, "", vector).scope == "response"
    assert MeanSteering(1, 0, "", vector=vector, scope="all").scope == "all"
    with pytest.raises(TypeError):
        MeanSteering(1, 0, "")  # type: ignore[call-arg]


class Minimal:
    """The protocol and no more."""

    reads, writes = 1, 0

    @classmethod
    def fit(cls, train: Contrasts) -> "Minimal":
        return cls()

    def rewrite(self, prompt: Prompt) -> Prompt:
        return prompt

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return (Add(Site(self.writes), query.context, strength=strength),)


def test_what_has_the_protocol_is_a_steerer(vlm: VLM) -> None:
    for method in STEERERS:
        assert isinstance(method.fit(contrasts()), Steerer)
    assert isinstance(Minimal(), Steerer)
    assert not isinstance(query(), Steerer)
    assert len(steer(vlm, [Ask().prompt()], Minimal(), max_new_tokens=2)) == 1


def asked(vlm: VLM, method: type[Fitted]) -> tuple[list[Prompt], Fitted, dict[str, Any]]:
    """Five prompts, a method, and a strength, a vector and a context for each prompt."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(16, vlm.d_model, generator=generator) for _ in range(3)]
    train = Contrasts(*parts, ("a",) * 16, ("",) * 16, vlm.n_layers - 1, 0, vlm.fingerprint)
    prompts = [Ask("what is it ?" * (1 + row % 3), seed=row).prompt() for row in range(5)]
    own = {
        "strength": torch.arange(5) / 2,
        "vectors": parts[0][:5],
        "contexts": [Ask(f"context {row}", seed=row).prompt() for row in range(5)],
    }
    return prompts, method.fit(train), own


@pytest.mark.parametrize("method", [P2S, L2S, PromptSteering])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_change_nothing(vlm: VLM, method: type[Fitted], batch_size: int) -> None:
    prompts, steerer, own = asked(vlm, method)
    whole = steer(vlm, prompts, steerer, max_new_tokens=4, **own)
    parts = steer(vlm, prompts, steerer, max_new_tokens=4, batch_size=batch_size, **own)
    assert list(parts) == list(whole)
    assert parts.token_ids == whole.token_ids
    assert parts.finish_reason == whole.finish_reason


def test_options_go_to_generate(vlm: VLM) -> None:
    prompts, steerer, own = asked(vlm, P2S)
    options = {"max_new_tokens": 6, "do_sample": True, "seed": 3}
    ops = steerer.ops(Query(own["vectors"], own["vectors"]))
    expected = vlm.generate(prompts, ops, **options)
    drawn = steer(vlm, prompts, steerer, vectors=own["vectors"], logits=True, **options)
    assert drawn.token_ids == expected.token_ids
    assert drawn.logits is not None
    assert drawn.logits.shape[0] == 5
    batched = steer(vlm, prompts, steerer, vectors=own["vectors"], batch_size=3, **options)
    first = steer(vlm, prompts[:3], steerer, vectors=own["vectors"][:3], **options)
    rest = steer(vlm, prompts[3:], steerer, vectors=own["vectors"][3:], **options | {"seed": 4})
    assert batched.token_ids == first.token_ids + rest.token_ids


def test_what_is_not_one_a_prompt_is_refused(vlm: VLM) -> None:
    prompts, steerer, own = asked(vlm, P2S)
    for name, said in (("strength", "strengths"), ("vectors", "vectors"), ("contexts", "contexts")):
        with pytest.raises(ValueError, match=f"There are 4 {said} for 5 prompts; give one a prompt"):
            steer(vlm, prompts, steerer, batch_size=2, **{name: own[name][:4]})
    with pytest.raises(ValueError, match="batch_size is 0"):
        steer(vlm, prompts, steerer, batch_size=0, **own)
    with pytest.raises(ValueError, match="logits of several batches"):
        steer(vlm, prompts, steerer, batch_size=2, logits=True, **own)
