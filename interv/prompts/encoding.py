"""Prompts as the model's tensors: token ids, padding, positions and pixels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from interv.display import OneLine
from interv.models.devices import device_of
from interv.models.turns import turn_of
from interv.places.layouts import layout_of
from interv.places.scope import last_position
from interv.prompts.prompt import Prompt
from interv.prompts.rendering import PromptError, render, rendered


@dataclass(frozen=True)
class Encoded(OneLine):
    """A batch of prompts, padded on the left.

    `position_ids` has one row a token, or three where the model rotates by time, height and width. `media` holds what
    belongs to images and not to tokens (pixels, grid sizes); `per_token` what else has one entry a token.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    position_ids: Int[Tensor, "batch seq"] | Int[Tensor, "3 batch seq"]
    image_mask: Bool[Tensor, "batch seq"]
    per_token: dict[str, Tensor]
    media: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.input_ids)

    def shown(self) -> dict[str, Any]:
        return {"prompts": len(self), "tokens": self.input_ids.shape[1], "images": self.image_mask.any(1).sum().item()}

    def model_inputs(self) -> dict[str, Tensor]:
        """The keyword arguments of the model's forward."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
            **self.per_token,
            **self.media,
        }

    def tokens(self, row: int) -> Int[Tensor, " tokens"]:
        """A row's token ids without padding."""
        return self.input_ids[row][self.attention_mask[row].bool()]

    def select(self, rows: Sequence[int]) -> "Encoded":
        """These rows, in this order, without their images: for tokens that run behind a cache."""
        index = torch.tensor(list(rows))
        return replace(
            self,
            input_ids=self.input_ids[index],
            attention_mask=self.attention_mask[index],
            position_ids=self.position_ids[..., index, :],
            image_mask=self.image_mask[index],
            per_token={name: values[index] for name, values in self.per_token.items()},
            media={},
        )

    def images_of(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The part of `media` that belongs to these rows, where every row has one image.

        Raises ValueError where the tensors do not tell the rows apart, as with images cut into tiles.
        """
        grids = [value for name, value in self.media.items() if name.endswith("_grid_thw")]
        patches = grids[0].prod(-1).tolist() if grids else []
        chosen = {}
        for name, values in self.media.items():
            if len(values) == len(self):
                chosen[name] = values[list(rows)]
            elif len(values) == sum(patches) and len(patches) == len(self):
                parts = values.split(patches)
                chosen[name] = torch.cat([parts[row] for row in rows])
            else:
                raise ValueError(
                    f"{name} has {len(values)} entries for {len(self)} rows; which are whose is not known."
                )
        return chosen

    def head(self, lengths: Sequence[int], pad_token_id: int) -> "Encoded":
        """Only the first `lengths[row]` tokens of each row, padded on the left again. All images must stay in."""
        keep = torch.tensor(lengths, device=self.input_ids.device)
        starts = self.attention_mask.argmax(dim=1)
        width = int(keep.max())
        offsets = torch.arange(width, device=keep.device)[None] - (width - keep)[:, None]
        index = (starts[:, None] + offsets).clamp_min(0)
        mask = (offsets >= 0).long()
        if (self.image_mask.sum(1) != (self.image_mask.gather(1, index) & mask.bool()).sum(1)).any():
            raise ValueError("A prompt would be cut before the end of its image tokens.")

        def cut(values: Tensor, fill: int) -> Tensor:
            return values.gather(-1, index.expand(*values.shape[:-1], width)).masked_fill(mask == 0, fill)

        return self._cut(cut, mask, pad_token_id)

    def tail(self, lengths: Sequence[int], pad_token_id: int) -> "Encoded":
        """Only what comes behind the first `lengths[row]` tokens of each row, padded on the left; without images."""
        counts = self.attention_mask.sum(dim=1) - torch.tensor(lengths, device=self.input_ids.device)
        width = int(counts.max())
        mask = (torch.arange(width, device=counts.device)[None] >= (width - counts)[:, None]).long()

        def cut(values: Tensor, fill: int) -> Tensor:
            return values[..., -width:].masked_fill(mask == 0, fill)

        return replace(self._cut(cut, mask, pad_token_id), media={})

    def _cut(self, cut: Callable[[Tensor, int], Tensor], mask: Tensor, pad_token_id: int) -> "Encoded":
        """All that lies along the tokens, cut by `cut(values, fill)` to what `mask` keeps."""
        return replace(
            self,
            input_ids=cut(self.input_ids, pad_token_id),
            attention_mask=mask,
            position_ids=cut(self.position_ids, 0),
            image_mask=cut(self.image_mask, 0),
            per_token={name: cut(values, 0) for name, values in self.per_token.items()},
        )

    def followed_by(self, tail: "Encoded") -> "Encoded":
        """Each row with the tail's behind it, whose padding then lies between the two."""

        def joined(one: Tensor, other: Tensor) -> Tensor:
            return torch.cat([one, other], dim=-1)

        return replace(
            self,
            input_ids=joined(self.input_ids, tail.input_ids),
            attention_mask=joined(self.attention_mask, tail.attention_mask),
            position_ids=joined(self.position_ids, tail.position_ids),
            image_mask=joined(self.image_mask, tail.image_mask),
            per_token={name: joined(values, tail.per_token[name]) for name, values in self.per_token.items()},
        )


def encode(
    model: PreTrainedModel,
    processor: Any,
    prompts: Sequence[Prompt],
    images_of: Callable[[Prompt], list[Image.Image]] = Prompt.images,
) -> Encoded:
    """Render prompts by the checkpoint's chat template and processor, padded on the left, on the model's device.

    Raises PromptError for the first prompt that cannot be: its image cannot be read or is none that the processor
    takes, its turns are none that the template takes, or its last token is an image token.
    """
    if not prompts:
        raise ValueError("There are no prompts; give at least one.")
    nested = layout_of(model.config.model_type).images_by_prompt
    with turn_of(processor.tokenizer):
        batch = rendered(processor, prompts, images_of, nested, render)
    return encoded_of(model, batch)


def encoded_of(model: PreTrainedModel, processed: Mapping[str, Tensor]) -> Encoded:
    """What a processor made of prompts, as the model's inputs on its device.

    Raises ValueError where a row has padding behind or between its tokens, and PromptError as `encode` does.
    """
    device = device_of(model)
    batch = {name: value.to(device) for name, value in processed.items()}
    ids = batch.pop("input_ids")
    mask = batch.pop("attention_mask", torch.ones_like(ids))
    if (mask.diff(dim=1) < 0).any():
        raise ValueError(
            "The prompts are padded on the right, and replies continue from each last token; set "
            "processor.tokenizer.padding_side = 'left'."
        )
    per_token = {name: value for name, value in batch.items() if value.shape == ids.shape}
    media = {name: value for name, value in batch.items() if name not in per_token}
    media = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in media.items()}
    image_mask = ids == model.config.image_token_id
    ends = image_mask[torch.arange(len(ids)), last_position(mask)]
    if ends.any():
        reason = "it ends with an image token; the question must come after the image"
        raise PromptError(int(ends.int().argmax()), reason)
    positions = _positions(model, ids, mask, per_token, media)
    return Encoded(ids, mask, positions, image_mask, per_token, media)


def _positions(model: PreTrainedModel, ids: Tensor, mask: Tensor, per_token: dict, media: dict) -> Tensor:
    """Position ids, explicit in every call: Qwen2-VL otherwise reads them off the batch that ran last."""
    rope_index = getattr(model.model, "get_rope_index", None)
    if rope_index is None:
        return (mask.cumsum(1) - 1).clamp_min(0)
    if not media:
        return (mask.cumsum(1) - 1).clamp_min(0).expand(3, -1, -1)
    grids = {name: value for name, value in media.items() if name.endswith("_grid_thw")}
    positions, _ = rope_index(ids, attention_mask=mask, **grids, **per_token)
    return positions
