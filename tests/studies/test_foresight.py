"""What is told of steering before it: thresholds, probes and the forecast, on readings whose answer is known."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch

from studies.foresight.curves import by_block, over_questions
from studies.foresight.forecast import TAKEN, Share, forecast
from studies.foresight.probe import PENALTIES, chosen_probe, ridge_probes
from studies.foresight.readings import Readings
from studies.foresight.ways import as_words, ordered_in_image, right, ways_of
from studies.measure.threshold import best_threshold

WIDTH = 6


def planted(
    questions: int, *, seed: int, known: float = 4.0, told: float = 4.0, offset: float = 0.0, per_image: int = 1
) -> Readings:
    """Questions whose answer lies in one direction of block 1's states and in the margin, each so clearly.

    `known` and `told` are distances in standard deviations of the noise; `offset` is that of an image's own shift of
    the margins. Block 0 knows nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    yes = torch.arange(questions) % 2 == 0
    sign = yes.float() * 2 - 1
    states = torch.randn(questions, 2, WIDTH, generator=generator)
    states[:, 1, 2] += sign * known / 2
    images = questions // per_image
    shift = torch.randn(images, generator=generator).repeat_interleave(per_image) * offset
    margins = sign * told / 2 + torch.randn(questions, generator=generator) + shift + 3
    units = tuple(f"image-{number // per_image}" for number in range(questions))
    names = tuple(f"question-{number}" for number in range(questions))
    return Readings(states, margins, yes, as_words(margins > 0), names, units, (0, 1))


def splits(**how: float) -> tuple[Readings, Readings, Readings]:
    train, validation, judged = (planted(n, seed=s, **how) for s, n in enumerate((400, 200, 400)))  # type: ignore[arg-type]
    return train, validation, judged


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_answers_more_training_questions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    margins = torch.randint(-3, 4, (11,), generator=generator).float()  # many are equal, as in half precision
    yes = torch.rand(11, generator=generator) < 0.5
    every = (torch.arange(-8, 9) / 2).tolist()
    most = max(int(((margins > cut) == yes).sum()) for cut in every)
    assert int(((margins > best_threshold(margins, yes)) == yes).sum()) == most


def test_a_probe_is_the_closed_form_of_ridge() -> None:
    train = planted(50, seed=3)
    states, wanted = train.at(1).double(), train.yes.double() * 2 - 1
    mean, size = states.mean(dim=0), states.std(dim=0, correction=0)
    features = (states - mean) / size
    for probe in ridge_probes(train, 1):
        gram = features.T @ features + probe.penalty * torch.eye(WIDTH, dtype=torch.double)
        weights = torch.linalg.solve(gram, features.T @ (wanted - wanted.mean()))
        torch.testing.assert_close(probe.scores(train), features @ weights + wanted.mean())


def test_a_probe_of_more_widths_than_questions_is_ridge_too() -> None:
    train = planted(5, seed=3).rows(range(4))
    (probe,) = ridge_probes(train, 1, [10.0])
    states = train.at(1).double()
    features = (states - states.mean(dim=0)) / states.std(dim=0, correction=0)
    gram = features @ features.T + 10 * torch.eye(4, dtype=torch.double)
    wanted = train.yes.double() * 2 - 1
    torch.testing.assert_close(probe.scores(train), features @ features.T @ torch.linalg.solve(gram, wanted))


def test_the_probe_finds_the_block_that_knows() -> None:
    train, validation, judged = splits()
    probe = chosen_probe(train, validation, (0, 1))
    assert probe.layer == 1
    assert probe.penalty in PENALTIES
    best = 0.5 * (1 + torch.erf(torch.tensor(2 / 2**0.5)))  # of any rule, the answers being 4 deviations apart
    assert probe.accuracy(judged) == pytest.approx(float(best), abs=0.03)
    assert int(probe.weights.abs().argmax()) == 2
    blocks = by_block(train, validation, judged)
    assert [record["reads"] for record in blocks] == [0, 1]
    assert blocks[0]["value"] < 0.6 < blocks[1]["value"]


def test_judged_answers_decide_nothing() -> None:
    train, validation, judged = splits(offset=2.0, per_image=2)
    turned = Readings(**{**vars(judged), "yes": ~judged.yes})
    one, other = (ways_of(train, validation, part, (0, 1)) for part in (judged, turned))
    assert (one.threshold, one.in_image, one.probe) == (other.threshold, other.in_image, other.probe)


def test_within_an_image_its_own_shift_does_not_matter() -> None:
    train, validation, judged = splits(told=6.0, offset=20.0, per_image=2)
    ways = ways_of(train, validation, judged, (1,))
    assert ways.in_image is not None
    assert right(ways.threshold, judged).mean() < 0.7
    assert right(ways.in_image, judged).mean() > 0.97


