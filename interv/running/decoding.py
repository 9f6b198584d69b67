"""What `generate` may be told: settled, or refused with a reason, before the model runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from interv.running.sampling import Seeded
from interv.running.stop_texts import stops_at

_RUN_ALREADY = "the prompt has run already; use installed() and model.generate"
_SEVERAL = "it proposes several tokens a step, which the scopes cannot tell apart"
_OF_THE_PROMPTS = "it comes from the prompts, which the model's own processor encodes"
_BY_CAPTURE = "read hidden states with a Capture among the ops"
# Options of Hugging Face's `generate` that cannot go on from a prefill or would be lost, and what to do instead.
REFUSED = {
    "cache_implementation": "the prompt's cache is there already; use installed() and model.generate",
    "prefill_chunk_size": _RUN_ALREADY,
    "assistant_model": _SEVERAL,
    "prompt_lookup_num_tokens": _SEVERAL,
    "guidance_scale": "it runs the model twice a step, which the scopes cannot tell apart",
    "generation_config": "give its settings as keywords, such as do_sample=True, temperature=0.7",
    "max_length": "it would count the prompt too; use max_new_tokens",
    **dict.fromkeys(("inputs", "input_ids", "inputs_embeds", "attention_mask", "position_ids"), _OF_THE_PROMPTS),
    **dict.fromkeys(("pixel_values", "image_grid_thw"), _OF_THE_PROMPTS),
    "past_key_values": "the prefill brings its own cache",
    **dict.fromkeys(("output_hidden_states", "output_attentions"), _BY_CAPTURE),
    "output_scores": "logits=True keeps what the model says before any sampling",
    "return_dict_in_generate": "the replies are always a list that knows its tokens",
}
# What a checkpoint's own generation settings may not decide.
_PINNED: dict[str, Any] = {
    **dict.fromkeys(("cache_implementation", "prefill_chunk_size", "prompt_lookup_num_tokens", "guidance_scale")),
    "use_cache": True,
    "num_beams": 1,
    "num_return_sequences": 1,
    "return_dict_in_generate": True,
}
_GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


class Ended(StoppingCriteria):
    """Stop strings and the user's own criteria, with a note of how long each row was when one of them ended it."""

    def __init__(self, criteria: StoppingCriteriaList) -> None:
        self.criteria = criteria
        self.lengths: dict[int, int] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: Any) -> Tensor:  # type: ignore[override]
        done = torch.as_tensor(self.criteria(input_ids, scores, **kwargs), device=input_ids.device)
        for row in done.nonzero().flatten().tolist():
            self.lengths.setdefault(row, input_ids.shape[1])
        return done


@dataclass(frozen=True)
class Decoding:
    """One run's settings for `generate`, how many rows it makes of each prompt, and which tokens end a row."""

    settings: dict[str, Any]
    copies: int
    end_ids: frozenset[int]
    ended: Ended | None

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        own: GenerationConfig,
        tokenizer: Any,
        max_new_tokens: int,
        *,
        follows: bool,
        seed: int | None = None,
    ) -> "Decoding":
        """Settle the options over the checkpoint's `own`, greedy unless told otherwise.

        `follows` tells that something is to be read row by row, which beams would mix up; `seed` is of the sampling,
        which without one draws from the global random state. Raises ValueError for an
        option that would make the ops or the replies wrong.
        """
        given = {name: value for name, value in options.items() if value is not None}
        check(given, follows)
        settings = {**_PINNED, **({} if given.get("do_sample") else _GREEDY), **given}
        settings["max_new_tokens"] = max_new_tokens
        if seed is not None and settings.get("do_sample"):
            settings["logits_processor"] = LogitsProcessorList([*(given.get("logits_processor") or []), Seeded(seed)])
        criteria = _criteria(settings, tokenizer)
        ended = Ended(criteria) if criteria and settings["num_beams"] == 1 else None
        if criteria:
            settings["stopping_criteria"] = StoppingCriteriaList([ended] if ended else criteria)
        copies = max(settings["num_beams"], settings["num_return_sequences"])
        return cls(settings, copies, ids_of(options.get("eos_token_id", own.eos_token_id)), ended)

    def lengths(self, output: Any, prompt_length: int) -> dict[int, int]:
        """Of rows that ended without an end token, the number of their new tokens."""
        if self.ended is not None:
            return {row: length - prompt_length for row, length in self.ended.lengths.items()}
        if getattr(output, "beam_indices", None) is None:
            return {}
        counts = (output.beam_indices >= 0).sum(dim=1).tolist()
        return {row: count for row, count in enumerate(counts) if count < self.settings["max_new_tokens"]}


def check(given: Mapping[str, Any], follows: bool) -> None:
    """Raise ValueError for the first option that cannot be honoured."""
    if given.get("use_cache") is False:
        raise ValueError(
            "Every reply continues from the prompt's cache; without one, use installed() and model.generate."
        )
    for name, reason in REFUSED.items():
        if name in given:
            raise ValueError(f"generate({name}=...) is not possible here: {reason}.")
    if given.get("num_beams", 1) > 1 and follows:
        raise ValueError("Captures and logits cannot follow beams, which swap rows at every step; use num_beams=1.")


def ids_of(value: int | list[int] | Int[Tensor, "..."] | None) -> frozenset[int]:
    """A generation setting that may be absent, one id or several."""
    if value is None:
        return frozenset()
    return frozenset(torch.as_tensor(value).flatten().tolist())


def _criteria(settings: dict[str, Any], tokenizer: Any) -> StoppingCriteriaList:
    """What ends a row beside its end tokens, taken out of the settings."""
    strings, own = settings.pop("stop_strings", None), settings.pop("stopping_criteria", None)
    return StoppingCriteriaList([*(own or []), *([stops_at(tokenizer, strings)] if strings else [])])
