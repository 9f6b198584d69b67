"""L2S with a gate and at several blocks: each is L2S where the gate always acts, or where there is one block."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from interv import VLM, Site
from methods import L2S, Contrasts, L2SGated, L2SLayers, Query, ShardedContrasts, ask, load_steerer, steer
from tests.baselines import bank, contrasts, sixteen
from tests.property.reference import bitwise, close
from tests.property.test_law_12_steerers import contrasts as synthetic
from tests.property.test_law_12_steerers import planted, query
from tests.tiny_models import RANDOM, build

OPTIONS = {"max_new_tokens": 3, "eos_token_id": []}
QUICK = {"epochs": 3, "hidden": 4}


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def parted(train: Contrasts) -> Contrasts:
    """Every other pair needs nothing."""
    return train.silenced(ids=train.id[::2])


def gated(vlm: VLM) -> tuple[L2SGated, L2S]:
    train = contrasts(vlm)
    network = L2S.fit(train, **QUICK)
    return L2SGated.fit(parted(train), network=network), network


def several(vlm: VLM, *blocks: int, **options: int) -> L2SLayers:
    first, *others = [bank(vlm).at(vlm.n_layers - 1, block) for block in blocks]
    return L2SLayers.fit(first, others=others, **QUICK | options)


def test_a_gate_that_always_acts_is_l2s(small: VLM) -> None:
    steerer, network = gated(small)
    always, never = (replace(steerer, threshold=value) for value in (-torch.inf, torch.inf))
    asked = ask(small, sixteen("L2S")[:3], [steerer])
    bitwise(asked.logits(small, [asked.run(always, 2.0)]), asked.logits(small, [asked.run(network, 2.0)]))
    plain = small.logits(asked.prefill)
    bitwise(asked.logits(small, [asked.run(never, 2.0)]), plain)
    assert not torch.equal(asked.logits(small, [asked.run(always, 2.0)]), plain)


def check_a_row_that_is_left_alone_keeps_its_bits(small: VLM) -> None:
    """Beside one that is steered."""
    steerer, _ = gated(small)
    prompts = sixteen("L2S")[:3]
    asked = ask(small, prompts, [steerer])
    odds = asked.query(steerer).context @ steerer.gate_weight + steerer.gate_bias
    one = int(odds.argmax())
    picky = replace(steerer, threshold=float(odds.sort().values[-2:].mean()))
    assert picky.gates(asked.query(picky).context).nonzero().flatten().tolist() == [one]
    steered, plain = asked.logits(small, [asked.run(picky, 2.0)]), small.logits(asked.prefill)
    for row in range(3):
        assert torch.equal(steered[row], plain[row]) == (row != one)


def test_zero_strength_changes_nothing(small: VLM) -> None:
    prompts = sixteen("L2S")[:3]
    for steerer in (gated(small)[0], several(small, 0, 1)):
        asked = ask(small, prompts, [steerer])
        bitwise(asked.logits(small, [asked.run(steerer, 0.0)]), small.logits(asked.prefill))


def test_a_row_that_is_left_alone_keeps_its_bits(small: VLM) -> None:
    check_a_row_that_is_left_alone_keeps_its_bits(small)


def test_contrasts_that_cannot_tell_are_refused() -> None:
    train = synthetic()
    with pytest.raises(ValueError, match="Each of the 96 training contrasts needs something"):
        L2SGated.fit(train)
    with pytest.raises(ValueError, match="needs nothing"):
        L2SGated.fit(train.silenced(ids=train.id))
    with pytest.raises(ValueError, match="the gate must see what the network sees"):
        L2SGated.fit(parted(train), network=replace(L2S.fit(train, **QUICK), reads=7))


def check_both_kinds_count_alike_for_the_gate() -> None:
    """A tenth of the rows need nothing, and are found as well as the others."""
    train = synthetic(pairs=400)
    few = train.context[:, 0] < -1.28
    assert few.float().mean() < 0.15
    gate = L2SGated.fit(replace(train, scale=(~few).float()), network=L2S.fit(train, **QUICK))
    acting = gate.gates(query(1, 400).context)
    spared = query(1, 400).context[:, 0] < -1.28
    assert (~acting)[spared].float().mean() > 0.8
    assert acting[~spared].float().mean() > 0.8


def test_both_kinds_count_alike_for_the_gate() -> None:
    check_both_kinds_count_alike_for_the_gate()


def test_one_block_is_l2s() -> None:
    train, judged = synthetic(), synthetic(1)
    for validation in (None, judged):
        alone = L2SLayers.fit(train, validation=validation, epochs=4, seed=3)
        network = L2S.fit(train, validation=validation, epochs=4, seed=3)
        bitwise(alone.ops(query(), 1.5)[0].vector, network.ops(query(), 1.5)[0].vector)
        assert alone.ops(query(), 1.5)[0].strength == 1.5


def check_each_block_gets_its_own_direction() -> None:
    """The second block's vectors are the first's turned over and ten times as long."""
    train = synthetic()
    far = replace(train, positive=train.negative - 10 * train.vectors, writes=5)
    steerer = L2SLayers.fit(train, others=[far], epochs=150, learning_rate=3e-3)
    asked = query(1, 40)
    near, turned = steerer.ops(asked, 2.0)
    assert [op.site for op in (near, turned)] == [Site(0), Site(5)]
    assert near.strength == turned.strength == 1.0
    true = planted(asked.context)
    assert cosine_similarity(near.vector, true, dim=1).mean() > 0.95
    assert cosine_similarity(turned.vector, -true, dim=1).mean() > 0.95
    assert turned.vector.norm(dim=1).mean() > 3 * near.vector.norm(dim=1).mean()


def test_each_block_gets_its_own_direction() -> None:
    check_each_block_gets_its_own_direction()


def test_rows_by_themselves_at_several_blocks(small: VLM) -> None:
    steerer, prompts = several(small, 0, 1, 2), sixteen("L2S")[:4]
    whole = steer(small, prompts, steerer, strength=2.0, **OPTIONS)
    for row, prompt in enumerate(prompts):
        assert steer(small, [prompt], steerer, strength=2.0, **OPTIONS).token_ids[0] == whole.token_ids[row]
    assert (
        whole.token_ids != small.generate(prompts, **OPTIONS).token_ids
        or steerer.predict(ask(small, prompts, [steerer]).query(steerer).context).any()
    )


def test_several_blocks_from_disk(small: VLM, tmp_path: Path) -> None:
    steerer = several(small, 0, 2)
    steerer.save(tmp_path)
    again = load_steerer(tmp_path)
    assert isinstance(again, L2SLayers)
    assert again.blocks == (0, 2)
    context = ask(small, sixteen("L2S")[:2], [steerer]).query(steerer).context
    for op, twin in zip(again.ops(Query(context)), steerer.ops(Query(context)), strict=True):
        bitwise(op.vector, twin.vector)


def test_a_gate_from_disk_keeps_its_threshold_and_network(tmp_path: Path) -> None:
    train = parted(synthetic())
    steerer = replace(L2SGated.fit(train, network=L2S.fit(train, activation="relu", **QUICK)), threshold=0.3)
    steerer.save(tmp_path)
    again = load_steerer(tmp_path)
    assert isinstance(again, L2SGated)
    assert (again.threshold, again.network.activation) == (0.3, "relu")
    bitwise(again.ops(query())[0].vector, steerer.ops(query())[0].vector)


def test_contrasts_that_do_not_go_together_are_refused() -> None:
    train = synthetic()
    with pytest.raises(ValueError, match="give each block once"):
        L2SLayers.fit(train, others=[train])
    with pytest.raises(ValueError, match="take all from one bank"):
        L2SLayers.fit(train, others=[replace(train, writes=1, reads=0)])
    with pytest.raises(ValueError, match="have width 3"):
        L2SLayers.fit(train, **QUICK).predict(torch.zeros(2, 3))


def test_shards_give_the_network_of_the_whole(tmp_path: Path) -> None:
    """In parts that lie apart, at two blocks."""
    first, second = synthetic(), replace(synthetic(2), context=synthetic().context, writes=5)
    cut = [ShardedContrasts((one.rows(range(40)), one.rows(range(40, 96)))) for one in (first, second)]
    options = {"init": "random", "epochs": 2}
    whole = L2SLayers.fit(first, others=[second], **options)
    close(L2SLayers.fit(cut[0], others=cut[1:], **options).predict(query().context), whole.predict(query().context))
