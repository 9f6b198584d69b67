"""Learning to Steer where something is to be done: a gate leaves alone the inputs that need nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interv import Add
from methods.checks import DoesNotApply
from methods.contrasts.sharded import AnyContrasts, ShardedContrasts
from methods.l2s import L2S
from methods.probes import probe
from methods.steerer import Fitted, Query, Strength

_NETWORK = ("encoder_weight", "encoder_bias", "decoder_weight", "activation")  # what of it lies beside the gate on disk


@dataclass(frozen=True, eq=False)
class L2SGated(Fitted):
    """Adds L2S's g(context) where gate_weight . context + gate_bias exceeds the threshold, and nothing elsewhere.

    The gate is a logistic probe of the same context, so acting or not is decided by the input as well, once, before
    anything is added; an input that it leaves alone keeps its bits. Source: this project; the paper lets the network
    itself predict zero where nothing is needed (arXiv:2508.12815, App. A.1, relu), which it meets only nearly.

    Attributes:
        network: what is added.
        threshold: of the gate's log-odds. Minus infinity always acts, and is L2S; infinity never does.
    """

    network: L2S
    gate_weight: Float[Tensor, " d_model"]
    gate_bias: Float[Tensor, ""]
    threshold: float = field(default=0.0, kw_only=True)

    @classmethod
    def fit(cls, train: AnyContrasts, *, network: L2S | None = None, seed: int = 0) -> "L2SGated":
        """Tell the rows that need something from those whose contrast vector is zero (`Contrasts.silenced`).

        Args:
            network: fitted already, with options of its own; by default L2S of the rows that need something.
            seed: of that default's training.

        Raises DoesNotApply where no row needs nothing, or every one does: from such contrasts no gate can be learnt.
        """
        rows = train.loaded() if isinstance(train, ShardedContrasts) else train
        needed = rows.vectors.abs().sum(dim=1) > 0
        _check_both_kinds(needed)
        if network is None:
            network = L2S.fit(rows.rows(needed.nonzero().flatten().tolist()), seed=seed)
        if (network.reads, network.fingerprint) != (rows.reads, rows.fingerprint):
            raise ValueError(
                f"The network reads block {network.reads} of model {network.fingerprint}, the contrasts block "
                f"{rows.reads} of {rows.fingerprint}; the gate must see what the network sees."
            )
        context = rows.context.float().cpu()
        weight, bias = probe(context[needed.cpu()], context[~needed.cpu()])
        return cls(rows.reads, network.writes, rows.fingerprint, network, weight, bias, scope=network.scope)

    def gates(self, context: Float[Tensor, "batch d_model"]) -> Bool[Tensor, " batch"]:
        """Which inputs are steered."""
        odds = context.float() @ self.gate_weight.to(context.device) + self.gate_bias.to(context.device)
        return odds > self.threshold

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        vector = self.network.predict(query.context)
        acting = self.gates(query.context)[:, None]
        return self.add(torch.where(acting, vector, torch.zeros_like(vector)), strength)

    def save(self, folder: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "network"}
        self._write(Path(folder), own | {name: getattr(self.network, name) for name in _NETWORK}, about)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "L2SGated":
        own = {name: value for name, value in values.items() if name not in _NETWORK}
        places = (values["reads"], values["writes"], values["fingerprint"])
        network = L2S(*places, **{name: values[name] for name in _NETWORK}, scope=values["scope"])
        return cls(**own, network=network)


def _check_both_kinds(needed: Bool[Tensor, " pairs"]) -> None:
    if needed.all() or not needed.any():
        kind = "needs something" if needed.all() else "needs nothing"
        raise DoesNotApply(
            f"Each of the {len(needed)} training contrasts {kind}, so they do not tell when to act. Give some of both, "
            "those that need nothing with a vector of zero: contrasts.silenced(behaviors, ids). Or use L2S."
        )
