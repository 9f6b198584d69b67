"""A study that decodes in vLLM writes the rows of its own process; one that times vLLM finds the same replies."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studies import speed
from studies.compare import Arguments, compare
from studies.run import answer
from vllm_environment import OPTIONS, QUIET, VLLM

METHODS = ("NoSteering", "PromptSteering", "NormRnd", "MeanSteering", "L2S", "P2S")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_its_rows_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    small = Arguments(methods=METHODS, strength=(1.0, 2.0), limit=4, screen=2, shown=1, seeds=1, threads=1)
    compare(replace(small, out=tmp_path / "alone"))
    monkeypatch.setattr(answer, "replied", None)  # the oracle's are asked for by the engine
    options = shlex.join(OPTIONS)
    compare(replace(small, out=tmp_path / "engine", engine=str(VLLM), engine_options=options))
    alone, elsewhere = rows(tmp_path / "alone"), rows(tmp_path / "engine")
    assert len(alone) > 100
    assert elsewhere == alone
    recipe = json.loads((tmp_path / "engine" / "recipe.json").read_text())
    assert recipe["settings"]["engine"] == "vllm"


def test_it_takes_part_in_the_speed_study() -> None:
    asked = speed.Arguments(model="tiny-llava", contests=("generation",), batches=(2,), rounds=1, threads=1, vllm=VLLM)
    two, first = ({r["who"]: r for r in part} for part in by_contest(speed.measure(asked)["times"]))
    assert sum(who.startswith("vLLM") for who in two) == sum(who.startswith("vLLM") for who in first) == 2
    assert two["unsteered generate"]["equal"] == "8 of 8 replies equal to the last token"
    assert first["unsteered generate"]["equal"] == "4 of 4 replies equal to the last token"


def by_contest(times: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [[record for record in times if record["what"] == what] for what in {r["what"]: None for r in times}]
