"""What is in a file of examples, what is wrong with it, and what a split of it looks like."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from studies.recipes.recipe import Recipe
from studies.tasks.examples_file.data import Data
from studies.tasks.examples_file.row import Item
from studies.tasks.examples_file.splitting import split_by_image
from studies.tasks.reading import Flaw


@dataclass(frozen=True)
class Inspection:
    """A file of examples in numbers.

    Attributes:
        rows: how many the file has, usable or not.
        images: how many different ones the usable rows show.
        shared: how many of these are shown by several rows, and `rows_on_shared` how many rows those are.
        behaviors, targets: how many rows have each; "" stands for none.
        repeated: rows that say the same as an earlier one.
        opposed: rows that want what another row about the same image and question does not want.
        splits: rows, images and behaviours of each split, empty where they cannot be split; `split_flaw` then says why.
    """

    source: str
    hash: str
    rows: int
    usable: int
    flaws: tuple[Flaw, ...]
    unread: dict[str, int]
    images: int
    shared: int
    rows_on_shared: int
    without_image: int
    behaviors: dict[str, int]
    targets: dict[str, int]
    repeated: tuple[str, ...]
    opposed: tuple[str, ...]
    splits: dict[str, dict[str, Any]]
    split_flaw: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect(data: Data, recipe: Recipe) -> Inspection:
    """Look at rows that were read; `recipe` says how they are split."""
    items = data.items
    shows = Counter(image for item in items for image in dict.fromkeys(item.images))
    shared = {image for image, times in shows.items() if times > 1}
    splits, flaw = _splits(items, recipe)
    repeated, opposed = _twice(items)
    return Inspection(
        data.source,
        data.hash,
        len(items) + len(data.flaws),
        len(items),
        data.flaws,
        data.unread,
        len(shows),
        len(shared),
        sum(bool(shared & {*item.images}) for item in items),
        sum(not item.images for item in items),
        _counted(item.behavior for item in items),
        _counted(item.target for item in items),
        repeated,
        opposed,
        splits,
        flaw,
    )


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _splits(items: tuple[Item, ...], recipe: Recipe) -> tuple[dict[str, dict[str, Any]], str]:
    try:
        splits = split_by_image(items, recipe)
    except ValueError as error:
        return {}, str(error)
    return {
        split: {
            "rows": len(own),
            "images": len({image for item in own for image in item.images}),
            "behaviors": _counted(item.behavior for item in own),
        }
        for split, own in splits.items()
    }, ""


def _twice(items: tuple[Item, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of rows that repeat an earlier one, and of those that want what another one does not."""
    seen: set[tuple[Any, ...]] = set()
    repeated = []
    wanted = {(item.images, item.prompt.question, item.positive) for item in items}
    for item in items:
        said = (item.images, item.prompt.question, item.positive, item.negative)
        if said in seen:
            repeated.append(item.id)
        seen.add(said)
    opposed = [item.id for item in items if (item.images, item.prompt.question, item.negative) in wanted]
    return tuple(repeated), tuple(opposed)
