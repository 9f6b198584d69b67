"""The search for layers and strength: a divergence budget proposes, replies on held-out examples decide.

Pure control flow: what it may ask of a model are two functions, so that it can be replayed on rows that are there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from more_itertools import map_reduce

from studies.fit.selection import BUDGET, FINALISTS
from studies.fit.setting import Setting
from studies.measure import Row
from studies.tasks.task import Example, Task

# For each setting the rows of its replies to these examples; None is the unsteered model.
Reply = Callable[[Sequence[Setting | None], Sequence[Example]], Sequence[Sequence[Row]]]
# KL divergence in nats of the first reply token's distribution, steered against unsteered: [settings, examples].
Diverge = Callable[[Sequence[Setting], Sequence[Example]], np.ndarray]

# Prompts whose first-token distributions are compared: 24 rows of logits cost a candidate two or three short replies.
PROBES = 24
# Examples on which each step of the bisection looks at the quality. Two candidates answer them, so that the share is
# told to 1 in 24, less than half of the budget.
STEPS_EXAMPLES = 12
# How far beyond the last divergence that kept the quality a setting may lie. Divergence grows as the square of the
# strength, so this is less than a step of the grid, and what the few examples of a step decide may be off by one.
SLACK = 1.5
# Candidates so far apart say e^-1/2 as much about each other as about themselves.
STRENGTHS_APART = 0.5  # in the logarithm of the strength
LAYERS_APART = 1.0  # in blocks


@dataclass
class Account:
    """What a search has asked for. Replies and logit rows are counted once each, however often they are used."""

    replied: set[tuple[int | None, str]] = field(default_factory=set)
    compared: int = 0

    def cost(self, tokens: float) -> float:
        """In replies: a row of logits counts as one token's share of a reply of this mean length."""
        return len(self.replied) + self.compared / tokens


@dataclass(frozen=True)
class Found:
    """The setting that was chosen, and how.

    Attributes:
        index: of the setting among the candidates; None where no setting kept the budget and the unsteered model stays.
        effect, quality: its objective and its share of well-formed replies, on all examples of the search.
        unsteered: the same two of the unsteered model.
        divergence: of every candidate, in nats.
        budget: the divergence above which no candidate was tried.
        replies, logit_rows, cost: what it took; cost in replies, a row of logits being one token's share of one.
        tried: how many candidates were answered for.
    """

    index: int | None
    effect: float
    quality: float
    unsteered: tuple[float, float]
    divergence: tuple[float, ...]
    budget: float
    replies: int
    logit_rows: int
    cost: float
    tried: int


