"""The commands of `python -m interv`.

`sites <model>`: every place where a model can be read and steered, as a tree with shapes.
`get <model>`: put a model together from published packages.
"""

import sys
from pathlib import Path

import rich
import torch
import tyro
from PIL import Image
from rich.markup import escape
from rich.tree import Tree
from torch import Tensor, nn

from interv.assembled.get import get
from interv.assembled.parts import NotFetched
from interv.places.parts import part_of
from interv.places.site import Site
from interv.prompts.prompt import Prompt
from interv.vlm import VLM


def sites(model: tyro.conf.Positional[str], image: Path | None = None) -> None:
    """Print the named modules of a model with the shape of what each puts out, and the hooks of a decoder block.

    Args:
        model: an embedded model's name, a local folder, or a hub id.
        image: the picture of the probing prompt; a grey square by default.
    """
    vlm = VLM.load(model)
    picture = Image.open(image) if image else Image.new("RGB", (112, 112), "grey")
    shapes = output_shapes(vlm, Prompt(picture, "What is this?"))
    rich.print(f"{vlm.name}: {vlm.n_layers} decoder blocks, width {vlm.d_model}, fingerprint {vlm.fingerprint}")
    rich.print(tree(vlm, shapes))


def output_shapes(vlm: VLM, prompt: Prompt) -> dict[str, tuple[int, ...]]:
    """The shape of every module's output, by its path, in one pass over the prompt; modules that did not run lack."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        hidden = output[0] if isinstance(output, tuple) and output else output
        if isinstance(hidden, Tensor):
            shapes[name] = tuple(hidden.shape)

    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: note(name, output))
        for name, module in vlm.model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            vlm.model(**vlm.encode([prompt]).model_inputs())
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def tree(vlm: VLM, shapes: dict[str, tuple[int, ...]]) -> Tree:
    """The modules as they are nested. The hooks stand under the first block of each tower; the others have the same."""
    layout = vlm.layout
    first = {f"{layout.blocks}.0": "language", f"{layout.vision_blocks}.0": "vision"}

    def grow(branch: Tree, module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            full = f"{path}.{name}" if path else name
            shape = f" [dim]{escape(str(list(shapes[full])))}[/dim]" if full in shapes else ""
            part = f" [cyan]{parts[full]}[/cyan]" if full in parts else ""
            twig = branch.add(f"{name}{shape}{part}")
            for site in layout.sites() if full in first else ():
                if site.layer == 0 and site.tower == first[full]:
                    twig.add(hook(site, full))
            if path in (layout.blocks, layout.vision_blocks) and name != "0":
                twig.label = f"{twig.label} as block 0"
                continue
            grow(twig, child, full)

    def hook(site: Site, block: str = "") -> str:
        place, side = layout.locate(site)
        inside = place.removeprefix(block).removeprefix(".") or "the block"
        part = part_of(site, layout, vlm.model)
        kind = {"scale": "denominator of ", "normalized": "before the weight of ", "result": "share of each head in "}
        shape = "" if part.width is None else f"width {part.width}"
        if part.heads is not None and part.width is not None:
            shape = f"{part.heads} heads of width {part.width // part.heads}"
        return f"[cyan]{escape(str(site))}[/cyan]: {kind.get(part.kind, '')}{side} of {inside} [dim]{shape}[/dim]"

    parts = {layout.blocks: "decoder blocks", layout.embedding: "token embeddings", layout.norm: "final norm"}
    parts |= {layout.vision_blocks: "vision blocks", layout.projector: "projector"}
    root = Tree(type(vlm.model).__name__)
    grow(root, vlm.model, "")
    outside = root.add("outside the blocks")
    for site in layout.sites():
        if site.layer is None:
            outside.add(hook(site))
    return root


def fetch(models: tyro.conf.Positional[tuple[str, ...]]) -> None:
    """Fetch the packages that a model is made of, put it together, and keep it in the user's cache.

    Args:
        models: smol-llava, smol-llava-many-no.
    """
    get(models)


def main() -> None:
    try:
        tyro.extras.subcommand_cli_from_dict({"sites": sites, "get": fetch})
    except (ValueError, NotFetched) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
