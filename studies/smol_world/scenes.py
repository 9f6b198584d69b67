"""What a scene is, and which split owns it: one to four things, most of one theme, common things more often.

No set of things is in two splits, so that what a model is asked about is a composition that training never saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from numpy.random import Generator

from studies.smol_world.words import THINGS, Things

Split = Literal["pretrain", "check", "train", "val", "test"]
Absence = Literal["random", "popular", "adversarial"]

ABSENCES: tuple[Absence, ...] = ("random", "popular", "adversarial")
SPLIT_SALT = "smol-world-1"
# Percent. "pretrain" makes the models, "check" says when that is enough, and the tasks have the rest.
SPLIT_BOUNDS: tuple[tuple[Split, int], ...] = (
    ("pretrain", 55),
    ("check", 62),
    ("train", 75),
    ("val", 82),
    ("test", 100),
)
COUNTS = (1, 2, 2, 3, 3, 4)  # things a scene, each entry as likely as the next
THEME_SHARE = 0.8  # chance that a thing is drawn from the scene's own theme


@dataclass(frozen=True)
class Scene:
    """Its words, and the quarter of the picture that each of them lies in, 0 to 3 in reading order."""

    words: tuple[str, ...]
    quarters: tuple[int, ...]
    theme: str


def split_of(words: tuple[str, ...]) -> Split:
    """The split that owns a set of things, by a salted hash. A thing by itself is for "pretrain": there are too few."""
    if len(words) == 1:
        return "pretrain"
    digest = sha256(f"{SPLIT_SALT}:{sorted(words)}".encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    return next(split for split, bound in SPLIT_BOUNDS if percent < bound)


def sample_scene(rng: Generator, split: Split, things: Things = THINGS) -> Scene:
    """A scene of the split."""
    themes, words = list(things.themes), things.words
    while True:
        theme = themes[rng.integers(len(themes))]
        count = COUNTS[rng.integers(len(COUNTS))]
        shown: list[str] = []
        while len(shown) < count:
            fits = rng.random() < THEME_SHARE
            word = common(rng, things.themes[theme], things) if fits else words[rng.integers(len(words))]
            if word not in shown:
                shown.append(word)
        if split_of(tuple(shown)) == split:
            quarters = sorted(rng.permutation(4)[:count].tolist())
            return Scene(tuple(shown), tuple(quarters), theme)


def absent_word(rng: Generator, scene: Scene, kind: Absence, things: Things = THINGS) -> str:
    """A thing that the scene does not show, as POPE's three subsets choose one.

    "random": any; "popular": one of the most common; "adversarial": one that goes with what is there, by its theme.
    """
    pool = things.popular if kind == "popular" else things.words
    if kind == "adversarial":
        # The theme that most of the scene's things have, which an outsider or two may have overruled.
        shown = [things.theme_of[word] for word in scene.words]
        pool = things.themes[max(shown, key=shown.count)]
    missing = [word for word in pool if word not in scene.words] or [w for w in things.words if w not in scene.words]
    return common(rng, missing, things) if kind == "adversarial" else missing[rng.integers(len(missing))]


def common(rng: Generator, words: Sequence[str], things: Things) -> str:
    """One of the words, the more common the likelier."""
    weights = [things.popularity[word] for word in words]
    return words[rng.choice(len(words), p=[weight / sum(weights) for weight in weights])]
