"""Which rows train, choose and judge: rows that share an image stay together."""

from collections.abc import Sequence

from studies.recipes.recipe import Recipe
from studies.tasks.examples_file.row import Item
from studies.tasks.listed import parted
from studies.tasks.task import Split


def split_by_image(items: Sequence[Item], recipe: Recipe) -> dict[Split, list[Item]]:
    """The items of each split: as they say themselves where all do, else by their units as the recipe parts these.

    Raises ValueError where a split is empty, where some items say their split and some do not, and where two splits
    would share an image.
    """
    told = [item for item in items if item.split]
    if told and len(told) < len(items):
        raise ValueError(f"{len(told)} of {len(items)} rows have a split; give it to all of them, or to none.")
    units = list(dict.fromkeys(item.unit for item in items))
    if told:
        home = {item.unit: item.split for item in reversed(items)}
        if torn := next((item for item in items if item.split != home[item.unit]), None):
            raise ValueError(
                f"Row {torn.id} is in {torn.split} and shares an image with a row in {home[torn.unit]}; "
                "splits share no image."
            )
    else:
        home = {unit: split for split, own in parted(units, recipe).items() for unit in own}
    splits: dict[Split, list[Item]] = {"train": [], "val": [], "test": []}
    for item in items:
        splits[home[item.unit]].append(item)  # type: ignore[index]
    if empty := [split for split, own in splits.items() if not own]:
        raise ValueError(
            f"{len(items)} usable rows about {len(units)} images leave {', '.join(empty)} empty when they are split "
            f"{'/'.join(map(str, recipe.split))}; give more images."
        )
    return splits
