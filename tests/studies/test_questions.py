"""What judges are asked in words: what their words mean, and in which order they see two captions."""

from typing import Any

import pytest

from studies.judges import Duel, Verdicts, compare_captions, win_rate
from studies.judges.questions import parse_preference, parse_rating
from tests.studies.endpoints import chat, endpoint, serving, shown


def test_the_order_of_two_captions_is_drawn_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        text = shown(body)
        return 200, {}, chat(f"Preference: {1 if text.index('good') < text.index('poor') else 2}, since it is good.")

    duels = [Duel(str(n), None, "a good one", f"a poor one {n}") for n in range(40)]
    with serving(react, monkeypatch) as seen:
        outcome = compare_captions(endpoint(), duels, Verdicts(), seed=0)
        first = sum(shown(body).index("good") < shown(body).index("poor") for body in seen)
    assert outcome.values == ["one"] * 40
    assert 10 < first < 30
    assert win_rate([*outcome.values, None, "other"]) == {"win_rate": 40 / 41, "n": 41, "undecided": 1}


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: 7\nExplanation: x", 7),
        ("**Rating:** 0", 0),
        ("rating - 9.0", 9),
        ("Rating: 12", None),
        ("Rating: 6.5", 6.5),
        ("Rating (0-9): 7", 7),
        ("Rating: 0-9: 5", 5),
        ("Rating: <0-9> 4", 4),
        ("Rating (0 to 9): **8**\nExplanation: 2 dogs: 1 brown", 8),
        ("Rating: 8. Explanation: it shows: 2", 8),
        ("**Rating**:\n\n3", 3),
        ("My rating is 7", 7),
        ("I would give a rating of 7, for 2 dogs", 7),
        ("Rating (out of 9): 6", 6),
        ("7/9", 7),
        ("Rating: 7 out of 9", 7),
        ("**7**", 7),
        ("7.5\nThe image shows 3 men.", 7.5),
        ("Rating: 7-8", None),
        ("Rating: -3", None),
        ("Rating: 9.5", None),
        ("Rating: none", None),
        ("My rating follows from the 2 dogs", None),
        ("I see 2 dogs", None),
        ("seven", None),
        ("", None),
    ],
)
def test_ratings_are_read_from_words(text: str, rating: float | None) -> None:
    assert parse_rating(text) == rating


def test_preferences_are_read_from_words() -> None:
    said = {"Preference: 2": 2, "**Preference: 1** as": 1, "Preference (1 or 2): 2": 2, "Caption 2": None, "": None}
    assert {text: parse_preference(text) for text in said} == said
