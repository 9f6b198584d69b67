"""Conditional steering: a behaviour's vector is added to the inputs whose prompt meets its condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from interv import Add, Site
from methods.checks import DoesNotApply, check_contrasts
from methods.conditions import Condition, Similarity, against, best_point, pairwise_direction, similarity
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.reads import Read
from methods.contrasts.sharded import AnyContrasts, ShardedContrasts
from methods.steerer import Fitted, Query, Strength


class Rule(NamedTuple):
    """If any, or all, of the named conditions are met, then the behaviour."""

    how: Literal["any", "all"]
    conditions: tuple[str, ...]
    behavior: str

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read "if C1 or C2 then B1", or the same with "and"; names are single words. Raises ValueError otherwise."""
        words = text.split()
        named, joined = words[1:-2:2], set(words[2:-2:2])
        if len(words) < 4 or words[0] != "if" or words[-2] != "then" or len(joined) > 1 or not joined <= {"or", "and"}:
            raise ValueError(f"{text!r} is no rule; write 'if C1 or C2 then B1', with 'or' alone or 'and' alone.")
        return cls("all" if joined == {"and"} else "any", tuple(named), words[-1])


@dataclass(frozen=True, eq=False)
class CAST(Fitted):
    """Adds v_b at each steered block where a rule for behaviour b holds, decided once, on the unsteered prompt.

    Source: CAST, arXiv:2409.05907, and its published code at 52be602. An input that meets no condition is left alone,
    bit by bit. Several behaviours add up.

    Attributes:
        directions: of the conditions, in their order.
        vectors: what strength 1 adds, for each behaviour at each block.
        published_offset: read and add at the input of the blocks whose output the vectors come from, as the published
            code does.
    """

    directions: Float[Tensor, "conditions d_model"]
    vectors: Float[Tensor, "behaviors blocks d_model"]
    conditions: tuple[Condition, ...]
    behaviors: tuple[str, ...]
    blocks: tuple[int, ...]
    rules: tuple[Rule, ...]
    published_offset: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError where a rule names what is not there."""
        names = {condition.name for condition in self.conditions}
        for rule in self.rules:
            if unknown := {*rule.conditions} - names:
                raise ValueError(f"The rule {rule} has no condition {unknown.pop()!r}; there are {sorted(names)}.")
            if rule.behavior not in self.behaviors:
                raise ValueError(f"The rule {rule} has no behaviour of that name; there are {list(self.behaviors)}.")

    @classmethod
    def fit(
        cls,
        train: AnyContrasts,
        *,
        validation: AnyContrasts | None = None,
        others: Sequence[AnyContrasts] = (),
        similarity: Similarity = "cosine",
        unit: bool = False,
        published_offset: bool = False,
    ) -> "CAST":
        """A condition, a vector and a rule for each behaviour among the contrasts.

        A behaviour's condition tells its prompts from all others by their contexts, pooled as the contrasts have them
        (`ContrastBank.reading`). Its threshold has the best F1 on `validation`, else on the training prompts.

        Args:
            others: contrasts of the same pairs at further blocks, to steer there too.
            unit: vectors of unit length, as published, rather than of the behaviour's mean contrast.

        Raises DoesNotApply where there are fewer than two behaviours to tell apart.
        """
        check_contrasts(train)
        at_blocks = [_loaded(one) for one in (train, *others)]
        first = at_blocks[0]
        judged = first if validation is None else _loaded(validation)
        behaviors = tuple(sorted(set(first.behavior)))
        if len(behaviors) < 2:
            raise DoesNotApply(
                f"CAST needs prompts of at least two behaviours to tell apart, and all {len(first)} are of "
                f"{behaviors[0]!r}; set ContrastPair(behavior=...), or use MeanSteering."
            )
        if judged.context_pool != first.context_pool:
            raise ValueError(
                f"The validation contexts are pooled over {judged.context_pool!r}, the training ones over "
                f"{first.context_pool!r}; read both in one way."
            )
        directions, conditions, vectors = [], [], []
        for name in behaviors:
            own = _of(first, name)
            direction = against(first.context[own].float(), first.context[~own].float())
            values = similarity_of(judged.context, direction, similarity)
            fires, threshold, _ = best_point(values, _of(judged, name))
            directions.append(direction)
            conditions.append(Condition(name, first.reads, first.context_pool, similarity, fires, threshold))
            vectors.append(torch.stack([_vector(one, own, unit) for one in at_blocks]))
        return cls(
            first.reads,
            first.writes,
            first.fingerprint,
            directions=torch.stack(directions),
            vectors=torch.stack(vectors),
            conditions=tuple(conditions),
            behaviors=behaviors,
            blocks=tuple(one.writes for one in at_blocks),
            rules=tuple(Rule("any", (name,), name) for name in behaviors),
            published_offset=published_offset,
        )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "CAST":
        named = {
            "conditions": tuple(Condition(*one) for one in values["conditions"]),
            "rules": tuple(Rule(*one) for one in values["rules"]),
        }
        return cls(**{**values, **named})

    @property
    def looks(self) -> tuple[Read, ...]:
        return tuple(dict.fromkeys(self._read(condition) for condition in self.conditions))

    def gates(self, query: Query) -> Bool[Tensor, "batch behaviors"]:
        """Which behaviours each prompt calls for."""
        met: dict[str, Tensor] = {}
        for condition, direction in zip(self.conditions, self.directions, strict=True):
            now = condition.met(query.state(self._read(condition)), direction)
            met[condition.name] = met[condition.name] | now if condition.name in met else now
        gates = torch.zeros(len(query.context), len(self.behaviors), dtype=torch.bool, device=query.context.device)
        for rule in self.rules:
            named = torch.stack([met[name] for name in rule.conditions])
            gates[:, self.behaviors.index(rule.behavior)] |= named.all(0) if rule.how == "all" else named.any(0)
        return gates

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        gates = self.gates(query).to(self.vectors)
        added = einsum(gates, self.vectors.to(gates.device), "batch b, b block d -> block batch d")
        return tuple(
            Add(self._site(block), vector, self.scope, strength, fingerprint=self.fingerprint or None)
            for block, vector in zip(self.blocks, added, strict=True)
        )

    def _read(self, condition: Condition) -> Read:
        return Read(self._site(condition.block), condition.pool)

    def _site(self, block: int) -> Site:
        return Site(block, "hook_resid_pre") if self.published_offset else Site(block)


similarity_of = similarity  # under a name that `fit`'s argument does not hide


def _loaded(contrasts: AnyContrasts) -> Contrasts:
    return contrasts.loaded() if isinstance(contrasts, ShardedContrasts) else contrasts


def _of(contrasts: Contrasts, behavior: str) -> Bool[Tensor, " pairs"]:
    return torch.tensor([name == behavior for name in contrasts.behavior])


def _vector(contrasts: Contrasts, rows: Bool[Tensor, " pairs"], unit: bool) -> Float[Tensor, " d_model"]:
    direction = pairwise_direction(contrasts.positive[rows].float(), contrasts.negative[rows].float())
    return direction if unit else direction * contrasts.vectors[rows].float().norm(dim=1).mean()
