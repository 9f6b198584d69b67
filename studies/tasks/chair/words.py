"""The objects that a caption names, by a list of synonyms, and CHAIR over them (arXiv:1809.02156)."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from studies.measure import Metric, Row, ratio, unparsable, valid

Mentions = Callable[[str], list[str]]
Places = list[tuple[int, str]]  # where in a text each word for an object begins, and the object

_TOKEN = re.compile(r"\w+(?:-\w+)*|[^\w\s]")  # as NLTK: "dog_house", "hot-dog" and "catégorie" are a word each
_IRREGULAR = {"men": "man", "mice": "mouse", "geese": "goose", "children": "child", "oxen": "ox"}
# Two words that mean one thing, beside the synonyms of two words. Source: the rules of CHAIR's published code.
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
_TOGETHER = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
    **{f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
    "home plate": "home plate",
    "train track": "train track",
}
SEPARATOR = ", "


@dataclass(frozen=True)
class Vocabulary:
    """Which words name which object.

    Attributes:
        objects: synonym -> object; synonyms of two words are matched as such.
    """

    objects: dict[str, str]
    _pairs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {word: word for word in self.objects if " " in word}
        self._pairs.update(own | _TOGETHER)

    @classmethod
    def load(cls, file: Path) -> "Vocabulary":
        """One line an object, its own name first: "motorcycle, scooter, motor bike". Raises ValueError for no line."""
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{file} cannot be read ({error}). CHAIR needs its list of synonyms, one line an object, from "
                "github.com/LisaAnne/Hallucination (data/synonyms.txt); it has no licence and so is not shipped."
            ) from None
        rows = [[word.strip().lower() for word in line.split(",") if word.strip()] for line in lines if line.strip()]
        if not rows:
            raise ValueError(f"{file} has no line of synonyms; each line is an object, a comma, and its synonyms.")
        return cls({word: row[0] for row in rows for word in row})

    def mentions(self, text: str) -> list[str]:
        """The objects that the text names, in order, each as often as it is named.

        Plurals count as their singulars. Two words that mean one thing are one mention ("hot dog" is no dog, a "baby
        bird" no person), and beside a toilet a seat is no chair. As the published code, with these differences, all of
        them deliberate:
         - a word is a plural where its singular is in the list; the published code singularises with a library;
         - the list's odd blanks and capitals do not count. In the published code they keep "motor bike", "cheesecake"
           and "iPhone" from ever being found;
         - a word ends at every mark but a hyphen or a low line inside it. The published code's tokenizer (NLTK) goes on
           over + . / = \\ ^ | ~ and the like, an apostrophe between letters, a comma or colon before a figure, and a
           hyphen at a word's edge: "man/woman" and "Dogs.Cats" name two objects here and none there.
        """
        return [name for _, name in self.places(text)]

    def places(self, text: str) -> Places:
        """The objects that the text names, as in `mentions`, with where their words begin."""
        tokens = [(one.start(), one[0].lower()) for one in _TOKEN.finditer(normalize("NFC", text))]
        words = list(self._joined(tokens))
        if any(word == "toilet" for _, word in words):
            words = [(start, word) for start, word in words if word != "seat"]
        return [(start, self.objects[word]) for start, word in words if word in self.objects]

    def _joined(self, tokens: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """The words as the list has them, two of them as one where they belong together, and where they begin."""
        place = 0
        while place < len(tokens):
            start, token = tokens[place]
            following = _singulars(tokens[place + 1][1]) if place + 1 < len(tokens) else ()
            pairs = (f"{first} {second}" for first in _singulars(token) for second in following)
            pair = next((pair for pair in pairs if pair in self._pairs), None)
            if pair is not None:
                yield start, self._pairs[pair]
            else:
                yield start, next((word for word in _singulars(token) if word in self.objects), token)
            place += 1 if pair is None else 2


def _singulars(word: str) -> tuple[str, ...]:
    """The word, and what it may be the plural of."""
    forms = [word]
    if word in _IRREGULAR:
        forms.append(_IRREGULAR[word])
    elif word.endswith("men"):
        forms.append(f"{word[:-3]}man")
    if word.endswith("s"):
        forms.append(word[:-1])
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("ies"):
        forms.append(f"{word[:-3]}y")
    if word.endswith("ves"):
        forms += [f"{word[:-3]}f", f"{word[:-3]}fe"]
    return tuple(forms)


def listed(objects: Sequence[str]) -> str:
    """A set of objects as a row has it: `target` is what the image shows, `parsed` what the caption names."""
    return SEPARATOR.join(sorted(set(objects)))


def chair_metrics(mentions: Mentions) -> tuple[Metric, ...]:
    """CHAIR of rows whose target lists the objects in the image.

    - chair_s: share of captions with a hallucinated object; chair_i: hallucinated mentions over all mentions. (The
      table of arXiv:2508.12815 has the two columns the wrong way round.)
    - recall: objects named over objects shown, of all captions together. object_f1: with the precision over the
      different objects named; it falls both by inventing and by saying less.
    - length: words a caption.
    """

    def shown(row: Row) -> set[str]:
        return set(row["target"].split(SEPARATOR)) - {""}

    def hallucinated(row: Row) -> int:
        there = shown(row)
        return sum(name not in there for name in mentions(row["reply"]))

    def found(row: Row) -> int:
        return len(shown(row) & set(mentions(row["reply"])))

    return (
        ratio("object_f1", lambda row: 2 * found(row), lambda row: len(shown(row)) + len(set(mentions(row["reply"])))),
        ratio("chair_s", lambda row: hallucinated(row) > 0),
        ratio("chair_i", hallucinated, lambda row: len(mentions(row["reply"]))),
        ratio("recall", found, lambda row: len(shown(row))),
        ratio("length", lambda row: len(row["reply"].split())),
        unparsable,
        valid,
    )
