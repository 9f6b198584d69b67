"""Judges: a failing endpoint loses no row, verdicts are asked once, and two may disagree."""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interv import VLM
from studies.compare import Arguments, compare
from studies.judges import (
    Duel,
    Endpoint,
    JudgeFailed,
    LocalJudge,
    Reply,
    Said,
    Verdict,
    Verdicts,
    agreement,
    compare_captions,
    judge_of,
    rate,
    win_rate,
)
from studies.judges.asking import parse_preference, parse_rating
from studies.judges.judge import model_name
from studies.judges.panel import Panel
from studies.judges.verdicts import IN_A_ROW
from studies.run.results import read_rows
from studies.tasks.chair.files import PINNED
from tests.studies.benchmark_files import picture, write_coco, write_json

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, str], str]]


def chat(text: Any) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def serving(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """An endpoint on this machine; the requests that it got."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, "key": self.headers["Authorization"], **body})
            status, headers, text = answer(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(body: dict[str, Any]) -> str:
    return next(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def quick(**options: Any) -> Endpoint:
    return Endpoint("judge-1", **{"pause": 0.001, "longest_pause": 0.005, **options})


def test_a_failing_and_limiting_endpoint_loses_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turn = iter(range(1000))

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        kind = next(turn) % 6
        return {
            0: (500, {}, "broken"),
            1: (429, {"Retry-After": "0.001"}, "slow down"),
            2: (200, {}, "{no json"),
            3: (200, {}, "{}"),
            4: (503, {"Retry-After": "soon"}, ""),
        }.get(kind, (200, {}, chat(f"Rating: {len(shown(body)) % 10}\nExplanation: so.")))

    replies = [Reply(f"r{n}", None, "word " * n) for n in range(12)]
    with serving(answer, monkeypatch) as seen:
        verdicts = Verdicts(tmp_path / "verdicts.jsonl")
        outcome = rate(quick(attempts=40), replies, verdicts)
        assert outcome.failed == {}
        assert all(value in range(10) for value in outcome.values)
        assert {request["path"] for request in seen} == {"/v1/chat/completions"}
        assert {request["key"] for request in seen} == {"Bearer secret"}
        asked = len(seen)
        again = rate(quick(), replies, Verdicts(tmp_path / "verdicts.jsonl"))
        assert len(seen) == asked
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")  # nobody is there: the table is made offline
    assert rate(quick(), replies, Verdicts(tmp_path / "verdicts.jsonl")).values == again.values == outcome.values
    entry = json.loads((tmp_path / "verdicts.jsonl").read_text().splitlines()[0])
    assert (entry["judge"], entry["text"][:7]) == ("judge-1", "Rating:")
    assert "secret" not in (tmp_path / "verdicts.jsonl").read_text()


def test_what_stays_unanswered_is_named_and_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    down = [True]

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (502, {}, "") if down[0] and "bad" in shown(body) else (200, {}, chat("Rating: 7"))

    replies = [Reply("a", None, "good"), Reply("b", None, "bad"), Reply("c", None, "good too")]
    with serving(answer, monkeypatch):
        verdicts = Verdicts(tmp_path / "v.jsonl")
        outcome = rate(quick(attempts=2), replies, verdicts)
        assert outcome.values == [7, None, 7]
        assert "HTTP 502" in outcome.failed["b"]
        down[0] = False
        assert rate(quick(), replies, Verdicts(tmp_path / "v.jsonl")).values == [7, 7, 7]


def test_a_refused_request_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: (401, {}, "who?"), monkeypatch) as seen, pytest.raises(JudgeFailed, match="HTTP 401"):
        quick().ask("hello")
    assert len(seen) == 1


def test_an_endpoint_that_is_not_there_is_a_failure_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")
    outcome = rate(quick(attempts=2), [Reply("a", None, "x")], Verdicts())
    assert list(outcome.failed) == ["a"]
    monkeypatch.delenv("JUDGE_URL")
    with pytest.raises(ValueError, match="JUDGE_URL"):
        quick()


def test_the_image_is_sent_and_a_missing_one_fails_its_item_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture(0).save(tmp_path / "a.png")
    replies = [Reply("a", tmp_path / "a.png", "x"), Reply("b", picture(1), "x")]
    with serving(lambda body: (200, {}, chat("Rating: 3")), monkeypatch) as seen:
        assert rate(quick(), replies, Verdicts()).values == [3, 3]
        with pytest.raises(JudgeFailed, match="cannot be read"):
            quick().ask("x", tmp_path / "none.png")
    for request in seen:
        assert request["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_the_order_of_two_captions_is_drawn_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        text = shown(body)
        return 200, {}, chat(f"Preference: {1 if text.index('good') < text.index('poor') else 2}, since it is good.")

    duels = [Duel(str(n), None, "a good one", f"a poor one {n}") for n in range(40)]
    with serving(answer, monkeypatch) as seen:
        outcome = compare_captions(quick(), duels, Verdicts(), seed=0)
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


def test_a_local_model_judges_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_URL", raising=False)
    judge = judge_of("tiny-llava")
    assert isinstance(judge, LocalJudge)
    assert isinstance(judge.vlm, VLM)
    monkeypatch.setattr(VLM, "generate", lambda *prompts, **options: ["Rating: 3"])
    outcome = rate(judge, [Reply("a", picture(0), "x")], Verdicts())
    assert outcome.verdicts == [Verdict(3, "Rating: 3", "tiny-llava", judge.vlm.fingerprint)]


def test_a_folder_is_called_by_its_name_and_a_hub_id_is_whole(tmp_path: Path) -> None:
    assert model_name("meta-llama/Llama-Guard-3-8B") == "meta-llama/Llama-Guard-3-8B"
    (tmp_path / "guard").mkdir()
    assert model_name(f"{tmp_path}/guard/") == "guard"


def test_what_the_endpoint_calls_its_model_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = json.loads(chat("Rating: 4")) | {"model": "judge-1-0514", "system_fingerprint": "fp_7"}
    with serving(lambda body: (200, {}, json.dumps(said)), monkeypatch) as seen:
        outcome = rate(quick(version="may"), [Reply("a", None, "x")], Verdicts(tmp_path / "v.jsonl"))
        assert outcome.verdicts[0].version == "may judge-1-0514 fp_7"
        assert rate(quick(version="may"), [Reply("b", None, "x")], Verdicts(tmp_path / "v.jsonl")).values == [4]
        assert len(seen) == 1


@pytest.mark.parametrize(
    "error", [http.client.IncompleteRead(b"half"), http.client.BadStatusLine("?"), http.client.InvalidURL("a port")]
)
def test_a_torn_connection_fails_its_item_alone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def post(self: Endpoint, body: dict[str, Any]) -> Any:
        if "bad" in shown(body):
            raise error
        return json.loads(chat("Rating: 2"))

    monkeypatch.setattr(Endpoint, "_post", post)
    replies = [Reply("a", None, "good"), Reply("b", None, "bad")]
    outcome = rate(quick(url="http://localhost", attempts=2), replies, Verdicts())
    assert outcome.values == [2, None]
    assert list(outcome.failed) == ["b"]


def test_whatever_one_item_meets_the_others_are_judged(tmp_path: Path) -> None:
    class Odd:
        name, version, workers = "odd", "", 2

        def ask(self, text: str, image: Any = None) -> Said:
            if "bad" in text:
                raise ZeroDivisionError("by zero")
            return Said("Rating: 5")

    replies = [Reply("a", None, "good"), Reply("b", None, "bad"), Reply("c", tmp_path / "none.png", "good too")]
    outcome = rate(Odd(), replies, Verdicts())
    assert outcome.values == [5, None, 5]
    assert outcome.failed == {"b": "ZeroDivisionError: by zero"}


def test_an_answer_without_a_verdict_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = [""]
    replies = [Reply("a", None, "x")]
    with serving(lambda body: (200, {}, chat(said[0])), monkeypatch) as seen:
        outcome = rate(quick(), replies, Verdicts(tmp_path / "v.jsonl"))
        assert (outcome.values, outcome.failed) == ([None], {"a": "the answer is no verdict: ''"})
        assert not (tmp_path / "v.jsonl").exists()
        said[0] = "Rating: 6"
        assert rate(quick(), replies, Verdicts(tmp_path / "v.jsonl")).values == [6]
        assert len(seen) == 2


def test_a_judge_that_is_away_is_not_asked_on_and_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = iter(range(1000))

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (200, {}, chat("Rating: 1")) if next(answers) < 5 else (401, {}, "who?")

    replies = [Reply(str(n), None, f"reply {n}") for n in range(60)]
    with serving(answer, monkeypatch) as seen:
        outcome = rate(quick(workers=1), replies, Verdicts(tmp_path / "v.jsonl"))
        assert len(seen) == 5 + IN_A_ROW
    assert sum(value == 1 for value in outcome.values) == 5
    assert sum("not asked" in reason for reason in outcome.failed.values()) == 60 - 5 - IN_A_ROW


def test_refusals_of_single_items_stop_nothing_once_one_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(range(1000))

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (200, {}, chat("Rating: 1")) if next(answers) in (0, 59) else (400, {}, "filtered")

    replies = [Reply(str(n), None, f"reply {n}") for n in range(60)]
    with serving(answer, monkeypatch) as seen:
        outcome = rate(quick(workers=1), replies, Verdicts())
        assert len(seen) == 60
    assert sum(value == 1 for value in outcome.values) == 2
    with serving(lambda body: (400, {}, "no such field"), monkeypatch) as seen:
        assert set(rate(quick(workers=1), replies, Verdicts()).values) == {None}
        assert len(seen) == IN_A_ROW


def test_reasons_are_printed_and_written_beside_the_verdicts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (400, {}, "[secret] " + "no " * 200) if "bad" in shown(body) else (200, {}, chat("Rating: 7"))

    replies = [Reply(str(n % 4), None, ("bad", "good")[n % 2] + f" {n}") for n in range(8)]  # ids of two methods
    with serving(answer, monkeypatch):
        panel, verdicts = Panel(judges=[quick()]), Verdicts(tmp_path / "verdicts.jsonl")
        assert panel.marks(lambda judge: rate(judge, replies, verdicts), verdicts.file) == {"judged": [None, 7] * 4}
    (record,) = json.loads((tmp_path / "judge_failures.json").read_text())
    assert (record["judge"], record["count"], record["first"]) == ("judge-1", 4, "0")
    assert "HTTP 400: [***] no no" in record["reason"]
    assert len(record["reason"]) < 260
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 of 8 without a verdict: 4 x judge-1 refuses the request: HTTP 400" in printed
    panel.marks(lambda judge: rate(judge, replies[1::2], verdicts), verdicts.file)
    assert not (tmp_path / "judge_failures.json").exists()


def test_agreement_of_two_judges() -> None:
    one, other = [1, 5, 9, None, 5], [1, 5, 5, 3, 5]
    record = agreement(one, other)
    assert (record["n"], record["unjudged"], record["equal"], record["gap"]) == (4, 1, 0.75, 1.0)
    assert record["kappa"] == pytest.approx((0.75 - 7 / 16) / (1 - 7 / 16))
    assert agreement(["one"], ["one"])["equal"] == 1
    assert agreement([None], ["one"])["n"] == 0


def test_a_torn_line_of_the_file_costs_that_verdict_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    replies = [Reply(str(n), None, f"reply {n}") for n in range(3)]
    with serving(lambda body: (200, {}, chat("Rating: 4")), monkeypatch) as seen:
        rate(quick(), replies, Verdicts(file))
        file.write_bytes(file.read_bytes()[:-9])
        assert len(Verdicts(file)) == 2
        assert rate(quick(), replies, Verdicts(file)).values == [4, 4, 4]
        assert len(seen) == 4
    assert len(Verdicts(file)) == 3


def test_equal_pixels_are_one_content_wherever_they_lie(tmp_path: Path) -> None:
    from studies.judges.verdicts import content_key

    image = Image.new("RGB", (3, 2), "red")
    assert content_key("j", "1", "text", image) == content_key("j", "1", "text", image.copy())
    keys = {
        content_key("j", "1", "text", image),
        content_key("j", "2", "text", image),
        content_key("j", "1", "tex", image),
    }
    assert len(keys | {content_key("j", "1", "t", "ext", image), content_key("j", "1", "text")}) == 5


def test_two_judges_compare_captions_and_what_they_do_not_answer_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        first, second = re.search("Caption 1: (.*)\n\nCaption 2: (.*)\n\nBegin", shown(body), re.DOTALL).groups()
        if body["model"] == "strict" and (len(first) + len(second)) % 3 == 0:
            return 400, {}, "no"
        longer = len(first) > len(second)
        return 200, {}, chat(f"Preference: {1 if longer == (body['model'] == 'strict') else 2}")

    folder, out = write_coco(tmp_path / "coco", 36), tmp_path / "out"
    write_json(folder / PINNED, list(range(1, 11)))
    asked = Arguments(task="chair", data=folder, out=out, judge=("strict", "other"), methods=("NoSteering", "L2S"))
    with serving(answer, monkeypatch) as seen:
        records = compare(replace(asked, strength=(3.0,), screen=2, seeds=1, shown=1, limit=12))
        sent = len(seen)
    whole = {r["metric"]: r for r in records if (r["subset"], r["method"]) == ("all", "L2S")}
    rows = {(row["method"], row["id"]): row["reply"] for row in read_rows(out) if row["split"] == "test"}
    pairs = [(reply, rows["NoSteering", id_]) for (method, id_), reply in rows.items() if method == "L2S"]
    changed = [(own, plain) for own, plain in pairs if own != plain]
    answered = [(own, plain) for own, plain in changed if (len(own) + len(plain)) % 3]
    assert 0 < len(answered) < len(changed)
    assert whole["undecided"]["value"] == pytest.approx(1 - len(answered) / len(changed))
    assert whole["judges_agree"]["value"] == 0
    even = {(own, plain) for own, plain in answered if len(own) == len(plain)}
    assert even or whole["win_rate"]["value"] == pytest.approx(
        sum(len(own) > len(plain) for own, plain in answered) / len(answered)
    )
    assert whole["win_rate"]["n"] == len(answered)  # those that it stands on
    assert whole["valid"]["n"] == len(pairs)  # no row is lost
    kept = len(Verdicts(out / "verdicts.jsonl"))
    assert kept + len(changed) - len(answered) == sent == 2 * len(changed)
    assert "judges agree" in (out / "table.md").read_text()


def test_a_third_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="3 judges; give one, or two"):
        Panel(judges=[Endpoint(name, url="http://localhost") for name in "abc"])
