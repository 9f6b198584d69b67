"""Law 13, what follows from the formulas: what the mask hides stays hidden, boosted mass grows, gates are counted."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interv import COLUMN_KINDS, VLM, AttentionEdit, Boost, Capture, Drop, Site
from interv.places.columns import Columns, PromptColumns
from tests.property.attention_cases import Pull, Scene, own_columns, scenes
from tests.property.attention_reference import fired_by_hand, pass_by_hand
from tests.property.cases import Ask
from tests.property.reference import bitwise, close, own_inputs
from tests.tiny_models import RANDOM, build

ON_RANDOM = pytest.mark.parametrize("name", RANDOM)
FEW = settings(max_examples=settings().max_examples // 2)
WEIGHTS, SCORES = Site(1, "hook_pattern"), Site(1, "hook_attn_scores")


def weights_of(vlm: VLM, scene: Scene, ops: list[Any]) -> Tensor:
    """Of block 1 at the last prompt token, [batch, head, column]."""
    return vlm.capture(scene.prompts(), [WEIGHTS], ops=ops)[WEIGHTS]


def of_kind(vlm: VLM, scene: Scene, kind: str) -> Tensor:
    """The columns of a kind in the padded batch, worked out row by row, [batch, 1, column]."""
    mask = vlm.encode(scene.prompts()).attention_mask.bool()
    chosen = torch.zeros_like(mask)
    for row, ask in enumerate(scene.asks):
        ids = own_inputs(vlm, [ask])["input_ids"][0]
        image = (ids == vlm.model.config.image_token_id).tolist()
        own = torch.zeros(len(ids), dtype=torch.bool)
        own[own_columns(kind, image, len(ids))] = True
        chosen[row, mask[row]] = own
    return chosen[:, None]


def check_columns_are_told_apart(vlm: VLM, scene: Scene) -> None:
    """By kind, row by row, prompt and reply; padding is of no kind."""
    encoded = vlm.encode(scene.prompts())
    columns = Columns(PromptColumns(encoded.attention_mask, encoded.image_mask), encoded.input_ids.shape[1] + 2)
    for row, mask in enumerate(encoded.attention_mask.bool()):
        image = [*encoded.image_mask[row][mask].tolist(), False, False]
        padding = int((~mask).sum())
        for kind in COLUMN_KINDS:
            expected = [padding + place for place in own_columns(kind, image, len(image) - 2)]
            for width in (columns.seen, columns.seen - 3, columns.seen + 2):  # of a block with a window, and with room
                shift = max(0, columns.seen - width)
                found = columns.of(kind, width)[row].nonzero().flatten() + shift
                assert found.tolist() == [place for place in expected if place >= shift]


def check_boost_gives_to_the_image_alone(vlm: VLM, scene: Scene) -> None:
    """Mass grows with the strength up to one, ratios between other columns stay, padding gets nothing."""
    image = of_kind(vlm, scene, "image")
    padding = ~vlm.encode(scene.prompts()).attention_mask.bool()[:, None]
    plain = weights_of(vlm, scene, [])
    before, last = (plain * image).sum(-1), None
    for strength in (0.5, 2.0, 8.0):
        boosted = weights_of(vlm, scene, [Boost(SCORES, strength)])
        mass = (boosted * image).sum(-1)
        assert (mass >= before - 1e-6).all()
        assert float(boosted.masked_select(padding).abs().sum()) == 0
        close(boosted.sum(-1), torch.ones_like(mass))
        rest, own = plain * ~image, boosted * ~image
        # Where nearly all went to the image, what is left is too small to have a ratio.
        own_share, share = own / own.sum(-1, keepdim=True), rest / rest.sum(-1, keepdim=True)
        large = (own.sum(-1, keepdim=True) > 1e-3).expand_as(own)
        close(own_share[large], share[large], 1e-3)
        before, last = mass, boosted
    assert last is not None


def check_drop_takes_its_columns_away(vlm: VLM, scene: Scene) -> None:
    """Text before, image and text behind make the whole of one image's prompt; what is left is not renormalised."""
    one = replace(scene, asks=tuple(replace(ask, sizes=ask.sizes[:1]) for ask in scene.asks))
    plain = weights_of(vlm, one, [])
    masses = {kind: (plain * of_kind(vlm, one, kind)).sum(-1) for kind in ("before_image", "image", "after_image")}
    close(sum(masses.values()), torch.ones_like(masses["image"]))
    for kind, mass in masses.items():
        left = weights_of(vlm, one, [Drop(WEIGHTS, kind)])
        bitwise(left, torch.where(of_kind(vlm, one, kind), 0.0, plain))
        close(left.sum(-1), 1 - mass)
        shared = weights_of(vlm, one, [Drop(WEIGHTS, kind, renormalise=True)])
        close(shared.sum(-1), torch.ones_like(mass))
        close(shared * (1 - mass)[..., None], left)


