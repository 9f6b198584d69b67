"""The last prompt tokens once more, as a decode step of their own: their keys, values and states are replaced."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from interv_vllm.state import State, Step


class Attention:
    """Remembers what each attention group's builder was given in this step, whichever model runner gave it."""

    def __init__(self, groups: Sequence[Sequence[Any]]) -> None:
        self._groups = [group for some in groups for group in some]
        self._seen: dict[int, Any] = {}
        self._build: dict[int, Callable[..., Any]] = {}
        for group in self._groups:
            self._remember(group.get_metadata_builder(0))

    def _remember(self, builder: Any) -> None:
        inner = self._build[id(builder)] = builder.build

        def build(common_prefix_len: int, common_attn_metadata: Any, *args: Any, **kwargs: Any) -> Any:
            self._seen[id(builder)] = common_attn_metadata
            return inner(common_prefix_len, common_attn_metadata, *args, **kwargs)

        builder.build = build

    def of(self, rows: Sequence[int], tokens: Sequence[int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Metadata and slot mapping by layer, of a step with these tokens of the batch, one for each of its `rows`."""
        metadata, slots = {}, {}
        for group in self._groups:
            builder = group.get_metadata_builder(0)
            part = selected(self._seen[id(builder)], rows, tokens)
            made = self._build[id(builder)](0, part)
            for name in group.layer_names:
                metadata[name], slots[name] = made, part.slot_mapping
        return metadata, slots


def selected(whole: Any, rows: Sequence[int], tokens: Sequence[int]) -> Any:
    """The same requests' memory, one query token each."""
    from vllm.v1.attention.backend import CommonAttentionMetadata

    count, device = len(rows), whole.query_start_loc.device
    at, which = torch.tensor(tokens, device=device), torch.tensor(rows, device=device)
    upper = whole.seq_lens_cpu_upper_bound
    return CommonAttentionMetadata(
        query_start_loc=torch.arange(count + 1, dtype=torch.int32, device=device),
        query_start_loc_cpu=torch.arange(count + 1, dtype=torch.int32),
        seq_lens=whole.seq_lens.index_select(0, which),
        num_reqs=count,
        num_actual_tokens=count,
        max_query_len=1,
        max_seq_len=whole.max_seq_len,
        block_table_tensor=whole.block_table_tensor.index_select(0, which),
        slot_mapping=whole.slot_mapping.index_select(0, at),
        causal=True,
        seq_lens_cpu_upper_bound=None if upper is None else upper[list(rows)],
        is_prefilling=torch.zeros(count, dtype=torch.bool),
        positions=None if whole.positions is None else whole.positions.index_select(0, at),
    )


def rerun(
    state: State, attention: Attention, step: Step, config: Any, call: Callable[[Tensor], Tensor], hidden: Tensor
) -> None:
    """Predict for the requests that were read, and run their last prompt tokens with what was predicted.

    `call(tokens)` runs the model on these tokens of the batch; their rows of `hidden` are replaced.
    """
    from vllm.forward_context import set_forward_context

    if not state.predict(step):
        return
    tokens = [reading.token for reading in step.reading]
    metadata, slots = attention.of([reading.row for reading in step.reading], tokens)
    at = torch.tensor(tokens, device=hidden.device)
    with set_forward_context(metadata, config, num_tokens=len(tokens), slot_mapping=slots):
        again = call(at)
    hidden.index_copy_(0, at, again)
