"""Several dialogues about one image as one row: the image is read once, and no dialogue sees another.

Token ids are those of the processor's own rendering, so that training and inference see the same prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from studies.tiny_world.dialogues import Dialogue
from studies.tiny_world.models import Family
from studies.tiny_world.world import CATEGORIES, GRID, ICONS, Scene

NO_TARGET, TEXT, YES_NO, OBJECT, CATEGORY = range(5)
TARGET_NAMES = {TEXT: "text", YES_NO: "yes/no", OBJECT: "object", CATEGORY: "category"}


@dataclass(frozen=True)
class Batch:
    """One training batch; rows are scenes, all tensors but `inputs` have shape [scenes, tokens].

    `targets` is the next token's id where it belongs to an answer, `target_kind` says what kind of word it is
    (`NO_TARGET` elsewhere), `segment` is 0 on the image prefix, 1, 2, ... on the dialogues and -1 on padding, and
    `answer` marks the answer's tokens.
    """

    inputs: dict[str, Any]
    targets: Tensor
    target_kind: Tensor
    segment: Tensor
    answer: Tensor


@dataclass(frozen=True)
class Packer:
    """Renders dialogues through a processor and packs them."""

    family: Family
    processor: ProcessorMixin
    _encoded: dict[tuple[str, str], tuple[list[int], int]] = field(default_factory=dict)

    def pack(self, images: Sequence[Image.Image], talks: Sequence[Sequence[Dialogue]]) -> Batch:
        """Images of one size, and the dialogues about each of them."""
        pixels = dict(self.processor.image_processor(list(images), return_tensors="pt"))
        prefix, grid = self._prefix(pixels)
        rows = [self._row(prefix, talk) for talk in talks]
        length = max(len(row["ids"]) for row in rows)
        column = {key: _padded([row[key] for row in rows], length, fill) for key, fill in _FILL.items()}
        ids, segment, position = column["ids"], column["segment"], column["position"]
        inputs = {"input_ids": ids, "attention_mask": block_mask(segment), **pixels}
        inputs["position_ids"] = position if grid is None else three_rows(position, prefix, grid, self._image_id)
        if grid is not None:
            inputs["mm_token_type_ids"] = (ids == self._image_id).int()
        return Batch(inputs, column["target"], column["kind"], segment, column["answer"].bool())

    @property
    def _image_id(self) -> int:
        return self.processor.tokenizer.convert_tokens_to_ids(self.family.image_text)

    def _prefix(self, pixels: dict[str, Tensor]) -> tuple[list[int], tuple[int, int] | None]:
        """Ids up to the end of the image, and the image's grid of tokens where positions depend on it."""
        before, _ = self._halves(Dialogue("", "", "caption"))
        if "image_grid_thw" not in pixels:
            count, grid = self.processor.image_processor.crop_size["height"] // self.processor.patch_size, None
            count *= count
        else:
            _, height, width = pixels["image_grid_thw"][0].tolist()
            merge = self.processor.image_processor.merge_size
            grid = (height // merge, width // merge)
            count = grid[0] * grid[1]
        text = before.replace(self.family.image_text, self.family.image_text * count)
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"], grid

    def _halves(self, dialogue: Dialogue, answered: bool = True) -> tuple[str, str]:
        """The rendered conversation, split behind its image."""
        content = [{"type": "image"}, {"type": "text", "text": dialogue.question}]
        messages = [{"role": "user", "content": content}]
        if answered:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": dialogue.answer}]})
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
        # The template puts a space before the question and none inside the image text.
        image_end = text.index(" ", text.index(self.family.image_text))
        return text[:image_end], text[image_end:]

    def _dialogue_ids(self, dialogue: Dialogue) -> tuple[list[int], int]:
        """Ids behind the image, and how many of them are the prompt."""
        key = (dialogue.question, dialogue.answer)
        if key not in self._encoded:
            _, full = self._halves(dialogue)
            _, prompt = self._halves(dialogue, answered=False)
            full_ids, prompt_ids = (
                self.processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (full, prompt)
            )
            if full_ids[: len(prompt_ids)] != prompt_ids:
                raise ValueError(f"The chat template renders {key} differently with and without its answer.")
            self._encoded[key] = full_ids, len(prompt_ids)
        return self._encoded[key]

    def _row(self, prefix: list[int], talk: Sequence[Dialogue]) -> dict[str, list[int]]:
        """One row, before padding; `position` is the token's place in its own conversation."""
        count = len(prefix)
        row = {"ids": list(prefix), "segment": [0] * count, "position": list(range(count))}
        row |= {"target": [0] * count, "kind": [NO_TARGET] * count, "answer": [0] * count}
        for number, dialogue in enumerate(talk, start=1):
            ids, prompt = self._dialogue_ids(dialogue)
            following = [*ids[prompt:], 0]
            row["ids"] += ids
            row["segment"] += [number] * len(ids)
            row["position"] += range(count, count + len(ids))
            row["target"] += [0] * (prompt - 1) + following
            row["kind"] += [NO_TARGET] * (prompt - 1) + [self._kind(i) for i in following[:-1]] + [NO_TARGET]
            row["answer"] += [0] * prompt + [1] * (len(ids) - prompt)
        return row

    def _kind(self, token_id: int) -> int:
        word = self.processor.tokenizer.convert_ids_to_tokens(token_id)
        if word in ICONS:
            return OBJECT
        if word in CATEGORIES:
            return CATEGORY
        return YES_NO if word in ("yes", "no") else TEXT


_FILL = {"ids": 0, "segment": -1, "position": 0, "target": 0, "kind": NO_TARGET, "answer": 0}


def _padded(rows: list[list[int]], length: int, fill: int) -> Tensor:
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])


def block_mask(segment: Tensor) -> Tensor:
    """Additive attention mask [rows, 1, tokens, tokens]: causal, the prefix for all, each dialogue for itself."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    # Padding attends to itself, since a row of the softmax must not be empty.
    seen = causal & ((key == query) | (key == 0))
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]


def three_rows(position: Tensor, prefix: list[int], grid: tuple[int, int], image_id: int) -> Tensor:
    """Time, height and width positions [3, rows, tokens] of Qwen2-VL: an image spans a grid, then text goes on."""
    start, tokens = prefix.index(image_id), grid[0] * grid[1]
    saved = tokens - max(grid)
    time = torch.where(position >= start + tokens, position - saved, position.clamp(max=start))
    inside = (position >= start) & (position < start + tokens)
    offset = (position - start).clamp(min=0)
    height = torch.where(inside, start + offset // grid[1], time)
    width = torch.where(inside, start + offset % grid[1], time)
    return torch.stack((time, height, width))


def cell_words(
    scene: Scene, empty: str, margin: tuple[int, int] = (0, 0), corner: tuple[int, int] = (0, 0)
) -> list[str]:
    """The word of each image token's cell, row by row; `corner` is the grid's (left, top) in an image with margins."""
    words = [empty] * ((GRID + margin[0]) * (GRID + margin[1]))
    for word, cell in zip(scene.icons, scene.cells, strict=True):
        row, column = divmod(cell, GRID)
        words[(row + corner[1]) * (GRID + margin[0]) + column + corner[0]] = word
    return words
