"""Captions steered one decision at a time: which object comes behind "a", and whether to go on behind an object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from more_itertools import map_reduce

from interv import VLM, Prompt, Site
from methods import ContrastPair, Query
from methods.steerer import Fitted
from studies.tasks.shapes_captions import expected
from studies.tasks.task import Example
from studies.tiny_world.world import ICONS, Scene

OBJECT, GOING_ON = "object", "going on"
_PLACE = {word: place for place, word in enumerate(ICONS)}  # captions name objects in this order


@dataclass(frozen=True)
class Decision:
    """Behind `prefix`, `right` is the next word of the caption that the image deserves, and `wrong` is not."""

    kind: str
    prefix: str
    right: str
    wrong: str


def kind_of(prefix: str) -> str:
    """What is decided behind these words: OBJECT, GOING_ON, or "" where there is no choice."""
    last = prefix.split()[-1:]
    return OBJECT if last == ["a"] else GOING_ON if last and last[0] in ICONS else ""


def decisions(scene: Scene, reply: str) -> Iterator[Decision]:
    """The decisions along the model's own caption, whatever it took them for.

    The wrong word is the model's own where it errs. Where it is right, that is the most expected absent object, or to
    stop too early, or to go on at the end. After a wrong object the caption goes on as if it had not been named.
    """
    words = reply.split()
    for place, own in enumerate(words):
        said = [word for word in words[:place] if word in ICONS]
        reached = max((_PLACE[word] for word in said), default=-1)
        ahead = sorted((icon for icon in scene.icons if _PLACE[icon] > reached), key=_PLACE.__getitem__)
        prefix = " ".join(words[:place])
        kind = kind_of(prefix)
        if kind == OBJECT and ahead:
            yield Decision(kind, prefix, ahead[0], own if own not in scene.icons else expected(scene).word)
        elif kind == GOING_ON:
            right = ("." if not ahead else "and") if len(ahead) < 2 else ","
            yield Decision(kind, prefix, right, own if own != right else "and" if right == "." else ".")


def decision_pairs(
    vlm: VLM, examples: Sequence[tuple[Example, Scene]], *, batch_size: int, max_new_tokens: int
) -> list[ContrastPair]:
    """A pair for each decision of the model's own captions; its context is the last token before the decision."""
    pairs = []
    for start in range(0, len(examples), batch_size):
        chunk = examples[start : start + batch_size]
        replies = vlm.generate([example.prompt for example, _ in chunk], max_new_tokens=max_new_tokens)
        for (example, scene), reply in zip(chunk, replies, strict=True):
            for number, decision in enumerate(decisions(scene, reply)):
                asked = replace(example.prompt, answer=decision.prefix)
                right, wrong = (
                    replace(asked, answer=f"{decision.prefix} {word}") for word in (decision.right, decision.wrong)
                )
                pairs.append(ContrastPair(asked, right, wrong, decision.kind, f"{example.id}/{number}"))
    return pairs


def caption_by_steps(
    vlm: VLM, prompts: Sequence[Prompt], steerers: Mapping[str, Fitted], strength: float, *, max_new_tokens: int
) -> list[str]:
    """Captions made token by token.

    At a decision of a kind that `steerers` has, the context is read at the last token so far, and what its steerer
    makes of it is added there and nowhere else.
    """
    texts = [""] * len(prompts)
    open_ = list(range(len(prompts)))
    for _ in range(max_new_tokens):
        by_kind = map_reduce(open_, lambda row: kind_of(texts[row]))
        open_ = []
        for kind, rows in by_kind.items():
            steerer = steerers.get(kind)
            reads = [] if steerer is None else [Site(steerer.reads)]
            prefill = vlm.prefill([replace(prompts[row], answer=texts[row]) for row in rows], reads)
            ops = () if steerer is None else steerer.ops(Query(prefill.captured[reads[0]]), strength)
            words = vlm.generate(prefill, ops, max_new_tokens=1)
            for row, word, reason in zip(rows, words, words.finish_reason, strict=True):
                texts[row] = f"{texts[row]} {word.strip()}".strip()
                if word.strip() and reason == "length":
                    open_.append(row)
    return texts
