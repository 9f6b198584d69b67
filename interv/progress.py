"""Bars that say how far a long run is, while somebody looks: in a terminal or a notebook, and not in a file."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import get_console
from rich.progress import Progress, ProgressColumn

T = TypeVar("T")


def bars(*columns: ProgressColumn, shown: bool = True) -> Progress:
    """Bars that vanish when they are done; `columns` as rich's `Progress` takes them."""
    console = get_console()
    seen = console.is_terminal or console.is_jupyter
    return Progress(*columns, console=console, transient=True, disable=not (shown and seen))


def track(items: Iterable[T], doing: str, *, total: int | None = None, shown: bool = True) -> Iterator[T]:
    """The items, with a bar that moves as they are taken; `total` where they have no length."""
    with bars(shown=shown) as progress:
        yield from progress.track(items, total=total, description=doing)
