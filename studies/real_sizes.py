"""Does it work at seven billion parameters? Loaded, captured, steered, and its bits compared with plain hooks.

    python studies/real_sizes.py --family llava
    python studies/real_sizes.py --family qwen2_vl --width 336 --height 224

Checkpoints of exactly the shapes of LLaVA-1.5-7B and Qwen2-VL-7B-Instruct, with random weights in bfloat16, are written
in the published layouts of 2024 and of today (about 15 GB, one at a time, deleted behind the run), loaded with
`VLM.load`, and run by the recipes of the paper and of the published code: one contrast pair, one row of POPE and one in
MM-SafetyBench's form, each steered by a network of the published shape. The same is done with plain forward hooks.
Needs memory for the weights and 6 GB more, which the writer takes.
"""

import gc
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from interv import VLM, Prompt
from methods import L2S, capture_contrasts
from methods.asking import ask
from methods.reference_networks import write_network
from methods.training import Weights
from studies.recipes import RECIPES, Recipe
from studies.run.arguments import check_arguments, known
from studies.run.command_line import run_study
from studies.run.results import write_json, write_text
from studies.timing import by_hand, products
from studies.timing.checkpoints import SHAPES, write_checkpoint
from studies.timing.memory import clock, watched
from studies.timing.official import AGES, Age
from studies.timing.sizes_page import section
from studies.timing.tables import machine, placed

KINDS = ("paper_pope", "paper_safety", "code_pope", "code_safety")
# The words are harmless; MM-SafetyBench's own are not shipped.
ASKED = {"pope": ("Is there a snowboard in the image?", "yes"), "safety": ("How do I pack these things?", "harmful")}


@dataclass(frozen=True)
class Arguments:
    """Run one family at its real size."""

    family: Literal["llava", "qwen2_vl"] = "llava"
    ages: tuple[Age, ...] = AGES  # the layouts; the recipes run on the first, the others must give the same bits
    recipes: tuple[str, ...] = KINDS  # of the paper and of the published code
    capture: str = "paper_safety"  # the recipe whose contrast pair is captured, where it is among `recipes`
    width: int = 640  # of the image, in pixels
    height: int = 480
    layers: int | None = None  # decoder blocks; all by default, fewer for a trial
    tokens: int = 4  # of each reply
    products: Literal["float32", "native"] = "float32"  # of matrices; native needs a processor with bfloat16
    threads: int | None = None  # of torch; its own choice by default
    folder: Path | None = None  # for the checkpoints; a temporary one by default
    out: Path = Path("results/real_sizes")
    write: Path | None = None  # a Markdown page whose part for this family is replaced


def real_sizes(arguments: Arguments) -> dict[str, Any]:
    """Run all of it, and write JSON after each step, then Markdown.

    Raises RuntimeError where bits differ, ValueError for a recipe that is none and for one to capture whose states are
    means.
    """
    check_arguments(arguments)
    for kind in (*arguments.recipes, arguments.capture):
        known(kind, dict.fromkeys(KINDS), "kind of recipe")
    if "mean" in _recipe(arguments, arguments.capture).pool:
        raise ValueError(
            f"{arguments.capture} averages over what the model goes on to say, and plain hooks here read one token: "
            "capture paper_safety or code_safety."
        )
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        "family": arguments.family,
        "layers": arguments.layers,
        "image": [arguments.width, arguments.height],
        "products": arguments.products,
        "machine": machine("cpu"),
        "steps": [],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for step in steps(arguments):
        result["steps"].append(step)
        write_json(arguments.out / f"{arguments.family}.json", result)
        print(json.dumps(step), flush=True)
    write_text(arguments.out / f"{arguments.family}.md", section(result))
    if arguments.write is not None:
        write_text(arguments.write, placed(arguments.write.read_text(), arguments.family, section(result)))
    if odd := [step["what"] for step in result["steps"] if step.get("equal") is False]:
        raise RuntimeError(f"The bits are not those of plain hooks in {', '.join(odd)}; the page says by how much.")
    return result


def steps(arguments: Arguments) -> Iterator[dict[str, Any]]:
    """What was done, one record each."""
    first: Tensor | None = None
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    for number, age in enumerate(arguments.ages):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = Path(folder) / arguments.family
            yield written(arguments, path, age)
            with watched() as peak, clock() as taken:
                vlm = VLM.load(str(path))
            yield {"what": f"loaded, {age}", "seconds": taken[0], "own": peak.own, "resident": peak.resident}
            if arguments.products == "float32":
                products.in_float32(vlm.model)
            logits = vlm.logits([Prompt(None, ASKED["pope"][0])])
            first = logits if first is None else first
            marks = {"fingerprint": vlm.fingerprint, "equal": torch.equal(first, logits)}
            yield {"what": f"text alone, {age}, against {arguments.ages[0]}", **marks}
            if number == 0:
                yield from recipes_on(vlm, arguments, path)
            del vlm
            gc.collect()


def written(arguments: Arguments, path: Path, age: Age) -> dict[str, Any]:
    """The checkpoint, by a process of its own, whose memory is gone when the model is loaded."""
    with clock() as taken, ProcessPoolExecutor(1, get_context("spawn"), _settle, (dict(SHAPES),)) as pool:
        size = pool.submit(write_checkpoint, arguments.family, path, age, arguments.layers).result()
    files = len(list(path.glob("*.safetensors")))
    return {"what": f"written, {age}", "seconds": taken[0], "bytes": size, "files": files}


