"""CAST acts on the inputs that its conditions name, each by its own prompt, and on no other."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from interv import VLM, Add, Prompt, Site
from methods import CAST, Condition, Contrasts, MeanSteering, Query, Read, Rule, ask, steer
from methods.conditions import similarity
from tests.baselines import bank, fitted, pairs, pooled, sixteen
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

OPTIONS = {"max_new_tokens": 3, "eos_token_id": [], "logits": True}


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def told_apart(seed: int = 0, pairs: int = 40, width: int = 12) -> Contrasts:
    """Planted: contexts of two clusters, and in each a contrast of its own."""
    generator = torch.Generator().manual_seed(seed)
    names = tuple("ab"[row % 2] for row in range(pairs))
    side = torch.tensor([1.0 if name == "a" else -1.0 for name in names])[:, None]
    centre, push = (torch.randn(width, generator=generator) for _ in range(2))
    context = side * centre + 0.1 * torch.randn(pairs, width, generator=generator)
    negative = torch.randn(pairs, width, generator=generator)
    vectors = side * push + 0.1 * torch.randn(pairs, width, generator=generator)
    return Contrasts(context, negative + vectors, negative, names, names, 2, 1, "f" * 16)


def with_thresholds(cast: CAST, value: float) -> CAST:
    conditions = tuple(one._replace(fires="above", threshold=value) for one in cast.conditions)
    return replace(cast, conditions=conditions)


def parted(vlm: VLM, prompts: list[Prompt]) -> CAST:
    """With one rule, whose condition half of the prompts meet."""
    cast, half = fitted(vlm, "CAST"), len(prompts) // 2
    states = ask(vlm, prompts, [cast]).query(cast).state(cast.looks[0])
    middle = float(similarity(states, cast.directions[0], "cosine").sort().values[half - 1 : half + 1].mean())
    return replace(with_thresholds(cast, middle), rules=cast.rules[:1])


def check_thresholds_without_bounds(vlm: VLM) -> None:
    """Never is the unsteered model; always is a plain Add of the sum of both behaviours' vectors. To the bit."""
    cast, prompts = fitted(vlm, "CAST"), sixteen("CAST")[:3]
    plain = vlm.generate(prompts, **OPTIONS)
    never = steer(vlm, prompts, with_thresholds(cast, math.inf), **OPTIONS)
    bitwise(never.logits, plain.logits)
    always = steer(vlm, prompts, with_thresholds(cast, -math.inf), strength=1.5, **OPTIONS)
    added = Add(Site(0), cast.vectors.sum(dim=0)[0], strength=1.5)
    bitwise(always.logits, vlm.generate(prompts, [added], **OPTIONS).logits)
    assert not torch.equal(always.logits, plain.logits)


def check_padding_counts_for_nothing(vlm: VLM, count: int) -> None:
    """The states and gates of a row are those of its prompt alone, however long the others are."""
    prompts = sixteen("CAST")[:count]
    cast = parted(vlm, prompts)
    read = cast.looks[0]
    assert read.pool == "text"
    whole = ask(vlm, prompts, [cast]).query(cast)
    states = torch.cat([ask(vlm, [prompt], [cast]).query(cast).state(read) for prompt in prompts])
    close(whole.state(read), states)
    gates = [cast.gates(ask(vlm, [prompt], [cast]).query(cast)) for prompt in prompts]
    assert torch.equal(cast.gates(whole), torch.cat(gates))
    assert cast.gates(whole).sum() == count // 2
    long = replace(prompts[0], question=prompts[0].question * 20)
    close(ask(vlm, [*prompts[:3], long], [cast]).query(cast).state(read)[:3], states[:3])


def check_rows_without_a_condition_are_left_alone(vlm: VLM) -> None:
    """Row by row: those that act change at the first token, the others keep their bits."""
    prompts = sixteen("CAST")[:4]
    cast = parted(vlm, prompts)
    asked = ask(vlm, prompts, [cast])
    acts = cast.gates(asked.query(cast)).any(1)
    plain, steered = vlm.logits(asked.prefill), asked.logits(vlm, [asked.run(cast, 2.0)])
    bitwise(steered[~acts], plain[~acts])
    assert (steered != plain).any(1)[acts].all()


def check_planted_condition_is_found(seed: int = 0) -> None:
    """On prompts that training never saw: which are meant, by their sign, and what is added to them."""
    train, unseen = told_apart(seed), told_apart(seed)
    cast = CAST.fit(train, validation=unseen)
    for condition, direction in zip(cast.conditions, cast.directions, strict=True):
        wanted = torch.tensor([name == condition.name for name in unseen.behavior])
        assert condition.fires == "above", "the direction points to the category"
        assert torch.equal(condition.met(unseen.context, direction), wanted)
        assert not condition.met(-unseen.context[wanted], direction).any(), "the opposite prompt is not of the category"
    gates = cast.gates(Query(unseen.context, seen={Read(Site(2)): unseen.context}))
    (op,) = cast.ops(Query(unseen.context, seen={Read(Site(2)): unseen.context}), 1.0)
    assert gates.sum(1).eq(1).all()
    for name in ("a", "b"):
        rows = torch.tensor([own == name for own in unseen.behavior])
        mean = unseen.vectors[rows].mean(dim=0)
        assert torch.cosine_similarity(op.vector[rows], mean[None]).min() > 0.99
        close(op.vector[rows].norm(dim=1).mean(), mean.norm(), 0.1)


