"""Rows of the hub's data sets, from the hub or from parquet files, with images as they are stored."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from studies.tasks.reading import Flaw


def parquet_rows(files: Sequence[Path]) -> Iterator[dict[str, Any] | Flaw]:
    """Rows of these files, each read by itself, so that a broken or an empty one is a flaw beside the others' rows.

    Raises ValueError where the library that reads them is missing.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError("Parquet files need `pip install datasets`; or give a folder of others with --data.") from None
    for file in files:
        count = 0
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=64):
                count += len(batch)
                yield from batch.to_pylist()
        except Exception as error:  # the library passes on whatever lies below it
            yield Flaw(file.name, f"cannot be read ({type(error).__name__}: {error}); fetch the file again")
        else:
            if not count:
                yield Flaw(file.name, "has no row")


def hub_rows(name: str, *more: str, split: str) -> Iterable[dict[str, Any]]:
    """Rows of a data set of the hub. Raises ValueError where the library is missing or the data cannot be had."""
    try:
        import datasets
    except ImportError:
        raise ValueError("Data sets of the hub need `pip install datasets`; or give a folder with --data.") from None
    try:
        rows = datasets.load_dataset(name, *more, split=split)
        if isinstance((rows.features or {}).get("image"), datasets.Image):
            rows = rows.cast_column("image", datasets.Image(decode=False))
    except Exception as error:  # the library passes on whatever its transport raises
        raise ValueError(f"{name} cannot be loaded ({type(error).__name__}: {error}); give --data.") from None
    return rows
