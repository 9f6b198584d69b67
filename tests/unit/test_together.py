"""Methods together act as they would alone, each at its weight, and a second stream stays unsteered."""

from pathlib import Path

import pytest
import torch

from interv import VLM, Site
from methods import L2S, PAI, L2SWithADHH, L2SWithPAI, PAILogits, Together, ask, load_steerer, steer
from methods.streams import WithoutImage
from tests.baselines import contrasts, fitted, sixteen
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

OPTIONS = {"max_new_tokens": 3, "eos_token_id": []}


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def l2s(vlm: VLM) -> L2S:
    return L2S.fit(contrasts(vlm), epochs=3, hidden=4)


def test_a_part_of_weight_zero_changes_nothing(small: VLM) -> None:
    prompts, one, other = sixteen("PAI")[:3], l2s(small), fitted(small, "PAI")
    for weights, alone in (((1.0, 0.0), one), ((0.0, 1.0), other)):
        both = L2SWithPAI.of([one, other], weights)
        asked = ask(small, prompts, [both, alone])
        bitwise(asked.logits(small, [asked.run(both, 2.0)]), asked.logits(small, [asked.run(alone, 2.0)]))
    both = L2SWithPAI.of([one, other])
    asked = ask(small, prompts, [both, one])
    assert not torch.equal(*(asked.logits(small, [asked.run(method, 2.0)]) for method in (both, one)))


def test_each_part_reads_its_own_context(small: VLM) -> None:
    """Contexts of two blocks, a condition's state, and one prompt pass."""
    low = L2S.fit(contrasts(small), epochs=1, hidden=4)
    cast = fitted(small, "CAST")
    both = Together.of([low, cast])
    query = ask(small, sixteen("CAST")[:2], [both]).query(both)
    apart = [ask(small, sixteen("CAST")[:2], [part]) for part in (low, cast)]
    expected = [op for part, asked in zip((low, cast), apart, strict=True) for op in part.ops(asked.query(part), 1.0)]
    for op, twin in zip(both.ops(query), expected, strict=True):
        assert op.site == twin.site
        close(op.vector, twin.vector)


def test_a_second_stream_is_not_steered(small: VLM) -> None:
    """PAI turns attention to the image of the prompts, and its contrast is with the plain model without it."""
    prompts, pai = sixteen("PAI")[:3], fitted(small, "PAI")
    mixing = PAILogits.fit(contrasts(small), excess=1.0, least=0.0)
    both = Together.of([pai, mixing])
    asked = ask(small, prompts, [both, pai])
    own = asked.logits(small, [asked.run(pai, 1.0)])
    companion = small.logits(WithoutImage().prompts(prompts))
    close(asked.logits(small, [asked.run(both, 1.0)]), mixing.mixed(own, companion, 1.0), 1e-4)


def test_what_is_saved_is_loaded(small: VLM, tmp_path: Path) -> None:
    both = L2SWithADHH.of([l2s(small), fitted(small, "ADHH")], [1.0, 0.5])
    both.save(tmp_path)
    again = load_steerer(tmp_path)
    assert type(again) is L2SWithADHH
    assert [type(part) for part in again.parts] == [type(part) for part in both.parts]
    prompts = sixteen("ADHH")[:2]
    assert steer(small, prompts, again, **OPTIONS).token_ids == steer(small, prompts, both, **OPTIONS).token_ids


def test_parts_that_do_not_go_together_are_refused(small: VLM) -> None:
    mixing = [fitted(small, name) for name in ("PAILogits", "VCD")]
    with pytest.raises(ValueError, match="each with a second stream of its own"):
        Together.of(mixing)
    with pytest.raises(ValueError, match="put those of one together"):
        Together.of([l2s(small), fitted(small, "PAI", fingerprint="0" * 16)])
    with pytest.raises(ValueError, match="2 parts and 1 weights"):
        Together.of(mixing, [1.0])
    with pytest.raises(ValueError, match=r"L2SWithPAI\.of"):
        L2SWithPAI.fit(contrasts(small))
    assert Together.of([PAI.fit(contrasts(small), vlm=small)]).looks[0].site == Site(small.n_layers - 1)
