"""The edits inside attention: plain values, each a pure function of scores or weights and of the kinds of columns."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interv.ops.op import Edit
from interv.ops.values import Number, check_number
from interv.places.columns import ColumnKind, check_columns
from interv.places.scope import Scope, Step
from interv.places.site import SCORES, WEIGHTS, SiteLike

Attention = Float[Tensor, "batch head query column"]
Chosen = Bool[Tensor, "batch 1 1 column"]
Entries = Bool[Tensor, "batch #head query 1"]


@dataclass(frozen=True, eq=False)
class Gate:
    """How often an edit with a threshold was asked and acted: counts of (head, query) entries, by row."""

    judged: Int[Tensor, " batch"]
    fired: Int[Tensor, " batch"]

    @property
    def share(self) -> Float[Tensor, " batch"]:
        """Of the entries that were judged, those where the edit acted; NaN where none was judged."""
        return self.fired / self.judged


@dataclass(frozen=True, eq=False)
class Edited:
    """What one edit made of the scores or weights of a block.

    Attributes:
        values: with the edited entries in them.
        entries: which (head, query) of each row were edited.
        reached: of which (head, query) the strength and the gate decide.
        judged, fired: by row, how many entries a gate was asked for and where it fired; None without a gate.
    """

    values: Attention
    entries: Entries
    reached: Entries
    judged: Int[Tensor, " batch"] | None = None
    fired: Int[Tensor, " batch"] | None = None


class AttentionEdit(Edit):
    """An edit of attention scores, before mask and softmax, or of attention weights, behind them.

    Only the scope's queries are worked out again, in the chosen heads and in rows that have a column of the kind; all
    other outputs of the block's attention keep their bits, and so do rows of strength 0.

    Attributes:
        site: `Site(layer, "hook_attn_scores")` or `Site(layer, "hook_pattern")`, of a single head or of all.
        columns: the kind of what is attended to: "image"; "before_image", the prompt up to its first image token;
            "after_image", the prompt behind its last one and the reply so far; "reply"; "text", all that is no image;
            "all". Padding is of no kind.
        heads: counted from 0; None for all, or for the site's one.
        strength: a number, or one a row [batch].
    """

    columns: ColumnKind
    heads: Sequence[int] | None
    strength: Number

    @abstractmethod
    def change(self, values: Attention, columns: Chosen, strength: Tensor) -> Attention:
        """The new scores or weights, in their precision, as if every row, head and query were chosen.

        `strength` is float32 and broadcasts over them. Weights need not sum to one.
        """

    def fires(self, values: Attention, columns: Chosen) -> Bool[Tensor, "batch head query 1"] | None:
        """Where the edit acts, by head and query; None for everywhere. What it judges is counted."""
        return None

    @property
    def gated(self) -> bool:
        """Whether `fires` decides where the edit acts."""
        return type(self).fires is not AttentionEdit.fires

    @property
    def chosen_heads(self) -> Sequence[int] | None:
        return (self.site.head,) if self.site.head is not None else self.heads

    def edited(self, values: Attention, where: Bool[Tensor, "batch query"], step: Step) -> Edited:
        """The change in the rows, heads and queries that it is for."""
        rows, heads, _, width = values.shape
        if step.columns is None:
            raise ValueError(f"{type(self).__name__} at {self.site} is not told what stands in which column.")
        columns = repeated(step.columns.of(self.columns, width), rows).to(values.device)[:, None, None]
        number = torch.as_tensor(self.strength, dtype=torch.float32, device=values.device).reshape(-1)
        strength = (number if len(number) == 1 else repeated(number, rows))[:, None, None, None]
        reached = where[:, None, :, None] & columns.any(-1, keepdim=True)
        entries = reached & (strength != 0)
        if self.chosen_heads is not None:
            entries = entries & self._heads(heads, values.device)[None, :, None, None]
        judged = fired = None
        fires = self.fires(values, columns)
        if fires is not None:
            judged, entries = entries.expand_as(fires).sum((1, 2, 3)), entries & fires
            fired = entries.sum((1, 2, 3))
        new = self.change(values, columns, strength)
        if new.shape != values.shape or new.dtype != values.dtype:
            raise ValueError(
                f"{type(self).__name__} at {self.site} made {new.dtype} {list(new.shape)} of {values.dtype} "
                f"{list(values.shape)}; change() gives the same shape and precision."
            )
        return Edited(torch.where(entries, new, values), entries, reached, judged, fired)

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None, step: Step | None = None) -> Tensor:
        """The same of [batch, query, head, column], which is how other edits are given scores and weights."""
        assert where is not None
        assert step is not None
        return self.edited(hidden.transpose(1, 2), where, step).values.transpose(1, 2)

    def _heads(self, heads: int, device: torch.device) -> Bool[Tensor, " head"]:
        chosen = torch.tensor(list(self.chosen_heads or ()), device=device)
        return (torch.arange(heads, device=device)[:, None] == chosen).any(1)

    def reaches(self, rows: Tensor) -> Bool[Tensor, " batch"]:
        """Of these rows, those that the strength leaves anything to."""
        strength = torch.as_tensor(self.strength, device=rows.device).reshape(-1)
        return (strength != 0).expand(len(rows)) if len(strength) == 1 else strength != 0

    @property
    def numbers(self) -> dict[str, Tensor]:
        return {"strength": torch.as_tensor(self.strength, dtype=torch.float64)}

    @property
    def per_row(self) -> tuple[Tensor, ...]:
        return (self.strength,) if isinstance(self.strength, Tensor) else ()

    def _check_at(self, *hooks: str) -> None:
        """Raise ValueError or TypeError for what fits no model, a place other than these hooks among it."""
        self._check()
        check_columns(self.columns)
        check_number("strength", self.strength)
        if self.site.hook not in hooks or self.site.layer is None:
            layer = 0 if self.site.layer is None else self.site.layer
            fits = " or ".join(f"Site({layer}, {hook.removeprefix('attn.')!r})" for hook in hooks)
            raise ValueError(f"{type(self).__name__} does not act at {self.site}; give it {fits}.")
        if self.heads is None:
            return
        if self.site.head is not None:
            raise ValueError(f"{self.site} is a head already; leave heads out, or give a site without a head.")
        object.__setattr__(self, "heads", _whole(self.heads))


@dataclass(frozen=True, eq=False)
class Boost(AttentionEdit):
    """Raise the scores of a kind of column: s + strength * |s|, before mask and softmax.

    Source: PAI, arXiv:2407.21771, for the image's columns at every query from the last prompt token on. A negative
    strength lowers them.
    """

    site: SiteLike
    strength: Number
    columns: ColumnKind = "image"
    heads: Sequence[int] | None = None
    scope: Scope = "response"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check_at(SCORES)

    def change(self, values: Attention, columns: Chosen, strength: Tensor) -> Attention:
        return torch.where(columns, (values + strength * values.abs()).to(values), values)


@dataclass(frozen=True, eq=False)
class Drop(AttentionEdit):
    """Take away the weights of a kind of column: they become zero at strength 1, (1 - strength) of themselves else.

    Source: AD-HH (Yang et al., ICLR 2025, OpenReview Bjq4W7P2Us), for the columns behind the image in chosen heads.

    Args:
        threshold: act only where the columns' weights sum to this much or more, head by head and query by query; how
            often that was so is counted.
        renormalise: scale the other weights so that all sum to one again, as AD-HH does not.
    """

    site: SiteLike
    columns: ColumnKind = "after_image"
    heads: Sequence[int] | None = None
    threshold: float | None = None
    renormalise: bool = False
    strength: Number = 1.0
    scope: Scope = "response"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check_at(WEIGHTS)
        if self.threshold is not None:
            if isinstance(self.threshold, Tensor):
                raise ValueError("threshold is a tensor; give one number for all rows.")
            check_number("threshold", self.threshold)

    @property
    def gated(self) -> bool:
        return self.threshold is not None

    def fires(self, values: Attention, columns: Chosen) -> Bool[Tensor, "batch head query 1"] | None:
        if self.threshold is None:
            return None
        mass = (values.float() * columns).sum(dim=-1, keepdim=True)
        return mass >= self.threshold

    def change(self, values: Attention, columns: Chosen, strength: Tensor) -> Attention:
        left = torch.where(columns, (values * (1 - strength)).to(values), values)
        if not self.renormalise:
            return left
        total = left.sum(dim=-1, keepdim=True, dtype=torch.float32)
        return torch.where(total > 0, left / total, left).to(values)


def repeated(rows: Tensor, count: int) -> Tensor:
    """Generation repeats each row, for beams or for several replies a prompt."""
    return rows if len(rows) == count else rows.repeat_interleave(count // len(rows), dim=0)


def _whole(heads: Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(heads)
    if not chosen or any(not isinstance(head, int) or isinstance(head, bool) or head < 0 for head in chosen):
        raise ValueError(f"heads is {heads!r}; give head numbers, counted from 0, or None for all of them.")
    return chosen
