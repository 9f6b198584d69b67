"""Faults planted in what goes beyond the paper: a gate, and several blocks."""

from typing import Any

import pytest

import methods.probes
import methods.training
from methods import L2SGated, L2SLayers
from tests.mutation.faults import around, fault


@fault("the gate decided for the whole batch", "12 a row that is left alone keeps its bits")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, L2SGated, "gates", lambda gates, steerer, context: (one := gates(steerer, context)) | one.any())


@fault("the gate turned round", "12 a row that is left alone keeps its bits", "12 both kinds count alike for the gate")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, L2SGated, "gates", lambda gates, *args: ~gates(*args))


@fault("the rarer kind counts for less in the gate", "12 both kinds count alike for the gate")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, methods.probes, "_newton", lambda newton, design, labels, share: newton(design, labels, share * 0 + 1)
    )


@fault("every block given the first one's vector", "12 each block gets its own direction")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(predict: Any, steerer: L2SLayers, context: Any) -> Any:
        found = predict(steerer, context)
        return found[:1].expand_as(found).contiguous()

    around(patch, L2SLayers, "predict", wrong)


@fault("the strength not divided among blocks", "12 each block gets its own direction")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(ops: Any, steerer: L2SLayers, query: Any, strength: Any = 1.0) -> Any:
        return ops(steerer, query, strength * len(steerer.blocks))

    around(patch, L2SLayers, "ops", wrong)


@fault("one block's loss alone", "12 each block gets its own direction")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(losses: Any, prediction: Any, target: Any, blocks: int, *weights: float) -> Any:
        width = prediction.shape[1] // blocks
        return losses(prediction[:, :width], target[:, :width], 1, *weights)

    around(patch, methods.training, "block_losses", wrong)
