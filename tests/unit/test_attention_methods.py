"""PAI and AD-HH as methods: what they do to the weights of the image and of the text, where, and to whom."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from interv import VLM, Capture, Prompt, Site
from methods import ADHH, PAI, RandomHeads, ask, attribute_heads, steer
from methods.attribution import Attribution, Said, removals
from tests.baselines import attribution, contrasts, fitted, pairs, sixteen, strengths
from tests.property.cases import Ask
from tests.property.reference import bitwise, close
from tests.tiny_models import HEADS, RANDOM, build

LAYER = 1
OPTIONS = {"max_new_tokens": 3, "eos_token_id": []}


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def patterns(vlm: VLM, prompts: list[Prompt], ops: list) -> list[Tensor]:
    """[tokens, heads, columns] of each row, from the last prompt token on, with the ops' own changes."""
    capture = Capture(Site(LAYER, "hook_pattern"), "response")
    return vlm.generate(prompts, [*ops, capture], **OPTIONS).captured[capture]


def check_image_mass_grows(vlm: VLM) -> None:
    """In every head, the more the stronger, up to one; and the text's weights keep their ratios."""
    prompts = sixteen("PAI")[:2]
    image = vlm.encode(prompts).image_mask
    asked = ask(vlm, prompts, [steerer := PAI.fit(contrasts(vlm), vlm=vlm, start=LAYER)])
    before, first = torch.zeros(2, HEADS), None
    for strength in (0.0, 0.5, 1.0, 3.0, 1e4):
        # Of the first token alone: later ones follow other words.
        found = [row[0] for row in patterns(vlm, prompts, list(asked.run(steerer, strength).ops))]
        mass = torch.stack([a[:, : image.shape[1]][:, image[row]].sum(-1) for row, a in enumerate(found)])
        assert (mass >= before - 1e-6).all()
        before = mass
        if first is None:
            first = found
        elif strength <= 3:
            for row, (own, plain) in enumerate(zip(found, first, strict=True)):
                text = vlm.encode(prompts).attention_mask[row].bool() & ~image[row]
                kept, start = (a[:, : image.shape[1]][:, text] for a in (own, plain))
                close(kept / kept.sum(-1, keepdim=True), start / start.sum(-1, keepdim=True), 1e-4)
    positive = before > 0.99
    assert positive.any(), "where an image column's score is above zero, nearly all goes there"


def check_blocks_and_scopes(vlm: VLM) -> None:
    """Blocks below the first keep their bits, "generated" leaves the first token, and padding gets no weight."""
    prompts = sixteen("PAI")[:3]
    steerer = PAI.fit(contrasts(vlm), vlm=vlm, start=LAYER + 1)
    ops = list(ask(vlm, prompts, [steerer]).run(steerer, 4.0).ops)
    for own, plain in zip(patterns(vlm, prompts, ops), patterns(vlm, prompts, []), strict=True):
        bitwise(own[0], plain[0])
    options = {**OPTIONS, "logits": True}
    plain = vlm.generate(prompts, **options).logits
    for scope, first in (("generated", True), ("response", False)):
        found = steer(vlm, prompts, replace(steerer, scope=scope), strength=2.0, **options).logits
        assert torch.equal(found[:, 0], plain[:, 0]) == first
        assert not torch.equal(found[:, 1], plain[:, 1])
    mask = vlm.encode(prompts).attention_mask.bool()
    strong = PAI.fit(contrasts(vlm), vlm=vlm, start=0, alpha=2.0)
    for row, a in enumerate(patterns(vlm, prompts, list(ask(vlm, prompts, [strong]).run(strong, 1.0).ops))):
        assert (a[:, :, : mask.shape[1]][:, :, ~mask[row]] == 0).all()
        assert (a[0, :, mask.shape[1] :] == 0).all(), "no token sees a later one"
        close(a.sum(-1), torch.ones(a.shape[:2]))


