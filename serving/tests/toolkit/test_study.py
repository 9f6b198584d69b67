"""A study that decodes in vLLM writes the rows of its own process."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
