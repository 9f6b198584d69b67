"""An endpoint that judges: what it fails at loses no row, no secret leaves, and each failure says whose it is."""

import json
import sys
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from studies.judges import JudgeFailed, Reply, Verdicts, judge_of, rate
from tests.studies.benchmark_files import picture
from tests.studies.endpoints import SOON, chat, endpoint, serving, shown

TORN = (200, {"Content-Length": "999"}, chat("Rating: 1"))  # the connection ends before its body does


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were to be slept, and were not."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def test_a_failing_and_limiting_endpoint_loses_no_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]
) -> None:
    asked: Counter[str] = Counter()
    failures = [
        (500, {}, "broken"),
        (429, {"Retry-After": "0.001"}, "slow down"),
        (503, {"Retry-After": "soon"}, ""),
        TORN,
        (200, {}, "{no json"),
        (200, {}, "{}"),
        (408, SOON, ""),
    ]

    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        asked[shown(body)] += 1
        good = (200, {}, chat(f"Rating: {len(shown(body)) % 10}\nExplanation: so."))
        return ([*failures, good])[asked[shown(body)] - 1]

    replies = [Reply(f"r{n}", None, "word " * n) for n in range(12)]
    with serving(react, monkeypatch) as seen:
        outcome = rate(endpoint(), replies, Verdicts(tmp_path / "verdicts.jsonl"))
        assert outcome.failed == {}
        assert all(value in range(10) for value in outcome.values)
        assert {request["path"] for request in seen} == {"/v1/chat/completions"}
        assert {request["headers"]["authorization"] for request in seen} == {"Bearer secret"}
        assert len(seen) == 12 * 8
        again = rate(endpoint(), replies, Verdicts(tmp_path / "verdicts.jsonl"))
        assert len(seen) == 12 * 8
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")  # nobody is there: the table is made offline
    assert rate(endpoint(), replies, Verdicts(tmp_path / "verdicts.jsonl")).values == again.values == outcome.values
    entry = json.loads((tmp_path / "verdicts.jsonl").read_text().splitlines()[0])
    assert (entry["judge"], entry["text"][:7]) == ("judge-1", "Rating:")
    assert "secret" not in (tmp_path / "verdicts.jsonl").read_text()


def test_pauses_are_doubled_up_to_eight_seconds_or_what_the_endpoint_asks_for(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    turn = iter(range(1000))

    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (429, {"Retry-After": "33"} if next(turn) == 2 else {}, "slow down")

    with serving(react, monkeypatch) as seen, pytest.raises(JudgeFailed, match="HTTP 429: slow down") as caught:
        endpoint().ask("hello")
    assert caught.value.away
    assert len(seen) == 8
    assert pauses[2] == 33
    for pause, longest in zip([*pauses[:2], *pauses[3:]], [0.5, 1, 4, 8, 8, 8], strict=True):
        assert 0.75 * longest <= pause <= longest


def test_what_stays_unanswered_is_named_and_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    down = [True]

    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (502, SOON, "") if down[0] and "bad" in shown(body) else (200, {}, chat("Rating: 7"))

    replies = [Reply("a", None, "good"), Reply("b", None, "bad"), Reply("c", None, "good too")]
    with serving(react, monkeypatch):
        outcome = rate(endpoint(attempts=2), replies, Verdicts(tmp_path / "v.jsonl"))
        assert outcome.values == [7, None, 7]
        assert "HTTP 502" in outcome.failed["b"]
        down[0] = False
        assert rate(endpoint(), replies, Verdicts(tmp_path / "v.jsonl")).values == [7, 7, 7]


@pytest.mark.parametrize(
    ("status", "away"), [(401, True), (402, True), (403, True), (404, True), (400, False), (413, False), (422, False)]
)
def test_a_refused_request_is_not_repeated(status: int, away: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: (status, {}, "who?"), monkeypatch) as seen:
        with pytest.raises(JudgeFailed, match=f"^judge-1 gives no answer: HTTP {status}: who[?]$") as caught:
            endpoint().ask("hello")
        assert len(seen) == 1
    assert caught.value.away is away


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_an_overloaded_endpoint_is_away(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: (status, SOON, ""), monkeypatch) as seen:
        with pytest.raises(JudgeFailed, match=f"HTTP {status}$") as caught:
            endpoint(attempts=2).ask("hello")
        assert len(seen) == 2
    assert caught.value.away


def test_an_endpoint_that_is_not_there_is_a_failure_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv("JUDGE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(JudgeFailed, match=r"^judge-1 cannot be reached: ConnectError: .*refused") as caught:
        endpoint(attempts=2).ask("x")
    assert caught.value.away
    assert len(pauses) == 1
    assert list(rate(endpoint(attempts=2), [Reply("a", None, "x")], Verdicts()).failed) == ["a"]


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "http://localhost:port/v1", "http://[/v1"])
def test_an_address_that_is_none_is_told_before_anyone_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_URL", url)
    with pytest.raises(ValueError, match="JUDGE_URL"):
        endpoint()


