"""`interv push`: a fitted folder onto the hub."""

from pathlib import Path

import tyro

from methods import load_steerer, read_card


def push(
    folder: tyro.conf.Positional[Path],
    repository: tyro.conf.Positional[str],
    private: bool = False,
    message: str | None = None,
) -> dict[str, str]:
    """Share a steerer as owner/name, with its model card. The token is the hub's own: `hf auth login`, or HF_TOKEN.

    Args:
        folder: that `interv fit` wrote.
        repository: owner/name, which is made where it is not there.
        private: show it to its owner alone.
        message: of the commit.
    """
    about = read_card(folder).get("about")
    address = load_steerer(folder).push_to_hub(repository, about=about, private=private, message=message)
    print(f"Pushed: {address}")
    print(f"Others load it: load_steerer({repository!r}, vlm=vlm)")
    return {"repository": repository, "commit": address}
