"""What can be chosen in the playground: steerers that were kept, or methods that are fitted when they are asked for."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from interv import VLM, Prompt
from interv.models.load import embedded_names
from methods import capture_contrasts
from methods.steerer import Fitted
from studies.fit.fitting import METHODS
from studies.own import Steered
from studies.run.checkpoint import Checkpoint
from studies.tasks import TASKS, Task

AT_ONCE = ("L2S", "MeanSteering", "MeanSteeringBA", "NormRnd", "PromptSteering")  # learn from contrasts in a second
PAIRS = 340  # of the training scenes, which the contrasts of all blocks are captured of at the start
TRIED = 48  # validation questions among which those are looked for that the model answers wrongly
SHOWN = 4  # questions to choose from


@dataclass(frozen=True, eq=False)
class Choice:
    """One entry of the list of methods.

    Attributes:
        strength: a good one to begin with.
        reads, writes: the blocks to choose from; one each where the steerer was kept.
        made: the steerer of two of these.
    """

    strength: float
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    made: Callable[[int, int], Fitted]


@dataclass(frozen=True, eq=False)
class Offered:
    """A model, what it can be steered by, the blocks to begin with, and questions to begin with."""

    vlm: VLM
    choices: Mapping[str, Choice]
    start: tuple[int, int]
    questions: tuple[Prompt, ...]
    max_new_tokens: int

    def steered(self, name: str, reads: int, writes: int, strength: float) -> Steered:
        """The model and one choice. Raises ValueError for a name or a block that is not offered."""
        if name not in self.choices:
            raise ValueError(f"{name!r} is not offered; there are {', '.join(self.choices)}.")
        choice = self.choices[name]
        for word, block, blocks in (("reads", reads, choice.reads), ("writes", writes, choice.writes)):
            if block not in blocks:
                raise ValueError(f"{name} {word} at block {', '.join(map(str, blocks))}, and not at {block}.")
        return Steered(self.vlm, choice.made(reads, writes), strength, self.max_new_tokens, {"method": name})


def kept(folders: Sequence[str], checkpoint: Checkpoint, *, any_model: bool = False) -> Offered:
    """What these folders hold, all of one model. Raises ValueError where they are of several."""
    first, *others = folders
    steered = {first: Steered.load(first, checkpoint, any_model=any_model)}
    vlm = steered[first].vlm
    for folder in others:
        steered[folder] = Steered.load(folder, checkpoint, any_model=any_model)
        if steered[folder].vlm.fingerprint != vlm.fingerprint:
            raise ValueError(
                f"{folder} is for {steered[folder].vlm.name} and {first} for {vlm.name}; a playground has one model, "
                "so open one for each."
            )
    choices = {
        f"{one.card['method']} ({folder})": Choice(
            one.strength,
            (one.steerer.reads,),
            (one.steerer.writes,),
            lambda reads, writes, one=one: one.steerer,  # type: ignore[misc]
        )
        for folder, one in steered.items()
    }
    begin = steered[first].steerer
    longest = max(one.max_new_tokens for one in steered.values())
    return Offered(vlm, choices, (begin.reads, begin.writes), questions(vlm, TASKS["shapes_pope"]()), longest)


def fitted_at_once(checkpoint: Checkpoint, task: Task) -> Offered:
    """Methods that learn from the task's training scenes when they are first chosen, at any two blocks.

    Raises ValueError for a model that does not know the task's world.
    """
    if checkpoint.model not in embedded_names():
        raise ValueError(
            f"Methods are fitted at once on {' and '.join(embedded_names())} alone; for {checkpoint.model} give the "
            "folders that `interv fit` wrote."
        )
    vlm = checkpoint.load()
    pairs = task.pairs("train")
    some = [pairs[place] for place in sorted(random.Random(0).sample(range(len(pairs)), min(PAIRS, len(pairs))))]
    bank = capture_contrasts(vlm, some, batch_size=64, pool="mean")
    blocks = tuple(range(vlm.n_layers))

    def made(name: str) -> Callable[[int, int], Fitted]:
        settings = {"suffix": task.prompt_suffix} if name == "PromptSteering" else {}
        return cache(lambda reads, writes: METHODS[name].fit(bank.at(reads=reads, writes=writes), **settings))

    middle = vlm.n_layers // 2
    choices = {name: Choice(1.0, blocks, blocks, made(name)) for name in AT_ONCE}
    return Offered(vlm, choices, (middle - 1, middle), questions(vlm, task), task.max_new_tokens)


def questions(vlm: VLM, task: Task) -> tuple[Prompt, ...]:
    """Validation questions of the embedded world: first those that the model answers wrongly. None for other models."""
    if vlm.name not in embedded_names():
        return ()
    examples = task.prompts("val")
    some = [examples[place] for place in sorted(random.Random(0).sample(range(len(examples)), TRIED))]
    replies = vlm.generate([one.prompt for one in some], max_new_tokens=task.max_new_tokens)
    wrong = [task.parse(reply) != one.target for one, reply in zip(some, replies, strict=True)]
    order = sorted(range(len(some)), key=lambda place: not wrong[place])
    return tuple(some[place].prompt for place in order[:SHOWN])


def offered(
    folders: Sequence[str], checkpoint: Checkpoint, *, task: str = "shapes_pope", any_model: bool = False
) -> Offered:
    """What the folders hold where there are some, else what can be fitted at once. Raises ValueError."""
    if folders:
        return kept(folders, checkpoint, any_model=any_model)
    if task not in TASKS:
        raise ValueError(f"--task {task!r} is none of the embedded world's: {', '.join(TASKS)}.")
    return fitted_at_once(checkpoint, TASKS[task]())
