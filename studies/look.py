"""What does the model see and say, block by block? One image and question, unsteered and steered side by side.

    python studies/look.py --task shapes_pope --model tiny-llava
    python studies/look.py --image photo.jpg --question "is there a bus in the image ?"

Of a task's validation examples it takes the one of --id, or else the first one that the unsteered model answers
wrongly. Shown are the logit lens of the answer over the blocks, where the last prompt token looks in the picture, how
far steering moved that token in every block, and how long what was added is beside the residual stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interv import Prompt
from studies.fit.fitting import METHODS
from studies.fit.method_traits import needs_vectors
from studies.fit.selection import Grid
from studies.fit.setting import Setting
from studies.measure.metric import Record, Row
from studies.report.conclusion import conclude, table_of
from studies.report.figures.inside import lens_lines, maps_over_picture, movement
from studies.report.figures.style import both
from studies.report.validation import about
from studies.run.answer import picture, row_of
from studies.run.arguments import Common, check_blocks, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study
from studies.run.inside import Inside, image_maps, logit_lens, look_inside, rivals
from studies.run.results import key, read_rows
from studies.tasks import Example

UNSTEERED = "NoSteering"


@dataclass(frozen=True)
class Arguments(Common):
    """Look into the model while it answers one question."""

    method: str = "L2S"  # the method beside no steering
    id: str | None = None  # of a validation example
    image: Path | None = None  # your own image, with --question, in the place of an example
    question: str | None = None  # about your own image; alone it is asked without one
    writes: int | None = None  # the steered block; the recipe's, or the one about the middle
    reads: int | None = None  # the context's block; as above


def look(arguments: Arguments) -> list[Record]:
    """Run the study and write its folder; gives the records of the table, which is of this one input.

    `inside.json` holds the numbers of the figures. Raises ValueError for a method, block or example that is not there.
    """
    known(arguments.method, METHODS, "method")
    if arguments.image is not None and arguments.question is None:
        raise ValueError("--image needs a --question about it.")
    if arguments.question is not None and (arguments.id is not None or needs_vectors(METHODS[arguments.method])):
        raise ValueError("A question of your own has no id and no wanted answer: leave --id and the oracle out.")
    vlm, task, recipe = prepare(arguments)
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength or (recipe.strength or 1.0,))
    reads = grid.reads[0] if arguments.reads is None else arguments.reads
    writes = grid.writes[0] if arguments.writes is None else arguments.writes
    check_blocks(vlm, (reads, writes))
    grid = Grid((writes,), (reads,), grid.strengths[:1])
    more = {"method": arguments.method, "id": arguments.id, "question": arguments.question}
    more |= {} if arguments.image is None else {"image": str(arguments.image)}
    with opened(arguments, "look", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        settings = [bench.candidates(name)[0] for name in dict.fromkeys((UNSTEERED, arguments.method))]
        example = chosen(bench, settings[0])
        inside = {type(one.steerer).__name__: seen(bench, example, one) for one in settings}
        rows = [written(bench, example, one, inside[type(one.steerer).__name__].reply) for one in settings]
        return report(bench, example, settings, inside, rows)


def chosen(bench: Bench, unsteered: Setting) -> Example:
    """The question that was asked for: one's own, the example of the id, or the first that is answered wrongly."""
    common: Any = bench.common
    if common.question is not None:
        own = f"own-{common.image.name if common.image else 'text'}"
        return Example(own, Prompt(common.image, common.question), "own", "own", "")
    examples = bench.examples("val")
    if common.id is not None:
        return known(common.id, {example.id: example for example in examples}, "validation example")
    for start in range(0, len(examples), 32):
        part = examples[start : start + 32]
        replies = bench.vlm.generate([one.prompt for one in part], max_new_tokens=bench.task.max_new_tokens)
        wrong = (one for one, reply in zip(part, replies, strict=True) if bench.task.parse(reply) != one.target)
        if (found := next(wrong, None)) is not None:
            return found
    return examples[0]


def seen(bench: Bench, example: Example, setting: Setting) -> Inside:
    """The reply in one setting, from inside."""
    context = bench.recipe.context_prompt(setting.steerer.rewrite(example.prompt))
    vectors = None
    if needs_vectors(type(setting.steerer)):
        contrasts = bench.targets("val", setting.steerer.reads, setting.steerer.writes)
        vectors = contrasts.vectors[[contrasts.id.index(example.id)]]
    return look_inside(
        bench.vlm,
        example.prompt,
        setting.steerer,
        setting.strength,
        max_new_tokens=bench.task.max_new_tokens,
        context=None if context == setting.steerer.rewrite(example.prompt) else context,
        vectors=vectors,
    )


def written(bench: Bench, example: Example, setting: Setting, reply: str) -> Row:
    """The row of this reply, which is there after this."""
    shown = picture(example, bench.results)
    row = row_of(bench.task, "val", example, setting.columns(), reply, shown)
    if key(row) not in bench.results.done:
        bench.results.append([row])
    return next(one for one in read_rows(bench.results.folder) if key(one) == key(row))


