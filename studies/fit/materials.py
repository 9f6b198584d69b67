"""What some baselines learn from beside contrasts at two blocks; each is made from the model when first asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from interv import VLM
from methods import ContrastBank, ContrastPair
from methods.attribution import Attribution, Said, attribute_heads
from methods.contrasts.reads import Pool
from methods.head_contrasts import HeadContrasts, capture_heads
from studies.tasks.task import Example, Split, Task

PLACES = 100  # mistakes, and as many right replies, that heads are judged by


@dataclass(frozen=True, eq=False)
class Materials:
    """The training and validation examples of one study as the baselines want them.

    Attributes:
        pairs_of: the pairs of a bank's rows, as the recipe adapts them.
        examples_of: the readable examples of a split.
    """

    vlm: VLM
    task: Task
    pairs_of: Callable[[Split, ContrastBank], Sequence[ContrastPair]]
    examples_of: Callable[[Split], Sequence[Example]]
    batch_size: int
    _made: dict[Any, Any] = field(default_factory=dict)

    def reading(self, split: Split, bank: ContrastBank, pool: Pool) -> ContrastBank:
        """The bank with contexts pooled over other tokens."""
        if ("reading", split, pool) not in self._made:
            prompts = [pair.prompt for pair in self.pairs_of(split, bank)]
            self._made["reading", split, pool] = bank.reading(self.vlm, prompts, pool, batch_size=self.batch_size)
        return self._made["reading", split, pool]

    def heads(self, split: Split, bank: ContrastBank) -> HeadContrasts:
        """Every head at the end of both completions of the bank's pairs."""
        if ("heads", split) not in self._made:
            pairs = self.pairs_of(split, bank)
            self._made["heads", split] = capture_heads(self.vlm, pairs, batch_size=self.batch_size)
        return self._made["heads", split]

    def attribution(self) -> Attribution:
        """What each head adds to the first token of the model's own replies to training prompts, wrong and right.

        Of a yes/no task that is the first token of a wrong yes against that of a right one.
        """
        if "attribution" not in self._made:
            said = first_words(self.vlm, self.task, self.examples_of("train"), self.batch_size)
            self._made["attribution"] = attribute_heads(self.vlm, said, batch_size=self.batch_size)
        return self._made["attribution"]


def first_words(vlm: VLM, task: Task, examples: Sequence[Example], batch_size: int, places: int = PLACES) -> list[Said]:
    """Where the unsteered model begins a wrong reply, and where a right one: the first of each, so many at most."""
    found: dict[bool, list[Said]] = {True: [], False: []}
    yes_no = {example.target for example in examples} == {"yes", "no"}
    for start in range(0, len(examples), batch_size):
        chunk = examples[start : start + batch_size]
        replies = vlm.generate([example.prompt for example in chunk], max_new_tokens=task.max_new_tokens)
        for example, reply in zip(chunk, replies, strict=True):
            parsed = task.parse(reply)
            if parsed == "yes" or not yes_no:
                found[parsed != example.target].append(Said(example.prompt, parsed != example.target))
        if min(map(len, found.values())) >= places:
            break
    return [said for kind in found.values() for said in kind[:places]]
