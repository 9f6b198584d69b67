"""Laws of the finding: it is computed, and says so whichever way the table falls."""

from studies.measure import accuracy, table
from studies.report.findings import against_best, finding, leaders


def record(method, value, *, difference=0.1, spread=0.05, **fields):
    return (
        {"task": "shapes_pope", "subset": "all", "method": method, "strength": 1.0, "reads": 6, "writes": 4}
        | {"metric": "accuracy", "value": value, "low": value - 0.01, "high": value + 0.01, "n": 100}
        | {"difference": difference, "difference_low": difference - spread, "difference_high": difference + spread}
        | {"seeds": 1}
        | fields
    )


BASE = record("NoSteering", 0.8, difference=0.0, spread=0.0)


def test_the_finding_follows_the_table_whichever_way_it_falls():
    better = [BASE, record("L2S", 0.9), record("MeanSteering", 0.82), record("P2S", 0.99)]
    said = finding(better, "accuracy")
    assert said[0].startswith(
        "On shapes_pope, L2S has the highest accuracy of the methods that steer, 0.900, 0.100 above"
    )
    assert said[-1].startswith("The oracle P2S")
    assert "L2S" not in finding([*better, record("MeanSteeringBA", 0.95)], "accuracy")[0]
    assert "cannot be told from NoSteering" in finding([BASE, record("L2S", 0.81, difference=0.01)], "accuracy")[0]
    assert "no method that steers beats" in finding([BASE, record("L2S", 0.7, difference=-0.1)], "accuracy")[0]
    assert "no value" in finding([BASE, record("L2S", 0.9) | {"value": None}], "accuracy")[0]
    lower = finding(
        [BASE, record("L2S", 0.1, difference=-0.7), record("MeanSteering", 0.3)], "accuracy", lower_is_better=True
    )
    assert "L2S has the lowest accuracy of the methods that steer, 0.100, 0.700 below" in lower[0]


def test_the_finding_says_when_a_control_is_not_beaten():
    steered = [BASE, record("L2S", 0.9)]
    assert finding([*steered, record("LogitThreshold", 0.9)], "accuracy")[1].startswith("It does not beat the control")
    assert "though its interval overlaps" in finding([*steered, record("LogitThreshold", 0.89)], "accuracy")[1]
    assert finding([*steered, record("LogitThreshold", 0.8)], "accuracy")[1] == (
        "It is ahead of the control LogitThreshold (0.800)."
    )


def test_all_that_cannot_be_told_from_the_best_are_named():
    def rows(method, wrong):
        setting = {"method": method, "strength": 1.0, "reads": 6, "writes": 4, "seed": 0, "task": "t", "split": "val"}
        return [
            {"id": f"{n:02}", "subset": "s", "target": "yes", "parsed": "no" if n < wrong else "yes"} | setting
            for n in range(40)
        ]

    answered = rows("NoSteering", 30) + rows("L2S", 4) + rows("MeanSteering", 5) + rows("NormRnd", 28) + rows("P2S", 0)
    records = against_best(table(answered, [accuracy]), answered, accuracy)
    assert [record["method"] for record in leaders(records, "accuracy")] == ["L2S", "MeanSteering"]
    said = finding(records, "accuracy")
    assert said[1] == (
        "MeanSteering (\u22120.025) cannot be told apart from the best: its paired 95% interval holds 0."
    )
    apart = [record for record in records if record["method"] != "MeanSteering"]
    assert finding(apart, "accuracy")[1] == "The paired 95% intervals of all other methods that steer leave it ahead."
    lower = against_best(table(answered, [accuracy]), answered, accuracy, lower_is_better=True)
    assert [record["method"] for record in leaders(lower, "accuracy", lower_is_better=True)] == ["NormRnd"]


def test_settings_chosen_on_the_table_are_called_that():
    said = finding([BASE, record("L2S", 0.9), record("L2S", 0.91, strength=2.0)], "accuracy")[0]
    assert "L2S strength 2.0 (the best of its 2 settings in this table, chosen here)" in said
