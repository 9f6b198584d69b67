"""Attention by hand: an eager function of the tests' own, one unpadded row, every query and head in a loop.

Nothing here uses the package's registration, columns, scopes, prefill or cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from interv import VLM
from tests.property.attention_cases import Pull, Scene, own_columns
from tests.property.reference import own_inputs, own_scope

NAME = "eager_by_hand"
_NOW: dict[str, Any] = {}


def _by_hand(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    ids, prompt, image = _NOW["ids"], _NOW["prompt"], _NOW["image"]
    assert len(query) == 1
    assert query.shape[2] == len(ids)
    mine = [pull for pull in _NOW["pulls"] if pull.layer % _NOW["layers"] == module.layer_idx]
    output = torch.empty_like(query)
    shared = query.shape[1] // key.shape[1]
    for head in range(query.shape[1]):
        scores = query[0, head] @ key[0, head // shared].T * scaling
        scores = _edited(scores, head, [pull for pull in mine if pull.kind == "boost"], ids, prompt, image)
        weights = torch.softmax((scores + mask[0, 0]).float(), dim=-1).to(query.dtype)
        weights = _edited(weights, head, [pull for pull in mine if pull.kind != "boost"], ids, prompt, image)
        output[0, head] = weights @ value[0, head // shared]
    return output.transpose(1, 2).contiguous(), None


def _edited(values: Tensor, head: int, pulls: Sequence[Pull], ids: Tensor, prompt: int, image: list[bool]) -> Tensor:
    new = values.clone()
    for pull in pulls:
        columns = own_columns(pull.columns, image, prompt)
        for token in own_scope(_NOW["vlm"], pull.scope, ids, prompt).nonzero().flatten().tolist():
            seen = [column for column in columns if column <= token]
            # Of what comes later a score may well be edited; the mask hides it all the same.
            if seen and pull.holds(head):
                new[token], fired = pull.by_hand(new[token], columns if pull.kind == "boost" else seen)
                _NOW["fired"] += fired
    return new


AttentionInterface.register(NAME, _by_hand)
AttentionMaskInterface.register(NAME, eager_mask)


@contextmanager
def attention(vlm: VLM, name: str) -> Iterator[None]:
    """Another attention in the text model alone."""
    config = vlm.model.config.get_text_config()
    before = config._attn_implementation
    vlm.model.set_attn_implementation({"text_config": name})
    try:
        yield
    finally:
        vlm.model.set_attn_implementation({"text_config": before})
    assert config._attn_implementation == before


def pass_by_hand(vlm: VLM, scene: Scene, row: int, reply: Sequence[int] = ()) -> Tensor:
    """The logits of one full pass over prompt and reply of one row, [tokens, vocabulary], with the row's edits."""
    alone = scene.alone(row)
    inputs = own_inputs(vlm, alone.asks)
    prompt = inputs["input_ids"].shape[1]
    added = torch.tensor([list(reply)], dtype=torch.long)
    ids = torch.cat([inputs["input_ids"], added], dim=1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[name] = torch.cat([inputs[name], torch.zeros_like(added)], dim=1)
    image = (ids[0] == vlm.model.config.image_token_id).tolist()
    _NOW.update(vlm=vlm, pulls=alone.pulls, ids=ids[0], prompt=prompt, image=image, layers=vlm.n_layers, fired=0)
    with attention(vlm, NAME), torch.no_grad():
        return vlm.model(**inputs, use_cache=False).logits[0]


def fired_by_hand() -> int:
    """In how many (head, query) entries of all edits something happened in the last pass."""
    return _NOW["fired"]


def reply_by_hand(vlm: VLM, scene: Scene, row: int) -> tuple[list[int], Tensor]:
    """The greedy reply by one full pass a token; its logits are [steps, vocabulary]."""
    last = vlm.model.config.image_token_id
    reply: list[int] = []
    logits: list[Tensor] = []
    while len(reply) < scene.tokens and (not reply or reply[-1] != last):
        logits.append(pass_by_hand(vlm, scene, row, reply)[-1])
        reply.append(int(logits[-1].argmax()))
    return reply, torch.stack(logits)
