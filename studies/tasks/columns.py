"""Rows of the hub's data sets, from the hub or from parquet files, with images as they are stored."""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from interv.prompt import Picture
from studies.tasks.reading import Flaw


def opened(image: Any) -> Picture:
    """A picture from an image column: its bytes or path as stored, or a decoded image. Raises ValueError."""
    if isinstance(image, Image.Image):
        return image
    content, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (None, image)
    if isinstance(content, bytes):
        try:
            return Image.open(BytesIO(content))
        except (OSError, Image.DecompressionBombError, SyntaxError) as error:
            raise ValueError(f"its image cannot be opened ({error})") from None
    if not isinstance(path, str) or not path:
        raise ValueError("has no image in its row")
    return Path(path)


def parquet_rows(files: Sequence[Path]) -> Iterator[dict[str, Any] | Flaw]:
    """Rows of these files, each read by itself, so that a broken or an empty one is a flaw beside the others' rows.

    Raises ValueError where the library that reads them is missing.
    """
    load = _loader()
    for file in files:
        count = 0
        try:
            for row in undecoded(
                lambda file=file: load("parquet", data_files=str(file), split="train", streaming=True)
            ):
                count += 1
                yield row
        except Exception as error:  # the library passes on whatever lies below it
            yield Flaw(file.name, f"cannot be read ({type(error).__name__}: {error}); fetch the file again")
        else:
            if not count:
                yield Flaw(file.name, "has no row")


def hub_rows(name: str, *more: str, split: str) -> Iterable[dict[str, Any]]:
    """Rows of a data set of the hub. Raises ValueError where the library is missing or the data cannot be had."""
    load = _loader()
    try:
        return undecoded(lambda: load(name, *more, split=split))
    except Exception as error:  # the library passes on whatever its transport raises
        raise ValueError(f"{name} cannot be loaded ({type(error).__name__}: {error}); give --data.") from None


def undecoded(load: Any) -> Iterable[dict[str, Any]]:
    """What `load()` gives, without decoding its images."""
    import datasets

    rows = load()
    if isinstance((rows.features or {}).get("image"), datasets.Image):
        rows = rows.cast_column("image", datasets.Image(decode=False))
    return rows


def _loader() -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError("Data sets of the hub need `pip install datasets`; or give a folder with --data.") from None
    return datasets.load_dataset
