"""A model, steered or not, as every harness asks it: one prompt at a time, greedily."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from interv import VLM, Prompt
from interv.models.turns import turn_of
from methods import NoSteering, ask
from methods.steerer import Steerer
from studies.own import Steered
from studies.run.checkpoint import Checkpoint
from studies.tasks.examples_file.images import Images
from studies.tasks.examples_file.row import item_of

LONGEST = 64  # tokens of a reply where neither the harness nor the steerer says how many
_OWN = ("steerer", "strength", "any_model")


@dataclass(frozen=True)
class Said:
    """A reply, and how many tokens it was asked with and has. `whole` tells that it ended by itself."""

    text: str
    asked: int
    tokens: int
    whole: bool


@dataclass(frozen=True, eq=False)
class Answering:
    """A model with the steerer that acts in it.

    Every prompt is answered by itself: in a batch the last bits of a reply depend on its neighbours, and which these
    are depends in a harness on who comes first.
    """

    vlm: VLM
    steerer: Steerer
    strength: float = 0.0
    max_new_tokens: int = LONGEST

    @classmethod
    def load(cls, model: str, **told: Any) -> "Answering":
        """The model of this name, or the steerer's own where it is empty.

        Args:
            told: `steerer`, a folder that `interv fit` wrote or owner/name on the hub; without it the model is not
                steered. `strength`, by default the steerer's. `any_model`, to let another model take it. The others
                are fields of `Checkpoint`, as `device` or `dtype`.

        Raises ValueError for what is none of these, and as `Steered.load` does.
        """
        known = [field.name for field in fields(Checkpoint) if field.name != "model"]
        if unknown := sorted(told.keys() - {*known, *_OWN}):
            raise ValueError(f"{unknown[0]!r} is no argument here; there are {', '.join((*_OWN, *known))}.")
        own = {name: told[name] for name in _OWN if told.get(name) is not None}
        checkpoint = Checkpoint(model=model, **{name: told[name] for name in told if name in known})
        if "steerer" not in own:
            if own:
                raise ValueError(
                    f"{', '.join(own)} without a steerer steers nothing; give steerer=<folder>, or neither."
                )
            return cls(checkpoint.load(), NoSteering(0, 0, ""))
        steered = Steered.load(
            str(own["steerer"]),
            checkpoint,
            strength=own.get("strength"),
            any_model=bool(own.get("any_model", False)),
        )
        return cls(steered.vlm, steered.steerer, steered.strength, steered.max_new_tokens)

    def reply(self, prompt: Prompt, *, max_new_tokens: int | None = None, stop: Sequence[str] = ()) -> Said:
        """Answer one prompt. `stop` are texts that end a reply, which keeps them."""
        options = {"stop_strings": list(stop)} if stop else {}
        with turn_of(self.vlm.model):
            asked = ask(self.vlm, [self.steerer.rewrite(prompt)], [self.steerer])
            run = asked.run(self.steerer, self.strength)
            replies = asked.answered(self.vlm, [run], max_new_tokens=max_new_tokens or self.max_new_tokens, **options)
        return Said(
            replies[0],
            int(asked.prefill.encoded.attention_mask[0].sum()),
            len(replies.token_ids[0]),
            replies.finish_reason[0] == "stop",
        )


def prompt_of_turns(turns: Sequence[dict[str, Any]], sample: str) -> Prompt:
    """The last turn as the question, behind its images; the turns before it are system and history.

    An image is a data URL, a path relative to where the evaluation runs, or a picture. Raises ValueError for other
    parts, and where the last turn is not the user's; `sample` is what the error calls them.
    """
    try:
        return item_of(1, {"messages": list(turns)}, Images(Path.cwd()), answers=False).prompt
    except ValueError as error:
        raise ValueError(f"{sample} cannot be asked: {error}.") from error