def check_gates_are_counted(vlm: VLM, scene: Scene) -> None:
    """By row, as often as a full pass by hand sees them fire; rows that ended are not counted on."""
    op = Drop(WEIGHTS, heads=(0, 2), threshold=0.3)
    replies = scene.answer(vlm, [op], logits=False)
    gate = replies.gates[op]
    by_hand = replace(scene, pulls=(Pull("gate", "after_image", 1, (0, 2), strength=1.0, threshold=0.3),))
    for row, tokens in enumerate(replies.token_ids):
        pass_by_hand(vlm, by_hand, row, tokens[:-1])
        assert int(gate.judged[row]) == 2 * len(tokens)
        assert int(gate.fired[row]) == fired_by_hand()
    with vlm.installed([op]) as reads, torch.no_grad():
        vlm.model(**own_inputs(vlm, scene.asks))
    (counts,) = reads[op]
    assert counts[:, 0].tolist() == [2] * len(scene.asks)


def check_rows_that_ended_are_not_counted(vlm: VLM) -> None:
    ends = list(range(0, vlm.model.config.get_text_config().vocab_size, 3))
    op = Drop(WEIGHTS, heads=(0, 2), threshold=0.3)
    replies = vlm.generate(Scene().prompts(), [op], max_new_tokens=8, eos_token_id=ends)
    assert replies.gates[op].judged.tolist() == [2 * len(ids) for ids in replies.token_ids]
    assert len({len(ids) for ids in replies.token_ids}) > 1


def check_gates_at_their_ends(vlm: VLM, scene: Scene) -> None:
    """Above one it never fires, which is no untouched op; at zero it is as if there were none."""
    plain = scene.answer(vlm, [])
    never, always = Drop(WEIGHTS, threshold=1.01), Drop(WEIGHTS, threshold=0.0)
    shut = scene.answer(vlm, [never])
    bitwise(shut.logits, plain.logits)
    assert shut.gates[never].fired.sum() == 0
    assert shut.gates[never].judged.min() == 4 * scene.tokens
    open_ = scene.answer(vlm, [always])
    bitwise(open_.logits, scene.answer(vlm, [Drop(WEIGHTS)]).logits)
    assert open_.gates[always].share.tolist() == [1.0] * len(scene.asks)


def check_gates_decide_head_by_head(vlm: VLM, scene: Scene) -> None:
    """The mass of a row's own head, not that of the batch."""
    behind = of_kind(vlm, scene, "after_image")
    plain = weights_of(vlm, scene, [])
    mass = (plain * behind).sum(-1)
    threshold = float(mass.flatten().sort().values[mass.numel() // 2])
    gated = weights_of(vlm, scene, [Drop(WEIGHTS, threshold=threshold)])
    bitwise(gated, torch.where((mass >= threshold)[..., None] & behind, 0.0, plain))


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(1, 3)))
def test_columns_are_told_apart(name: str, scene: Scene) -> None:
    check_columns_are_told_apart(build(name), scene)


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(1, 3)))
def test_boost_gives_to_the_image_alone(name: str, scene: Scene) -> None:
    check_boost_gives_to_the_image_alone(build(name), scene)


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(1, 3)))
def test_drop_takes_its_columns_away(name: str, scene: Scene) -> None:
    check_drop_takes_its_columns_away(build(name), scene)


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(1, 3)))
def test_gates_are_counted(name: str, scene: Scene) -> None:
    check_gates_are_counted(build(name), scene)