def check_text_is_dropped(vlm: VLM) -> None:
    """Where the text behind the image has the threshold's weight, it gets none; the rest stays as it is."""
    prompts, heads = sixteen("ADHH")[:3], (0, 2)
    encoded = vlm.encode(prompts)
    places = torch.arange(encoded.input_ids.shape[1])
    plain = patterns(vlm, prompts, [])
    behind = [places > int(mask.nonzero().max()) for mask in encoded.image_mask]
    # Of the first token, whose columns are the prompt's alone.
    masses = torch.stack([a[0][:, : len(places)][:, own].sum(-1) for a, own in zip(plain, behind, strict=True)])
    threshold = float(masses[:, heads].flatten().sort().values[2:4].mean())
    steerer = ADHH(LAYER, LAYER, vlm.fingerprint, tuple((LAYER, head) for head in heads), threshold=threshold)
    steered = patterns(vlm, prompts, list(ask(vlm, prompts, [steerer]).run(steerer, 1.0).ops))
    fired = 0
    for row, (own, before) in enumerate(zip(steered, plain, strict=True)):
        for head in range(HEADS):
            acts = head in heads and bool(masses[row, head] >= threshold)
            fired += acts
            expected = before[0, head].clone()
            if acts:
                expected[: len(places)][behind[row]] = 0
                close(own[0, head].sum(), 1 - masses[row, head])
            bitwise(own[0, head], expected)
    assert fired == 3


def check_attribution_finds_a_planted_head(vlm: VLM) -> None:
    """Influence is what the plain model loses without the head's columns; a head without values has none."""
    prompt, (layer, head) = pairs()[1].prompt, (1, 2)
    found = attribute_heads(vlm, [Said(prompt, True), Said(pairs()[2].prompt, False)], batch_size=5)
    whole = vlm.logits([prompt]).softmax(-1)[0]
    token = int(whole.argmax())
    projection = vlm.model.model.language_model.layers[layer].self_attn.o_proj
    width = projection.in_features // HEADS
    kept = projection.weight.detach().clone()
    prefill = vlm.prefill([prompt])
    try:
        projection.weight.data[:, head * width : (head + 1) * width] = 0
        without = vlm.logits(prefill).softmax(-1)[0, token]  # the prompt's own states are those with all heads
    finally:
        projection.weight.data.copy_(kept)
    close(found.influence[0, layer, head], whole[token] - without)
    assert found.influence.abs().max() > 1e-4
    best = found.scores.flatten().argmax()
    assert found.top(0.01) == [divmod(int(best), HEADS)]
    values = vlm.model.model.language_model.layers[layer].self_attn.v_proj
    spared = [parameter.detach().clone() for parameter in values.parameters()]
    try:
        for parameter in values.parameters():
            parameter.data[:width] = 0  # the key head of the first two heads
        silent = attribute_heads(vlm, [Said(prompt, True), Said(prompt, False)]).influence[:, layer]
    finally:
        for parameter, value in zip(values.parameters(), spared, strict=True):
            parameter.data.copy_(value)
    assert silent[:, :2].abs().max() < 1e-6
    assert silent[:, 2:].abs().max() > 1e-6


def test_image_mass_grows(small: VLM) -> None:
    check_image_mass_grows(small)


def test_blocks_and_scopes(small: VLM) -> None:
    check_blocks_and_scopes(small)


def test_text_is_dropped(small: VLM) -> None:
    check_text_is_dropped(small)


def test_attribution_finds_a_planted_head(small: VLM) -> None:
    check_attribution_finds_a_planted_head(small)


def test_thresholds_above_one_and_at_nothing(small: VLM) -> None:
    """A weight never exceeds one, so the first changes no bit; the second always acts."""
    prompts = sixteen("ADHH")[:3]
    options = {**OPTIONS, "logits": True}
    never = steer(small, prompts, fitted(small, "ADHH", threshold=1.1), **options)
    bitwise(never.logits, small.generate(prompts, **options).logits)
    assert all(gate.fired.sum() == 0 and gate.judged.min() > 0 for gate in never.gates.values())
    always = steer(small, prompts, fitted(small, "ADHH", threshold=0.3), strength=1e9, **options)
    assert all((gate.share == 1).all() for gate in always.gates.values())


