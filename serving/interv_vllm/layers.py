"""What decoder blocks do besides: write down what leaves them at some tokens, and add a row of the table to others.

It is one custom op, so that compilers and graphs keep it where hooks would be lost. vLLM splits the residual stream:
a block returns (hidden, residual), and the stream is their sum, so what is added to `hidden` is added to the stream.
"""

from typing import Any

import torch
from torch import Tensor, nn

from interv_vllm.state import State

# `model_type` of the models and their text models that the tests compare with the toolkit, and the blocks of these.
FAMILIES = {"llava": "llama", "qwen2_vl": "qwen2_vl_text"}
BLOCKS = ("LlamaDecoderLayer", "Qwen2DecoderLayer")

_current: State | None = None  # a worker process has one model


def visit(hidden: Tensor, residual: Tensor | None, block: int) -> None:
    """Changes `hidden`, [tokens, width], in place, as the op has declared."""
    state = _current
    if state is None or not (state.active or state.always):
        return
    if block in state.states:
        picked = hidden.index_select(0, state.last)
        if residual is not None:
            picked = picked + residual.index_select(0, state.last)
        state.states[block].copy_(picked)
    if block in state.rows:
        hidden += state.table.rows.index_select(0, state.rows[block][: hidden.shape[0]])


def _visit_shapes(hidden: Tensor, residual: Tensor | None, block: int) -> None:
    """What a compiler sees of it."""


def arm(model: nn.Module, state: State) -> None:
    """Give the blocks that are read or steered a class that visits; before anything is compiled or captured.

    Raises ValueError for a model whose blocks are of no kind that was tested.
    """
    global _current
    _current = state
    if not hasattr(torch.ops.vllm, "interv_visit"):
        from vllm.utils.torch_utils import direct_register_custom_op

        direct_register_custom_op("interv_visit", visit, mutates_args=["hidden"], fake_impl=_visit_shapes)
    blocks = decoder_blocks(model)
    for number in state.blocks:
        blocks[number].__class__ = _visiting(type(blocks[number]))
        blocks[number].interv_block = number


def decoder_blocks(model: nn.Module) -> Any:
    inner: Any = getattr(model, "language_model", model)
    blocks = inner.model.layers
    kind = type(blocks[0]).__name__
    if kind not in BLOCKS:
        raise ValueError(f"This model's blocks are {kind}; steering was tested on {' and '.join(BLOCKS)}.")
    return blocks


def _visiting(kind: type) -> type:
    class Visiting(kind):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = super().forward(*args, **kwargs)
            hidden, residual = out if isinstance(out, tuple) else (out, None)
            torch.ops.vllm.interv_visit(hidden, residual, self.interv_block)
            return out

    Visiting.__name__ = Visiting.__qualname__ = f"Visiting{kind.__name__}"
    return Visiting
