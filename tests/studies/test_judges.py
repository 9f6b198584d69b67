"""The judges of a study: where they run, how two of them differ, and what they leave open."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interv import VLM
from studies.compare import Arguments, compare
from studies.judges import LocalJudge, Panel, Reply, Verdict, Verdicts, judge_of, rate
from studies.judges.endpoint import Endpoint
from studies.judges.judge import model_name
from studies.run.results import read_rows
from studies.tasks.chair.files import PINNED
from tests.studies.benchmark_files import picture, write_coco, write_json
from tests.studies.endpoints import chat, endpoint, serving, shown


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


def test_reasons_are_printed_and_written_beside_the_verdicts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (400, {}, "[secret] " + "no " * 200) if "bad" in shown(body) else (200, {}, chat("Rating: 7"))

    replies = [Reply(str(n % 4), None, ("bad", "good")[n % 2] + f" {n}") for n in range(8)]  # ids of two methods
    with serving(react, monkeypatch):
        panel, verdicts = Panel(judges=[endpoint()]), Verdicts(tmp_path / "verdicts.jsonl")
        assert panel.marks(lambda judge: rate(judge, replies, verdicts), verdicts.file) == {"judged": [None, 7] * 4}
    (record,) = json.loads((tmp_path / "judge_failures.json").read_text())
    assert (record["judge"], record["count"], record["first"]) == ("judge-1", 4, "0")
    assert "HTTP 400: [***] no no" in record["reason"]
    assert len(record["reason"]) < 260
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 of 8 without a verdict: 4 x judge-1 gives no answer: HTTP 400" in printed
    panel.marks(lambda judge: rate(judge, replies[1::2], verdicts), verdicts.file)
    assert not (tmp_path / "judge_failures.json").exists()


def test_a_third_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="3 judges; give one, or two"):
        Panel(judges=[Endpoint(name, url="http://localhost") for name in "abc"])


@pytest.mark.slow
def test_two_judges_compare_captions_and_what_they_do_not_answer_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def react(body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        first, second = re.search("Caption 1: (.*)\n\nCaption 2: (.*)\n\nBegin", shown(body), re.DOTALL).groups()
        if body["model"] == "strict" and (len(first) + len(second)) % 3 == 0:
            return 400, {}, "no"
        longer = len(first) > len(second)
        return 200, {}, chat(f"Preference: {1 if longer == (body['model'] == 'strict') else 2}")

    folder, out = write_coco(tmp_path / "coco", 36), tmp_path / "out"
    write_json(folder / PINNED, list(range(1, 11)))
    asked = Arguments(task="chair", data=folder, out=out, judge=("strict", "other"), methods=("NoSteering", "L2S"))
    with serving(react, monkeypatch) as seen:
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