def test_strength_lowers_the_threshold(small: VLM) -> None:
    """Row by row: strength 0.5, 1 and 2 are thresholds of twice, once and half the fitted one."""
    prompts, steerer = sixteen("ADHH")[:4], fitted(small, "ADHH")
    numbers = strengths(4)
    whole = steer(small, prompts, steerer, strength=numbers, **OPTIONS).token_ids
    for row in range(1, 4):
        own = replace(steerer, threshold=steerer.threshold / float(numbers[row]))
        assert steer(small, prompts[row : row + 1], own, **OPTIONS).token_ids[0] == whole[row]
    with pytest.raises(ValueError, match="takes attention away and has no opposite"):
        steer(small, prompts, steerer, strength=-1.0)


@pytest.mark.parametrize("name", ["PAI", "ADHH"])
def test_prompts_without_an_image_are_refused(small: VLM, name: str) -> None:
    with pytest.raises(RuntimeError, match="hold no image"):
        steer(small, [Ask().prompt(), Prompt(None, "what?")], fitted(small, name), **OPTIONS)
    rows = torch.tensor([1.0, 0.0])
    assert (
        len(steer(small, [Ask().prompt(), Prompt(None, "what?")], fitted(small, name), strength=rows, **OPTIONS)) == 2
    )


@pytest.mark.parametrize("name", ["PAI", "ADHH", "ITI"])
@pytest.mark.parametrize("scope", ["all", "prompt", "image"])
def test_scopes_that_reach_into_the_prompt_are_refused(small: VLM, name: str, scope: str) -> None:
    with pytest.raises(ValueError, match=rf"scope '{scope}' reaches into the prompt"):
        fitted(small, name, scope=scope)


def test_heads_that_are_not_there_are_refused(small: VLM) -> None:
    for heads in (((9, 0),), ((0, 9),)):
        with pytest.raises(ValueError, match=r"outside this model|has no head 9|no head 9"):
            steer(small, sixteen("ADHH")[:1], ADHH(0, 0, small.fingerprint, heads), **OPTIONS)
    with pytest.raises(ValueError, match="There are no heads"):
        ADHH(0, 0, "", ())


def test_random_heads_are_as_many_and_others(small: VLM) -> None:
    best = ADHH.fit(attribution(small), share=0.25)
    drawn = [RandomHeads.fit(attribution(small), share=0.25, seed=seed) for seed in range(4)]
    assert {len(one.heads) for one in (best, *drawn)} == {3}
    assert len({one.heads for one in drawn}) > 1
    assert drawn[0].heads == RandomHeads.fit(attribution(small), share=0.25).heads
    assert type(drawn[0]) is RandomHeads


def test_attribution_needs_mistakes_and_others(small: VLM) -> None:
    with pytest.raises(ValueError, match="Of 2 places 2 are mistakes"):
        Attribution(torch.zeros(2, 3, 4), torch.tensor([True, True]), "")
    with pytest.raises(ValueError, match="share is 0"):
        attribution(small).top(0.0)
    assert repr(attribution(small)) == "Attribution(places=5, mistakes=2, layers=3, heads=4)"


def test_removals_take_one_head_a_row(small: VLM) -> None:
    site, heads = Site(1, "hook_z"), [(1, 0), (1, 3)]
    prefill = small.prefill([pairs()[0].prompt]).select([0, 0])
    capture = Capture(site, "last_prompt")
    z = small.generate(prefill, [*removals(heads), capture], **OPTIONS).captured[capture].view(2, HEADS, -1)
    assert (z == 0).all(-1).tolist() == [[True, False, False, False], [False, False, False, True]]


def test_pai_begins_in_proportion(small: VLM) -> None:
    with pytest.raises(ValueError, match=r"PAI\.fit\(train, vlm=vlm\)"):
        PAI.fit(contrasts(small))
    assert PAI.fit(contrasts(small), vlm=small).blocks == (0, 1, 2)


def test_eager_and_sdpa_bases_agree(small: VLM) -> None:
    prompts, options = sixteen("PAI")[:3], {**OPTIONS, "logits": True}
    for name in ("PAI", "ADHH"):
        expected = steer(small, prompts, fitted(small, name), **options)
        before = small.model.config.get_text_config()._attn_implementation
        small.model.set_attn_implementation({"text_config": "eager"})
        try:
            found = steer(small, prompts, fitted(small, name), **options)
        finally:
            small.model.set_attn_implementation({"text_config": before})
        assert found.token_ids == expected.token_ids
        close(found.logits, expected.logits)