@ON_RANDOM
def test_rows_that_ended_are_not_counted(name: str) -> None:
    check_rows_that_ended_are_not_counted(build(name))


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(1, 3)))
def test_gates_at_their_ends(name: str, scene: Scene) -> None:
    check_gates_at_their_ends(build(name), scene)


@ON_RANDOM
@given(scene=scenes(rows=(2, 3)))
def test_gates_decide_head_by_head(name: str, scene: Scene) -> None:
    check_gates_decide_head_by_head(build(name), scene)


@ON_RANDOM
def test_beams_follow_edits_but_not_gates(name: str) -> None:
    vlm, prompts = build(name), Scene().prompts()
    boost = Boost(SCORES, torch.tensor([0.5, 1.0]))
    beams = vlm.generate(prompts, [boost], max_new_tokens=3, num_beams=3)
    for row, prompt in enumerate(prompts):
        alone = vlm.generate([prompt], [Boost(SCORES, float(boost.strength[row]))], max_new_tokens=3, num_beams=3)
        assert alone.token_ids[0] == beams.token_ids[row]
    with pytest.raises(ValueError, match="beams"):
        vlm.generate(prompts, [Drop(WEIGHTS, threshold=0.5)], max_new_tokens=3, num_beams=3)


class Halved(AttentionEdit):
    """Half of every weight of the columns: an edit of a user's own."""

    def __init__(self, site: Site, wrong: bool = False) -> None:
        self.site, self.columns, self.heads, self.strength = site, "image", None, 1.0
        self.scope, self.fingerprint, self.wrong = "response", None, wrong

    def change(self, values: Tensor, columns: Tensor, strength: Tensor) -> Tensor:
        return values.double() if self.wrong else torch.where(columns, values / 2, values)


@ON_RANDOM
def test_an_edit_of_ones_own_acts_where_it_says(name: str) -> None:
    vlm, scene = build(name), Scene()
    bitwise(
        scene.answer(vlm, [Halved(WEIGHTS)]).logits, scene.answer(vlm, [Drop(WEIGHTS, "image", strength=0.5)]).logits
    )
    with pytest.raises(ValueError, match="float64"):
        scene.answer(vlm, [Halved(WEIGHTS, wrong=True)])


@ON_RANDOM
def test_two_images_are_both_images(name: str) -> None:
    """What stands between them is text, and neither before nor behind."""
    vlm = build(name)
    scene = Scene((Ask("which?", ((28, 28), (56, 28)), 3), Ask("this one?", ((28, 28),), 4)))
    plain = weights_of(vlm, scene, [])
    for kind in ("image", "text", "before_image", "after_image"):
        dropped = weights_of(vlm, scene, [Drop(WEIGHTS, kind)])
        bitwise(dropped, torch.where(of_kind(vlm, scene, kind), 0.0, plain))


@given(strength=st.floats(-2, 2), seed=st.integers(0, 99))
def test_boost_is_its_formula(strength: float, seed: int) -> None:
    scores = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))
    columns = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]).bool()[:, None, None]
    changed = Boost(SCORES, strength).change(scores, columns, torch.tensor(strength).reshape(1, 1, 1, 1))
    close(changed, torch.where(columns, scores + strength * scores.abs(), scores))


@ON_RANDOM
def test_captures_stand_where_the_list_has_them(name: str) -> None:
    """Before an edit at their site they read the value before it, behind it the changed one."""
    vlm, scene = build(name), Scene()
    before, after, edit = Capture(SCORES), Capture(SCORES), Boost(SCORES, 1.0)
    replies = scene.answer(vlm, [before, edit, after])
    old, new = replies.captured[before], replies.captured[after]
    image = of_kind(vlm, scene, "image")
    close(torch.where(image, old + old.abs(), old).exp(), new.exp())
