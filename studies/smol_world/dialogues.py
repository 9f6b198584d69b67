"""What is said about a scene in training: a caption, questions about what is there, and some about what is not.

Every answer is true. How many of them are "no" is all that the two kinds of smol-llava differ in.
"""

from dataclasses import dataclass

from numpy.random import Generator

from studies.smol_world import language
from studies.smol_world.scenes import Scene, absent_word

CAPTIONED = 0.6  # chance of a caption
ASKED = 3  # at most so many questions about what is there


@dataclass(frozen=True)
class Dialogue:
    question: str
    answer: str


def dialogues(scene: Scene, rng: Generator, no: float) -> list[Dialogue]:
    """The dialogues about a scene; `no` is the share of its questions that are about an absent thing."""
    present = rng.permutation(scene.words)[:ASKED].tolist()
    said = [asked(word, True) for word in present]
    chance = no / (1 - no)
    absent = rng.poisson(chance * len(present))
    said += [asked(absent_word(rng, scene, "random"), False) for _ in range(absent)]
    if rng.random() < CAPTIONED:
        said.append(Dialogue(language.CAPTION_REQUEST, language.caption(scene.words)))
    return said


def asked(word: str, present: bool) -> Dialogue:
    return Dialogue(language.question(word), language.answer(word, present))
