"""Faults of cache, padding and positions."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import interv.ops.op
import interv.places.scope
import interv.prompts.encoding
import interv.running.hooks
import interv.running.plan
import interv.running.prefill
import interv.vlm
from interv.places.layouts import Layout
from interv.running.prefill import Prefill
from tests.mutation.faults import around, fault


@fault("left padding ignored", "4 a row equals its prompt alone", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(encode: Any, *args: Any) -> Any:
        encoded = encode(*args)
        return replace(encoded, attention_mask=torch.ones_like(encoded.attention_mask))

    around(patch, interv.vlm, "encode", wrong)


@fault("positions of images counted as text (Qwen2-VL)", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(positions: Any, model: Any, ids: Tensor, mask: Tensor, *rest: Any) -> Tensor:
        right = positions(model, ids, mask, *rest)
        return (mask.cumsum(1) - 1).clamp_min(0).expand_as(right).contiguous()

    around(patch, interv.prompts.encoding, "_positions", wrong)


@fault("positions taken from the batch that ran last (Qwen2-VL)", "5 a prefill outlives other batches")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(inputs: Any, prefill: Prefill, *args: int) -> dict[str, Any]:
        return {name: value for name, value in inputs(prefill, *args).items() if name != "position_ids"}

    around(patch, Prefill, "decoding_inputs", wrong)


@fault("cache not cropped", "5 prefill and decode equal full passes", "1 zero strength changes nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(inputs: Any, prefill: Prefill, *args: int) -> dict[str, Any]:
        return inputs(prefill, *args) | {"past_key_values": interv.running.prefill.fork(prefill.cache)}

    around(patch, Prefill, "decoding_inputs", wrong)


@fault("a prompt's pass that stops a block too early", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Layout, "keys_of", lambda keys_of, layout, layer: keys_of(layout, layer - 1))


@fault("a prefill used up by its first reply", "5 a prefill outlives other batches", "4 selected rows are the rows")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.running.prefill, "fork", lambda cache: cache)


@fault("selected rows keep the padding of others", "4 selected rows are the rows")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(select: Any, prefill: Prefill, rows: Any) -> Prefill:
        chosen = select(prefill, rows)
        mask = prefill.encoded.attention_mask[: len(chosen)]
        return replace(chosen, encoded=replace(chosen.encoded, attention_mask=mask))

    around(patch, Prefill, "select", wrong)
