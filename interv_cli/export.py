"""`interv export`: a steerer, or the model that it belongs to, in the form of another program."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from interv.models.load import EMBEDDED
from methods import MeanSteering, MeanSteeringBA, load_steerer, read_card, write_vector


def export(
    folder: tyro.conf.Positional[Path],
    out: Path,
    model: Path | None = None,
    program: Annotated[Literal["vllm"] | None, tyro.conf.arg(name="for")] = None,
) -> dict[str, Any]:
    """Write one vector as a file for llama.cpp and repeng (.gguf, .safetensors), or the model as a folder for vLLM.

    Args:
        folder: that `interv fit` wrote; with --for vllm also a model: an embedded one's name, a folder or a hub id.
        out: a .gguf or .safetensors file for the vector; any other name is a folder for the model.
        model: the model's own folder, where the steerer's card does not name one that lies here.
        program: vllm writes the model, whatever `out` is called.
    """
    if program == "vllm" and not (folder / "steerer.json").exists():
        serving = _serving()
        source, fingerprint = serving.source_of(str(folder))
        return _written(serving, source, out, fingerprint)
    card = read_card(folder)
    about = card.get("about") or {}
    if program is None and out.suffix in (".gguf", ".safetensors"):
        steerer = load_steerer(folder)
        if not isinstance(steerer, MeanSteering | MeanSteeringBA):
            raise ValueError(
                f"{folder} holds {card['method']}, whose vectors depend on the input; a file of one vector is for "
                "MeanSteering and MeanSteeringBA. Give a folder to export the model for serving."
            )
        write_vector(steerer, out, strength=about.get("strength", 1.0))
        print(f"The vector, times its strength, is in {out}")
        return {"out": str(out)}
    named = str((about.get("model") or {}).get("name", ""))
    serving = _serving()
    source = model or next((place for place in (EMBEDDED / named, Path(named)) if named and place.is_dir()), None)
    if source is None:
        raise ValueError(f"{named or 'The model'} is no folder here; give the checkpoint's folder with --model.")
    return _written(serving, source, out, card.get("fingerprint", ""))


def _written(serving: Any, source: Path, out: Path, fingerprint: str) -> dict[str, Any]:
    written = serving.export_for_vllm(source, out, fingerprint)
    print(f"The model for vLLM is in {written}")
    return {"out": str(written)}


def _serving() -> Any:
    if find_spec("interv_vllm") is None:
        raise ModuleNotFoundError(
            "A folder for vLLM is written by the serving distribution: pip install interv-vllm (in a clone, ./serving)."
        )
    return import_module("interv_vllm.export")
