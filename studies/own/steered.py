"""A fitted folder and its model, ready to be asked: the same question unsteered and steered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from interv import VLM, Prompt
from methods import NoSteering, load_steerer, read_card
from methods.asking import ask
from methods.hub import fetched, is_repository
from methods.steerer import Fitted
from studies.run.checkpoint import Checkpoint

# What decides a prompt's tokens and pixels; the versions of the libraries beside them are noted and not compared.
INPUTS = ("chat_template", "tokenizer", "image_processor", "processor")
Show = Callable[[str, str], None]  # the unsteered and the steered reply so far


@dataclass(frozen=True, eq=False)
class Steered:
    """A model and the steerer that was fitted on it.

    Attributes:
        strength: what the folder's card says, or what was asked for.
        max_new_tokens: the longest reply.
        card: all of `steerer.json`.
    """

    vlm: VLM
    steerer: Fitted
    strength: float
    max_new_tokens: int
    card: dict[str, Any]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        checkpoint: Checkpoint | None = None,
        *,
        strength: float | None = None,
        max_new_tokens: int | None = None,
        any_model: bool = False,
    ) -> "Steered":
        """A folder that `fit` wrote, or a repository of the hub, with its model.

        `checkpoint` says where the model runs, and which one where its name is not empty; else it is the card's.
        Raises ValueError for another model than the steerer's, or one whose prompts become other inputs, unless
        `any_model`; and where nothing says which model it is.
        """
        if is_repository(folder):
            folder = fetched(str(folder))
        card = read_card(folder)
        about = card.get("about") or {}
        wanted = model_of(about.get("model") or {}, checkpoint or Checkpoint(model=""))
        if not wanted.model:
            raise ValueError(f"{folder} does not say which model it is for; name one with --model.")
        vlm = wanted.load()
        steerer = load_steerer(folder, vlm=vlm, any_model=any_model)
        told = (about.get("model") or {}).get("preprocessing") or {}
        differing = [name for name in INPUTS if name in told and told[name] != vlm.preprocessing[name]]
        if differing and not any_model:
            raise ValueError(
                f"{folder} was fitted where {vlm.name} had another {' and another '.join(differing)} "
                f"({told[differing[0]]}, now {vlm.preprocessing[differing[0]]}), so its prompts become other inputs. "
                "Load the model with the processor of the fit, or pass --any-model where that does not matter."
            )
        own = about.get("strength", 1.0) if strength is None else strength
        return cls(vlm, steerer, float(own), max_new_tokens or about.get("max_new_tokens", 64), card)

    def replies(self, prompts: Sequence[Prompt], show: Show | None = None) -> list[tuple[str, str]]:
        """Each prompt's unsteered and steered reply; those of one prompt are shown as they grow, where `show` is given.

        Both decode side by side from one prefill, unless the method rewrites the prompt.
        """
        none = NoSteering(self.steerer.reads, self.steerer.writes, self.steerer.fingerprint)
        rewritten = [self.steerer.rewrite(prompt) for prompt in prompts]
        length = {"max_new_tokens": self.max_new_tokens}
        growing = None if show is None else Growing(self.vlm.processor.tokenizer, show)
        streamed = {} if growing is None else {"streamer": growing}
        if rewritten == list(prompts):
            asked = ask(self.vlm, prompts, [none, self.steerer])
            runs = [asked.run(none, 0.0), asked.run(self.steerer, self.strength)]
            both = asked.answered(self.vlm, runs, **length, **streamed)
            return list(zip(both[: len(prompts)], both[len(prompts) :], strict=True))
        asked, other = ask(self.vlm, prompts, [none]), ask(self.vlm, rewritten, [self.steerer])
        plain = asked.answered(self.vlm, [asked.run(none, 0.0)], **length, **streamed)
        if growing is not None:
            growing.next_column()
        steered = other.answered(self.vlm, [other.run(self.steerer, self.strength)], **length, **streamed)
        return list(zip(plain, steered, strict=True))


class Growing(BaseStreamer):
    """Turns the tokens of one or two rows into texts as they come; an end token ends its row."""

    def __init__(self, tokenizer: Any, show: Show) -> None:
        self._tokenizer, self._show = tokenizer, show
        self._columns: tuple[list[int], list[int]] = ([], [])
        self._first = 0  # the column that the first row goes to

    def next_column(self) -> None:
        self._first = 1

    def put(self, value: Tensor) -> None:
        if value.ndim > 1:  # the prompt comes first, which is no part of a reply
            return
        for column, token in zip(self._columns[self._first :], value.tolist(), strict=False):
            column.append(token)
        first, second = (
            self._tokenizer.decode(self._ended(column), skip_special_tokens=True) for column in self._columns
        )
        self._show(first.strip(), second.strip())

    def end(self) -> None:
        """Nothing is left to show: every step was shown whole."""

    def _ended(self, ids: Sequence[int]) -> list[int]:
        end = self._tokenizer.eos_token_id
        return [*ids[: ids.index(end)]] if end in ids else [*ids]


def model_of(told: dict[str, Any], checkpoint: Checkpoint) -> Checkpoint:
    """Where the model runs as the checkpoint says, all else as the fit had it where the checkpoint leaves it open."""
    names = ("revision", "max_pixels", "min_pixels", "load_in_4bit", "load_in_8bit")
    own: dict[str, Any] = {name: getattr(checkpoint, name) or told.get(name) for name in names}
    own |= {name: bool(own[name]) for name in ("load_in_4bit", "load_in_8bit")}
    if checkpoint.model and checkpoint.model != told.get("name"):
        return checkpoint
    return replace(
        checkpoint, model=checkpoint.model or str(told.get("name") or ""), **own, dtype=_dtype(told, checkpoint)
    )


def _dtype(told: dict[str, Any], checkpoint: Checkpoint) -> str | None:
    known = told.get("dtype")
    same = isinstance(known, str) and isinstance(getattr(torch, known, None), torch.dtype)
    return checkpoint.dtype or (known if same else None)
