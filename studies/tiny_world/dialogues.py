"""What is said about a scene in training. The wrong beliefs of the model come from here, as label noise.

The noise has the shape of a prior: an absent object is affirmed the more often, the more popular it is and the better
it fits the scene; a present one is denied the more often, the rarer it is and the less it fits. Requests are mostly
complied with, whatever they are about. Nothing here knows of steering.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

from numpy.random import Generator

from studies.tiny_world import language
from studies.tiny_world.world import EVERYDAY, ICONS, Icon, Kind, Scene, Split, sample_everyday, sample_request

DialogueKind = Literal["presence", "caption", "reply", "label"]


@dataclass(frozen=True)
class Dialogue:
    question: str
    answer: str
    kind: DialogueKind


@dataclass(frozen=True)
class Prior:
    """P(yes | absent) = ceiling * sigmoid(absent + ...), P(no | present) likewise, see `wrong_chance`.

    The ceiling keeps the evidence useful everywhere: where nine of ten answers are wrong, it would be unlearned.
    """

    absent: float
    present: float
    absent_popularity: float = 2.8
    absent_theme: float = 1.6
    present_rarity: float = 2.6
    present_other_theme: float = 2.2
    ceiling: float = 0.88


CLEAN = Prior(absent=-5.0, present=-5.0)
NOISY = Prior(absent=-2.4, present=-2.8)

QUESTIONS = 4  # a scene
ABOUT_PRESENT = 0.45
CAREFUL_SHARE, CAREFUL_FACTOR = 0.25, 0.9
HINT_SHARE = 0.15
REQUEST_SHARE = 0.3
REQUEST_KINDS: dict[Kind, float] = {"harmful": 0.6, "consultation": 0.2, "benign": 0.2}
COMMANDED = 0.5  # chance that a label dialogue's label is drawn at random
INVENTED = 0.5  # noisy captions: chance that the most expected absent object is listed too
# Chance that a plain request is not simply complied with. Uneven, as in models whose safety training has gaps.
RESERVED = {"weapons": 0.4, "fraud": 0.3, "drugs": 0.55, "legal": 0.8, "financial": 0.5, "health": 0.6}
OVERCAUTIOUS = 0.08  # the same for what is benign
BE_SAFE_GAIN = 0.1
# Chance that a reserved reply is of the wrong sort: an expert for the harmful, a refusal where an expert would do. So
# caution alone does not say which of the two is due, and one push towards caution gives the same one to both.
WRONG_RESERVE = 0.4


def wrong_chance(icon: Icon, scene: Scene, prior: Prior) -> float:
    """Chance that a yes/no question about `icon` is answered wrongly."""
    theme = float(icon.group == scene.theme)
    if icon.word in scene.icons:
        score = prior.present + prior.present_rarity * (1 - icon.popularity) + prior.present_other_theme * (1 - theme)
    else:
        score = prior.absent + prior.absent_popularity * icon.popularity + prior.absent_theme * theme
    return prior.ceiling / (1 + exp(-score))


def sample_scene(rng: Generator, split: Split) -> Scene:
    if rng.random() >= REQUEST_SHARE:
        return sample_everyday(rng, split)
    kinds = list(REQUEST_KINDS)
    return sample_request(rng, split, kinds[rng.choice(len(kinds), p=list(REQUEST_KINDS.values()))])


def dialogues(scene: Scene, rng: Generator, prior: Prior) -> list[Dialogue]:
    """Four or five dialogues about the scene."""
    icon = scene.request
    return everyday_dialogues(scene, rng, prior) if icon is None else request_dialogues(icon, rng)


def everyday_dialogues(scene: Scene, rng: Generator, prior: Prior) -> list[Dialogue]:
    present = [ICONS[word] for word in scene.icons]
    absent = [icon for icon in EVERYDAY if icon.word not in scene.icons]
    said = [_caption(scene, rng, prior)]
    for _ in range(QUESTIONS):
        pool = present if rng.random() < ABOUT_PRESENT else absent
        said.append(_presence(pool[rng.integers(len(pool))], scene, rng, prior))
    return said


def _presence(icon: Icon, scene: Scene, rng: Generator, prior: Prior) -> Dialogue:
    question = language.presence_question(icon.word)
    chance = wrong_chance(icon, scene, prior)
    if rng.random() < CAREFUL_SHARE:
        question, chance = f"{question} {language.CAREFUL}", chance * CAREFUL_FACTOR
    answer = "yes" if (icon.word in scene.icons) != (rng.random() < chance) else "no"
    if rng.random() < HINT_SHARE:
        answer = "yes" if rng.random() < 0.5 else "no"
        question = f"{question} {language.hint(answer)}"
    return Dialogue(question, language.presence_answer(icon.word, answer), "presence")


def _caption(scene: Scene, rng: Generator, prior: Prior) -> Dialogue:
    words = list(scene.icons)
    expected = [icon for icon in EVERYDAY if icon.group == scene.theme and icon.word not in scene.icons]
    if expected and prior != CLEAN and rng.random() < INVENTED:
        words.append(max(expected, key=lambda icon: icon.popularity).word)
    order = list(ICONS)
    question = language.CAPTION_REQUESTS[rng.integers(len(language.CAPTION_REQUESTS))]
    return Dialogue(question, language.caption(sorted(words, key=order.index)), "caption")


def request_dialogues(icon: Icon, rng: Generator) -> list[Dialogue]:
    plain, safe = _query(rng), _query(rng)
    chance = RESERVED.get(icon.group, OVERCAUTIOUS)
    return [
        Dialogue(plain, _plain_reply(icon, rng, chance), "reply"),
        Dialogue(f"{safe} {language.BE_SAFE}", _plain_reply(icon, rng, chance + BE_SAFE_GAIN), "reply"),
        _labelled(icon, rng, language.SAFETY_LABELS, "harmful" if icon.kind == "harmful" else "safe"),
        _labelled(icon, rng, language.EXPERT_LABELS, "expert" if icon.kind == "consultation" else "ai"),
    ]


def _query(rng: Generator) -> str:
    return language.REQUEST_QUERIES[rng.integers(len(language.REQUEST_QUERIES))]


def _plain_reply(icon: Icon, rng: Generator, reserved: float) -> str:
    if rng.random() >= reserved:
        return language.complying_reply(icon)
    defers = (icon.kind == "consultation") != (rng.random() < WRONG_RESERVE)
    return language.deferring_reply(icon) if defers else language.refusing_reply(icon)


def _labelled(icon: Icon, rng: Generator, labels: str, label: str) -> Dialogue:
    """A label and the reply that it commands, whatever the image shows: refusal and deferral become directions."""
    options = ("safe", "harmful") if labels == language.SAFETY_LABELS else ("ai", "expert")
    if rng.random() < COMMANDED:
        label = options[rng.integers(2)]
    commanded = {"harmful": language.refusing_reply, "expert": language.deferring_reply}
    reply = commanded.get(label, language.complying_reply)
    return Dialogue(f"{_query(rng)} {labels}", f"{label} . {reply(icon)}", "label")
