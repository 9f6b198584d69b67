"""A steered model in the place of the Hugging Face one, for programs that call `generate` with tensors."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interv import VLM, Prompt, Replies
from interv.prompts.encoding import encoded_of
from methods.asking import ask
from methods.steerer import Steerer, Strength

# Of what can be called on the model, these run nothing.
RUNS_NOTHING = frozenset({"can_generate", "num_parameters", "parameters", "named_parameters"})
# Inputs of the model that do not come from the prompts' text and images.
REFUSED_INPUTS = {
    "position_ids": "they follow from the tokens and the images",
    "inputs_embeds": "the prompts are known by their tokens",
    "labels": "nothing is trained",
    "pixel_values_videos": "prompts hold text and images",
}


class SteeredModel:
    """A model that answers as `methods.steer` does: `pipeline("image-text-to-text", model=SteeredModel(...))`.

    `generate` runs what a processor made in the three stages of every reply: the prompts once, their last token again
    with the steerer's ops, then one token at a time. It is greedy unless told otherwise, and refuses by name what it
    cannot steer; so does all else that would run the model. The model itself stays as it is.
    """

    def __init__(self, vlm: VLM, steerer: Steerer, strength: Strength = 1.0) -> None:
        """`strength` is in multiples of the contrast vector.

        Raises ValueError for a method that needs the prompts' own words, which come here as tokens.
        """
        name, asked = type(steerer).__name__, Prompt(None, "a")
        if steerer.rewrite(asked) != asked:
            raise ValueError(
                f"{name} changes the words of a prompt, which come here as tokens; write them into the messages, or "
                "use methods.steer."
            )
        if getattr(steerer, "stream", None) is not None:
            raise ValueError(
                f"{name} asks each prompt once more with less to see, and prompts come here as tokens; use "
                "methods.steer."
            )
        self.vlm, self.steerer, self.strength = vlm, steerer, strength

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The model's, by which pipelines know what it can do."""
        return type(self.vlm.model)

    def __repr__(self) -> str:
        return f"SteeredModel({self.vlm!r}, {type(self.steerer).__name__} at {self.strength})"

    def __getattr__(self, name: str) -> Any:
        """What the model says of itself. Raises AttributeError for what it has not, or what would run unsteered."""
        if name in ("vlm", "steerer", "strength"):  # not there yet, as while it is copied
            raise AttributeError(name)
        value = getattr(self.vlm.model, name)
        if callable(value) and name not in RUNS_NOTHING:
            raise AttributeError(_unsteered(name))
        return value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AttributeError(_unsteered("The forward"))

    def to(self, *args: Any, **kwargs: Any) -> "SteeredModel":
        """Move the model inside."""
        self.vlm.model.to(*args, **kwargs)
        return self

    def eval(self) -> "SteeredModel":
        """A `VLM` evaluates already."""
        return self

    def generate(
        self, inputs: Int[Tensor, "batch seq"] | None = None, *, max_new_tokens: int = 64, **options: Any
    ) -> Int[Tensor, "rows tokens"]:
        """The prompts' tokens with those of the replies behind them, which are padded on the right.

        Args:
            inputs: the prompts' tokens, padded on the left; `input_ids` is the same.
            max_new_tokens: the longest reply, in tokens.
            options: the model's other inputs as the processor made them, and what `vlm.generate` takes.

        Raises ValueError for inputs and options that cannot be steered, and as `vlm.generate` does.
        """
        if options.pop("return_dict_in_generate", None):
            raise ValueError("generate(return_dict_in_generate=True) is not possible here: only tokens come back.")
        given = options if inputs is None else {"input_ids": inputs, **options}
        processed = self._processed(given)
        settings = {name: value for name, value in given.items() if name not in processed}
        encoded = encoded_of(self.vlm.model, processed)
        asked = ask(self.vlm, encoded, [self.steerer])
        run = asked.run(self.steerer, self.strength)
        replies = asked.answered(self.vlm, [run], max_new_tokens=max_new_tokens, **settings)
        return self._behind(encoded.input_ids, replies)

    def _processed(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the processor made. Raises ValueError for other inputs of the model."""
        if (wrong := next((name for name in REFUSED_INPUTS if given.get(name) is not None), None)) is not None:
            raise ValueError(f"generate({wrong}=...) is not possible here: {REFUSED_INPUTS[wrong]}.")
        names = signature(type(self.vlm.model).forward).parameters
        found = {name: value for name, value in given.items() if name in names and isinstance(value, Tensor)}
        if "input_ids" not in found:
            raise ValueError("generate needs the prompts' tokens: generate(**processor(...)), or input_ids=....")
        return found

    def _behind(self, ids: Int[Tensor, "batch seq"], replies: Replies) -> Int[Tensor, "rows tokens"]:
        longest = max(map(len, replies.token_ids))
        padded = [row + [self.vlm.pad_token_id] * (longest - len(row)) for row in replies.token_ids]
        return torch.cat([ids.repeat_interleave(len(padded) // len(ids), dim=0), ids.new_tensor(padded)], dim=1)


def _unsteered(name: str) -> str:
    return (
        f"{name} would run unsteered: a SteeredModel answers by generate alone. The unsteered model is its vlm.model."
    )
