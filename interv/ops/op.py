"""What an op is: where to act, on which tokens. A capture reads a hidden state, an edit gives another one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from interv.display import OneLine
from interv.ops.values import Tokens, check_finite, check_tokens
from interv.places.scope import Scope, Step, check_scope
from interv.places.site import Site, SiteLike, as_site


@dataclass(frozen=True, eq=False)
class Capture(OneLine):
    """Read the hidden state at a site.

    Args:
        site: where to read; its name does too.
        tokens: "last_prompt" gives [batch, width]; an index gives [batch, width] too and counts within each row's
            prompt, padding left out, so 0 is its first token and -1 its last; a LongTensor [batch, k] of such
            indices gives [batch, k, width]; any other scope gives a list with one [tokens, width] a row.

    A capture that stands before an edit at its site in the list of ops reads the value before it, after it the
    changed one.
    """

    site: SiteLike
    tokens: Tokens = "last_prompt"

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", as_site(self.site))
        check_tokens(self.tokens)

    @property
    def scope(self) -> Scope:
        return self.tokens if isinstance(self.tokens, str) else "prompt"


@dataclass(frozen=True, eq=False)
class WholeBatch(Capture):
    """Read all tokens of all rows as one tensor [batch, pos, ...], with zeros where padding is."""

    tokens: Tokens = "all"


class Edit(OneLine, ABC):
    """An op that changes the hidden state of the scope's tokens and leaves all others exactly as they are.

    Attributes:
        site: where to act; its name does too.
        scope: "response" is the last prompt token, which decides the first token of the reply, and every generated
            token; "generated" leaves out the last prompt token; "all" is every prompt and every generated token.
        fingerprint: of the model that the op's tensors were captured from; another model then refuses the op.
    """

    site: Site
    scope: Scope
    fingerprint: str | None

    @abstractmethod
    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None, step: Step | None = None) -> Tensor:
        """The changed hidden state, a new tensor; `where` None means every position.

        `step` says of what kind the tokens are; it is None where the hidden state is one of image patches.
        """

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What the op brings along, by name: its last axis is the site's width."""
        return {}

    @property
    def numbers(self) -> dict[str, Tensor]:
        """What meets the hidden state, by name: it must be finite in the model's precision."""
        return self.tensors

    @property
    def per_row(self) -> tuple[Tensor, ...]:
        """Those of the op's tensors that have one entry a row."""
        return tuple(tensor for tensor in self.tensors.values() if tensor.ndim == 2)

    @property
    def rows(self) -> int | None:
        """The number of rows that the op is made for, None where it serves any."""
        sizes = {len(tensor) for tensor in self.per_row}
        if len(sizes) > 1:
            raise ValueError(f"The op at {self.site} has entries for {sorted(sizes)} rows; give one of each a row.")
        return sizes.pop() if sizes else None

    def _check(self) -> None:
        object.__setattr__(self, "site", as_site(self.site))
        check_scope(self.scope)
        for name, tensor in self.tensors.items():
            check_finite(name, tensor, "[width] or [batch, width]", dimensions=(1, 2))


class Formula(Edit):
    """An edit that does the same with every token of the scope, whatever its row, kind and step."""

    @abstractmethod
    def change(self, hidden: Tensor) -> Tensor:
        """The new hidden state, as if every token lay in the scope. Never edits in place: captures may alias it."""

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None, step: Step | None = None) -> Tensor:
        for name, tensor in self.tensors.items():
            if tensor.shape[-1] != hidden.shape[-1]:
                raise ValueError(
                    f"The {name} for {self.site} has width {tensor.shape[-1]}; there the hidden state has "
                    f"{hidden.shape[-1]}. Capture it at the same site."
                )
        changed = self.change(hidden)
        return changed if where is None else torch.where(where[..., None], changed, hidden)


Op = Capture | Edit


def captures_at(sites: Sequence[Site | str | Capture], tokens: Tokens = "last_prompt") -> list[Capture]:
    """One capture a site; what is a capture already stays. Raises TypeError for a single site."""
    if isinstance(sites, Site | str):
        raise TypeError(f"A list of sites is needed here, also for one: put {sites} into brackets.")
    return [site if isinstance(site, Capture) else Capture(site, tokens) for site in sites]
