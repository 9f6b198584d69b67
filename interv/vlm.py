"""A vision-language model that can be read and steered at any site."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interv.models.adapters import own_model
from interv.models.identity import Fingerprint, preprocessing_of
from interv.models.load import load
from interv.models.processor_settings import ready
from interv.named import ActivationCache, HookFunction, Names, cache_of, captures_of, hooked
from interv.ops.op import Capture, Op, captures_at
from interv.ops.values import Tokens
from interv.places.layouts import layout_of
from interv.places.scope import PROMPT_SCOPES, Step
from interv.places.site import Site
from interv.prompts.encoding import Encoded, encode
from interv.prompts.images import ImagesOnce
from interv.prompts.prompt import Prompt
from interv.running.checks import check_images, check_list, check_ops, check_prompt_ops, check_prompts, check_site
from interv.running.decoding import Decoding
from interv.running.hooks import installed
from interv.running.plan import Plan
from interv.running.prefill import Prefill
from interv.running.replies import Replies, replies_of
from interv.running.runner import Runner, prompt_step, reply_steps


class VLM:
    """A Hugging Face vision-language model with its processor.

    Every reply is made in the same three stages: the prompt runs once, its last token runs again with the ops, then
    one token at a time. So what is read from the prompt can decide what is added at any layer, below or above, and
    runs with and without ops differ by the ops alone.
    """

    def __init__(self, model: nn.Module, processor: Any, name: str = "") -> None:
        """A model of transformers, or peft's around one: `self.model` is the one inside, with the adapter's layers."""
        self.model = own_model(model).eval()
        self.name: str = name or self.model.config.name_or_path or type(self.model).__name__
        self.processor = ready(processor, self.name)
        self.layout = layout_of(self.model.config.model_type).of(self.model)
        self.n_layers: int = self.model.config.get_text_config().num_hidden_layers
        self.d_model: int = self.model.config.get_text_config().hidden_size
        self._runner = Runner(self.model, self.layout, self.n_layers)
        self._fingerprint = Fingerprint(self.model)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> "VLM":
        """Load an embedded model by name ("tiny-llava"), a local folder, or a model of the Hugging Face hub.

        `dtype` is the checkpoint's own unless told; embedded models are computed in float32. Options are device_map,
        attn_implementation, load_in_4bit and load_in_8bit; the first and the last two place the weights themselves, and
        `device` does not. Further ones are chat_template, as Jinja text or a file; max_pixels and min_pixels, between
        which Qwen2-VL and its kin scale an image; and threads, of torch ("spare": as `spare_threads` says). Raises
        ValueError where nothing has the name, there is no chat template, or `layouts.py` has no row for the family.
        """
        model, processor = load(name, dtype=dtype, revision=revision, local_files_only=local_files_only, **options)
        placed = any(options.get(option) for option in ("device_map", "load_in_4bit", "load_in_8bit"))
        return cls(model if placed else model.to(device), processor, name)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"VLM({self.name}: {type(self.model).__name__}, {self.n_layers} blocks, width {self.d_model})"

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that tell models apart by their weights and adapters, as they are now."""
        return str(self._fingerprint)

    @property
    def preprocessing(self) -> dict[str, str | None]:
        """What makes a prompt the model's inputs, as it is now: template, tokenizer, image processor and libraries."""
        return preprocessing_of(self.processor)

    @property
    def pad_token_id(self) -> int:
        """What stands where a shorter row has no token; masked everywhere, so its value decides nothing."""
        return self.processor.tokenizer.pad_token_id or 0

    def sites(self) -> list[Site]:
        """Every named place of the decoder and of the vision tower, then every module by its path."""
        return self.layout.sites() + [Site.parse(name) for name, _ in self.model.named_modules() if name]

    def encode(self, prompts: Sequence[Prompt] | Encoded) -> Encoded:
        """The prompts as the model's inputs, padded on the left; what is encoded already stays as it is."""
        if isinstance(prompts, Encoded):
            return prompts
        check_prompts(prompts, self.model)
        return encode(self.model, self.processor, prompts)

    def encode_variants(self, variants: Sequence[Sequence[Prompt]]) -> list[Encoded]:
        """As `encode`, list after list, for prompts about the same images, which are opened and processed once."""
        once = ImagesOnce(self.processor)
        return [encode(self.model, once.processor, prompts, once.opened) for prompts in variants]

    def prefill(self, prompts: Sequence[Prompt] | Encoded, reads: Sequence[Site | str | Capture] = ()) -> Prefill:
        """Run the prompts once, keep the cache, and read the sites at each last prompt token or as a `Capture` says."""
        encoded = self.encode(prompts)
        plan = self._plan(captures_at(reads), len(encoded))
        cache = self._runner.fill(plan, prompt_step(encoded), encoded)
        captured = {read: plan.captured[i][0] for i, read in enumerate(reads)}
        return Prefill(self.model, encoded, cache, captured)

    def prefix(self, encoded: Encoded, blocks: int) -> Prefill:
        """Run tokens that others are to follow, and keep what the first `blocks` decoder blocks need of them.

        The model stops where the last of these has keys and values, so nothing can be generated behind a prefix: it is
        for `extend`, at sites of these blocks.
        """
        check_site(Site(blocks - 1), self.model, self.layout)
        return self._runner.prefix(self._plan((), None), encoded, blocks)

    def follow(self, prefill: Prefill, rows: Sequence[int], tail: Encoded, tokens: int) -> Prefill:
        """Run further tokens behind rows of a prefill, to reply from: once, and with so many tokens at most."""
        return self._runner.follow(self._plan((), None), prefill, rows, tail, tokens)

    def capture(
        self,
        prompts: Sequence[Prompt] | Encoded,
        sites: Sequence[Site | str],
        tokens: Tokens = "last_prompt",
        ops: Sequence[Op] = (),
    ) -> dict[Any, Any]:
        """Read any number of sites in one pass over the prompts.

        `tokens` and what comes back are as in `Capture`, by site as it was asked for. Ops act in the same pass; what is
        read at an op's own site is the value after it.
        """
        encoded = self.encode(prompts)
        plan = self._plan([*ops, *captures_at(sites, tokens)], len(encoded))
        check_images(ops, encoded.image_mask)
        self._runner.forward(plan, prompt_step(encoded), encoded.model_inputs(), until=plan.end)
        plan.check_touched()
        return {site: plan.captured[len(ops) + i][0] for i, site in enumerate(sites)}

    def run_with_cache(
        self, prompts: Sequence[Prompt] | Encoded, names: Names = None, ops: Sequence[Op] = ()
    ) -> tuple[Float[Tensor, "batch pos vocabulary"], ActivationCache]:
        """The logits of every token, and activations by name in TransformerLens' shapes; see `ActivationCache`.

        `names` is a list of names, or a function that says yes to some of all but hook_result's.
        """
        encoded = self.encode(prompts)
        plan = self._plan([*ops, *captures_of(names, self.layout, bool(encoded.media))], len(encoded))
        return self._runner.every_logit(plan, encoded), cache_of(plan, encoded.attention_mask)

    def run_with_hooks(
        self, prompts: Sequence[Prompt] | Encoded, fwd_hooks: Sequence[tuple[Names, HookFunction]]
    ) -> Float[Tensor, "batch pos vocabulary"]:
        """The logits of every token, with a `function(tensor, hook)` at the names of each pair; see `Hooked`."""
        encoded = self.encode(prompts)
        plan = self._plan(hooked(fwd_hooks, self.layout, bool(encoded.media)), len(encoded))
        return self._runner.every_logit(plan, encoded)

    def extend(
        self,
        prefill: Prefill,
        rows: Sequence[int],
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "batch seq"] | Int[Tensor, "3 batch seq"],
        sites: Sequence[Site | str],
    ) -> dict[Any, Float[Tensor, "batch seq ..."]]:
        """Run further tokens behind a prefill or a prefix and read the sites at all of them, padding too.

        `rows[i]` is the row of the prefill that row i follows; any number of rows may follow one.
        """
        plan, every = self._plan(captures_at(sites, "all"), len(input_ids)), torch.ones_like(attention_mask)
        inputs, cache = prefill.following(rows, input_ids, attention_mask, position_ids)
        self._runner.forward(plan, Step.of_prompt(every, every == 0), inputs, cache, plan.end)
        return {site: torch.stack(plan.captured[i][0]) for i, site in enumerate(sites)}

    def logits(self, prompts: Sequence[Prompt] | Prefill, ops: Sequence[Op] = ()) -> Float[Tensor, "batch vocabulary"]:
        """The logits of the reply's first token. Raises as `generate` does."""
        prefill, plan = self._start(prompts, ops)
        return self._runner.next_logits(plan, prefill)

    def generate(
        self,
        prompts: Sequence[Prompt] | Prefill,
        ops: Sequence[Op] = (),
        *,
        max_new_tokens: int = 64,
        logits: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> Replies:
        """Answer the prompts, steered by the ops; greedy unless told otherwise.

        Args:
            prompts: prompts, or a prefill of them, which is not used up.
            ops: what to do; `Capture`s may be among them whose tokens are a scope.
            max_new_tokens: the longest reply, in tokens.
            logits: keep the logits of every step.
            seed: of the sampling; the global random state is left alone.
            options: what Hugging Face's `generate` takes and a run that continues from a cache can honour.

        Raises:
            ValueError: an op or an option does not fit the model or the prompts.
            RuntimeError: an op touched no token.
        """
        tokenizer, own = self.processor.tokenizer, self.model.generation_config
        follows = logits or any(isinstance(op, Capture) or getattr(op, "gated", False) for op in ops)
        decoding = Decoding.of(options, own, tokenizer, max_new_tokens, follows=follows, seed=seed)
        prefill, plan = self._start(prompts, ops)
        inputs = prefill.decoding_inputs(decoding.copies, max_new_tokens)
        settings = {**decoding.settings, **inputs, "output_logits": logits}
        output = self._runner.generate(plan, reply_steps(prefill.encoded, plan), settings)
        plan.check_touched()
        return replies_of(output, plan, decoding, tokenizer, prefill.encoded.input_ids.shape[1])

    def installed(self, ops: Sequence[Op]) -> AbstractContextManager[dict[Op, list[Any]]]:
        """The same ops as hooks on `self.model`, for code that calls it directly; removed on exit.

        It gives what each `Capture` among the ops read, one entry for each forward that held such tokens; of an op with
        a gate, how many heads and queries of each row it judged and in how many it fired, [batch, 2].
        """
        return installed(self.model, self._plan(ops, None))

    def _plan(self, ops: Sequence[Op], rows: int | None) -> Plan:
        check_list(ops)
        own = self.fingerprint if any(getattr(op, "fingerprint", None) for op in ops) else ""
        check_ops(ops, self.model, self.layout, rows, own)
        return Plan(tuple(ops), self.layout, self.model)

    def _start(self, prompts: Sequence[Prompt] | Prefill, ops: Sequence[Op]) -> tuple[Prefill, Plan]:
        """The prefill to decode from. Ops that reach into the prompt run it once more, up to its last token."""
        check_prompts(prompts, self.model)
        plan = self._plan(ops, len(prompts))
        encoded = prompts.encoded if isinstance(prompts, Prefill) else self.encode(prompts)
        if not any(op.scope in PROMPT_SCOPES for op in ops):
            check_images(ops, encoded.image_mask)
            return prompts if isinstance(prompts, Prefill) else self.prefill(encoded), plan
        check_prompt_ops(ops, encoded)
        cache = self._runner.fill(plan, prompt_step(encoded, last=False), encoded)
        return Prefill(self.model, encoded, cache, {}), plan
