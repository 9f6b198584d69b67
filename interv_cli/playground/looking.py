"""What the page shows of one question: both replies as they grow, and what the model did on the way."""

import base64
import io
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any

from matplotlib.figure import Figure

from interv import Prompt
from methods import NoSteering
from studies.own import Steered
from studies.report.figures.inside import maps_over_picture, movement
from studies.report.figures.style import DARK, LIGHT
from studies.run.inside import Inside, image_maps, look_inside

DPI = 110
UNSTEERED = "unsteered"
LOOKS = "Attention from the last prompt token to the picture, in the unsteered and in the steered reply"
MOVES = "How far steering moved the last prompt token in every block, and what was added to each token"


def growing(steered: Steered, prompt: Prompt) -> Iterator[tuple[str, str]]:
    """The unsteered and the steered reply so far, at every token; what comes last is whole."""
    seen: SimpleQueue[tuple[str, str] | Exception | None] = SimpleQueue()

    def answer() -> None:
        try:
            seen.put(steered.replies([prompt], lambda plain, changed: seen.put((plain, changed)))[0])
        except Exception as error:  # it belongs to the one who iterates
            seen.put(error)
        seen.put(None)

    Thread(target=answer, daemon=True).start()
    while (now := seen.get()) is not None:
        if isinstance(now, Exception):
            raise now
        yield now


def inside(steered: Steered, prompt: Prompt, *, dark: bool = False) -> str:
    """Where the last prompt token looks and how far tokens moved, as HTML; a sentence where it cannot be seen.

    `dark` is how the page looks.
    """
    steerer = steered.steerer
    none = NoSteering(steerer.reads, steerer.writes, steerer.fingerprint)
    try:
        plain, changed = (
            look_inside(steered.vlm, prompt, one, strength, max_new_tokens=steered.max_new_tokens)
            for one, strength in ((none, 0.0), (steerer, steered.strength))
        )
    except ValueError as error:
        return f"<p>{error}</p>"
    theme = DARK if dark else LIGHT
    name = str(steered.card["method"])
    moved = movement(
        changed.moved_from(plain).numpy(),
        changed.tokens,
        changed.stream.numpy(),
        changed.added.numpy(),
        [steerer.writes],
        theme=theme,
    )
    looked = _maps(steered, prompt, {UNSTEERED: plain, name: changed})
    shown = [] if looked is None else [(LOOKS, maps_over_picture(*looked, theme=theme))]
    return "".join(_img(figure, text) for text, figure in (*shown, (MOVES, moved)))


def _maps(steered: Steered, prompt: Prompt, seen: dict[str, Inside]) -> Any:
    """The picture and each reply's attention over it; None where there is no one picture."""
    if len(prompt.images()) != 1:
        return None
    found = {}
    for name, one in seen.items():
        asked = prompt if name == UNSTEERED else steered.steerer.rewrite(prompt)
        if (maps := image_maps(steered.vlm, steered.vlm.encode([asked]), one)) is None:
            return None
        found[name] = maps.numpy()
    return prompt.images()[0], found


def _img(figure: Figure, text: str) -> str:
    stored = io.BytesIO()
    figure.savefig(stored, format="png", dpi=DPI)
    code = base64.b64encode(stored.getvalue()).decode()
    return f'<figure><figcaption>{text}.</figcaption><img alt="{text}" src="data:image/png;base64,{code}"></figure>'
