"""`interv get` and `interv sites`: which models there are, and what of them can be read and steered."""

from pathlib import Path

import tyro

from interv.__main__ import sites
from interv.assembled.get import get


def get_command(models: tyro.conf.Positional[tuple[str, ...]]) -> list[str]:
    """Fetch the packages that a model is made of, put it together, and keep it in the user's cache.

    Args:
        models: smol-llava, smol-llava-many-no.
    """
    return [str(folder) for folder in get(models)]


def sites_command(model: tyro.conf.Positional[str], image: Path | None = None) -> None:
    """Print the named modules of a model, and the hooks of a decoder block.

    Args:
        model: an embedded model's name, a local folder, or a hub id.
        image: the picture of the probing prompt; a grey square by default.
    """
    sites(model, image)
