"""Law 12: every method learns the same from the same data, leaves the world alone, and steers each prompt by itself."""

from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from interv import VLM, Prompt, Site
from methods import EXTENSIONS, L2S, STEERERS, Contrasts, L2SGated, NormRnd, Query, load_steerer, steer
from methods.steerer import Fitted
from tests.property.cases import Ask, Case
from tests.property.reference import bitwise, close

WIDTH = 12


def contrasts(seed: int = 0, pairs: int = 96, noise: float = 0.1) -> Contrasts:
    """Planted: the vector is a fixed direction plus a linear function of the context, and a little noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    context = normal(pairs, WIDTH)
    negative = normal(pairs, WIDTH)
    vectors = planted(context) + noise * normal(pairs, WIDTH)
    names = tuple("ab"[row % 2] for row in range(pairs))
    agnostic = agnostic_direction() + noise * normal(pairs, WIDTH)
    return Contrasts(
        context, negative + vectors, negative, names, tuple(map(str, range(pairs))), 1, 0, "f" * 16, agnostic
    )


def planted(context: Tensor) -> Tensor:
    """The true vector of each context; its mean over contexts is the constant part."""
    generator = torch.Generator().manual_seed(12345)
    constant = torch.randn(WIDTH, generator=generator)
    return constant + 0.5 * context @ torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5


def agnostic_direction() -> Tensor:
    return torch.linspace(-1, 1, WIDTH)


def fitted(method: type[Fitted], train: Contrasts, **settings: Any) -> Any:
    """The method fitted; a gate learns from contrasts of which those with a negative first number need nothing."""
    if method is not L2SGated:
        return method.fit(train, **settings)
    parted = replace(train, scale=needing(train.context).float())
    if not settings.keys() - {"seed"}:
        return L2SGated.fit(parted, **settings)
    return L2SGated.fit(parted, network=L2S.fit(train, **settings))


def needing(context: Tensor) -> Tensor:
    return context[:, 0] > 0


def query(seed: int = 1, rows: int = 5) -> Query:
    context = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Query(context, planted(context))


def same_ops(one: tuple, other: tuple, row: int | None = None) -> None:
    """Bitwise, or for one row of the first up to rounding."""
    assert [(op.site, op.scope, op.strength) for op in one] == [(op.site, op.scope, op.strength) for op in other]
    for op, twin in zip(one, other, strict=True):
        if row is None or op.vector.ndim == 1:
            bitwise(op.vector, twin.vector)
        else:
            close(op.vector[row : row + 1], twin.vector)


def tensors_of(train: Contrasts) -> dict[str, Tensor]:
    values = {field.name: getattr(train, field.name) for field in fields(train)}
    return {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}


def check_fit_depends_on_data_and_seed_alone(method: type[Fitted], seed: int = 0) -> None:
    """The global generator stands elsewhere at each fit; it and the data are left as they were."""
    train = contrasts(seed)
    before = tensors_of(train)
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        expected = torch.get_rng_state()
        found.append(fitted(method, train))
        assert torch.equal(torch.get_rng_state(), expected), "fit drew from the global generator"
    same_ops(found[0].ops(query()), found[1].ops(query()))
    for name, value in before.items():
        bitwise(getattr(train, name), value)


def check_seed_is_used(method: type[Fitted]) -> None:
    """Where a method takes a seed, another one gives another result."""
    train = contrasts()
    one, other = (fitted(method, train, seed=seed) for seed in (0, 1))
    assert not torch.equal(one.ops(query())[0].vector, other.ops(query())[0].vector)


def check_each_prompt_is_steered_by_itself(method: type[Fitted], seed: int = 1, rows: int = 5) -> None:
    """Row i of the ops is what the ops of row i alone are, and asking changes nothing."""
    steerer, whole = fitted(method, contrasts()), query(seed, rows)
    ops = steerer.ops(whole)
    for row in range(rows):
        alone = Query(whole.context[row : row + 1], whole.vectors[row : row + 1])
        same_ops(ops, steerer.ops(alone), row)
    same_ops(ops, steerer.ops(whole))


def check_saved_is_loaded(method: type[Fitted], folder: Path) -> None:
    steerer = replace(fitted(method, contrasts()), scope="all")
    steerer.save(folder)
    again = load_steerer(folder)
    assert type(again) is method
    same_ops(steerer.ops(query()), again.ops(query()))
    prompt = Prompt(None, "what?")
    assert again.rewrite(prompt) == steerer.rewrite(prompt)
    assert (again.reads, again.writes, again.fingerprint) == (1, 0, "f" * 16)


def check_ops_say_where_and_whose(method: type[Fitted]) -> None:
    for op in fitted(method, contrasts()).ops(query(), 1.5):
        assert (op.site, op.scope, op.strength, op.fingerprint) == (Site(0), "response", 1.5, "f" * 16)


def check_planted_direction_is_found(method: type[Fitted], seed: int = 0) -> None:
    """On contexts that training never saw."""
    train, asked = contrasts(seed), query(seed + 1, 40)
    name = method.__name__
    if name in ("NoSteering", "PromptSteering"):
        assert method.fit(train).ops(asked) == ()
        return
    settings: dict[str, Any] = {"epochs": 150, "learning_rate": 3e-3} if name.startswith("L2S") else {}
    vector = fitted(method, train, **settings).ops(asked)[0].vector
    mean = planted(train.context).mean(0)
    match name:
        case "MeanSteering":
            assert cosine_similarity(vector, mean, dim=0) > 0.99
            assert 0.9 < vector.norm() / mean.norm() < 1.1
        case "MeanSteeringBA":
            assert cosine_similarity(vector, agnostic_direction(), dim=0) > 0.99
        case "NormRnd":
            close(vector.norm(), train.vectors.norm(dim=1).mean())
            assert abs(cosine_similarity(vector, mean, dim=0)) < 0.9
        case "P2S":
            bitwise(vector, asked.vectors)
        case "L2SGated":
            true, acting = planted(asked.context), vector.abs().sum(dim=1) > 0
            assert (acting == needing(asked.context)).float().mean() >= 0.85
            assert cosine_similarity(vector, true, dim=1)[acting].mean() > 0.95
        case "L2S" | "L2SLayers":
            true = planted(asked.context)
            assert cosine_similarity(vector, true, dim=1).mean() > 0.95
            assert ((vector - true).norm(dim=1) < 0.6 * (mean - true).norm(dim=1)).float().mean() > 0.9


def check_batch_is_steered_row_by_row(vlm: VLM, method: type[Fitted]) -> None:
    """Through the model: a batch of prompts gets the replies that each prompt gets alone."""
    case = Case((Ask(), Ask("and this?", (), 1), Ask("hm", ((84, 56),), 2)))
    width = vlm.d_model
    generator = torch.Generator().manual_seed(0)
    state = [torch.randn(16, width, generator=generator) for _ in range(4)]
    train = Contrasts(*state[:3], ("a",) * 16, ("",) * 16, vlm.n_layers - 2, 0, vlm.fingerprint, state[3])
    steerer, vectors = fitted(method, train), state[3][: len(case.asks)]
    whole = steer(vlm, case.prompts(), steerer, strength=2.0, max_new_tokens=4, vectors=vectors)
    for row, prompt in enumerate(case.prompts()):
        alone = steer(vlm, [prompt], steerer, strength=2.0, max_new_tokens=4, vectors=vectors[row : row + 1])
        assert alone.token_ids[0] == whole.token_ids[row]
    asked = [steerer.rewrite(prompt) for prompt in case.prompts()]
    read = vlm.capture(asked, [Site(steerer.reads)])[Site(steerer.reads)]
    ops = steerer.ops(Query(read, vectors), 2.0)
    assert vlm.generate(asked, ops, max_new_tokens=4).token_ids == whole.token_ids


every_method = pytest.mark.parametrize("method", [*STEERERS, *EXTENSIONS], ids=lambda method: method.__name__)


@every_method
@given(seed=st.integers(0, 99))
def test_fit_depends_on_data_and_seed_alone(method: type[Fitted], seed: int) -> None:
    check_fit_depends_on_data_and_seed_alone(method, seed)


@pytest.mark.parametrize("method", [NormRnd, L2S, *EXTENSIONS])
def test_seed_is_used(method: type[Fitted]) -> None:
    check_seed_is_used(method)


@every_method
@given(seed=st.integers(0, 99), rows=st.integers(1, 6))
def test_each_prompt_is_steered_by_itself(method: type[Fitted], seed: int, rows: int) -> None:
    check_each_prompt_is_steered_by_itself(method, seed, rows)


@every_method
def test_saved_is_loaded(method: type[Fitted]) -> None:
    with TemporaryDirectory() as folder:
        check_saved_is_loaded(method, Path(folder))


@every_method
def test_ops_say_where_and_whose(method: type[Fitted]) -> None:
    check_ops_say_where_and_whose(method)


@every_method
@given(seed=st.integers(0, 99))
def test_planted_direction_is_found(method: type[Fitted], seed: int) -> None:
    check_planted_direction_is_found(method, seed)


@every_method
def test_batch_is_steered_row_by_row(vlm: VLM, method: type[Fitted]) -> None:
    check_batch_is_steered_row_by_row(vlm, method)
