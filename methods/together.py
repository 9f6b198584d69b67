"""Several methods at once: what one adds beside what another one changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from interv import Op, Prompt, Site
from methods.contrasts.reads import Read
from methods.steerer import Fitted, Query, Strength
from methods.streams import Stream


@dataclass(frozen=True, eq=False)
class Together(Fitted):
    """Every part acts as it would alone, at its weight times the strength; each reads the unsteered prompt.

    Attributes:
        parts: fitted methods of one model; at most one of them has a second stream. Each keeps its own scope.
        weights: of the strength, one a part.
    """

    made_of: ClassVar[tuple[str, ...]] = ()

    parts: tuple[Fitted, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where parts do not go together."""
        if not self.parts or len(self.parts) != len(self.weights):
            raise ValueError(f"There are {len(self.parts)} parts and {len(self.weights)} weights; give one a part.")
        if len(models := {part.fingerprint for part in self.parts}) > 1:
            raise ValueError(f"The parts were fitted on models {', '.join(sorted(models))}; put those of one together.")
        if sum(part.stream is not None for part in self.parts) > 1:
            raise ValueError("Two parts mix logits, each with a second stream of its own; put one of them in.")

    @classmethod
    def of(cls, parts: Sequence[Fitted], weights: Sequence[float] | None = None) -> "Together":
        """The parts at equal weights of 1, or at these. Its layers are the first part's."""
        first = parts[0]
        return cls(
            first.reads,
            first.writes,
            first.fingerprint,
            tuple(parts),
            tuple(weights) if weights is not None else (1.0,) * len(parts),
        )

    @classmethod
    def fit(cls, train: Any) -> "Together":
        raise ValueError(f"{cls.__name__} is made of methods that are fitted already: {cls.__name__}.of([...]).")

    def rewrite(self, prompt: Prompt) -> Prompt:
        for part in self.parts:
            prompt = part.rewrite(prompt)
        return prompt

    @property
    def looks(self) -> tuple[Read, ...]:
        return tuple(dict.fromkeys(read for part in self.parts for read in (Read(Site(part.reads)), *part.looks)))

    @property
    def stream(self) -> Stream | None:
        return next((part.stream for part in self.parts if part.stream is not None), None)

    def mixed(
        self,
        logits: Float[Tensor, "batch vocabulary"],
        companion: Float[Tensor, "batch vocabulary"],
        strength: Strength,
    ) -> Float[Tensor, "batch vocabulary"]:
        for part, weight in zip(self.parts, self.weights, strict=True):
            if part.stream is not None:
                logits = part.mixed(logits, companion, weight * strength)
        return logits

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Op, ...]:
        found: list[Op] = []
        for part, weight in zip(self.parts, self.weights, strict=True):
            own = replace(query, context=query.state(Read(Site(part.reads))))
            found += part.ops(own, weight * strength)
        return tuple(found)

    def of_any_model(self) -> "Together":
        return replace(self, fingerprint="", parts=tuple(part.of_any_model() for part in self.parts))

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
        """As every method, with each part in a folder of its own."""
        path, places = Path(folder), [str(place) for place in range(len(self.parts))]
        self._write(path, {field.name: getattr(self, field.name) for field in fields(self)} | {"parts": places}, about)
        for place, part in zip(places, self.parts, strict=True):
            part.save(path / place)


class L2SWithPAI(Together):
    """L2S adds while PAI turns attention to the image."""

    made_of = ("L2S", "PAI")


class L2SWithADHH(Together):
    """L2S adds while AD-HH silences heads that listen to the text."""

    made_of = ("L2S", "ADHH")
