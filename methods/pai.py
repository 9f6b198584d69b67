"""More attention to the image: the scores of image columns are raised while the model replies."""

from dataclasses import dataclass
from typing import Any

from interv import VLM, Boost, Site
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength, check_reply_scope

FIRST, OF = 2, 32  # published code: from block 2 of LLaVA's 32 on


@dataclass(frozen=True, eq=False)
class PAI(Fitted):
    """Raises image columns' scores, s + alpha * |s|, before mask and softmax, in all heads from one block on.

    Source: PAI, arXiv:2407.21771, and its published code. alpha = `alpha` * strength, so strength 1 is the paper's.
    The scope is "response"; "generated" leaves the first token of the reply as it is, as the released command does. It
    never reaches into the prompt, whose own states would change. Prompts without an image are refused.

    Attributes:
        blocks: where the scores are raised.
        alpha: at strength 1.
    """

    blocks: tuple[int, ...]
    alpha: float = 0.5  # paper, LLaVA-1.5

    def __post_init__(self) -> None:
        """Raises ValueError for a scope that reaches into the prompt."""
        check_reply_scope(self)

    @classmethod
    def fit(cls, train: AnyContrasts, *, vlm: VLM | None = None, start: int | None = None, alpha: float = 0.5) -> "PAI":
        """There is nothing to learn; `vlm` tells how many blocks there are.

        `start` is the first block, by default block 2 of 32 in proportion. Raises ValueError without `vlm`.
        """
        if vlm is None:
            raise ValueError("PAI acts from one block on up to the last, and needs the model: PAI.fit(train, vlm=vlm).")
        first = round(FIRST / OF * vlm.n_layers) if start is None else start
        return cls(train.reads, train.writes, train.fingerprint, tuple(range(first, vlm.n_layers)), alpha)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Boost, ...]:
        number: Any = self.alpha * strength
        return tuple(
            Boost(Site(block, "hook_attn_scores"), number, "image", None, self.scope, self.fingerprint or None)
            for block in self.blocks
        )
