"""`interv ask`: one question shown side by side as the replies grow, or a file of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from interv import Prompt
from studies.own import Steered, ask_file
from studies.run.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class AskArguments(Checkpoint):
    """What to ask, and of which steerer."""

    folder: Annotated[str, tyro.conf.Positional]  # that `interv fit` wrote, or owner/name on the hub
    image: Annotated[str, tyro.conf.Positional] = ""  # a file; "none" asks without an image
    question: Annotated[str, tyro.conf.Positional] = ""
    file: str | None = None  # many questions: image and question a row, in every form that `interv check` takes
    out: Path | None = None  # where their answers go, a line each; a run that was killed goes on there
    model: str = ""  # by default the one that the steerer was fitted on
    strength: float | None = None  # by default the one that was chosen
    max_new_tokens: int | None = None  # by default as in the fit
    any_model: bool = False  # let another model than the steerer's take it
    batch_size: int = 16  # questions of a file that are answered at once


def ask(arguments: Annotated[AskArguments, tyro.conf.arg(name="")]) -> dict[str, Any]:
    """Answer unsteered and steered, side by side."""
    single = bool(arguments.image or arguments.question)
    if single == (arguments.file is not None) or (single and not arguments.question):
        raise ValueError('Give an image and a question, interv ask DIR photo.png "question", or --file and --out.')
    if (arguments.file is None) != (arguments.out is None):
        raise ValueError("--file and --out go together: questions from the one, answers into the other.")
    steered = Steered.load(
        arguments.folder,
        arguments,
        strength=arguments.strength,
        max_new_tokens=arguments.max_new_tokens,
        any_model=arguments.any_model,
    )
    if arguments.file is not None and arguments.out is not None:
        counts = ask_file(steered, arguments.file, arguments.out, batch_size=arguments.batch_size)
        print(
            f"{counts['lines']:,} lines in {arguments.out}, {counts['new']:,} of them new; "
            f"{counts['left_out']:,} say why they could not be asked."
        )
        return {"out": str(arguments.out)} | counts
    image = None if arguments.image == "none" else Path(arguments.image)
    unsteered, changed = shown(steered, Prompt(image, arguments.question))
    return {"unsteered": unsteered, "steered": changed, "strength": steered.strength, "model": steered.vlm.name}


def shown(steered: Steered, prompt: Prompt) -> tuple[str, str]:
    """The two replies, which a terminal shows while they grow and a file gets when they are whole."""
    console = Console()
    name = f"{steered.card['method']} at {steered.strength:g}"
    if not console.is_terminal:
        ((unsteered, changed),) = steered.replies([prompt])
        print(f"unsteered: {unsteered}\n{name}: {changed}")
        return unsteered, changed
    with Live(_side_by_side(name, "", ""), console=console, refresh_per_second=12) as live:
        ((unsteered, changed),) = steered.replies(
            [prompt], lambda plain, other: live.update(_side_by_side(name, plain, other))
        )
        live.update(_side_by_side(name, unsteered, changed))
    return unsteered, changed


def _side_by_side(name: str, unsteered: str, changed: str) -> Columns:
    panels = [Panel(Text(unsteered), title="unsteered"), Panel(Text(changed), title=name)]
    return Columns(panels, equal=True, expand=True)
