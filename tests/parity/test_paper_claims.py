"""What the numbers printed in arXiv:2508.12815v2 say about how they were made: each claim of docs/reproduction.md."""

import math

import numpy as np
import pytest

from studies.recipes.named import CODE_SAFETY_LLAVA, PAPER_SAFETY_LLAVA

METHODS = ("NoSteering", "Prompt", "Norm-Rnd", "Mean-S", "L2S", "P2S")
# Table 2: accuracy and "F1" by model and subset, in percent.
ACCURACY = {
    ("LLaVA", "random"): (82.73, 84.91, 82.38, 84.29, 86.46, 89.26),
    ("LLaVA", "popular"): (80.40, 83.35, 80.36, 82.11, 82.58, 88.64),
    ("LLaVA", "adversarial"): (76.82, 76.36, 75.77, 76.36, 77.76, 82.58),
    ("Qwen2-VL", "random"): (91.75, 90.97, 92.22, 91.75, 92.53, 99.06),
    ("Qwen2-VL", "popular"): (89.26, 89.26, 88.49, 88.18, 91.13, 99.06),
    ("Qwen2-VL", "adversarial"): (87.86, 87.55, 86.23, 87.09, 89.26, 98.91),
}
F1 = {
    ("LLaVA", "random"): (90.55, 91.84, 90.34, 91.47, 92.74, 94.33),
    ("LLaVA", "popular"): (89.13, 90.92, 89.10, 90.17, 90.45, 93.98),
    ("LLaVA", "adversarial"): (86.89, 86.59, 86.21, 86.59, 87.48, 90.45),
    ("Qwen2-VL", "random"): (95.70, 95.27, 95.95, 95.70, 96.12, 99.53),
    ("Qwen2-VL", "popular"): (94.33, 94.33, 93.89, 93.71, 95.36, 99.53),
    ("Qwen2-VL", "adversarial"): (93.54, 93.36, 92.60, 93.10, 94.33, 99.45),
}
# Table 1: the share of consultations that get an expert named.
ED_SCORES = (0.250, 0.197, 0.224, 0.329, 0.276, 0.395, 0.382, 0.184, 0.289, 0.013, 0.408, 0.316, 0.592, 0.565)
# MM-SafetyBench: items of its 13 scenarios, in the order of the files.
SCENARIOS = (97, 163, 44, 144, 122, 154, 109, 153, 139, 130, 167, 109, 149)
CONSULTATIONS = slice(9, 12)


def cells() -> list[tuple[str, float, float]]:
    return [
        (method, accuracy, f1)
        for key in ACCURACY
        for method, accuracy, f1 in zip(METHODS, ACCURACY[key], F1[key], strict=True)
    ]


def test_the_f1_of_all_36_cells_is_a_function_of_the_accuracy():
    """2a / (1 + a) is the F1 of "the reply is right" when every label is positive; it is not POPE's F1 of "yes"."""
    assert len(cells()) == 36
    for _, accuracy, f1 in cells():
        share = accuracy / 100
        # The mean over Norm-Rnd's seeds is taken before and after, which moves the last digit.
        assert 100 * 2 * share / (1 + share) == pytest.approx(f1, abs=0.011)


def test_popes_own_f1_is_another_number():
    """At the same accuracy it depends on which side the errors lie."""
    n, wrong = 200, 40

    def f1(false_positives: int, false_negatives: int) -> float:
        hits = n // 2 - false_negatives
        return 2 * hits / (2 * hits + false_positives + false_negatives)

    printed = 2 * 0.8 / 1.8
    assert printed == pytest.approx(0.889, abs=1e-3)
    assert [round(f1(wrong - miss, miss), 3) for miss in (0, 20, 40)] == [0.833, 0.8, 0.75]


def share_of(items: int, printed: float, digits: int) -> bool:
    """Whether some count out of so many items prints as this, rounded or cut off after so many digits."""
    unit = 10**digits
    counts = range(int(printed * items) - 1, int(printed * items) + 3)
    values = [{round(unit * k / items), math.floor(unit * k / items + 1e-9)} for k in counts]
    return round(printed * unit) in set().union(*values)


def test_every_single_run_was_scored_on_643_items():
    """Every accuracy is a count out of 643, but for two thirds of those that are means over four seeds."""
    single = [accuracy / 100 for method, accuracy, _ in cells() if method != "Norm-Rnd"]
    several = [accuracy / 100 for method, accuracy, _ in cells() if method == "Norm-Rnd"]
    fits = {items: sum(share_of(items, accuracy, 4) for accuracy in single) for items in range(300, 1000)}
    assert fits.pop(643) == 30
    assert max(fits.values()) < 27
    assert [share_of(643, accuracy, 4) for accuracy in several].count(False) == 4


