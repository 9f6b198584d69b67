"""What every method is: something fitted that turns a query into ops."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from interv import Add, Prompt, Scope, Site
from interv.display import OneLine
from interv.ops.op import Op
from interv.places.scope import PROMPT_SCOPES
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.reads import Read
from methods.hub import pushed
from methods.kept import read_card, write_kept
from methods.model_card import model_card
from methods.streams import Stream

Strength = float | int | Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Query(OneLine):
    """What a method may see of the inputs at test time.

    Attributes:
        context: hidden state leaving block `reads` at the last prompt token of each input.
        vectors: each input's own contrast vector, which only the oracle may use.
        seen: the states that the method looks at beside the context, [batch, width] each.
    """

    context: Float[Tensor, "batch d_model"]
    vectors: Float[Tensor, "batch d_model"] | None = None
    seen: Mapping[Read, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where the two are not rows, one an input."""
        shape = list(self.context.shape)
        if len(shape) != 2:
            raise ValueError(f"context has shape {shape}; it must be [batch, d_model], context[None] for one input.")
        if self.vectors is not None and (self.vectors.ndim != 2 or len(self.vectors) != shape[0]):
            raise ValueError(
                f"vectors has shape {list(self.vectors.shape)}; beside a context of {shape} it must be "
                f"[{shape[0]}, d_model], one vector an input."
            )

    def shown(self) -> dict[str, Any]:
        values = super().shown()
        return values if self.seen else {name: value for name, value in values.items() if name != "seen"}

    def state(self, read: Read) -> Float[Tensor, "batch width"]:
        """One of the states that were seen. Raises ValueError where it was not."""
        if read not in self.seen:
            raise ValueError(
                f"This method looks at {read.site}, pooled over {read.pool!r}, and the query has no such state; "
                "ask(vlm, prompts, [steerer]).query(steerer) makes a query with all that a method looks at."
            )
        return self.seen[read]


@runtime_checkable
class Steerer(Protocol):
    """The protocol of all methods: swap one for another and nothing else changes.

    That is all that a method needs which adds by what it reads at one block. A method may also have `looks`, `stream`
    and `mixed`, as `Fitted` describes them; one that has not looks at nothing else and decodes alone.
    """

    @property
    def reads(self) -> int: ...

    @property
    def writes(self) -> int: ...

    @classmethod
    def fit(cls, train: Contrasts) -> "Steerer": ...

    def rewrite(self, prompt: Prompt) -> Prompt:
        """The prompt as this method wants it asked; the same for all but the prompt baseline."""
        ...

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Op, ...]:
        """What to add for these inputs; `strength` is in multiples of the contrast vector (the paper's alpha)."""
        ...


@dataclass(frozen=True, eq=False)
class Fitted(OneLine, ABC):
    """The base of all methods here: what they remember of their training, and how they are kept on disk.

    Attributes:
        reads: the decoder block that the context is read from, L' in the paper.
        writes: the decoder block that is steered, L* in the paper.
        fingerprint: of the model that the method was fitted on; others refuse its ops. Empty where it is not known.
        scope: the tokens that are steered; change it with `dataclasses.replace(steerer, scope="all")`.
    """

    reads: int
    writes: int
    fingerprint: str
    scope: Scope = field(default="response", kw_only=True)

    @classmethod
    @abstractmethod
    def fit(cls, train: Any) -> "Fitted":
        """Learn from contrasts, or from what else the method says that it learns from."""

    @abstractmethod
    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Op, ...]: ...

    @property
    def looks(self) -> tuple[Read, ...]:
        """What else than the context `ops` wants to see of the prompts: `query.state(read)`."""
        return ()

    @property
    def stream(self) -> Stream | None:
        """The second stream that decodes beside the prompts, where the method mixes their logits."""
        return None

    def mixed(
        self,
        logits: Float[Tensor, "batch vocabulary"],
        companion: Float[Tensor, "batch vocabulary"],
        strength: Strength,
    ) -> Float[Tensor, "batch vocabulary"]:
        """What the next tokens are chosen by, of the prompts' logits and the second stream's."""
        return logits

    def shown(self) -> dict[str, Any]:
        values = super().shown()
        tensors = [values.pop(name) for name, value in [*values.items()] if isinstance(value, Tensor)]
        values.pop("fingerprint")
        return values | ({"width": tensors[0].shape[-1]} if tensors else {})

    def rewrite(self, prompt: Prompt) -> Prompt:
        return prompt

    def add(self, vector: Tensor, strength: Strength) -> tuple[Add, ...]:
        """The one op of a method that adds a vector at its steering layer."""
        return (Add(Site(self.writes), vector, self.scope, strength, fingerprint=self.fingerprint or None),)

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
        """Write `steerer.safetensors` with the tensors and `steerer.json` with all else, and what there is to say
        `about` it, as plain values.
        """
        self._write(Path(folder), {field.name: getattr(self, field.name) for field in fields(self)}, about)

    def save_pretrained(
        self, folder: str | Path, *, about: Mapping[str, Any] | None = None, place: str = "<owner>/<name>"
    ) -> None:
        """As `save`, with a README.md for those who find it: the model card. `place` is where they load it from."""
        self.save(folder, about=about)
        text = model_card(read_card(folder), place)
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")

    def push_to_hub(
        self,
        repository: str,
        *,
        about: Mapping[str, Any] | None = None,
        private: bool = False,
        token: str | None = None,
        message: str | None = None,
    ) -> str:
        """Share it as "owner/name" on the hub, with a model card; gives the address of the commit."""
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, about=about, place=repository)
            return pushed(Path(folder), repository, private=private, token=token, message=message)

    def _write(self, path: Path, values: Mapping[str, Any], about: Mapping[str, Any] | None) -> None:
        write_kept(path, type(self).__name__, values, about)

    def of_any_model(self) -> "Fitted":
        """The same, of no model in particular: every model of its width takes it."""
        return replace(self, fingerprint="")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Fitted":
        """The method of the values that `save` wrote; what was a named tuple comes as a plain one."""
        return cls(**values)


def check_reply_scope(steerer: Fitted) -> None:
    """Raise ValueError where a method that acts while the model replies is told to reach into the prompt."""
    if steerer.scope in PROMPT_SCOPES:
        raise ValueError(
            f"{type(steerer).__name__} acts while the model replies, and scope {steerer.scope!r} reaches into the "
            "prompt; the scopes are 'response', 'generated' and 'last_prompt'."
        )
