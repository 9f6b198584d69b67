"""All methods, in the order of the tables, and how one is read back from disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from methods.adhh import ADHH, RandomHeads
from methods.cast import CAST
from methods.contrasts.storage import tuples
from methods.iti import ITI
from methods.l2s import L2S
from methods.l2s_gated import L2SGated
from methods.l2s_layers import L2SLayers
from methods.mean_steering import MeanSteering
from methods.mean_steering_ba import MeanSteeringBA
from methods.no_steering import NoSteering
from methods.norm_rnd import NormRnd
from methods.p2s import P2S
from methods.pai import PAI
from methods.pai_logits import PAILogits
from methods.prompt_steering import PromptSteering
from methods.steerer import Fitted
from methods.together import L2SWithADHH, L2SWithPAI, Together
from methods.vcd import VCD

STEERERS: tuple[type[Fitted], ...] = (NoSteering, PromptSteering, NormRnd, MeanSteering, MeanSteeringBA, L2S, P2S)
# The other systems that the paper sets itself against.
BASELINES: tuple[type[Fitted], ...] = (CAST, ITI, PAI, PAILogits, ADHH, RandomHeads, VCD)
# What the paper leaves open: whether to act at all, and at several blocks.
EXTENSIONS: tuple[type[Fitted], ...] = (L2SGated, L2SLayers)
COMBINED: tuple[type[Together], ...] = (L2SWithPAI, L2SWithADHH)


def load_steerer(folder: str | Path, others: Sequence[type[Fitted]] = ()) -> Fitted:
    """Read a method that `save` wrote, one of those above or of `others`, which are your own subclasses of `Fitted`.

    Raises ValueError where the folder holds none of these.
    """
    path = Path(folder)
    if not (path / "steerer.json").exists():
        raise ValueError(f"{path} holds no steerer.json; give the folder that steerer.save(folder) wrote.")
    card: dict[str, Any] = json.loads((path / "steerer.json").read_text())
    known: tuple[type[Fitted], ...] = (*STEERERS, *BASELINES, *EXTENSIONS, Together, *COMBINED, *others)
    methods = {method.__name__: method for method in known}
    name = card.pop("method")
    if name not in methods:
        raise ValueError(
            f"{path} holds a {name!r}; the methods are {', '.join(methods)}. "
            "Pass the class where it is your own: load_steerer(folder, others=[...])."
        )
    if issubclass(methods[name], Together):
        card["parts"] = [load_steerer(path / place, others) for place in card["parts"]]
    values = {field: tuples(value) for field, value in card.items()}
    return methods[name].read(values | load_file(path / "steerer.safetensors"))
