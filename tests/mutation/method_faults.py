"""Faults planted in the methods: contrasts, training, and what is kept on disk."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import methods.contrasts.capture
import methods.contrasts.shared_prefix
import methods.l2s
from methods import L2S, MeanSteering, NormRnd, Query
from methods.contrasts.continuation import Trunk
from methods.contrasts.contrasts import Contrasts
from methods.steerer import Fitted
from tests.mutation.faults import around, fault

CONTRASTS = "5 contrasts equal full passes"


@fault("contrast pooled one token early", CONTRASTS)
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.contrasts.shared_prefix, "_weights", lambda weights, *args: weights(*args).roll(-1, 1))


@fault("shared prefix cut too long", CONTRASTS)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(shared: Any, *args: Any) -> Any:
        lengths = shared(*args)
        return lengths and [length - 1 for length in lengths[:1]] + [length + 1 for length in lengths[1:]]

    around(patch, methods.contrasts.shared_prefix, "_shared_lengths", wrong)


@fault("one image taken for that of every pair", "5 pairs about one image equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(methods.contrasts.shared_prefix, "shown_by", lambda prompt: "")


@fault("the model goes on behind another pair's prompt", "5 what is said counts")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, Trunk, "behind", lambda behind, trunk, *args: behind(replace(trunk, places=trunk.places[::-1]), *args)
    )


@fault("what the model says is not counted", "5 what is said counts")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(methods.contrasts.shared_prefix, "spoken", lambda vlm, encoded, *_: [[] for _ in range(len(encoded))])


@fault("answers averaged over one token too many", CONTRASTS)
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.contrasts.shared_prefix, "_common", lambda common, one, other: max(0, common(one, other) - 1))


@fault("positive and negative swapped", CONTRASTS)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(batch: Any, *args: Any) -> Any:
        bank = batch(*args)
        return replace(bank, positive=bank.negative, negative=bank.positive)

    around(patch, methods.contrasts.capture, "capture_batch", wrong)


@fault("layers counted from one", CONTRASTS)
def _(patch: pytest.MonkeyPatch) -> None:
    site = methods.contrasts.shared_prefix.Site
    patch.setattr(
        methods.contrasts.shared_prefix,
        "Site",
        lambda layer: site(max(0, layer - 1), "hook_resid_post") if layer else site(0, "hook_resid_pre"),
    )


@fault("L2S ignores its seed", "12 the seed is used")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, methods.l2s, "initial_weights", lambda start, train, hidden, init, seed: start(train, hidden, init, 0)
    )
    around(patch, methods.l2s, "train_network", lambda fit, *args, **named: fit(*args, **named | {"seed": 0}))


@fault("L2S draws from the global generator", "12 fit depends on data and seed alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, *args: Any) -> Any:
        weights = start(*args)
        return weights._replace(encoder_weight=torch.randn_like(weights.encoder_weight) / 4)

    around(patch, methods.l2s, "initial_weights", wrong)


@fault("L2S seeds the global generator", "12 fit depends on data and seed alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, train: Any, hidden: int, init: Any, seed: int) -> Any:
        torch.manual_seed(seed)
        return start(train, hidden, init, seed)

    around(patch, methods.l2s, "initial_weights", wrong)


@fault("L2S normalises its data in place", "12 fit depends on data and seed alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, train: Contrasts, *args: Any) -> Any:
        train.context.sub_(train.context.mean(0)).div_(train.context.std(0))
        return start(train, *args)

    around(patch, methods.l2s, "initial_weights", wrong)


@fault("L2S steers a batch by its mean", "12 each prompt is steered by itself", "12 a batch is steered row by row")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        L2S,
        "predict",
        lambda predict, l2s, context: predict(l2s, context.mean(0, keepdim=True).expand_as(context)),
    )


@fault("L2S steers a batch by its first row", "12 each prompt is steered by itself", "12 a batch is steered row by row")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, L2S, "predict", lambda predict, l2s, context: predict(l2s, context[:1].expand_as(context).contiguous())
    )


@fault("L2S not trained", "12 a planted direction is found")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, methods.l2s, "train_network", lambda fit, *args, **named: fit(*args, **named | {"epochs": 1}))


@fault("the contrast's sign turned", "12 a planted direction is found")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Contrasts, "vectors", property(lambda train: train.negative - train.positive))


@fault("mean steering normalised", "12 a planted direction is found")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, steerer: MeanSteering, query: Query, strength: Any = 1.0) -> Any:
        return ops(replace(steerer, vector=steerer.vector / steerer.vector.norm()), query, strength)

    around(patch, MeanSteering, "ops", wrong)


@fault("a new random direction at each call", "12 each prompt is steered by itself", "12 what is saved is loaded")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, steerer: NormRnd, query: Query, strength: Any = 1.0) -> Any:
        drawn: Tensor = torch.randn_like(steerer.direction)
        return ops(replace(steerer, direction=drawn), query, strength)

    around(patch, NormRnd, "ops", wrong)


@fault("scope lost on disk", "12 what is saved is loaded")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(write: Any, steerer: Fitted, path: Any, values: Any, about: Any) -> None:
        write(steerer, path, {name: value for name, value in values.items() if name != "scope"}, about)

    around(patch, Fitted, "_write", wrong)


@fault("ops do not say whose they are", "12 ops say where and whose")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Fitted, "add", lambda add, steerer, *args: add(replace(steerer, fingerprint=""), *args))


@fault("vector added where the context is read", "12 ops say where and whose")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Fitted, "add", lambda add, steerer, *args: add(replace(steerer, writes=steerer.reads), *args))
