"""Verdicts on disk, by the content that was judged: asked once, and there without the judge."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from interv.prompt import Picture


class JudgeFailed(RuntimeError):
    """A judge gave no verdict. The item is left unjudged, and is asked again by the next run."""


@dataclass(frozen=True)
class Verdict:
    """What a judge said: `value` is the number or name that its words mean, None where they mean none."""

    value: int | float | str | None
    text: str
    judge: str
    version: str


@dataclass(eq=False)
class Verdicts:
    """A file of verdicts, one JSON line each; None keeps them in memory. Safe for several threads of one process."""

    file: Path | None = None
    _known: dict[str, Verdict] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        for line in self.file.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                self._known[key] = Verdict(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that a kill tore is judged anew

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Verdict | None:
        return self._known.get(key)

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep the verdict; on disk before this returns."""
        with self._lock:
            self._known[key] = verdict
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                torn = self.file.exists() and self.file.stat().st_size and self.file.read_bytes()[-1:] != b"\n"
                with self.file.open("a", encoding="utf-8") as stream:
                    stream.write(("\n" if torn else "") + json.dumps({"key": key, **asdict(verdict)}) + "\n")


def content_key(judge: str, version: str, *parts: str | Picture | None) -> str:
    """A hash of the judge and of all that it is shown; an image counts by its pixels, wherever it lies."""
    digest = hashlib.sha256()
    for part in (judge, version, *parts):
        content = part.encode("utf-8", "backslashreplace") if isinstance(part, str) else _pixels(part)
        digest.update(f"{type(part) is str}{len(content)}:".encode() + content)
    return digest.hexdigest()


def _pixels(image: Picture | None) -> bytes:
    if image is None:
        return b""
    if isinstance(image, Image.Image):
        return f"{image.mode}{image.size}".encode() + image.tobytes()
    return Path(image).read_bytes()


@dataclass(frozen=True)
class Outcome:
    """One verdict an item, in order, None where there is none; `failed` names these items by their ids."""

    verdicts: list[Verdict | None]
    failed: dict[str, str]

    @property
    def values(self) -> list[Any]:
        return [None if verdict is None else verdict.value for verdict in self.verdicts]


def gather(
    ids: Sequence[str],
    keys: Sequence[str],
    ask: Callable[[int], Verdict],
    verdicts: Verdicts,
    *,
    workers: int = 1,
) -> Outcome:
    """The verdict on every item: from the file where it is known, else by `ask(index)`, and then kept.

    Items of one content are asked once. Where `ask` raises JudgeFailed or OSError, the item is left without a verdict.
    """
    open_ = {key: place for place, key in enumerate(keys) if verdicts.get(key) is None}
    failed: dict[str, str] = {}

    def settle(item: tuple[str, int]) -> None:
        key, place = item
        try:
            verdicts.put(key, ask(place))
        except (JudgeFailed, OSError) as error:
            failed[key] = str(error)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        list(pool.map(settle, open_.items()))
    reasons = {name: failed[key] for name, key in zip(ids, keys, strict=True) if key in failed}
    return Outcome([verdicts.get(key) for key in keys], reasons)
