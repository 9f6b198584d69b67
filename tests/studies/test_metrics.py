"""Laws of the metrics: equal to scikit-learn's, indifferent to order, honest intervals, exact pairs."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from studies.measure import YES_NO, difference, estimate, ratio, table

NAN = float("nan")


def make_rows(pairs, *, method="L2S", seed=0, subsets=("random", "popular")):
    """A row for each (target, parsed)."""
    return [
        {"id": f"test/{index}", "task": "shapes_pope", "split": "test", "subset": subsets[index % len(subsets)]}
        | {"behavior": "", "method": method, "strength": 1.0, "reads": 6, "writes": 4, "seed": seed}
        | {"question": "is there a cup ?", "target": target, "reply": parsed, "parsed": parsed, "image": ""}
        | {"valid": parsed != ""}
        for index, (target, parsed) in enumerate(pairs)
    ]


def by_name(records, field="value"):
    return {(record["subset"], record["metric"]): record[field] for record in records}


answers = st.lists(
    st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no", ""])), min_size=1, max_size=40
)
few = settings(max_examples=30, deadline=None)


@few
@given(answers)
def test_yes_no_metrics_equal_scikit_learn(pairs):
    target, parsed = zip(*pairs, strict=True)
    value = by_name(estimate(make_rows(pairs), YES_NO, resamples=2))
    assert value["all", "accuracy"] == accuracy_score(target, parsed)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        (theirs,) = score(target, parsed, labels=["yes"], average=None, zero_division=NAN)
        assert value["all", name] == theirs or (math.isnan(value["all", name]) and math.isnan(theirs))
    assert value["all", "yes_ratio"] == parsed.count("yes") / len(parsed)
    assert value["all", "unparsable"] == parsed.count("") / len(parsed)
    assert value["all", "valid"] == (len(parsed) - parsed.count("")) / len(parsed)


@few
@given(answers)
def test_the_interval_contains_the_value(pairs):
    for record in estimate(make_rows(pairs), YES_NO, resamples=400):
        if not math.isnan(record["value"]):
            assert record["low"] <= record["value"] <= record["high"]


def test_the_interval_has_the_width_that_theory_gives():
    pairs = [("yes", "yes")] * 300 + [("yes", "no")] * 100
    record = estimate(make_rows(pairs, subsets=("random",)), YES_NO)[0]
    error = math.sqrt(0.75 * 0.25 / 400)
    assert record["low"] == pytest.approx(0.75 - 1.96 * error, abs=0.006)
    assert record["high"] == pytest.approx(0.75 + 1.96 * error, abs=0.006)


@few
@given(answers, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(pairs, shuffler):
    rows = (
        make_rows(pairs)
        + make_rows(pairs[::-1], seed=1)
        + make_rows(pairs, seed=2)
        + make_rows(pairs, method="NoSteering")
    )
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    assert repr(table(rows, YES_NO, resamples=20)) == repr(table(shuffled, YES_NO, resamples=20))


@few
@given(answers, st.integers(0, 3))
def test_a_method_minus_itself_is_exactly_zero(pairs, seed):
    rows = make_rows(pairs)
    for record in difference(rows, make_rows(pairs, method="NoSteering"), YES_NO, resamples=50, seed=seed):
        numbers = [record[name] for name in ("value", "low", "high")]
        assert numbers == [0, 0, 0] or all(math.isnan(number) for number in numbers)


@few
@given(answers)
def test_a_difference_is_the_difference_of_the_values_and_changes_sign(pairs):
    rows, others = make_rows(pairs), make_rows([(target, "yes") for target, _ in pairs])
    there = difference(rows, others, YES_NO, resamples=50)
    back = difference(others, rows, YES_NO, resamples=50)
    ours, theirs = by_name(estimate(rows, YES_NO, resamples=2)), by_name(estimate(others, YES_NO, resamples=2))
    for record, reverse in zip(there, back, strict=True):
        name = record["subset"], record["metric"]
        np.testing.assert_equal(record["value"], ours[name] - theirs[name])
        np.testing.assert_allclose(record["low"], -reverse["high"], atol=1e-12)


def test_pairing_removes_what_both_methods_share():
    generator = random.Random(0)
    baseline = [("yes", generator.choice(["yes", "no"])) for _ in range(400)]
    better = [("yes", "yes")] * 20 + baseline[20:]
    paired = difference(make_rows(better), make_rows(baseline), YES_NO[:1])[0]
    alone = estimate(make_rows(better), YES_NO[:1])[0]
    assert paired["high"] - paired["low"] < (alone["high"] - alone["low"]) / 2


def test_seeds_are_averaged_example_by_example():
    wrong, right = make_rows([("yes", "no")] * 8), make_rows([("yes", "yes")] * 8, seed=1)
    record = estimate(wrong + right, YES_NO, resamples=100)[0]
    # Each example is half right, so there is nothing left for the choice of examples to vary; seeds vary all the more.
    assert (record["value"], record["low"], record["high"]) == (0.5, 0, 1)
    assert (record["n"], record["seeds"]) == (8, 2)


def test_intervals_hold_what_seeds_add_and_a_method_minus_itself_is_nothing():
    seeds = [[("yes", "yes" if n >= least else "no") for n in range(20)] for least in (0, 10, 20)]
    rows = [row for seed, pairs in enumerate(seeds) for row in make_rows(pairs, seed=seed, subsets=("random",))]
    several = estimate(rows, YES_NO)[0]
    assert (several["value"], several["n"], several["seeds"]) == (pytest.approx(0.5), 20, 3)
    # Three seeds of accuracies 1, 0.5 and 0: three draws are all the best, or all the worst, once in 27 times each.
    assert several["low"] < 0.1
    assert several["high"] > 0.9
    itself = difference(rows, rows, YES_NO)[0]
    assert (itself["value"], itself["low"], itself["high"]) == (0, 0, 0)
    one = rows[:20]
    gap = difference(rows, one, YES_NO)[0]
    assert gap["low"] < -0.8 < gap["value"] < 0 == gap["high"]
    lines = {line["method"]: line for line in table(rows + make_rows(seeds[0], method="NoSteering"), YES_NO[:1])}
    assert lines["L2S"]["difference_low"] < -0.8


def test_a_table_compares_with_the_method_as_it_is_and_not_with_its_variants():
    right, wrong = make_rows([("yes", "yes")] * 4), make_rows([("yes", "no")] * 4)
    rows = [row | {"variant": None} for row in right] + [row | {"variant": "hidden=4"} for row in wrong]
    first, *others = table(rows, YES_NO[:1], "L2S", resamples=10)
    assert (first["variant"], first["difference"], first["baseline"]) == (None, 0, "L2S")
    assert {line["difference"] for line in others if line["variant"]} == {-1}


def test_questions_about_one_image_are_drawn_together():
    rows = make_rows([("yes", "yes")] * 30 + [("yes", "no")] * 30, subsets=("random",))
    for index, row in enumerate(rows):
        row["unit"] = f"images/{index // 10}.png"
    apart, together = estimate(rows, YES_NO, unit="id")[0], estimate(rows, YES_NO)[0]
    assert together["value"] == apart["value"]
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


@pytest.mark.filterwarnings("error")
def test_undefined_metrics_are_nan_and_never_a_crash():
    records = estimate(make_rows([("no", "no")] * 4), [*YES_NO, ratio("over", lambda row: 1.0, lambda row: 0.0)])
    assert math.isnan(by_name(records)["all", "over"])
    assert all(math.isnan(by_name(records, field)["all", "f1"]) for field in ("value", "low", "high"))


def test_all_pools_the_subsets():
    rows = make_rows([("yes", "yes"), ("yes", "no")] * 3)
    value = by_name(estimate(rows, YES_NO, resamples=2))
    assert (value["random", "accuracy"], value["popular", "accuracy"], value["all", "accuracy"]) == (1, 0, 0.5)


def test_a_ratio_may_count_some_rows_only():
    recall_again = ratio(
        "again", lambda row: row["parsed"] == row["target"] == "yes", lambda row: row["target"] == "yes"
    )
    record = estimate(make_rows([("yes", "yes"), ("yes", "no"), ("no", "yes")]), [recall_again], resamples=2)[0]
    assert (record["value"], record["n"]) == (0.5, 2)


def test_a_table_has_a_line_for_each_group_subset_and_metric_with_the_baseline_first():
    rows = make_rows([("yes", "yes")] * 4) + make_rows([("yes", "no")] * 4, method="NoSteering")
    for row in make_rows([("yes", "yes")] * 4):
        rows.append(row | {"strength": 2.0, "reads": None})
    records = table(rows, YES_NO, skipped=3, resamples=10)
    assert len(records) == 3 * 3 * len(YES_NO)
    assert records[0]["method"] == "NoSteering"
    assert records[0]["difference"] == 0
    assert {record["skipped"] for record in records} == {3}
    last = next(record for record in records if record["strength"] == 2.0 and record["metric"] == "accuracy")
    assert (last["difference"], last["difference_low"], last["difference_high"]) == (1, 1, 1)
    names = ["task", "subset", "method", "strength", "reads", "writes", "metric", "value", "low", "high", "n", "seeds"]
    assert set(names) <= set(last)


def test_without_the_baseline_a_table_has_no_differences():
    assert all(math.isnan(record["difference"]) for record in table(make_rows([("yes", "yes")]), YES_NO, resamples=2))


def test_what_cannot_be_compared_is_refused_and_named():
    rows = make_rows([("yes", "yes")] * 5)
    with pytest.raises(ValueError, match=r"2 are on one side alone \(test/3, test/4\)"):
        difference(rows, rows[:3], YES_NO)
    with pytest.raises(ValueError, match="some reply counts twice"):
        estimate(rows + rows[:1], YES_NO)
    with pytest.raises(ValueError, match=r"1 replies are missing: test/4 \(seed 1\)"):
        estimate(rows + make_rows([("yes", "yes")] * 4, seed=1), YES_NO)
    with pytest.raises(ValueError, match="mix splits test, val"):
        table([*rows, rows[0] | {"split": "val"}], YES_NO)
    with pytest.raises(ValueError, match="NoSteering ran in 2 settings"):
        table([row | {"method": "NoSteering", "strength": s} for row in rows for s in (0, 1)], YES_NO)
    with pytest.raises(ValueError, match="no rows to measure"):
        estimate([], YES_NO)
