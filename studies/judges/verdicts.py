"""Verdicts on disk, by the content that was judged: asked once, and there without the judge."""

import hashlib
import io
import json
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from interv.progress import track
from interv.prompts.pictures import Picture, source

IN_A_ROW = 8  # failures after which nobody is asked any more
QUOTED = 200  # characters of what a judge or its endpoint says, where it is no verdict


class JudgeFailed(RuntimeError):
    """A judge gave no verdict. The item is left unjudged, and is asked again by the next run.

    `away` says that this is no matter of the item: the judge cannot be reached, or lets nobody in.
    """

    def __init__(self, reason: str, *, away: bool = False) -> None:
        super().__init__(reason)
        self.away = away


@dataclass(frozen=True)
class Verdict:
    """What a judge said: `value` is the number or name that its words mean, None where they mean none.

    `version` is the judge's, and what answered in its name as far as that is known: a commit of the hub, an endpoint's
    own name for its model.
    """

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
    _torn: bool = False  # whether the file ends within a line

    def __post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        lines = self.file.read_bytes().split(b"\n")
        self._torn = bool(lines[-1])
        for line in lines:
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                verdict = Verdict(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # a line that a kill tore is judged anew
            if verdict.value is not None:
                self._known[key] = verdict

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
                with self.file.open("a", encoding="utf-8") as stream:
                    stream.write(("\n" if self._torn else "") + json.dumps({"key": key, **asdict(verdict)}) + "\n")
                self._torn = False


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
    try:
        held = source(image)
        return held.getvalue() if isinstance(held, io.BytesIO) else Path(held).read_bytes()
    except (OSError, ValueError):  # whoever is asked about it says so
        return f"unreadable {image}".encode()


@dataclass(frozen=True)
class Outcome:
    """One verdict an item, in order, None where there is none, and there the reason; ids may come several times."""

    ids: list[str]
    verdicts: list[Verdict | None]
    reasons: list[str]

    @property
    def failed(self) -> dict[str, str]:
        """The reasons by their items' ids."""
        return {name: reason for name, reason in zip(self.ids, self.reasons, strict=True) if reason}

    @property
    def values(self) -> list[Any]:
        return [None if verdict is None else verdict.value for verdict in self.verdicts]


@dataclass(eq=False)
class _Breaker:
    """When to stop asking: the judge is away, or nothing that it was asked has brought a verdict so far."""

    away: int = 0  # failures in a row that no other question would have changed
    vain: int = 0  # failures before the first verdict
    proven: bool = False

    def verdict(self) -> None:
        self.away, self.proven = 0, True

    def failure(self, away: bool) -> None:
        self.away = self.away + 1 if away else 0
        self.vain += not self.proven

    @property
    def open(self) -> bool:
        return self.away >= IN_A_ROW or (not self.proven and self.vain >= IN_A_ROW)


def gather(
    ids: Sequence[str],
    keys: Sequence[str],
    ask: Callable[[int], Verdict],
    verdicts: Verdicts,
    *,
    workers: int = 1,
    doing: str = "Judging",
) -> Outcome:
    """The verdict on every item: from the file where it is known, else by `ask(index)`, and then kept.

    Items of one content are asked once. An item is left without a verdict, and with the reason, where `ask` raises,
    where its answer means no verdict, and where nobody is asked any more: after eight failures in a row of a judge that
    is away, or eight before any verdict. The next run asks all of these again.
    """
    open_ = [(key, place) for key, place in {key: n for n, key in enumerate(keys)}.items() if verdicts.get(key) is None]
    # What one kind of item makes a judge refuse lies together in a benchmark; mixed, it does not look like an outage.
    random.Random(0).shuffle(open_)
    failed: dict[str, str] = {}
    breaker, lock = _Breaker(), threading.Lock()

    def settle(item: tuple[str, int]) -> None:
        key, place = item
        if breaker.open:
            failed[key] = f"not asked, since {IN_A_ROW} others had failed in a row"
            return
        away = False
        try:
            verdict = ask(place)
        except Exception as error:  # whatever one item meets, the others go on
            away = isinstance(error, JudgeFailed) and error.away
            failed[key] = str(error) if isinstance(error, JudgeFailed) else f"{type(error).__name__}: {error}"
        else:
            if verdict.value is None:
                failed[key] = f"the answer is no verdict: {verdict.text[:QUOTED]!r}"
            else:
                verdicts.put(key, verdict)
        with lock:
            if key in failed:
                breaker.failure(away)
            else:
                breaker.verdict()

    with ThreadPoolExecutor(max_workers=workers) as pool:
        list(track(pool.map(settle, open_), doing, total=len(open_), shown=bool(open_)))
    return Outcome(list(ids), [verdicts.get(key) for key in keys], [failed.get(key, "") for key in keys])