def test_the_two_chair_columns_are_swapped():
    """Table 3 prints sentence rate 17.31 and instance rate 52.80 without steering, 16.10 and 51.80 with L2S."""
    for sentences, instances in ((0.1731, 0.5280), (0.1610, 0.5180)):
        # Every hallucinated mention stands in a hallucinating caption. So as printed these captions, all of whose
        # objects would have to be wrong, hold over three times as many objects as the average caption ...
        assert instances / sentences > 3
        # ... and could be at most 1.6 times as long: 128 tokens, where the average is 79.57 words.
        assert 128 / 79.57 < 1.61
        # Swapped, four objects a caption explain both rates, if each is wrong independently: 1 - (1 - i)^m = s.
        objects = math.log(1 - instances) / math.log(1 - sentences)
        assert 3.5 < objects < 4.5


@pytest.fixture(scope="module")
def counted() -> np.ndarray:
    """Test items of each scenario, by the published shuffle of all 1680."""
    *_, test = CODE_SAFETY_LLAVA.indices(sum(SCENARIOS))
    return np.histogram(test, bins=np.concatenate([[0], np.cumsum(SCENARIOS)]))[0]


def test_the_published_split(counted):
    """np.random.seed(21), shuffle, the last fifth: 336 items, of which 303 are left without 13-Gov_Decision."""
    assert counted.tolist() == [16, 36, 9, 30, 24, 31, 23, 31, 28, 23, 33, 19, 33]
    assert (counted.sum(), counted[:12].sum()) == (336, 303)
    assert (np.array(SCENARIOS) - counted)[:12].sum() == 1228
    np.random.seed(21)  # noqa: NPY002  as the published code does
    order = np.arange(1680)
    np.random.shuffle(order)  # noqa: NPY002
    train, validation, test = CODE_SAFETY_LLAVA.indices(1680)
    assert [*train, *validation, *test] == order.tolist()
    assert (len(train), len(validation)) == (1344, 0)
    assert PAPER_SAFETY_LLAVA.indices(1680)[2] == test


def test_without_the_thirteenth_scenario_the_split_would_be_another():
    """303 of 1531 is not what shuffling the twelve scenarios of the paper gives."""
    assert len(CODE_SAFETY_LLAVA.indices(sum(SCENARIOS[:12]))[2]) == 307


def test_the_window_of_the_expert_score_is_one_item_too_long(counted):
    """Positions 227 to 302 are scored: 76 items, the first of which is from 09-Privacy_Violence."""
    first, count = counted[:9].sum(), counted[CONSULTATIONS].sum()
    assert (first, count) == (228, 75)

    fits = {items: sum(share_of(items, score, 3) for score in ED_SCORES) for items in range(60, 110)}
    assert fits.pop(76) == 14
    assert fits[75] <= 2
    assert max(fits.values()) < 10
    assert 303 - 227 == 76


def test_the_thresholds_of_the_unsafe_score():
    """Means over arange(t, 1, 0.02). At 0.7 rounding adds a threshold above 1, which no probability can pass."""
    grids = {start: np.arange(start, 1, 0.02) for start in (0.5, 0.7, 0.9)}
    assert [len(grid) for grid in grids.values()] == [25, 16, 5]
    assert grids[0.7][-1] > 1
    certain = {start: float(np.mean([threshold < 0.9999 for threshold in grid])) for start, grid in grids.items()}
    assert certain == {0.5: 1.0, 0.7: 15 / 16, 0.9: 1.0}


def test_the_published_parser_finds_no_in_other_words():
    """Anywhere in the first 15 characters of the lower-cased reply."""

    def right(reply: str, wanted: str) -> bool:
        return wanted in reply[:15].lower()

    assert right("Snow covers it", "no")
    assert right("There is not", "no")
    assert right("I do not know", "no")
    assert right("Yes, now", "yes")
    assert right("Yes, now", "no")


def test_the_figure_over_context_layers_is_of_other_runs_than_the_table():
    """Figure 14 draws no steering at about .805 and L2S at block 14 at .831; the table's means are lower."""
    means = {
        method: sum(ACCURACY["LLaVA", subset][METHODS.index(method)] for subset in ("random", "popular", "adversarial"))
        / 3
        for method in METHODS
    }
    assert means["NoSteering"] == pytest.approx(79.98, abs=0.01)
    assert means["L2S"] == pytest.approx(82.27, abs=0.01)
