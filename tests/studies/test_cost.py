"""What a run costs: the batch size halves when memory runs out, and nothing of the result changes by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interv import VLM
from studies.compare import Arguments, compare
from studies.run.cost import Account, noted, out_of_memory, resident_peak
from studies.run.results import read_rows

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SMALL = Arguments(methods=("NoSteering", "L2S", "LogitThreshold"), strength=(0.5,), limit=4, screen=2, seeds=1, shown=1)


def _cramped(monkeypatch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """A tiny-llava whose forward has room for so many rows; the sizes that it refused."""
    refused: list[int] = []
    original = VLM.load

    def load(*args: Any, **options: Any) -> VLM:
        vlm = original("tiny-llava")
        forward = vlm.model.forward

        def limited(*args: Any, **inputs: Any) -> Any:
            count = len(inputs["input_ids"])
            if count > rows:
                refused.append(count)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(*args, **inputs)

        vlm.model.forward = limited
        return vlm

    monkeypatch.setattr(VLM, "load", load)
    return refused


def _kept(folder: Path) -> set[str]:
    return {json.dumps({**row, "image": ""}, sort_keys=True) for row in read_rows(folder)}


def test_auto_halves_until_it_fits_and_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(replace(SMALL, out=tmp_path / "roomy", batch_size=32))
    with monkeypatch.context() as patch:
        refused = _cramped(patch, rows=8)
        compare(replace(SMALL, out=tmp_path / "cramped", batch_size="auto"))
    assert refused
    assert _kept(tmp_path / "cramped") == _kept(tmp_path / "roomy")
    assert (tmp_path / "cramped" / "table.json").read_text() == (tmp_path / "roomy" / "table.json").read_text()
    (run,) = noted(tmp_path / "cramped")
    assert run["batch_size"] <= 8
    assert run["replies"] == len(read_rows(tmp_path / "cramped"))


def test_a_size_that_was_given_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = _cramped(monkeypatch, rows=8)
    with pytest.raises(torch.OutOfMemoryError):
        compare(replace(SMALL, out=tmp_path, batch_size=64))
    assert len(refused) == 1


def test_halving_ends_at_one_with_what_to_do() -> None:
    tried = []

    def never(size: int) -> None:
        tried.append(size)
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    with pytest.raises(RuntimeError, match=r"with a batch of one .*--load-in-4bit"):
        Account("auto", CPU).fit(never)
    assert tried == [256, 128, 64, 32, 16, 8, 4, 2, 1]


def test_other_errors_are_not_mistaken_for_lack_of_memory() -> None:
    def wrong(size: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Account("auto", CPU).fit(wrong)
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_a_killed_run_leaves_its_cost_and_the_next_one_stands_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("studies.compare.report", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(replace(SMALL, out=tmp_path, methods=("NoSteering",)))
    (first,) = noted(tmp_path)
    rows = read_rows(tmp_path)
    assert first["replies"] == len(rows)
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines[:-3]))
    compare(replace(SMALL, out=tmp_path, methods=("NoSteering",)))
    assert [run["replies"] for run in noted(tmp_path)] == [len(rows), 3]
    assert noted(tmp_path)[0] == first


def test_time_and_memory_are_in_the_result(tmp_path: Path) -> None:
    compare(replace(SMALL, out=tmp_path))
    (run,) = noted(tmp_path)
    peak = resident_peak()
    assert run["seconds"] > 0
    assert peak is None or 1e8 < run["peak_bytes"] <= peak
    words = f"{run['replies']:,} replies in {run['seconds']:,.0f} s on cpu, batch size 256"
    assert words in (tmp_path / "table.md").read_text()
    assert words in (tmp_path / "report.html").read_text()
    compare(replace(SMALL, out=tmp_path))  # a run that finds every row adds nothing
    assert noted(tmp_path) == [run]
