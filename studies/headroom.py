"""Will steering help here? What each way can reach, before anything is fitted or decoded, and what to expect of L2S.

    python studies/headroom.py --task shapes_pope --model tiny-llava

Every labelled prompt of a yes/no task runs once. Its last token's states and the logits of the reply's first token say
how the unsteered model answers, what a threshold on logit(yes) - logit(no) makes of that, over all and within an image,
and what a linear probe reads from each block. A second pass over a few forced answers gives the vectors: what one
direction for all inputs reaches by the first token, and what each input's own does. Thresholds, probes and directions
are fitted on training prompts and chosen on validation; the test prompts are counted. From these comes the forecast,
whose rule is in `studies/foresight/forecast.py`. Where `compare.py` has answered the same questions with the same
weights, or with --check, the page says how well that was predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from studies import compare
from studies.fit.controls import answer_words, is_yes_no
from studies.fit.selection import Grid
from studies.foresight.curves import by_block, over_questions
from studies.foresight.forecast import Forecast, Share, expected
from studies.foresight.readings import Readings
from studies.foresight.ways import Ways, centred, ordered_in_image, ways_of
from studies.foresight.words import Words
from studies.measure import YES_NO, Record, table
from studies.report.conclusion import conclude
from studies.report.figures.foresight import knowledge, margins
from studies.report.figures.style import both
from studies.report.foreseen import checked, expected_table, measured_in, said_of
from studies.report.tables import ExtraTable
from studies.run.arguments import Common, prepare
from studies.run.bench import CAPTURED, Bench, opened
from studies.run.command_line import run_study
from studies.run.first_words import push, reached, readings, write_answers

METRICS = tuple(metric for metric in YES_NO if metric.name != "valid")  # a first token is no sentence
CHECKED = ("NoSteering", "MeanSteering", "ConstantDirection", "LogitThreshold", "L2S", "P2S")


@dataclass(frozen=True)
class Arguments(Common):
    """Tell what steering can reach on a yes/no task."""

    pairs: int = 40  # examples of each subset whose forced answers are read, in each split; 0: no push is tried
    shown: int = 24  # test examples of each subset whose image and answers go into the report
    compared: Path | None = None  # compare.py's results; those in results/compare by default
    check: bool = False  # fit L2S and the others now, and decode: compare.py in the folder `check`


def headroom(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `forecast.json` holds what is expected, `blocks.json` the probe of each block, `questions.json` what fewer training
    questions give, `check.json` the forecast beside what was measured. Raises ValueError for a task whose answers are
    not yes and no, and for a folder that holds another recipe's results.
    """
    vlm, task, recipe = prepare(arguments)
    if not is_yes_no(task):
        kinds = sorted({example.target for example in task.prompts("val")})[:4]
        raise ValueError(
            f"{task.name} wants {', '.join(map(repr, kinds))}. The question needs targets of yes and no, since what a "
            "threshold reaches is half of the answer: take a yes/no task (shapes_pope, pope)."
        )
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    more = {"pairs": arguments.pairs, "shown": arguments.shown}
    with opened(arguments, "headroom", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        words = Words.of(vlm, bench.examples("train")[0].prompt, answer_words(task))
        train, val, test = (readings(bench, words, split) for split in ("train", "val", "test"))
        ways = ways_of(train, val, test, grid.reads)
        write_answers(bench, ways, arguments.shown)
        if arguments.pairs and recipe.scope != "generated":  # which leaves the first token as it is
            bench.account.fit(lambda size: push(bench, words, arguments.pairs, min(size, CAPTURED), arguments.shown))
        foreseen = expected(ways, test, float(train.yes.float().mean()), reached(bench, "P2S"))
        bench.results.write("forecast.json", foreseen.card())
        return report(bench, foreseen, ways, (train, val, test), measured(bench))


def measured(bench: Bench) -> dict[str, Share]:
    """What `compare.py` measured, by method: here with --check, else in its folder where it has run."""
    common: Any = bench.common
    if not common.check:
        return measured_in(common.compared or replace(common, out=None).folder("compare"), bench.results.folder)
    shared = {field.name: getattr(common, field.name) for field in fields(Common)}
    folder = bench.results.folder / "check"
    compare.compare(compare.Arguments(**shared | {"out": folder, "methods": CHECKED}))
    return measured_in(folder, bench.results.folder)


def report(
    bench: Bench,
    foreseen: Forecast,
    ways: Ways,
    parts: tuple[Readings, Readings, Readings],
    afterwards: dict[str, Share],
) -> list[Record]:
    """Table, figures and page."""
    rows = bench.rows("test")
    some = {row["id"] for row in rows if row["method"] == "P2S"}
    whole = table([row for row in rows if row["method"] != "P2S"], METRICS, skipped=len(bench.results.skipped))
    oracle = table([row for row in rows if row["id"] in some], METRICS) if some else []
    records = [*whole, *(record for record in oracle if record["method"] == "P2S")]
    blocks, questions = by_block(*parts), over_questions(*parts, foreseen.layer, seed=bench.common.seed)
    within = ordered_in_image(parts[2])
    bench.results.write("blocks.json", blocks)
    bench.results.write("questions.json", questions)
    if afterwards:
        bench.results.write("check.json", checked(foreseen, afterwards))
    pictures = draw(bench, foreseen, ways, parts, blocks, questions)
    said = foreseen.sentences
    return conclude(
        bench,
        records,
        f"Will steering help here? {bench.task.name} on {bench.vlm.name}",
        metric="accuracy",
        answer=[said[0], *said_of(foreseen, afterwards), *said[1:], *in_image(foreseen, within)],
        found=False,
        extra_figures=pictures,
        extra_tables=[expected_table(foreseen, afterwards), of_blocks(bench, blocks)],
    )


def in_image(foreseen: Forecast, within: Record | None) -> list[str]:
    """What the questions about one image say of each other; nothing where each has an image of its own."""
    if foreseen.in_image is None or within is None:
        return []
    return [
        f"Of two questions about one image, the one whose answer is yes has the higher margin in "
        f"{within['value']:.3f} ({within['low']:.3f} to {within['high']:.3f}) of {within['n']:,} pairs; a threshold "
        f"after each image's own mean is taken away reaches {foreseen.in_image}, against {foreseen.threshold} over all."
    ]


def of_blocks(bench: Bench, blocks: Sequence[Record]) -> ExtraTable:
    """The probe of each block, as a table."""
    head = ["block", "linear probe", "penalty", "may be read by L2S"]
    cell = "{value:.3f} ({low:.3f} to {high:.3f})"
    body = [
        [
            str(one["reads"]),
            cell.format(**one),
            f"{one['penalty']:g}",
            "yes" if one["reads"] in bench.grid.reads else "",
        ]
        for one in blocks
    ]
    return "what each block's last prompt token knows", head, body


def draw(
    bench: Bench,
    foreseen: Forecast,
    ways: Ways,
    parts: tuple[Readings, Readings, Readings],
    blocks: Sequence[Record],
    questions: Sequence[Record],
) -> list[tuple[Path, str]]:
    """The figures with what is to be said below each."""
    folder, (train, _, test) = bench.results.folder, parts
    note = f"{bench.task.name}, test, n = {len(test):,}, {bench.vlm.name}"
    levels = [
        ("threshold", "LogitThreshold", foreseen.threshold.value),
        ("unsteered", "NoSteering", foreseen.unsteered.value),
    ]
    known = both(folder, "knowledge", lambda theme: knowledge(blocks, questions, levels, caption=note, theme=theme))
    truth = test.yes.numpy()
    panels = [("as the model gives them", test.margins.numpy(), ways.cut)]
    if ways.cut_in_image is not None:
        own = centred(test, float(train.margins.mean())).numpy()
        panels.append(("less the mean of the image's questions", own, ways.cut_in_image))
    apart = both(folder, "margins", lambda theme: margins(panels, truth, caption=note, theme=theme))
    return [
        (
            known,
            "What the last prompt token knows: a linear probe of each block, its penalty chosen on validation, beside "
            f"the threshold and the unsteered model; and the probe of block {foreseen.layer} and the threshold fitted "
            f"on fewer training questions, several draws of each number. {note}; bands are 95% intervals.",
        ),
        (apart, f"What the first token of the reply says of the questions, by their right answer. {note}."),
    ]


def main() -> None:
    run_study("headroom", headroom, Arguments, __doc__)


if __name__ == "__main__":
    main()
