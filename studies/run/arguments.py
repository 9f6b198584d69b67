"""From a study's arguments to its model, task and recipe; what cannot run is refused before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoConfig, AutoTokenizer

from interv import VLM
from studies.judges import LlamaGuard, Panel, judge_of, load_examples
from studies.judges.guard import EXAMPLES, Form
from studies.recipes import MADE_FOR, RECIPES, Recipe
from studies.run.checkpoint import Checkpoint
from studies.run.cost import BatchSize
from studies.tasks import BENCHMARKS, PICTURES, TASKS, Task

FROM_ZERO = ("seed", "shown", "pairs")  # the numbers that may be 0
PAPER_WIDTH = 4096  # of the models that the recipes' learning rates are for


@dataclass(frozen=True)
class Common(Checkpoint):
    """The arguments that all studies share."""

    task: str = "shapes_pope"  # one of studies/tasks
    # Folder of a real benchmark, which comes from the hub without one; of named cut-outs for pictures_pope and
    # pictures_captions, which show the shipped pictograms without one.
    data: Path | None = None
    recipe: str | None = None  # a named recipe of studies/recipes/named.py; the task's own by default
    guard: str | None = None  # Llama-Guard-3 (hub id or folder), for the unsafe score of mm_safety
    guard_form: Form = "published"  # how the guard is asked
    guard_examples: Path | None = None  # JSON, a list of [reply, "safe" or "unsafe"]; our own four by default
    guard_device: str | None = None  # where the guard runs; beside the model by default, which takes another 16 GB
    # Rate the replies of mm_safety, compare the captions of chair: models at the endpoint of JUDGE_URL, or hub ids or
    # folders. A second one tells how far judges agree.
    judge: tuple[str, ...] = ()
    strength: tuple[float, ...] = ()  # try these strengths alone
    out: Path | None = None  # the result folder; results/<study>/<task>-<model> by default
    seed: int = 0  # the first seed of the methods that draw random numbers
    limit: int | None = None  # at most so many examples of each subset, in every split
    # Replies decoded at once; "auto" begins with what fits beside the weights and halves it where memory runs out.
    batch_size: BatchSize = "auto"
    memory: int | None = None  # GB that "auto" plans with; all of the device's by default
    workers: int | None = None  # decode in so many processes, a GPU each where there are several
    ray: str | None = None  # address of a Ray cluster to decode on ("auto", "local"); --workers actors, or all it has
    engine: str | None = None  # decode in vLLM: the python of an environment that has it and interv-vllm
    engine_options: str = ""  # of vLLM's server: --engine-options="--max-model-len 4096"

    def folder(self, study: str) -> Path:
        return self.out or Path("results") / study / f"{self.task}-{Path(self.model).name}"


Asked = TypeVar("Asked", bound=Common)


def prepare(common: Common, outline: bool = False) -> tuple[VLM, Task, Recipe]:
    """The model, the task and the recipe of a study. Raises ValueError for arguments that do not fit or exist.

    With `outline` the model comes without its weights, and the task without its judges.
    """
    check_arguments(common)
    known(common.task, {**TASKS, **PICTURES, **BENCHMARKS}, "task")
    named = None if common.recipe is None else known(common.recipe, RECIPES, "recipe")
    real = common.task in BENCHMARKS
    if common.data is not None and common.task in TASKS:
        takers = ", ".join({**PICTURES, **BENCHMARKS})
        raise ValueError(f"{common.task} makes its own images; --data is for {takers}.")
    if (common.guard or common.judge) and not real:
        raise ValueError(f"{common.task} parses its replies itself; --guard and --judge are for mm_safety and chair.")
    guard = None if outline else guard_of(common)
    common = sized(common, named)
    vlm = common.outlined() if outline else common.load()
    recipe = recipe_of(common.task, common.model, vlm, named)
    recipe = replace(recipe, max_pixels=common.max_pixels, min_pixels=common.min_pixels)
    if common.task in PICTURES:
        return vlm, PICTURES[common.task](common.data), recipe
    if not real:
        return vlm, TASKS[common.task](), recipe
    panel = Panel() if outline else Panel(guard, [judge_of(name, common.device) for name in common.judge])
    return vlm, BENCHMARKS[common.task](common.data, recipe, panel), recipe


def sized(common: Asked, recipe: Recipe | None) -> Asked:
    """The arguments with the recipe's bounds of an image's size where they give none."""
    own: dict[str, Any] = {
        name: getattr(common, name) or getattr(recipe, name, None) for name in ("max_pixels", "min_pixels")
    }
    return replace(common, **own)


def check_arguments(arguments: Any) -> None:
    """Raise ValueError for a list that names something twice or no method, and for a number outside its range."""
    for field in fields(arguments):
        flag, value = f"--{field.name.replace('_', '-')}", getattr(arguments, field.name)
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError(f"{flag} has {next(one for one in value if value.count(one) > 1)} twice; give each once.")
        if field.name == "methods" and not value:
            raise ValueError("--methods names no method; give one at least.")
        least = 0 if field.name in FROM_ZERO else 1
        if type(value) is int and value < least:
            raise ValueError(f"{flag} is {value}; it must be at least {least}.")
        if field.name == "strength" and (wrong := [one for one in value if not 0 < one < float("inf")]):
            raise ValueError(f"{flag} has {wrong[0]:g}; give multiples of the contrast vector above 0.")
        if field.name == "share" and not 0 < value <= 1:
            raise ValueError(f"{flag} is {value:g}; give a share of the grid's cost above 0 and at most 1.")
        if field.name == "budget" and not 0 <= value < 1:
            raise ValueError(f"{flag} is {value:g}; give a share of well-formed replies from 0 to below 1.")


def check_blocks(vlm: VLM, *blocks: Sequence[int]) -> None:
    """Raise ValueError for a decoder block that the model has not."""
    if outside := sorted({block for each in blocks for block in each} - {*range(vlm.n_layers)}):
        raise ValueError(f"{vlm.name} has no block {outside[0]}: its {vlm.n_layers} blocks count from 0.")


def guard_of(common: Common) -> LlamaGuard | None:
    """The guard that was asked for. Raises ValueError where it cannot be loaded, long before its first verdict."""
    if common.guard is None:
        return None
    try:
        AutoConfig.from_pretrained(common.guard)
        AutoTokenizer.from_pretrained(common.guard)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"--guard {common.guard} cannot be loaded ({reason}); give a hub id or a folder.") from error
    examples = EXAMPLES if common.guard_examples is None else load_examples(common.guard_examples)
    return LlamaGuard(common.guard, common.guard_form, examples, device=common.guard_device or common.device)


def recipe_of(task: str, model: str, vlm: VLM, named: Recipe | None) -> Recipe:
    """The named recipe, or the task's for this model; what was made for another model leaves layers and strength open.

    A task without a recipe gets one of defaults. Raises ValueError for a recipe of another task on a real benchmark.
    """
    own = [recipe for recipe in RECIPES.values() if recipe.task == task]
    if named is not None and named.task != task:
        if task in BENCHMARKS:
            raise ValueError(
                f"{named.name} is a recipe for {named.task}, and says nothing of {task}; its own are "
                f"{', '.join(recipe.name for recipe in own)}."
            )
        return named.embedded(task, model, vlm.d_model)
    original, blocks = MADE_FOR.get(vlm.model.config.model_type, ("", 0))
    fallback = own[0] if own else Recipe(f"default_{task}", task, model)
    recipe = named or next((recipe for recipe in own if recipe.model == original), fallback)
    layered = recipe.reads is not None or recipe.writes is not None
    made_for_it = recipe.model == model or (recipe.model == original and vlm.n_layers == blocks)
    if layered and not made_for_it:
        rate = recipe.learning_rate and recipe.learning_rate * PAPER_WIDTH / vlm.d_model
        recipe = replace(recipe, reads=None, writes=None, strength=None, learning_rate=rate)
    return replace(recipe, model=model)


def known(name: str, among: Any, what: str) -> Any:
    """The value of this name. Raises ValueError with the names that there are."""
    if name not in among:
        raise ValueError(f"{name!r} is no {what}; there are {', '.join(among)}.")
    return among[name]
