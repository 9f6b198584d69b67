"""`interv playground`: opens the page."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Annotated

import tyro

from studies.run.checkpoint import Checkpoint

MISSING = "The playground is a page of gradio, which is not installed: pip install 'interv[playground]'."


@dataclass(frozen=True, kw_only=True)
class PlaygroundArguments(Checkpoint):
    """What the page offers, and where it is."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # that `interv fit` wrote, or owner/name on the hub
    model: str = (
        ""  # the folders' own; without folders tiny-llava or tiny-qwen2vl, for which methods are fitted at once
    )
    task: str = "shapes_pope"  # what these methods learn, and where the questions to begin with come from
    any_model: bool = False  # let another model than the steerers' take them
    host: str = "127.0.0.1"  # who may open the page: this machine alone, or with 0.0.0.0 all that reach it
    port: int | None = None  # the first free one from 7860 by default


def playground(arguments: Annotated[PlaygroundArguments, tyro.conf.arg(name="")]) -> None:
    """Serve the page until it is interrupted."""
    if find_spec("gradio") is None:
        raise ModuleNotFoundError(MISSING)
    from interv_cli.playground.offered import offered
    from interv_cli.playground.page import launched, page

    checkpoint = arguments if arguments.folders or arguments.model else replace(arguments, model="tiny-llava")
    found = offered(arguments.folders, checkpoint, task=arguments.task, any_model=arguments.any_model)
    launched(page(found), server_name=arguments.host, server_port=arguments.port)
