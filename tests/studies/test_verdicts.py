"""Verdicts: each is asked once and kept; a failure is its item's alone, and an outage ends the asking."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studies.judges import Answer, Reply, Verdicts, rate
from studies.judges.verdicts import IN_A_ROW, content_key
from tests.studies.endpoints import chat, endpoint, serving


def test_whatever_one_item_meets_the_others_are_judged(tmp_path: Path) -> None:
    class Odd:
        name, version, workers = "odd", "", 2

        def ask(self, text: str, image: Any = None) -> Answer:
            if "bad" in text:
                raise ZeroDivisionError("by zero")
            return Answer("Rating: 5")

    replies = [Reply("a", None, "good"), Reply("b", None, "bad"), Reply("c", tmp_path / "none.png", "good too")]
    outcome = rate(Odd(), replies, Verdicts())
    assert outcome.values == [5, None, 5]
    assert outcome.failed == {"b": "ZeroDivisionError: by zero"}


def test_an_answer_without_a_verdict_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = [""]
    replies = [Reply("a", None, "x")]
    with serving(lambda body: (200, {}, chat(said[0])), monkeypatch) as seen:
        outcome = rate(endpoint(), replies, Verdicts(tmp_path / "v.jsonl"))
        assert (outcome.values, outcome.failed) == ([None], {"a": "the answer is no verdict: ''"})
        assert not (tmp_path / "v.jsonl").exists()
        said[0] = "Rating: 6"
        assert rate(endpoint(), replies, Verdicts(tmp_path / "v.jsonl")).values == [6]
        assert len(seen) == 2


def test_a_judge_that_is_away_is_not_asked_on_and_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns = iter(range(1000))

    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (200, {}, chat("Rating: 1")) if next(turns) < 5 else (401, {}, "who?")

    replies = [Reply(str(n), None, f"reply {n}") for n in range(60)]
    with serving(react, monkeypatch) as seen:
        outcome = rate(endpoint(workers=1), replies, Verdicts(tmp_path / "v.jsonl"))
        assert len(seen) == 5 + IN_A_ROW
    assert sum(value == 1 for value in outcome.values) == 5
    assert sum("not asked" in reason for reason in outcome.failed.values()) == 60 - 5 - IN_A_ROW


def test_refusals_of_single_items_stop_nothing_once_one_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter(range(1000))

    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (200, {}, chat("Rating: 1")) if next(turns) in (0, 59) else (400, {}, "filtered")

    replies = [Reply(str(n), None, f"reply {n}") for n in range(60)]
    with serving(react, monkeypatch) as seen:
        outcome = rate(endpoint(workers=1), replies, Verdicts())
        assert len(seen) == 60
    assert sum(value == 1 for value in outcome.values) == 2
    with serving(lambda body: (400, {}, "no such field"), monkeypatch) as seen:
        assert set(rate(endpoint(workers=1), replies, Verdicts()).values) == {None}
        assert len(seen) == IN_A_ROW


def test_a_torn_line_of_the_file_costs_that_verdict_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    replies = [Reply(str(n), None, f"reply {n}") for n in range(3)]
    with serving(lambda body: (200, {}, chat("Rating: 4")), monkeypatch) as seen:
        rate(endpoint(), replies, Verdicts(file))
        file.write_bytes(file.read_bytes()[:-9])
        assert len(Verdicts(file)) == 2
        assert rate(endpoint(), replies, Verdicts(file)).values == [4, 4, 4]
        assert len(seen) == 4
    assert len(Verdicts(file)) == 3


def test_equal_pixels_are_one_content_wherever_they_lie(tmp_path: Path) -> None:
    image = Image.new("RGB", (3, 2), "red")
    assert content_key("j", "1", "text", image) == content_key("j", "1", "text", image.copy())
    keys = {
        content_key("j", "1", "text", image),
        content_key("j", "2", "text", image),
        content_key("j", "1", "tex", image),
    }
    assert len(keys | {content_key("j", "1", "t", "ext", image), content_key("j", "1", "text")}) == 5
