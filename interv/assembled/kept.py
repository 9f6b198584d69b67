"""Where models that were put together lie: in the user's cache, a folder each, whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock

_MAKING = ".making-"


def cache() -> Path:
    """INTERV_CACHE where it is set; else interv's folder in XDG_CACHE_HOME, which is ~/.cache by default."""
    if own := os.environ.get("INTERV_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "interv"


def folder_of(name: str) -> Path:
    return cache() / "models" / name


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder beside the models that is gone afterwards, whatever happens; one process at a time has one.

    What a process that was killed left behind goes as well.
    """
    models = folder_of("")
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / ".lock"):
        for left in models.glob(f"{_MAKING}*"):
            shutil.rmtree(left, ignore_errors=True)
        bench = Path(mkdtemp(prefix=_MAKING, dir=models))
        try:
            yield bench
        finally:
            shutil.rmtree(bench, ignore_errors=True)


def put(finished: Path, name: str) -> Path:
    """Move a finished folder to where the model's name is looked up; what was there under the name goes.

    The folder must lie in the workshop, so that it moves by renaming, at once.
    """
    place, old = folder_of(name), finished.with_name(f"{finished.name}.old")
    if place.exists():
        place.rename(old)
    finished.rename(place)
    return place