def _settle(shapes: dict[str, Any]) -> None:
    """A new process has the sizes that this one was given."""
    torch.set_num_threads(1)
    SHAPES.update(shapes)


def recipes_on(vlm: VLM, arguments: Arguments, path: Path) -> Iterator[dict[str, Any]]:
    """Each row as text alone, which takes seconds, then with its image, then a pair."""
    image = Image.effect_noise((arguments.width, arguments.height), 90).convert("RGB")
    for shown in (None, image):
        for kind in arguments.recipes:
            recipe = within(_recipe(arguments, kind), vlm.n_layers)
            words, behavior = ASKED[kind.partition("_")[2]]
            yield answered(vlm, recipe, recipe.prompt(shown, words), arguments.tokens, path)
            if kind == arguments.capture and shown is not None:
                yield captured(vlm, recipe, recipe.pair(shown, words, behavior))


def _recipe(arguments: Arguments, kind: str) -> Recipe:
    return RECIPES[f"{kind}_{'llava' if arguments.family == 'llava' else 'qwen'}"]


def within(recipe: Recipe, blocks: int) -> Recipe:
    """The recipe; where the model was cut short, at blocks that it has."""
    return replace(recipe, reads=min(recipe.reads or 0, blocks - 1), writes=min(recipe.writes or 0, blocks - 2))


def answered(vlm: VLM, recipe: Recipe, prompt: Prompt, tokens: int, path: Path) -> dict[str, Any]:
    """One row, steered by a network of the recipe's shape: by the toolkit, then by hand."""
    reads, writes, strength = recipe.reads or 0, recipe.writes or 0, recipe.strength or 1.0
    network = random_network(recipe.hidden, vlm.d_model)
    write_network(network, path / "network.pt")
    steerer = L2S.from_reference(path / "network.pt", reads=reads, writes=writes, vlm=vlm, scope=recipe.scope)
    context = recipe.context_prompt(prompt)
    with watched() as peak, clock() as ours:
        asked = ask(vlm, [prompt], [steerer], [context])
        run = asked.run(steerer, strength)
        replies = asked.answered(vlm, [run], max_new_tokens=tokens, logits=True)
    plain = vlm.logits(asked.prefill)[0].float()
    del asked
    with clock() as theirs:
        states, cache = by_hand.prompt_pass(vlm, context, [reads])
        shifts = {writes: strength * by_hand.predicted(network, states[reads])}
        if recipe.scope == "all":
            cache = by_hand.prompt_pass(vlm, prompt, [], shifts)[1]
        elif context != prompt:
            cache = by_hand.prompt_pass(vlm, prompt, [])[1]
        ids, logits = by_hand.reply(vlm, prompt, cache, shifts, tokens)
    own = [one.float() for one in replies.logits[0]]  # type: ignore[index]
    gaps = [float((a - b[0]).abs().max()) for a, b in zip(own, logits, strict=True)]
    encoded = vlm.encode([prompt])
    return {
        "what": f"{recipe.name}: one row answered" + ("" if prompt.image else ", as text alone"),
        "network": f"{recipe.hidden} units, width {vlm.d_model}, reads {reads}, writes {writes}, scope {recipe.scope}",
        "tokens": encoded.input_ids.shape[1],
        "image_tokens": int(encoded.image_mask.sum()),
        "seconds": ours[0],
        "by_hand": theirs[0],
        "own": peak.own,
        "resident": peak.resident,
        "equal": max(gaps) == 0 and ids == replies.token_ids[0],
        "gap": max(gaps),
        "moved": float((own[0] - plain).abs().max()),
    }


def random_network(hidden: int, width: int) -> Weights:
    generator = torch.Generator().manual_seed(0)
    shapes = ((hidden, width), (hidden,), (width, hidden))
    return Weights(*(0.05 * torch.randn(*shape, generator=generator) for shape in shapes))


def captured(vlm: VLM, recipe: Recipe, pair: Any) -> dict[str, Any]:
    """One contrast pair: its prompts' common part once, against a pass for each of its prompts.

    Sums in another order round otherwise: the gap is the largest difference over the largest activation.
    """
    layers = sorted({recipe.reads or 0, recipe.writes or 0})
    with watched() as peak, clock() as ours:
        bank = capture_contrasts(vlm, [pair], batch_size=1, layers=layers, progress=False, **recipe.capturing([pair]))
    with clock() as theirs:
        passes = [by_hand.prompt_pass(vlm, prompt, layers)[0] for prompt in pair.variants()[:3]]
    gaps = []
    for own, states in zip((bank.context, bank.positive, bank.negative), passes, strict=True):
        for place, layer in enumerate(layers):
            gaps.append(float((own[:, place] - states[layer].float()).abs().max() / states[layer].abs().max()))
    return {
        "what": f"{recipe.name}: one pair captured at blocks {', '.join(map(str, layers))}",
        "seconds": ours[0],
        "by_hand": theirs[0],
        "own": peak.own,
        "resident": peak.resident,
        "relative_gap": max(gaps),
    }


def main() -> None:
    run_study("real_sizes", real_sizes, Arguments, __doc__)


if __name__ == "__main__":
    main()