def test_a_torn_connection_and_a_slow_one_fail_their_items_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        if "slow" in shown(body):
            Event().wait(0.4)
        return TORN if "bad" in shown(body) else (200, {}, chat("Rating: 2"))

    replies = [Reply("a", None, "good"), Reply("b", None, "bad"), Reply("c", None, "slow")]
    with serving(react, monkeypatch):
        outcome = rate(endpoint(attempts=1, timeout=0.2), replies, Verdicts())
    assert outcome.values == [2, None, None]
    assert "cannot be reached: RemoteProtocolError" in outcome.failed["b"]
    assert "cannot be reached: ReadTimeout" in outcome.failed["c"]


@pytest.mark.parametrize(
    "body", ["{no json", "{}", "[]", '"words"', '{"error": "upstream"}', chat(None), '{"choices": []}']
)
def test_an_answer_without_words_is_asked_for_again_and_quoted(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: (200, {}, body), monkeypatch) as seen:
        with pytest.raises(JudgeFailed, match="answers without words, 3 times: ") as caught:
            endpoint().ask("hello")
        assert len(seen) == 3
    assert str(caught.value).endswith(body)
    assert not caught.value.away


def test_the_image_is_sent_and_a_missing_one_fails_its_item_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture(0).save(tmp_path / "a.png")
    replies = [Reply("a", tmp_path / "a.png", "x"), Reply("b", picture(1), "x")]
    with serving(lambda body: (200, {}, chat("Rating: 3")), monkeypatch) as seen:
        assert rate(endpoint(), replies, Verdicts()).values == [3, 3]
        with pytest.raises(JudgeFailed, match="cannot be read"):
            endpoint().ask("x", tmp_path / "none.png")
    for request in seen:
        assert request["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_what_the_endpoint_calls_its_model_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = json.loads(chat("Rating: 4")) | {"model": "judge-1-0514", "system_fingerprint": "fp_7"}
    with serving(lambda body: (200, {}, json.dumps(said)), monkeypatch) as seen:
        outcome = rate(endpoint(version="may"), [Reply("a", None, "x")], Verdicts(tmp_path / "v.jsonl"))
        assert outcome.verdicts[0].version == "may judge-1-0514 fp_7"
        assert rate(endpoint(version="may"), [Reply("b", None, "x")], Verdicts(tmp_path / "v.jsonl")).values == [4]
        assert len(seen) == 1


def test_any_text_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda body: (200, {}, chat(shown(body))), monkeypatch):
        assert endpoint().ask("\N{PILE OF POO} \x00 \u2028").text == "\N{PILE OF POO} \x00 \u2028"
        assert endpoint().ask("half a pair: \ud83d").text == r"half a pair: \ud83d"


def test_nothing_of_the_environment_but_url_and_key_is_told_to_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "another's")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another's")
    with serving(lambda body: (200, {}, chat("Rating: 3")), monkeypatch) as seen:
        endpoint().ask("x")
        monkeypatch.delenv("JUDGE_KEY")
        endpoint().ask("x")
    assert [request["headers"].get("authorization") for request in seen] == ["Bearer secret", None]
    assert "another's" not in str(seen)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_an_endpoint_on_this_machine_is_asked_without_a_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with serving(lambda body: (200, {}, chat("Rating: 3")), monkeypatch):
        assert endpoint(attempts=1).ask("x").text == "Rating: 3"


@pytest.mark.parametrize("key", ["sec\nret", "sec\x00ret", "s\N{LATIN SMALL LETTER E WITH ACUTE}cret"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^JUDGE_KEY holds") as caught:
        endpoint(url="http://localhost/v1", key=key)
    assert "ret" not in str(caught.value)
    monkeypatch.setenv("JUDGE_KEY", "secret\r\n")  # as a file of it ends
    assert endpoint(url="http://localhost/v1").key == "secret"


def test_an_endpoint_without_its_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_URL", "http://localhost/v1")
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "studies.judges.endpoint")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'interv\[judges\]'"):
        judge_of("judge-1")