@dataclass(frozen=True, eq=False)
class Search:
    """One search over candidate settings.

    Args:
        settings: the candidates, one of each pair of layers and strength.
        examples: of validation, in the order in which they are taken.
        budget: the share of the unsteered model's well-formed replies that may be lost.
        share: what the search may cost, as a share of answering all examples in all settings; it costs more only where
            its finalists turn out to break the budget.
        tokens: mean length of a reply.
        divergence: whether the divergence budget prunes; False leaves all candidates to the replies.
    """

    task: Task
    settings: Sequence[Setting]
    examples: Sequence[Example]
    reply: Reply
    diverge: Diverge
    budget: float = BUDGET
    share: float = 0.2
    tokens: float = 10.0
    divergence: bool = True
    account: Account = field(default_factory=Account)

    def run(self) -> Found:
        """Prune by divergence, halve by replies to more and more examples, answer all examples for the finalists."""
        every, n = list(range(len(self.settings))), len(self.examples)
        unsteered = self.measure([None], n)[None]
        levels, limit = np.zeros(len(every)), float("inf")
        if self.divergence:
            probes = self.examples[:PROBES]
            levels = self.diverge(self.settings, probes).mean(axis=1)
            self.account.compared += (len(every) + 1) * len(probes)
            limit = self.bisect(levels)
        alive = [index for index in every if levels[index] <= limit] or [int(np.argmin(levels))]
        (first, kept), (second, finalists) = self.halvings(len(alive))
        ranking = self.best(self.best(alive, first, kept, smooth=first < n), second, kept, smooth=second < n)
        final = self.decide(ranking, finalists)
        effect, quality = unsteered if final is None else self.measure([final], n)[final]
        return Found(
            final,
            effect,
            quality,
            unsteered,
            tuple(float(level) for level in levels),
            limit,
            len(self.account.replied),
            self.account.compared,
            self.account.cost(self.tokens),
            len({index for index, _ in self.account.replied if index is not None}),
        )

    def decide(self, ranking: Sequence[int], finalists: int) -> int | None:
        """The best of the finalists on all examples, or None where it does no better than the unsteered model.

        Where all of them break the budget, the next in the ranking is tried; that alone may cost more than the share.
        """
        n = len(self.examples)
        for count in range(min(finalists, len(ranking)), len(ranking) + 1):
            best = self.best(ranking[:count], n, 1)[0]
            effect, quality = self.measure([best], n)[best]
            if quality >= self.floor(n):
                return best if effect > self.measure([None], n)[None][0] else None
        return None

    def bisect(self, levels: np.ndarray) -> float:
        """The divergence up to which replies stay well-formed, give or take `SLACK`.

        Bisection over the candidates in the order of their divergence: at each step the two candidates there answer a
        few examples. Layers share the level, which is what makes the search cheap.
        """
        order = np.argsort(levels, kind="stable")
        low, high = 0, len(order)  # candidates below low keep the quality, those from high on do not
        while low < high:
            middle = (low + high) // 2
            near = self.measure(order[middle : middle + 2].tolist(), STEPS_EXAMPLES).values()
            if np.mean([quality for _, quality in near]) >= self.floor(STEPS_EXAMPLES):
                low = middle + 1
            else:
                high = middle
        return float("inf") if low == len(order) else float(levels[order[max(0, low - 1)]]) * SLACK

    def halvings(self, alive: int) -> list[tuple[int, int]]:
        """(examples, candidates to keep) of each round, from what the rest of the cost allows.

        A third goes to all candidates alike, a third to the best quarter, and a third to the finalists.
        """
        n = len(self.examples)
        left = self.share * n * len(self.settings) - self.account.cost(self.tokens)
        first = int(np.clip(left / 3 / alive, 2, n))
        kept = max(FINALISTS, ceil(alive / 4))
        second = int(np.clip(first + left / 3 / kept, first, n))
        finalists = int(np.clip(left / 3 / max(1, n - second), 1, FINALISTS))
        return [(first, kept), (second, finalists)]

    def best(self, alive: Sequence[int], count: int, keep: int, *, smooth: bool = False) -> list[int]:
        """The best of these candidates on the first examples: those within the budget first, then by effect.

        With `smooth` a candidate's effect is a mean over those like it, which steadies it on few examples. Of equals
        the weaker strength is taken, but with `smooth` the stronger: what shows no effect on few examples is more
        likely to have one where more is added.
        """
        effect, quality = np.array(list(self.measure(alive, count).values())).T
        if smooth:
            near = self.likeness(alive)
            effect = near @ effect / near.sum(axis=1)
        outside = quality < self.floor(count)
        strength = [self.settings[index].strength * (-1 if smooth else 1) for index in alive]
        order = sorted(range(len(alive)), key=lambda i: (outside[i], -effect[i], strength[i]))
        return [alive[i] for i in order[:keep]]

    def likeness(self, alive: Sequence[int]) -> np.ndarray:
        """How much each candidate says about each other one: less, the further strength and layers are apart."""
        settings = [self.settings[index] for index in alive]
        place = np.array([[s.steerer.reads, s.steerer.writes] for s in settings]) / LAYERS_APART
        strength = np.log([max(s.strength, 1e-6) for s in settings])[:, None] / STRENGTHS_APART
        where = np.concatenate([place, strength], axis=1)
        return np.exp(-0.5 * ((where[:, None] - where[None]) ** 2).sum(axis=-1))

    def floor(self, count: int) -> float:
        return (1 - self.budget) * self.measure([None], count)[None][1]

    def measure(self, indices: Sequence[int | None], count: int) -> dict[int | None, tuple[float, float]]:
        """Objective and share of well-formed replies of these candidates on the first examples; None is unsteered."""
        part = self.examples[:count]
        self.account.replied |= {(index, example.id) for index in indices for example in part}
        replies = self.reply([None if index is None else self.settings[index] for index in indices], part)
        return {index: score(self.task, rows) for index, rows in zip(indices, replies, strict=True)}


def score(task: Task, rows: Sequence[Row]) -> tuple[float, float]:
    """The task's objective and the share of well-formed replies, of rows that count once each."""
    metrics = {metric.name: metric for metric in task.metrics}
    values = []
    for name in (task.objective, "valid"):
        sums = np.array([metrics[name].columns(row) for row in rows]).sum(axis=0)
        values.append(float(metrics[name].value(sums)))
    return values[0], values[1]


def interleaved(examples: Sequence[Example], seed: int) -> list[Example]:
    """A random order in which every beginning holds the subsets and behaviours equally, as long as each lasts."""
    generator = np.random.default_rng(seed)
    piles = map_reduce(examples, lambda example: (example.subset, example.behavior))
    placed = [
        (place + generator.random(), pile[number])
        for pile in piles.values()
        for place, number in enumerate(generator.permutation(len(pile)))
    ]
    return [example for _, example in sorted(placed, key=lambda one: one[0])]
