"""Prompts through the chat template, the tokenizer and the image processor."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature
from transformers.utils.chat_template_utils import mark_control_tokens

from interv.prompts.prompt import Prompt

_MARK = mark_control_tokens(".", re.compile(r"\."))[0]


class PromptError(ValueError):
    """One prompt of a list cannot be used: `index` is its place there, `reason` says why."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"prompts[{index}] cannot be used: {reason}")
        self.index, self.reason = index, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.index, self.reason)


def render(processor: Any, prompt: Prompt) -> str:
    """The prompt's text, as the chat template writes it; control tokens in the user's own words are marked."""
    return processor.apply_chat_template(
        mark_control_tokens(prompt.messages(), _control_tokens(processor)),
        tokenize=False,
        add_generation_prompt=not prompt.answer and not prompt.closed,
        continue_final_message=bool(prompt.answer) and not prompt.closed,
    )


def _control_tokens(processor: Any) -> re.Pattern[str]:
    """Any token that a template writes to say what is whose: special ones, and added ones in the template's text."""
    tokenizer, template = processor.tokenizer, str(processor.chat_template)
    named = {getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio")}
    named |= {*(tokenizer.chat_control_tokens or ())}
    added = (token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace())
    return _any_of(
        tuple(one.content for one in added if one.special or one.content in named or one.content in template)
    )


@lru_cache(maxsize=8)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def rendered(
    processor: Any,
    prompts: Sequence[Prompt],
    images_of: Callable[[Prompt], list[Image.Image]],
    nested: bool,
    write: Callable[[Any, Prompt], str] = render,
) -> BatchFeature:
    """What the processor makes of the prompts, padded on the left; `nested` gives it a list of images for each.

    Raises PromptError for the first prompt that fails by itself too.
    """
    try:
        return _processed(processor, prompts, images_of, nested, write)
    except MemoryError:
        raise
    except Exception as error:  # templates and image processors raise whatever lies below them
        for index, prompt in enumerate(prompts):
            try:
                _processed(processor, [prompt], images_of, nested, write)
            except Exception as own:
                raise PromptError(index, str(own) or type(own).__name__) from own
        raise error


def _processed(
    processor: Any,
    prompts: Sequence[Prompt],
    images_of: Callable[[Prompt], list[Image.Image]],
    nested: bool,
    write: Callable[[Any, Prompt], str],
) -> BatchFeature:
    by_prompt = [images_of(prompt) for prompt in prompts]
    images = [image for own in by_prompt for image in own]
    texts = [write(processor, prompt) for prompt in prompts]
    batch = processor(
        text=texts,
        images=by_prompt if images and nested else images or None,
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        # Not every family's processor can, so it is asked only where `render` marked something.
        **({"sanitize_control_tokens": True} if any(_MARK in text for text in texts) else {}),
    )
    bos = processor.tokenizer.bos_token
    # A template that writes the beginning-of-sequence token itself must not get a second one; it may write it at times.
    return _begun(processor.tokenizer, batch, [not (bos and text.startswith(bos)) for text in texts])


def _begun(tokenizer: Any, batch: BatchFeature, wanting: Sequence[bool]) -> BatchFeature:
    """The rows that want it behind what the tokenizer puts before a text, padded on the left again."""
    with_it, without = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    length = next(i for i in range(len(with_it) + 1) if with_it[i : i + len(without)] == without)
    if length == 0 or not any(wanting):
        return batch
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    fills = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}
    firsts = {"input_ids": with_it[:length], "attention_mask": [1] * length}
    for name, values in batch.items():
        if isinstance(values, Tensor) and values.shape == ids.shape:
            first = torch.tensor(firsts.get(name, [0] * length), dtype=values.dtype)
            rows = [
                torch.cat([first, row[kept]]) if wants else row[kept]
                for row, kept, wants in zip(values, mask, wanting, strict=True)
            ]
            batch[name] = pad_sequence(rows, True, fills.get(name, 0), "left")
    return batch