def check_rules(seed: int = 0) -> None:
    """All tables of two conditions: or, and, and one alone."""
    direction = torch.eye(4)[:2]
    conditions = tuple(Condition(name, 0, "last_prompt", "cosine", "above", 0.1) for name in ("c1", "c2"))
    base = CAST(
        0,
        1,
        "",
        directions=direction,
        vectors=torch.eye(4)[2:, None],
        conditions=conditions,
        behaviors=("b1", "b2"),
        blocks=(1,),
        rules=(),
    )
    told = {
        ("if c1 then b1",): lambda one, two: (one, False),
        ("if c1 or c2 then b1",): lambda one, two: (one or two, False),
        ("if c1 and c2 then b2",): lambda one, two: (False, one and two),
        ("if c1 or c2 then b1", "if c1 and c2 then b2"): lambda one, two: (one or two, one and two),
        ("if c1 then b1", "if c2 then b1"): lambda one, two: (one or two, False),
    }
    for texts, expected in told.items():
        cast = replace(base, rules=tuple(map(Rule.parse, texts)))
        for one, two in product((False, True), repeat=2):
            state = torch.tensor([[float(one), float(two), 1.0, 0.0]])
            query = Query(state, seen={Read(Site(0)): state})
            assert tuple(cast.gates(query)[0].tolist()) == expected(one, two), (texts, one, two)


def test_thresholds_without_bounds(small: VLM) -> None:
    check_thresholds_without_bounds(small)


def test_padding_counts_for_nothing(small: VLM) -> None:
    check_padding_counts_for_nothing(small, 8)


def test_rows_without_a_condition_are_left_alone(small: VLM) -> None:
    check_rows_without_a_condition_are_left_alone(small)


@pytest.mark.parametrize("seed", range(4))
def test_planted_condition_is_found(seed: int) -> None:
    check_planted_condition_is_found(seed)


def test_rules() -> None:
    check_rules()


def test_published_similarity_forgets_the_sign() -> None:
    train = told_apart()
    direction = CAST.fit(train).directions[0]
    for kind, same in (("published", True), ("cosine", False)):
        condition = Condition("a", 2, "last_prompt", kind, "above", 0.05)
        assert torch.equal(condition.met(train.context, direction), condition.met(-train.context, direction)) == same


def test_swapped_pairs_give_the_opposite_vectors() -> None:
    train = told_apart()
    swapped = replace(train, positive=train.negative, negative=train.positive)
    close(CAST.fit(train).vectors, -CAST.fit(swapped).vectors)


def test_gates_are_decided_on_the_unsteered_prompt(small: VLM) -> None:
    """Also above the steered block, and with the scope "all", which runs the prompt again."""
    cast, prompts = fitted(small, "CAST", scope="all"), sixteen("CAST")[:4]
    query = ask(small, prompts, [cast]).query(cast)
    state = small.capture([prompts[1]], [Site(cast.reads)], tokens="prompt")[Site(cast.reads)][0]
    image = small.encode([prompts[1]]).image_mask[0]
    close(query.state(cast.looks[0])[1], state[~image].mean(0))
    replies = steer(small, prompts, cast, strength=2.0, **OPTIONS)
    ops = cast.ops(query, 2.0)
    bitwise(replies.logits, small.generate(prompts, ops, **OPTIONS).logits)


def test_published_offset_reads_and_adds_at_the_input(small: VLM) -> None:
    cast = fitted(small, "CAST", published_offset=True)
    query = ask(small, sixteen("CAST")[:2], [cast]).query(cast)
    assert cast.looks == (Read(Site(small.n_layers - 1, "hook_resid_pre"), "text"),)
    assert [op.site for op in cast.ops(query)] == [Site(0, "hook_resid_pre")]


def test_several_blocks_are_steered(small: VLM) -> None:
    first, second = (pooled(small).at(1, writes) for writes in (0, 2))
    cast = CAST.fit(first, others=[second], unit=True)
    close(cast.vectors.norm(dim=-1), torch.ones(2, 2))
    query = Query(first.context, seen={Read(Site(1), "text"): first.context})
    assert [op.site for op in cast.ops(query)] == [Site(0), Site(2)]


def test_what_does_not_fit_is_refused(small: VLM) -> None:
    train = told_apart()
    with pytest.raises(ValueError, match="at least two behaviours"):
        CAST.fit(train.rows([row for row in range(40) if row % 2]))
    with pytest.raises(ValueError, match=r"pooled over 'text', the training ones over 'last_prompt'"):
        CAST.fit(train, validation=replace(train, context_pool="text"))
    with pytest.raises(ValueError, match="has no condition 'c'"):
        replace(CAST.fit(train), rules=(Rule.parse("if c then a"),))
    for text in ("a then b", "if a or b and c then d", "if a b c then d", "if then b"):
        with pytest.raises(ValueError, match="is no rule"):
            Rule.parse(text)
    with pytest.raises(ValueError, match=r"looks at blocks\.2\.hook_resid_post, pooled over 'last_prompt'"):
        CAST.fit(train).ops(Query(train.context))
    with pytest.raises(ValueError, match="give one a pair"):
        bank(small).reading(small, [pair.prompt for pair in pairs()][1:], "text")
    assert MeanSteering.fit(pooled(small).at(0, 0)).reads == 0
