"""One pass of the model at a time: a plan's ops applied, a cache filled, no more blocks run than are needed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from interv.places.columns import Columns, PromptColumns
from interv.places.layouts import Layout
from interv.places.scope import Step
from interv.prompts.encoding import Encoded
from interv.running.checks import check_images
from interv.running.plan import Location, Plan
from interv.running.prefill import Prefill, empty_cache, fork
from interv.running.room import make_room
from interv.running.trace import Tracer


class Runner:
    """Runs plans of ops through one model."""

    def __init__(self, model: PreTrainedModel, layout: Layout, n_layers: int) -> None:
        self._model, self._layout, self._last = model, layout, n_layers - 1
        self._tracer = Tracer(model)

    def forward(
        self,
        plan: Plan,
        step: Step,
        inputs: dict[str, Any],
        cache: Cache | None = None,
        until: Location | None = None,
        every: bool = False,
    ) -> Any:
        """One forward, whose tokens `step` describes; with `until` it ends there and gives nothing.

        `every` asks for the logits of all tokens.
        """
        # The output head is given the last position alone, unless an op is to see the others there.
        kept = 0 if every or any(self._layout.locate(op.site)[0] == self._layout.output_head for op in plan.ops) else 1
        cache = empty_cache(self._model.config) if cache is None else cache
        settings = {"use_cache": True, "logits_to_keep": kept, "return_dict": True, "past_key_values": cache}
        return self._run(plan, lambda count: step, {**inputs, **settings}, until=until)

    def every_logit(self, plan: Plan, encoded: Encoded) -> Float[Tensor, "batch pos vocabulary"]:
        """The logits of all tokens of the prompts, zero where padding is."""
        check_images(plan.ops, encoded.image_mask)
        logits = self.forward(plan, prompt_step(encoded), encoded.model_inputs(), every=True).logits
        plan.check_touched()
        return torch.where(encoded.attention_mask.bool()[..., None], logits, 0.0)

    def fill(self, plan: Plan, step: Step, encoded: Encoded) -> Cache:
        """The cache of the prompts' pass, which leaves out what only logits need: replies run the last token again."""
        cache = empty_cache(self._model.config)
        blocks = [self._layout.decoder_block_of(op.site) for op in plan.ops]
        inside = all(block is not None and block < self._last for block in blocks)
        self.forward(plan, step, encoded.model_inputs(), cache, self._layout.keys_of(self._last) if inside else None)
        if cache.get_seq_length() != encoded.input_ids.shape[1]:
            raise RuntimeError(
                f"The model kept {cache.get_seq_length()} of {encoded.input_ids.shape[1]} prompt tokens in its cache, "
                "and replies continue from there; call model.eval(), and switch gradient checkpointing off."
            )
        return cache

    def prefix(self, plan: Plan, encoded: Encoded, blocks: int) -> Prefill:
        """As much of the prompts' pass as the first `blocks` decoder blocks need where others follow."""
        cache = DynamicCache(config=self._model.config.get_text_config(decoder=True))
        until = self._layout.keys_of(blocks - 1)
        self.forward(plan, prompt_step(encoded), encoded.model_inputs(), cache, until)
        return Prefill(self._model, encoded, cache, {}, blocks)

    def follow(self, plan: Plan, prefill: Prefill, rows: Sequence[int], tail: Encoded, tokens: int) -> Prefill:
        """The prefill of these rows with the tail behind them and room for a reply, which is made where it lies."""
        chosen = list(rows)
        behind = prefill if chosen == [*range(len(prefill))] else prefill.select(chosen)
        cache, joined = fork(behind.cache), behind.encoded.followed_by(tail)
        make_room(cache, tail.input_ids.shape[1] + tokens)
        inputs = {"input_ids": tail.input_ids, "attention_mask": joined.attention_mask}
        inputs["position_ids"] = tail.position_ids
        self.forward(plan, prompt_step(tail), inputs, cache, self._layout.keys_of(self._last))
        return Prefill(self._model, joined, cache, {})

    def next_logits(self, plan: Plan, prefill: Prefill) -> Float[Tensor, "batch vocabulary"]:
        """The logits behind the prompts' last token, which runs again with the ops."""
        inputs = prefill.decoding_inputs()
        cache = inputs.pop("past_key_values")
        inputs |= {"input_ids": inputs["input_ids"][:, -1:], "position_ids": inputs["position_ids"][..., -1:]}
        output = self.forward(plan, reply_steps(prefill.encoded, plan)(0), inputs, cache)
        plan.check_touched()
        return output.logits[:, -1]

    def generate(self, plan: Plan, step_at: Callable[[int], Step], settings: dict[str, Any]) -> Any:
        """Hugging Face's `generate`, whose i-th forward holds the tokens `step_at(i)`."""
        return self._run(plan, step_at, settings, generate=True)

    def _run(self, plan: Plan, step_at: Callable[[int], Step], inputs: dict[str, Any], **how: Any) -> Any:
        return self._tracer.run(plan.visits(step_at), inputs, **how, asks=plan.asks(step_at) if plan.attends else None)


def prompt_step(encoded: Encoded, *, last: bool = True) -> Step:
    """The forward of whole prompts; with last=False their last token is left for a step of its own."""
    step = Step.of_prompt(encoded.attention_mask, encoded.image_mask, last=last)
    return replace(step, columns=_columns_of(encoded))


def reply_steps(encoded: Encoded, plan: Plan) -> Callable[[int], Step]:
    """The forwards of a reply: the last prompt token again, then one generated token at a time."""
    device = encoded.input_ids.device
    steps = [Step.of_token(len(encoded), device, generated=flag) for flag in (False, True)]
    if not plan.attends:
        return lambda count: replace(steps[1 if count else 0], number=count)
    columns = _columns_of(encoded)

    @lru_cache(maxsize=1)  # each block asks for the same
    def step(count: int) -> Step:
        grown = replace(columns, seen=columns.seen + count)
        return replace(steps[1 if count else 0], number=count, columns=grown)

    return step


def _columns_of(encoded: Encoded) -> Columns:
    return Columns(PromptColumns(encoded.attention_mask, encoded.image_mask), encoded.input_ids.shape[1])
