"""`interv sites`: what can be read and steered."""

from pathlib import Path

import tyro

from interv.__main__ import sites


def sites_command(model: tyro.conf.Positional[str], image: Path | None = None) -> None:
    """Print the named modules of a model, and the hooks of a decoder block.

    Args:
        model: an embedded model's name, a local folder, or a hub id.
        image: the picture of the probing prompt; a grey square by default.
    """
    sites(model, image)
