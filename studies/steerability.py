"""Per input: does steering help or hurt, and how near does each method's vector come to the input's own?

    python studies/steerability.py --task shapes_safety --model tiny-llava

Each method's setting is chosen on the first validation examples of each subset, and what it does is counted on the
others: an input is helped where a wrong answer became right, and hurt where a right one became wrong. Vectors are
compared at the layers that were chosen for L2S, on the contrasts of all validation examples. No test example is looked
at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from studies.fit.fitting import STEERING
from studies.fit.method_traits import adds, needs_vectors
from studies.fit.selection import Choice, Grid, winners
from studies.measure import ALL, Record, Row, by_setting, called, estimate, group, ratio
from studies.measure.fidelity import added, agreement, averaged
from studies.measure.geometry import alike, on_plane, plane
from studies.report.conclusion import table_of
from studies.report.figures.inputs import cosines, helped_and_hurt, projection
from studies.report.figures.style import both
from studies.report.findings import leaders
from studies.report.validation import about, apart, choose_on, finish, judged_rows
from studies.run.arguments import Common, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study

BASELINE = "NoSteering"
EFFECTS = (
    ratio("helped", lambda row: row["right"] and not row["was_right"]),
    ratio("hurt", lambda row: row["was_right"] and not row["right"]),
    ratio("repaired_of_wrong", lambda row: row["right"] and not row["was_right"], lambda row: not row["was_right"]),
    ratio("broken_of_right", lambda row: row["was_right"] and not row["right"], lambda row: row["was_right"]),
    ratio("changed", lambda row: row["changed"]),
)


@dataclass(frozen=True)
class Arguments(Common):
    """Count whom steering helps and whom it hurts."""

    methods: tuple[str, ...] = ("PromptSteering", "NormRnd", "MeanSteering", "MeanSteeringBA", "L2S", "P2S")
    screen: int = 20  # validation examples of each subset on which settings are chosen
    shown: int = 12  # examples of each subset whose image and replies go into the report


def steerability(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `effects.json` counts inputs helped and hurt, `cosines.json` compares vectors with the oracle's, `geometry.json` the
    oracle's with each other. Raises ValueError for an unknown method, and for a folder that holds another recipe's
    results.
    """
    for name in arguments.methods:
        known(name, STEERING, "method")
    vlm, task, recipe = prepare(arguments)
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    names = tuple(dict.fromkeys((BASELINE, *arguments.methods)))
    more = {"methods": names, "screen": arguments.screen, "shown": arguments.shown}
    with opened(arguments, "steerability", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        part, rest = apart(bench.examples("val"), arguments.screen)
        best = winners(choose_on(bench, part, names))
        bench.results.write("choices.json", [vars(choice) for choice in best.values()])
        rows = judged_rows(bench, rest, list(best.values()), arguments.shown)
        happened = effects(rows)
        near = to_oracle(bench, best, rows)
        write = layers(bench, best)[1]
        validation = bench.targets("val", bench.grid.reads[0], write)
        pairwise = alike(validation.vectors, validation.behavior, bench.units("val", validation))
        bench.results.write("effects.json", happened)
        bench.results.write("cosines.json", near)
        bench.results.write("geometry.json", pairwise)
        pictures = draw(bench, best, happened, near, pairwise, len(rest))
        records = table_of(bench, rows)
        answer = said(leaders(records, task.objective), happened)
        title = f"Whom does steering help? {task.name} on {vlm.name}"
        return finish(bench, rows, records, title, pictures, answer=answer)


def effects(rows: Sequence[Row]) -> list[Record]:
    """Shares of inputs that each method helped and hurt against the unsteered model, by behaviour, with intervals.

    "helped" and "hurt" are shares of all inputs; "repaired_of_wrong" and "broken_of_right" of those whose unsteered
    answer was wrong or right.
    """
    before = {row["id"]: row for row in rows if row["method"] == BASELINE}
    steered = (
        row | _change(row, before[row["id"]]) | {"subset": row["behavior"]} for row in rows if row["method"] != BASELINE
    )
    return [named | record for named, own in by_setting(steered) for record in estimate(own, EFFECTS)]


def _change(row: Row, before: Row) -> dict[str, bool]:
    right, was_right = (one["parsed"] == row["target"] for one in (row, before))
    return {"right": right, "was_right": was_right, "changed": row["parsed"] != before["parsed"]}


def said(leading: Sequence[Record], happened: Sequence[Record]) -> list[str]:
    """How many wrong answers each leading method repaired, and how many right ones it broke."""
    by_name = {(group(r), r["metric"]): r for r in happened if r["subset"] == ALL}
    sentences = []
    for leader in leading:
        repaired, broken = (by_name[group(leader), name] for name in ("repaired_of_wrong", "broken_of_right"))
        sentences.append(
            f"{called(leader)} repairs {_share(repaired)} of the answers that were wrong without steering "
            f"and breaks {_share(broken)} of those that were right."
        )
    return sentences


def _share(record: Record) -> str:
    if not np.isfinite(record["value"]):
        return "none"
    return f"{record['value']:.1%} (95% interval {record['low']:.1%} to {record['high']:.1%}, n = {record['n']:,})"


def layers(bench: Bench, best: dict[str, Choice]) -> tuple[int, int]:
    """The (reads, writes) at which vectors are compared: L2S's, else the first choice that has any."""
    ordered = [best[name] for name in ("L2S", *best) if name in best]
    reads = next((choice.reads for choice in ordered if choice.reads is not None), bench.grid.reads[0])
    return reads, next((choice.writes for choice in ordered if choice.writes is not None), bench.grid.writes[0])


def to_oracle(bench: Bench, best: dict[str, Choice], rows: Sequence[Row]) -> list[Record]:
    """Mean cosine of each method's vector to the input's own: over all inputs, by behaviour, and by what steering did.

    The last are subsets "helped", "hurt" and "neither" of the judged inputs, for the methods that answered them.
    """
    reads, writes = layers(bench, best)
    contrasts = bench.targets("val", reads, writes)
    units = np.array(bench.units("val", contrasts))
    before = {row["id"]: row for row in rows if row["method"] == BASELINE}
    records = []
    for name in best:
        if not adds(STEERING[name]) or needs_vectors(STEERING[name]):
            continue
        cosine = agreement(bench.fit(name, reads, writes, bench.common.seed).steerer, contrasts)["cosine"]
        parts = {"all": np.ones(len(contrasts), dtype=bool)}
        parts |= {
            kind: np.array([own == kind for own in contrasts.behavior]) for kind in sorted(set(contrasts.behavior))
        }
        happened = {row["id"]: _kind(**_change(row, before[row["id"]])) for row in rows if row["method"] == name}
        for kind in ("helped", "hurt", "neither"):
            parts[kind] = np.array([happened.get(id_) == kind for id_ in contrasts.id])
        for part, members in parts.items():
            if members.any():
                named = {"method": name, "reads": reads, "writes": writes, "subset": part, "metric": "cosine"}
                records.append(named | averaged(cosine[members], units[members].tolist()))
    return records


def _kind(right: bool, was_right: bool, changed: bool) -> str:
    return "neither" if right == was_right else "helped" if right else "hurt"


def draw(
    bench: Bench,
    best: dict[str, Choice],
    happened: Sequence[Record],
    near: Sequence[Record],
    pairwise: Sequence[Record],
    judged: int,
) -> list[tuple[Path, str]]:
    """The figures with what is to be said below each."""
    folder, (reads, writes) = bench.results.folder, layers(bench, best)
    contrasts = bench.targets("val", reads, writes)
    note, note_vectors = about(bench, judged), about(bench, len(contrasts)) + f"; L' = {reads}, L* = {writes}"
    shares = [record for record in happened if record["metric"] in ("helped", "hurt")]
    behaviors = ("all", *sorted(set(contrasts.behavior)))
    by_behavior = [record for record in near if record["subset"] in behaviors]
    pictures = [
        (
            both(folder, "helped", lambda theme: helped_and_hurt(shares, caption=note, theme=theme)),
            f"Share of inputs that steering repaired and broke, with 95% intervals. {note}.",
        ),
    ]
    if by_behavior:
        pictures.append(
            (
                both(folder, "cosines", lambda theme: cosines(by_behavior, caption=note_vectors, theme=theme)),
                f"Cosine of each method's vector to the input's own, with 95% intervals. {note_vectors}.",
            )
        )
    directions, mean, variance = plane(contrasts.vectors)
    panels = [("the inputs' own vectors", on_plane(contrasts.vectors, directions, mean))]
    marks: list[tuple[str, np.ndarray]] = []
    for name in (name for name in ("MeanSteering", "L2S") if name in best):
        vectors = added(bench.fit(name, reads, writes, bench.common.seed).steerer, contrasts)
        if name == "MeanSteering":
            marks.append((name, on_plane(vectors[:1], directions, mean)[0]))
        else:
            panels.append(("predicted by L2S", on_plane(vectors, directions, mean)))
    marks.append(("no steering", on_plane(torch.zeros_like(contrasts.vectors[:1]), directions, mean)[0]))
    figures = both(
        folder,
        "projection",
        lambda theme: projection(panels, contrasts.behavior, variance, marks, caption=note_vectors, theme=theme),
    )
    cosines_said = ", ".join(
        f"{r['one']}-{r['other']} {r['value']:.2f} [{r['low']:.2f} to {r['high']:.2f}]" for r in pairwise
    )
    text = "Vectors on the plane of most variance of the inputs' own. Mean cosine of two inputs' vectors, 95% interval:"
    return [*pictures, (figures, f"{text} {cosines_said}. {note_vectors}.")]


def main() -> None:
    run_study("steerability", steerability, Arguments, __doc__)


if __name__ == "__main__":
    main()
