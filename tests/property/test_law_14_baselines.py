"""Law 14: the other systems keep the laws too: nothing at strength 0, each prompt by itself, the same from disk.

That each prompt is answered by itself is shown of all methods.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from interv import VLM
from methods import BASELINES, ITI, VCD, RandomHeads, ask, load_steerer, steer
from methods.steerer import Fitted
from tests.baselines import CATALOGUE, NAMES, attribution, contrasts, fitted, heads, pooled, sixteen, strengths
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

OPTIONS = {"max_new_tokens": 3, "eos_token_id": []}
SHORT = {"max_new_tokens": 2, "eos_token_id": []}
every_baseline = pytest.mark.parametrize("name", [name for name in NAMES if name != "RandomHeads"])  # ADHH's own code


def check_zero_strength_changes_nothing(vlm: VLM, name: str) -> None:
    """Tokens, and the bits of the first token's logits, also in rows of 0 beside rows that are steered."""
    steerer, prompts = fitted(vlm, name), sixteen(name)[:4]
    asked = ask(vlm, prompts, [steerer])
    plain = vlm.logits(asked.prefill)[:4]
    bitwise(asked.logits(vlm, [asked.run(steerer, 0.0)]), plain)
    mixed = asked.logits(vlm, [asked.run(steerer, strengths(4))])
    bitwise(mixed[0], plain[0])
    assert not torch.equal(mixed[1:], plain[1:])
    assert steer(vlm, prompts, steerer, strength=0.0, **OPTIONS).token_ids == vlm.generate(prompts, **OPTIONS).token_ids


def check_a_batch_equals_single_runs(vlm: VLM, name: str, count: int = 16) -> None:
    """Mixed lengths, images and strengths."""
    steerer, prompts, numbers = fitted(vlm, name), sixteen(name)[:count], strengths(count)
    vectors = contrasts(vlm).vectors[torch.arange(count) % 12]
    whole = steer(vlm, prompts, steerer, strength=numbers, vectors=vectors, **OPTIONS)
    for row, prompt in enumerate(prompts):
        own = slice(row, row + 1)
        alone = steer(vlm, [prompt], steerer, strength=numbers[own], vectors=vectors[own], **OPTIONS)
        assert alone.token_ids[0] == whole.token_ids[row], f"row {row}"
    assert len({len(vlm.encode([prompt]).input_ids[0]) for prompt in prompts}) > count // 3


def check_sixteen_rows_are_those_of_each_prompt(vlm: VLM) -> None:
    """Of all methods at once: each as a batch of sixteen, and every prompt by itself with the methods as its rows."""
    steerers = {name: fitted(vlm, name) for name in CATALOGUE if name != "PromptSteering"}  # which asks otherwise
    prompts, numbers, vectors = sixteen("PAI"), strengths(16), contrasts(vlm).vectors[torch.arange(16) % 12]
    asked = ask(vlm, prompts, list(steerers.values()))
    whole = {
        name: asked.answered(vlm, [asked.run(steerer, numbers, vectors)], **SHORT).token_ids
        for name, steerer in steerers.items()
    }
    for row, prompt in enumerate(prompts):
        alone = ask(vlm, [prompt], list(steerers.values()))
        own = slice(row, row + 1)
        runs = [alone.run(steerer, numbers[own], vectors[own]) for steerer in steerers.values()]
        found = alone.answered(vlm, runs, **SHORT).token_ids
        assert found == [tokens[row] for tokens in whole.values()], f"row {row}"


def check_saved_is_loaded(vlm: VLM, name: str) -> None:
    steerer = fitted(vlm, name, scope="generated")
    prompts = sixteen(name)[:3]
    with TemporaryDirectory() as folder:
        steerer.save(Path(folder))
        again = load_steerer(folder)
    assert type(again) is type(steerer)
    assert again.scope == "generated"
    assert steer(vlm, prompts, again, **OPTIONS).token_ids == steer(vlm, prompts, steerer, **OPTIONS).token_ids
    assert (again.looks, again.stream) == (steerer.looks, steerer.stream)
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    bitwise(again.mixed(*logits, 1.0), steerer.mixed(*logits, 1.0))


def check_side_by_side_equals_apart(vlm: VLM, names: Sequence[str] = NAMES) -> None:
    """All methods at two strengths as rows of one batch, with their second streams, give what each gives alone."""
    prompts = sixteen("PAI")[1:3]
    steerers = [fitted(vlm, name) for name in names]
    asked = ask(vlm, prompts, steerers)
    settings = [(steerer, strength) for steerer in steerers for strength in (0.5, 2.0)]
    together = asked.answered(vlm, [asked.run(*setting) for setting in settings], **OPTIONS)
    apart = [ids for one, number in settings for ids in steer(vlm, prompts, one, strength=number, **OPTIONS).token_ids]
    assert together.token_ids == apart


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


@every_baseline
def test_zero_strength_changes_nothing(small: VLM, name: str) -> None:
    check_zero_strength_changes_nothing(small, name)


def test_sixteen_rows_are_those_of_each_prompt(small: VLM) -> None:
    check_sixteen_rows_are_those_of_each_prompt(small)


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_batch_of_sixteen_equals_single_runs(small: VLM, name: str) -> None:
    check_a_batch_equals_single_runs(small, name)


@every_baseline
def test_saved_is_loaded(small: VLM, name: str) -> None:
    check_saved_is_loaded(small, name)


def test_side_by_side_equals_apart(small: VLM) -> None:
    check_side_by_side_equals_apart(small)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("PAILogits", "VCD")])
def test_another_model_is_refused(small: VLM, name: str) -> None:
    steerer = fitted(small, name, fingerprint="0" * 16)
    with pytest.raises(ValueError, match="captured from model 0000"):
        steer(small, sixteen(name)[:1], steerer, **OPTIONS)


def test_fits_leave_the_global_generator_alone(small: VLM) -> None:
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made: list[Fitted] = [
            ITI.fit(heads(small)),
            RandomHeads.fit(attribution(small), share=0.5, seed=3),
            VCD.fit(contrasts(small), seed=3),
            BASELINES[0].fit(pooled(small).at(0, 0)),
        ]
        found.append([repr(one) for one in made])
        steer(small, sixteen("VCD")[:1], made[2], **OPTIONS)
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    assert repr(RandomHeads.fit(attribution(small), share=0.5, seed=4)) != found[0][1]


def test_prefixed_contexts_are_read_apart(small: VLM) -> None:
    """A condition may be read from other prompts than those that are answered."""
    steerer, prompts = fitted(small, "CAST"), sixteen("CAST")[:3]
    apart = [replace(prompt, closed=True) for prompt in prompts]
    query = ask(small, prompts, [steerer], apart).query(steerer)
    expected = ask(small, apart, [steerer]).query(steerer)
    for read in steerer.looks:
        close(query.state(read), expected.state(read))
