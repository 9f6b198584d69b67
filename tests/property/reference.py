"""What every law is compared with: plain forward hooks and full passes without a cache, one prompt at a time.

Nothing here uses the encoding, the scopes, the prefill or the tracing of the package.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from interv import VLM
from tests.property.cases import Ask, Case, Push

TOLERANCE = 1e-5
BY_PROMPT = ("gemma3", "idefics3", "smolvlm", "paligemma")  # their processors want a list of images for each prompt
TIE = 1e-3  # tokens whose logits lie closer than this may swap by rounding


def own_inputs(vlm: VLM, asks: Sequence[Ask], side: str = "left") -> dict[str, Tensor]:
    """The processor's encoding of the prompts, written out without the package."""
    texts = []
    for ask in asks:
        content = [{"type": "image"} for _ in ask.sizes] + [{"type": "text", "text": ask.question}]
        turns = [{"role": "user", "content": content}]
        end: dict[str, Any] = {"add_generation_prompt": True}
        if ask.answer:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": ask.answer}]})
            end = {"continue_final_message": True}
        texts.append(vlm.processor.apply_chat_template(turns, tokenize=False, **end))
    bos = vlm.processor.tokenizer.bos_token
    images: Any = [image for ask in asks for image in ask.images()] or None
    if images and vlm.model.config.model_type in BY_PROMPT:
        images = [ask.images() for ask in asks]
    batch = vlm.processor(
        text=texts,
        images=images,
        return_tensors="pt",
        padding=True,
        padding_side=side,
        add_special_tokens=not (bos and texts[0].startswith(bos)),
    )
    return {name: x.to(vlm.model.dtype) if x.is_floating_point() else x for name, x in batch.items()}


def own_scope(vlm: VLM, scope: str, ids: Tensor, prompt: int) -> Tensor:
    """True on the scope's tokens of one unpadded row whose first `prompt` tokens are the prompt."""
    position = torch.arange(len(ids))
    return {
        "all": position >= 0,
        "prompt": position < prompt,
        "image": (ids == vlm.model.config.image_token_id) & (position < prompt),
        "last_prompt": position == prompt - 1,
        "generated": position >= prompt,
        "response": position >= prompt - 1,
    }[scope]


@contextmanager
def hooked(vlm: VLM, path: str, side: str, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """A plain hook that may replace the input or the output of one module."""

    def changed(value: Any) -> Any:
        hidden = value if isinstance(value, Tensor) else value[0]
        new = change(hidden)
        return value if new is None else new if isinstance(value, Tensor) else (new, *value[1:])

    def before(module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return changed(args), kwargs
        name = next(iter(kwargs))
        return args, kwargs | {name: changed(kwargs[name])}

    module = vlm.model.get_submodule(path)
    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(lambda module, args, output: changed(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def pushed(vlm: VLM, push: Push, row: int, rows: int, where: Callable[[], Tensor | None]) -> Iterator[None]:
    """One op by hand, on a batch of one unpadded row; `where` tells the tokens of the forward that runs now."""
    place = push.where(vlm)

    def change(hidden: Tensor) -> Tensor | None:
        flat = hidden.reshape(-1, hidden.shape[-1])
        new, tokens = place.put(flat, push.by_hand(vlm, row, rows, place.take(flat))), where()
        if place.sees_tokens:
            assert tokens is not None
            new = torch.where(tokens[-len(flat) :, None], new, flat)
        if place.in_stream:
            hidden.copy_(new.reshape(hidden.shape))
            return None
        return new.reshape(hidden.shape)

    with hooked(vlm, place.path, place.side, change):
        yield


def full_pass(vlm: VLM, case: Case, row: int, reply: Sequence[int] = (), **options: Any) -> Any:
    """One forward over prompt and reply of one row, without a cache and without padding, with the row's ops."""
    inputs = own_inputs(vlm, [case.asks[row]])
    prompt = inputs["input_ids"].shape[1]
    added = torch.tensor([list(reply)], dtype=torch.long)
    ids = torch.cat([inputs["input_ids"], added], dim=1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[name] = torch.cat([inputs[name], torch.zeros_like(added)], dim=1)
    with _all_pushed(vlm, case, row, lambda push: own_scope(vlm, push.scope, ids[0], prompt)), torch.no_grad():
        return vlm.model(**inputs, use_cache=False, **options)


def loop_of_full_passes(vlm: VLM, case: Case, row: int) -> tuple[list[int], Tensor]:
    """The greedy reply to one row, by one full pass a token; its logits are [steps, vocabulary].

    It ends at an image token that the model says, which a full pass would take for one of an image.
    """
    last = vlm.model.config.image_token_id
    reply: list[int] = []
    logits = []
    while len(reply) < case.tokens and (not reply or reply[-1] != last):
        logits.append(full_pass(vlm, case, row, reply).logits[0, -1])
        reply.append(int(logits[-1].argmax()))
    return reply, torch.stack(logits)


def from_scratch(vlm: VLM, case: Case, **options: Any) -> tuple[list[list[int]], Tensor]:
    """Tokens and logits of transformers' own greedy generate, padded on the left, with whatever hooks there are."""
    inputs = own_inputs(vlm, case.asks)
    settings = {"do_sample": False, "max_new_tokens": case.tokens, "eos_token_id": [], **options}
    output = vlm.model.generate(**inputs, **settings, output_logits=True, return_dict_in_generate=True)
    return output.sequences[:, inputs["input_ids"].shape[1] :].tolist(), torch.stack(output.logits, 1)


@contextmanager
def _all_pushed(vlm: VLM, case: Case, row: int, where: Callable[[Push], Tensor]) -> Iterator[None]:
    with ExitStack() as stack:
        for push in case.pushes:
            stack.enter_context(pushed(vlm, push, row, len(case.asks), lambda push=push: where(push)))
        yield


def same_reply(tokens: Sequence[int], logits: Tensor, other: Sequence[int], expected: Tensor) -> None:
    """The same tokens with the same logits, as far as rounding does not decide between two tokens."""
    for step, (token, wanted) in enumerate(zip(tokens, other, strict=False)):
        close(logits[step], expected[step])
        if token != wanted:
            best, second = expected[step].topk(2).values.tolist()
            assert best - second < TIE, f"step {step}: token {token} instead of {wanted}"
            return
    assert len(tokens) >= len(other)


def close(value: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal up to rounding, in units of the largest entry."""
    assert value.shape == expected.shape, f"{list(value.shape)} instead of {list(expected.shape)}"
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    error = float((value - expected).abs().max()) if expected.numel() else 0.0
    assert error <= tolerance * scale, f"differs by {error:.2e}, of {scale:.2e}"


def bitwise(value: Tensor, expected: Tensor) -> None:
    assert torch.equal(value, expected), (
        f"differs by {float((value - expected).abs().max()):.2e}; must be the same bits"
    )