def test_an_image_of_one_question_has_no_threshold_of_its_own() -> None:
    train, validation, judged = splits()
    assert ways_of(train, validation, judged, (1,)).in_image is None
    assert ordered_in_image(judged) is None


def test_pairs_within_an_image_are_counted_one_by_one() -> None:
    readings = planted(24, seed=5, told=1.0, offset=3.0, per_image=4)
    readings.margins[1] = readings.margins[0]  # an equal pair counts half
    above = [
        1.0 if readings.margins[i] > readings.margins[j] else 0.5 if readings.margins[i] == readings.margins[j] else 0.0
        for i, j in product(range(24), range(24))
        if readings.units[i] == readings.units[j] and readings.yes[i] and not readings.yes[j]
    ]
    found = ordered_in_image(readings)
    assert found is not None
    assert (found["n"], found["units"]) == (24, 6)
    assert found["value"] == pytest.approx(np.mean(above))
    assert found["low"] <= found["value"] <= found["high"]


def test_where_the_threshold_is_as_good_as_the_probe_only_a_shift_is_left() -> None:
    found = forecast(*splits(known=2.0, told=2.0))
    assert not found.helps
    assert found.gap.low <= 0
    assert found.l2s == found.push == found.threshold
    assert found.threshold.value > found.unsteered.value  # the margins lie 3 too high
    assert "no more than that" in found.sentences[0]


def test_where_the_state_knows_more_l2s_takes_most_of_it() -> None:
    found = forecast(*splits(known=4.0, told=1.0))
    assert found.helps
    assert found.gap.value == pytest.approx(found.probe.value - found.threshold.value)
    assert found.l2s.value == pytest.approx(found.threshold.value + TAKEN * found.gap.value)
    assert found.threshold.low < found.l2s.low < found.l2s.value < found.l2s.high < found.probe.high
    assert found.l2s.value > found.push.value + 0.15
    assert found.layer == 1
    assert "should help" in found.sentences[0]


def test_where_nothing_is_known_nothing_is_promised() -> None:
    readings = [Readings(**{**vars(one), "margins": one.margins - 3}) for one in splits(known=0.0, told=4.0)]
    found = forecast(*(Readings(**{**vars(one), "said": as_words(one.margins > 0)}) for one in readings))
    assert not found.helps
    assert found.l2s.value == pytest.approx(found.unsteered.value, abs=0.01)
    assert "hardly help" in found.sentences[0]


def test_an_oracle_that_turns_few_answers_is_the_bound() -> None:
    bound = Share(0.7, 0.65, 0.75, 100, 100)
    found = forecast(*splits(known=4.0, told=1.0), oracle=bound)
    assert found.l2s == bound
    assert "oracle" in found.reason


def test_the_mean_vector_moves_something_only_where_one_answer_prevails() -> None:
    train, validation, judged = splits()
    assert forecast(train, validation, judged).mean.value == right(judged.said, judged).mean()
    skewed = train.rows([i for i in range(400) if train.yes[i] or i % 4 == 1])
    found = forecast(skewed, validation, judged)
    assert found.mean == found.threshold


def test_training_questions_of_one_answer_are_refused() -> None:
    train, validation, _ = splits()
    with pytest.raises(ValueError, match="All 200 training questions have one answer"):
        forecast(train.rows(range(0, 400, 2)), validation)


def test_intervals_are_over_images() -> None:
    judged = planted(400, seed=2)
    alone = forecast(planted(400, seed=0), planted(200, seed=1), judged).unsteered
    tenfold = Readings(**{**vars(judged.rows([i for i in range(40) for _ in range(10)]))})
    copied = forecast(planted(400, seed=0), planted(200, seed=1), tenfold).unsteered
    assert (alone.n, alone.units, copied.n, copied.units) == (400, 400, 400, 40)
    assert copied.high - copied.low > 2 * (alone.high - alone.low)


def test_more_training_questions_make_a_better_probe() -> None:
    records = over_questions(*splits(known=3.0), 1)
    probe = [record for record in records if record["way"] == "probe"]
    assert [record["questions"] for record in probe] == [25, 50, 100, 200, 400]
    assert [record["seeds"] for record in probe] == [5, 5, 5, 5, 1]
    assert probe[-1]["value"] > probe[0]["value"]
    assert all(record["low"] <= record["value"] <= record["high"] for record in records)


def test_readings_are_kept_whole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    readings = planted(8, seed=0, per_image=2)
    readings.save(tmp_path / "kept")
    again = Readings.load(tmp_path / "kept")
    assert_same(readings, again)
    with pytest.raises(ValueError, match="Block 7 was not read; there are 0, 1"):
        again.at(7)


def assert_same(one: Readings, other: Readings, names: Sequence[str] = ("states", "margins", "yes")) -> None:
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
    assert (one.said, one.id, one.units, one.layers) == (other.said, other.id, other.units, other.layers)
