"""What some baselines learn from beside contrasts at two blocks; each is made from the model when first asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

from interv import VLM, Replies
from methods import ContrastBank, ContrastPair, DoesNotApply
from methods.attribution import Attribution, Said, attribute_heads
from methods.contrasts.reads import Pool
from methods.head_contrasts import HeadContrasts, capture_heads
from studies.tasks.chair.words import SEPARATOR, Places
from studies.tasks.task import Example, Split, Task

PLACES = 100  # mistakes, and as many right replies, that heads are judged by


@dataclass(frozen=True, eq=False)
class Materials:
    """The training and validation examples of one study as the baselines want them.

    Attributes:
        pairs_of: the pairs of a bank's rows, as the recipe adapts them.
        examples_of: the readable examples of a split.
        batch_size: of prompts of which states are read.
        fitting: runs work with as many replies at once as fit into memory, `Account.fit`.
    """

    vlm: VLM
    task: Task
    pairs_of: Callable[[Split, ContrastBank], Sequence[ContrastPair]]
    examples_of: Callable[[Split], Sequence[Example]]
    batch_size: int
    fitting: Callable[[Callable[[int], Any]], Any]
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

    def check_images(self, name: str) -> None:
        """Raise DoesNotApply where a prompt of any split shows no image, for a method that acts on attention to it."""
        asked = [example.prompt for split in get_args(Split) for example in self.examples_of(split)]
        if bare := sum(not prompt.pictures() for prompt in asked):
            raise DoesNotApply(
                f"{name} acts on attention to an image, and {bare:,} of {len(asked):,} prompts show none."
            )

    def attribution(self) -> Attribution:
        """What each head adds to what the model says of training prompts by itself, wrong and right.

        Of captions that are words for objects that the image does not show, against those that it does; of other
        replies the first token, of a yes/no task that of a wrong yes against that of a right one.
        """
        if "attribution" not in self._made:
            places_of = getattr(self.task, "places", None)
            said = (
                first_words(self._parsed(), PLACES)
                if places_of is None
                else object_words(self._answered(), places_of, PLACES)
            )
            self._made["attribution"] = self.fitting(lambda size: attribute_heads(self.vlm, said, batch_size=size))
        return self._made["attribution"]

    def answered_rightly(self) -> frozenset[str]:
        """The ids of the training examples that the unsteered model answers as wanted, so that they need nothing."""
        return frozenset(example.id for example, parsed in self._parsed() if parsed == example.target)

    def _parsed(self) -> Iterator[tuple[Example, str]]:
        return ((example, self.task.parse(reply)) for example, reply in self._answered())

    def _answered(self) -> Iterator[tuple[Example, str]]:
        """Training examples with the unsteered model's replies; a batch is decoded when first asked for."""
        examples, replies = self.examples_of("train"), self._made.setdefault("replies", [])
        for place, example in enumerate(examples):
            if place == len(replies):
                replies += self.fitting(partial(self._replies, examples[place:]))
            yield example, replies[place]

    def _replies(self, examples: Sequence[Example], size: int) -> Replies:
        """Those of the first `size` examples."""
        prompts = [example.prompt for example in examples[:size]]
        return self.vlm.generate(prompts, max_new_tokens=self.task.max_new_tokens)


def first_words(parsed: Iterable[tuple[Example, str]], places: int) -> list[Said]:
    """Where the unsteered model begins a wrong reply, and where a right one: the first of each, so many at most.

    Of a yes/no task the replies that say yes alone.
    """
    found: dict[bool, list[Said]] = {True: [], False: []}
    for example, reply in parsed:
        if reply == "yes" or example.target not in ("yes", "no"):
            wrong = reply != example.target
            found[wrong].append(Said(example.prompt, wrong))
        if min(map(len, found.values())) >= places:
            break
    return [said for kind in found.values() for said in kind[:places]]


def object_words(
    answered: Iterable[tuple[Example, str]], places_of: Callable[[str], Places], places: int
) -> list[Said]:
    """Where the unsteered model names what its image does not show, and where what it does: so many of each at most.

    Captions that invent nothing are left out. Source: AD-HH's published code, by which a step counts whose token
    begins a word that CHAIR marks.
    """
    found: dict[bool, list[Said]] = {True: [], False: []}
    for example, reply in answered:
        named, shown = places_of(reply), {*example.target.split(SEPARATOR)}
        if all(name in shown for _, name in named):
            continue
        for start, name in named:
            before = f"{example.prompt.answer} {reply[:start]}".strip()
            found[name not in shown].append(Said(replace(example.prompt, answer=before), name not in shown))
        if min(map(len, found.values())) >= places:
            break
    return [said for kind in found.values() for said in kind[:places]]
