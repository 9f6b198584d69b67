"""All methods, in the order of the tables, and how one is read back from disk."""

from collections.abc import Sequence
from pathlib import Path

from interv import VLM
from methods.adhh import ADHH, RandomHeads
from methods.cast import CAST
from methods.contrasts.storage import tuples
from methods.hub import fetched, is_repository
from methods.iti import ITI
from methods.kept import checked_values, read_card
from methods.l2s import L2S
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
COMBINED: tuple[type[Together], ...] = (L2SWithPAI, L2SWithADHH)


def load_steerer(
    folder: str | Path,
    others: Sequence[type[Fitted]] = (),
    *,
    vlm: VLM | None = None,
    any_model: bool = False,
    revision: str | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Fitted:
    """Read a method that `save` wrote, from a folder or from the hub ("owner/name").

    Args:
        others: your own subclasses of `Fitted` that it may be, beside those above.
        vlm: the model that it is for; one that was fitted on another is refused here, and not only when it acts.
        any_model: let every model of the same width take it, whatever it was fitted on.
        revision, local_files_only, token: as the hub has them.

    Raises ValueError where there is none of these, where a file is not as it was written, and for another model.
    """
    path = Path(folder)
    if is_repository(folder):
        path = fetched(str(folder), revision=revision, local_files_only=local_files_only, token=token)
    steerer = _read(path, others)
    if any_model:
        return steerer.of_any_model()
    if vlm is not None and steerer.fingerprint and steerer.fingerprint != vlm.fingerprint:
        about = (read_card(path).get("about") or {}).get("model", {}).get("name", "another one")
        raise ValueError(
            f"{folder} was fitted on model {steerer.fingerprint} ({about}), and {vlm.name} is {vlm.fingerprint}. Load "
            "that model, fit again on this one, or pass any_model=True where you know that the two go together."
        )
    return steerer


def _read(path: Path, others: Sequence[type[Fitted]]) -> Fitted:
    card = read_card(path)
    known: tuple[type[Fitted], ...] = (*STEERERS, *BASELINES, Together, *COMBINED, *others)
    methods = {method.__name__: method for method in known}
    name = card["method"]
    if name not in methods:
        raise ValueError(
            f"{path} holds a {name!r}; the methods are {', '.join(methods)}. "
            "Pass the class where it is your own: load_steerer(folder, others=[...])."
        )
    values = {field: tuples(value) for field, value in checked_values(path, card).items()}
    if issubclass(methods[name], Together):
        values["parts"] = tuple(_read(path / place, others) for place in values["parts"])
    try:
        return methods[name].read(values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} holds no {name} of this version ({error}); fit it anew, or update interv.") from error
