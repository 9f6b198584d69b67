"""The models that can be put together, by name, and the delta that comes with the package for each."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from interv.assembled.parts import LANGUAGE, VISION, Part

DELTAS = Path(__file__).parent / "deltas"
PARTS = (LANGUAGE, VISION)


@dataclass(frozen=True)
class Assembled:
    """A model's name, its delta, and what it is for."""

    name: str
    about: str
    language: Part = LANGUAGE
    vision: Part = VISION

    @property
    def delta(self) -> Path:
        return DELTAS / f"{self.name}.safetensors"

    @property
    def recipe(self) -> str:
        """A hash of all that the model is made from, which a kept folder is compared by."""
        made = (self.language.digest, self.vision.digest, _digest(self.delta))
        return sha256(" ".join(made).encode()).hexdigest()[:16]


@cache
def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


MODELS = {
    model.name: model
    for model in (
        Assembled("smol-llava", "few of the questions that it was trained on have the answer no"),
        Assembled("smol-llava-many-no", "the same, with more questions of which the answer is no"),
    )
}