def report(
    bench: Bench, example: Example, settings: Sequence[Setting], inside: dict[str, Inside], rows: Sequence[Row]
) -> list[Record]:
    """Figures, table and page."""
    vlm, names = bench.vlm, [*inside]
    lenses = [logit_lens(vlm, one.states[:, 0]) for one in inside.values()]
    ids = rivals(lenses)
    words = [vlm.processor.tokenizer.decode([id_]).strip() for id_ in ids]
    of_words = {name: lens[:, ids].numpy() for name, lens in zip(names, lenses, strict=True)}
    plain, steered = inside[names[0]], inside[names[-1]]
    moved = steered.moved_from(plain)
    numbers = {
        name: {
            "reply": one.reply,
            "words": dict(zip(words, of_words[name].T.round(4).tolist(), strict=True)),
            "image_share": one.image_share.tolist(),
            "tokens": one.tokens,
            "stream": one.stream.tolist(),
            "added": one.added.tolist(),
        }
        for name, one in inside.items()
    }
    bench.results.write("inside.json", numbers | {"moved": moved.tolist()})
    head = ["block", *(f"p({word}), {name}" for name in names for word in words)]
    head += [*(f"attention to the image, {name}" for name in names), "moved"]
    body = [
        [str(block)]
        + [f"{np.exp(of_words[name][block, place]):.3f}" for name in names for place in range(len(words))]
        + [f"{inside[name].image_share[block]:.3f}" for name in names]
        + [f"{moved[block]:.3f}"]
        for block in range(vlm.n_layers)
    ]
    return conclude(
        bench,
        table_of(bench, rows),
        f"What does {vlm.name} see and say? {example.prompt.question}",
        split="val",
        found=False,
        answer=said(words, of_words, inside, moved),
        extra_figures=draw(bench, example, settings, inside, words, of_words, moved),
        extra_tables=[("Block by block, at the last token of the prompt", head, body)],
        among=frozenset({example.id}),
    )


def said(
    words: Sequence[str], lenses: dict[str, np.ndarray], inside: dict[str, Inside], moved: torch.Tensor
) -> list[str]:
    """The replies, from which block on each setting prefers its word, and how far steering moved the token."""
    sentences = []
    for name, one in inside.items():
        order = lenses[name][:, 0] > lenses[name][:, 1]
        final = words[0] if order[-1] else words[1]
        since = next(block for block in range(len(order)) if (order[block:] == order[-1]).all())
        sentences.append(
            f"{name} answers {one.reply!r}: between {words[0]!r} and {words[1]!r} the blocks from {since} on prefer "
            f"{final!r}, and {float(one.image_share.mean()):.0%} of the attention goes to the image on average."
        )
    name, steered = list(inside.items())[-1]
    if steered.added.any():
        share = float((steered.added / steered.stream).mean())
        sentences.append(
            f"What {name} adds is {share:.2f} of the residual stream's norm, and moves the last prompt token by "
            f"{float(moved[-1]):.2f} of its norm in the last block."
        )
    return sentences


def draw(
    bench: Bench,
    example: Example,
    settings: Sequence[Setting],
    inside: dict[str, Inside],
    words: Sequence[str],
    lenses: dict[str, np.ndarray],
    moved: torch.Tensor,
) -> list[tuple[Path, str]]:
    """The figures with what is to be said below each."""
    folder, note = bench.results.folder, about(bench, 1)
    steered = sorted({one.steerer.writes for one in settings if one.columns()["writes"] is not None})
    figures = []
    encoded = bench.vlm.encode([example.prompt])
    maps = {name: image_maps(bench.vlm, encoded, one) for name, one in inside.items()}
    shown = {name: each.numpy() for name, each in maps.items() if each is not None}
    if shown:
        file = both(
            folder,
            "seen",
            lambda theme: maps_over_picture(example.prompt.images()[0], shown, caption=note, theme=theme),
        )
        text = "Attention from the last prompt token to the picture, mean over heads, with its share of all attention."
        figures.append((file, f"{text} {note}."))
    file = both(folder, "lens", lambda theme: lens_lines(words, lenses, steered, caption=note, theme=theme))
    figures.append((file, f"Logit lens: what each block would have said next. Dotted: the steered block. {note}."))
    last = list(inside.values())[-1]
    file = both(
        folder,
        "moved",
        lambda theme: movement(
            moved.numpy(), last.tokens, last.stream.numpy(), last.added.numpy(), steered, caption=note, theme=theme
        ),
    )
    text = "How far steering moved the last prompt token, and the norm of what was added to each token."
    return [*figures, (file, f"{text} {note}.")]


def main() -> None:
    run_study("look", look, Arguments, __doc__)


if __name__ == "__main__":
    main()
