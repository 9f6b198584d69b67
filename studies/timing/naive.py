"""The same with nnsight as its tutorials do it: all of the model wrapped, a trace a prompt and layer, outputs saved."""

from collections.abc import Sequence

import nnsight
import torch
from nnsight import NNsight
from torch import Tensor

from interv import Prompt
from methods import L2S, ContrastPair
from studies.timing.models import Contestants


def wrapped(on: Contestants) -> NNsight:
    return NNsight(on.traced)


def read_last(on: Contestants, model: NNsight, prompts: Sequence[Prompt], layer: int) -> Tensor:
    inputs = on.vlm.encode(prompts).model_inputs()
    with torch.no_grad(), model.trace(**inputs):
        hidden = nnsight.save(model.model.language_model.layers[layer].output)
    return hidden[:, -1]


def capture(
    on: Contestants, model: NNsight, pairs: Sequence[ContrastPair], layers: Sequence[int]
) -> dict[int, tuple[Tensor, ...]]:
    found = {}
    for layer in layers:
        rows = [
            [read_last(on, model, [p], layer) for p in (pair.prompt, pair.positive, pair.negative)] for pair in pairs
        ]
        found[layer] = tuple(torch.cat(column) for column in zip(*rows, strict=True))
    return found


def steered(
    on: Contestants, model: NNsight, prompts: Sequence[Prompt], steerer: L2S, strength: float, tokens: int
) -> list[list[int]]:
    vectors = strength * steerer.predict(read_last(on, model, prompts, steerer.reads))
    inputs = on.vlm.encode(prompts).model_inputs()
    inputs.pop("position_ids")
    layer = model.model.language_model.layers[steerer.writes]
    with model.trace(fn="generate", **inputs, max_new_tokens=tokens, do_sample=False) as tracer:
        for _ in tracer.iter[:tokens]:
            hidden = layer.output
            layer.output = torch.cat([hidden[:, :-1], hidden[:, -1:] + vectors[:, None].to(hidden)], dim=1)
        output = nnsight.save(tracer.result)
    return output[:, inputs["input_ids"].shape[1] :].tolist()
