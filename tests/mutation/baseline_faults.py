"""Faults planted in the other systems: most of them are what published code does."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import methods.asking
import methods.attribution
import methods.cast
import methods.conditions
import methods.contrasts.reads
import methods.iti
import methods.mixing
import methods.pai_logits
import methods.vcd
from interv import Boost, Drop, Site
from methods import ADHH, CAST, ITI, PAI, Condition, Query
from methods.attribution import Attribution
from methods.mixing import Following, Mixed
from methods.streams import Noised, WithoutImage
from tests.mutation.faults import around, fault


@fault("the first row's gate taken for every row", "14 padding counts for nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, CAST, "gates", lambda gates, cast, query: (found := gates(cast, query))[:1].expand_as(found).contiguous()
    )


@fault("padding in a prompt's mean", "14 padding counts for nothing", "14 CAST's similarity as published")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(pooled: Any, pool: str, values: Any, encoded: Any) -> Tensor:
        states = pooled(pool, values, encoded)
        return states if pool == "last_prompt" else states * (encoded.attention_mask.float().mean(1, keepdim=True))

    around(patch, methods.contrasts.reads, "pooled", wrong)


@fault("image tokens in the text's mean", "14 CAST's similarity as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        methods.contrasts.reads,
        "pooled",
        lambda pooled, pool, *args: pooled("prompt" if pool == "text" else pool, *args),
    )


@fault("a condition's sign lost", "14 a planted condition is found", "14 CAST's similarity as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.conditions, "cosine_similarity", lambda cosine, *args, **named: cosine(*args, **named).abs())


@fault("a condition that fires on its wrong side", "14 a planted condition is found", "14 rules of conditions")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Condition, "met", lambda met, *args: ~met(*args))


@fault("the pairs' differences centred", "14 CAST's direction as published", "14 a planted condition is found")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(direction: Any, positive: Tensor, negative: Tensor) -> Tensor:
        return direction(positive - (positive - negative).mean(0), negative)

    around(patch, methods.conditions, "pairwise_direction", wrong)
    patch.setattr(methods.cast, "pairwise_direction", methods.conditions.pairwise_direction)
    import tests.parity.test_baselines as published

    patch.setattr(published, "pairwise_direction", methods.conditions.pairwise_direction)


@fault("a direction of any sign", "14 CAST's direction as published", "14 a planted condition is found")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.cast, "pairwise_direction", lambda direction, *args: direction(*args).abs())
    around(patch, methods.conditions, "pairwise_direction", lambda direction, *args: -direction(*args).abs())
    import tests.parity.test_baselines as published

    patch.setattr(published, "pairwise_direction", methods.conditions.pairwise_direction)


@fault("any condition where all are wanted", "14 rules of conditions")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        CAST,
        "gates",
        lambda gates, cast, query: gates(replace(cast, rules=tuple(r._replace(how="any") for r in cast.rules)), query),
    )


@fault("the input of a block read for its output", "14 CAST's similarity as published")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CAST, "_site", lambda cast, block: Site(block, "hook_resid_pre"))


@fault("rows without a condition steered a little", "14 rows without a condition are left alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, cast: CAST, query: Query, strength: Any = 1.0) -> Any:
        return tuple(replace(op, vector=op.vector + 1e-3) for op in ops(cast, query, strength))

    around(patch, CAST, "ops", wrong)


@fault("PAI leaves the first token of the reply", "14 PAI's scores as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, PAI, "ops", lambda ops, pai, *args: ops(replace(pai, scope="generated"), *args))


@fault("PAI scales scores by their sign", "14 PAI's scores as published")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(change: Any, op: Boost, values: Tensor, columns: Tensor, strength: Tensor) -> Tensor:
        return torch.where(columns, values + strength * values, values)

    around(patch, Boost, "change", wrong)


@fault("PAI from the first block on", "14 PAI's scores as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, PAI, "ops", lambda ops, pai, *args: ops(replace(pai, blocks=tuple(range(max(pai.blocks) + 1))), *args)
    )


@fault("AD-HH renormalises", "14 text is dropped")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, ADHH, "ops", lambda ops, adhh, *args: tuple(replace(op, renormalise=True) for op in ops(adhh, *args)))


@fault("AD-HH counts what stands before the image", "14 AD-HH's rule as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, ADHH, "ops", lambda ops, adhh, *args: tuple(replace(op, columns="text") for op in ops(adhh, *args)))


@fault("AD-HH's gate summed over the batch", "14 AD-HH's rule as published")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(fires: Any, op: Drop, values: Tensor, columns: Tensor) -> Any:
        mass = (values.float() * columns).sum(dim=-1, keepdim=True).sum(dim=0, keepdim=True)
        return (mass >= (op.threshold or 0)).expand(len(values), -1, -1, -1)

    around(patch, Drop, "fires", wrong)


@fault("AD-HH without its gate", "14 AD-HH's rule as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, ADHH, "ops", lambda ops, adhh, *args: ops(replace(adhh, threshold=0.0), *args))


@fault("another head removed than is scored", "14 attribution finds a planted head")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.attribution, "removals", lambda removals, heads: removals([*heads[1:], heads[0]]))


@fault("AD-HH leaves the first token of the reply", "14 AD-HH's rule as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, ADHH, "ops", lambda ops, adhh, *args: ops(replace(adhh, scope="generated"), *args))


@fault("heads scored by mistakes alone", "14 a planted head is the first")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Attribution, "scores", property(lambda found: found.influence[found.wrong].mean(dim=0)))


@fault("companions go their own way", "14 companions follow")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Following, "__call__", lambda following, ids, scores, **_: torch.zeros(len(ids), dtype=torch.bool))


@fault("companions end a reply", "14 companions follow")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Following, "__call__", lambda call, *args, **named: call(*args, **named) | True)


@fault("companions of another row", "14 PAI's logits as published")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        Mixed,
        "__call__",
        lambda call, mixed, ids, scores: (
            torch.cat([call(mixed, ids, torch.cat([scores[:2], scores[2:].roll(1, 0)]))[:2], scores[2:]])
            if len(scores) == 4
            else call(mixed, ids, scores)
        ),
    )


@fault("the second stream keeps the image", "14 PAI's logits as published")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WithoutImage, "prompts", lambda stream, prompts: list(prompts))


@fault("noise drawn anew for each batch", "14 noise is of the image alone")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Noised, "changed", lambda noised, pixels: (pixels + torch.randn_like(pixels)) / 2**0.5)


@fault("no cut-off of unlikely tokens", "14 unlikely tokens are cut off")
def _(patch: pytest.MonkeyPatch) -> None:
    for owner in (methods.vcd, methods.pai_logits):
        patch.setattr(owner, "cut_off", lambda mixed, own, share: mixed)


@fault("rows of strength 0 mixed and cut off", "14 zero strength changes nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    for owner in (methods.vcd, methods.pai_logits):
        patch.setattr(owner, "where_steered", lambda mixed, own, strength: mixed)


@fault("companions steered too", "14 runs side by side equal runs apart")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(stack: Any, runs: Any, rows: int) -> Any:
        return stack([ops or next((own for own in runs if own), ()) for ops in runs], rows)

    around(patch, methods.asking, "stack", wrong)


@fault("heads judged on the pairs that they were fitted on", "14 heads are judged on unseen pairs")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.iti, "probe_accuracy", lambda probe, one, other, *_: probe(one, other, one, other))


@fault("ITI without sigma", "14 a planted head is found")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.iti, "_shift", lambda shift, *args: torch.nn.functional.normalize(shift(*args), dim=0))


@fault("ITI pushes the first row alone", "14 a batch equals single runs")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, iti: ITI, query: Query, strength: Any = 1.0) -> Any:
        every = torch.as_tensor(strength).expand(len(query.context))
        return ops(iti, query, torch.cat([every[:1], torch.zeros_like(every[1:])]))

    around(patch, ITI, "ops", wrong)


@fault("ITI pushes the neighbouring head", "14 chosen heads alone change")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, iti: ITI, query: Query, strength: Any = 1.0) -> Any:
        return ops(replace(iti, shifts=iti.shifts.roll(8, 1)), query, strength)

    around(patch, ITI, "ops", wrong)
