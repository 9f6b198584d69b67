"""Values as one line that a person can read, in a terminal and in a notebook."""

from dataclasses import MISSING, fields
from typing import Any

from torch import Tensor

from interv.places.site import Site


class OneLine:
    """Base of dataclasses that hold tensors: they are shown by their shapes, and defaults are left out.

    A subclass that says more or less than its fields overrides `shown`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # its own, so that `dataclass` makes no other one

    def shown(self) -> dict[str, Any]:
        """What stands in the line, by name."""
        values = {field: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {field.name: value for field, value in values.items() if not _is_default(value, field.default)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in self.shown().items())})"


def _is_default(value: Any, default: Any) -> bool:
    return default is not MISSING and not isinstance(value, Tensor) and value == default


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    return str(value) if isinstance(value, Site) else repr(value)
