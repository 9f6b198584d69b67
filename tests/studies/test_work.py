"""Several questions about one image are no independent ones: intervals that know it cover the truth."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from interv import Prompt
from methods import ADHH, P2S, Contrasts
from studies.calibrate.regret import halved
from studies.fit.setting import Setting
from studies.measure import YES_NO, Row, difference, estimate, ratio, table
from studies.measure.fidelity import averaged
from studies.measure.geometry import alike
from studies.report.validation import apart
from studies.run.answer import answer, row_of
from studies.run.results import Results
from studies.run.work import Job, Unit
from studies.tasks import TASKS, Example
from tests.tiny_models import build

IMAGES, QUESTIONS = 60, 6
ACCURACY = YES_NO[:1]


def rows_of(right: np.ndarray, method: str = "L2S") -> list[Row]:
    """A row for each image and question."""
    return [
        {"id": f"{image}/{question}", "unit": f"{image}.jpg", "subset": "random", "method": method, "seed": 0}
        | {"task": "pope", "split": "test", "strength": None, "reads": None, "writes": None}
        | {"target": "yes", "parsed": "yes" if ok else "no", "valid": True}
        for image, answers in enumerate(right)
        for question, ok in enumerate(answers)
    ]


def drawn(generator: np.random.Generator, mean: float = 0.7) -> np.ndarray:
    """Whether each question is answered rightly: images differ in how hard they are."""
    hardness = generator.beta(mean, 1 - mean, (IMAGES, 1))
    return generator.random((IMAGES, QUESTIONS)) < hardness


@pytest.mark.slow
def test_intervals_of_clustered_answers_cover_the_truth_nineteen_times_in_twenty() -> None:
    generator = np.random.default_rng(0)
    covered, covered_gap = 0, 0
    for _ in range(200):
        better, plain = drawn(generator, 0.7), drawn(generator, 0.6)
        record = estimate(rows_of(better), ACCURACY, resamples=400)[0]
        gap = difference(rows_of(better), rows_of(plain, "NoSteering"), ACCURACY, resamples=400)[0]
        covered += record["low"] <= 0.7 <= record["high"]
        covered_gap += gap["low"] <= 0.1 <= gap["high"]
    assert 0.90 <= covered / 200 <= 0.99
    assert 0.90 <= covered_gap / 200 <= 0.99


def test_a_table_says_how_many_examples_and_units_each_metric_stands_on() -> None:
    rows = rows_of(drawn(np.random.default_rng(1)))
    few = ratio("few", lambda row: 1.0, lambda row: row["unit"] in ("0.jpg", "1.jpg") and not row["id"].endswith("0"))
    sizes = {r["metric"]: (r["n"], r["units"]) for r in table(rows, [*ACCURACY, few], resamples=2)}
    assert sizes == {"accuracy": (360, 60), "few": (10, 2)}


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="No row has a field 'imge'"):
        estimate(rows_of(np.ones((1, 1))), ACCURACY, unit="imge")


def test_every_row_names_its_unit() -> None:
    task = TASKS["shapes_pope"]()
    example = replace(task.prompts("val")[0], unit="scene.png")
    assert row_of(task, "val", example, {}, "")["unit"] == "scene.png"


def test_vectors_about_one_image_are_drawn_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=IMAGES), QUESTIONS)
    units = [str(number // QUESTIONS) for number in range(len(values))]
    alone, together = averaged(values), averaged(values, units)
    assert together["value"] == alone["value"]
    assert together["high"] - together["low"] > 1.8 * (alone["high"] - alone["low"])
    assert (together["n"], together["units"]) == (360, 60)
    # Copies of a few directions: compared with each other they would look alike.
    vectors = torch.eye(8).repeat_interleave(3, dim=0)
    (found,) = alike(vectors, ("a",) * 24, [str(number // 3) for number in range(24)])
    assert (found["value"], found["low"], found["high"], found["n"], found["units"]) == (0, 0, 0, 24, 8)


def test_choosing_and_judging_share_no_unit() -> None:
    examples = [
        Example(f"{subset}-{n}", Prompt(None, "?"), subset, "", "", f"{n // 2}.jpg")
        for n in range(12)
        for subset in "ab"
    ]
    for one, other in (apart(examples, 3), halved(examples, 0)):
        assert not {example.unit for example in one} & {example.unit for example in other}
        assert len(one) + len(other) == len(examples)
        assert min(len(one), len(other)) >= 4


def test_the_oracle_alone_is_given_vectors(tmp_path: Path) -> None:
    """Others may act at blocks of which no contrasts were captured: heads anywhere, for instance."""

    class Seeing:
        count = 1
        units: ClassVar[list[Unit]] = []

        def answers(self, job: Job, units: Iterable[Unit]) -> Iterator[list[list[str]]]:
            for unit in units:
                self.units.append(unit)
                yield [["yes"] * len(unit.prompts) * len(group) for group in unit.groups]

    def oracle(reads: int, writes: int) -> Contrasts:
        assert (reads, writes) == (0, 1), "these alone were captured"
        ids = tuple(example.id for example in examples)
        return Contrasts(*torch.ones(3, len(ids), 4), ("",) * len(ids), ids, reads, writes, "")

    task = TASKS["shapes_pope"]()
    examples = task.prompts("val")[:2]
    settings = [Setting(P2S(0, 1, ""), 1.0), Setting(ADHH(2, 2, "", ((2, 0),)), 1.0)]
    with Results.open(tmp_path, {}) as results:
        how = {"batch_size": 1, "oracle": oracle, "workers": Seeing()}
        answer(build("random-llava"), task, "val", examples, settings, results, **how)
        assert len(results.done) == 4
    assert {tuple(unit.vectors) for unit in Seeing.units} == {(1,)}
