"""`interv export`: a steerer, or the model that it belongs to, in the form of another program."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro

from interv.models.load import EMBEDDED
from methods import MeanSteering, MeanSteeringBA, load_steerer, read_card, write_vector


def export(folder: tyro.conf.Positional[Path], out: Path, model: Path | None = None) -> dict[str, Any]:
    """Write one vector as a file for llama.cpp and repeng (.gguf, .safetensors), or the model as a folder for vLLM.

    Args:
        folder: that `interv fit` wrote.
        out: a .gguf or .safetensors file for the vector; any other name is a folder for the model.
        model: the model's own folder, where the steerer's card does not name one that lies here.
    """
    card = read_card(folder)
    about = card.get("about") or {}
    if out.suffix in (".gguf", ".safetensors"):
        steerer = load_steerer(folder)
        if not isinstance(steerer, MeanSteering | MeanSteeringBA):
            raise ValueError(
                f"{folder} holds {card['method']}, whose vectors depend on the input; a file of one vector is for "
                "MeanSteering and MeanSteeringBA. Give a folder to export the model for serving."
            )
        write_vector(steerer, out, strength=about.get("strength", 1.0))
        print(f"The vector, times its strength, is in {out}")
        return {"out": str(out)}
    if find_spec("interv_vllm") is None:
        raise ModuleNotFoundError(
            "A folder for vLLM is written by the serving distribution: pip install interv-vllm (in a clone, ./serving)."
        )
    named = str((about.get("model") or {}).get("name", ""))
    source = model or next((place for place in (EMBEDDED / named, Path(named)) if named and place.is_dir()), None)
    if source is None:
        raise ValueError(f"{named or 'The model'} is no folder here; give the checkpoint's folder with --model.")
    written = import_module("interv_vllm.export").export_for_vllm(source, out, card.get("fingerprint", ""))
    print(f"The model for vLLM is in {written}")
    return {"out": str(written)}
