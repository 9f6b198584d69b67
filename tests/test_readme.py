"""The README's code runs as it stands, and one word swaps the method."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def code() -> str:
    return re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("method", ["L2S", "MeanSteering"])
def test_the_code_block_runs_with_any_method(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code().replace("L2S", method), str(README), "exec"), {})
    assert "the image has" in capsys.readouterr().out


def test_the_code_block_has_ten_lines() -> None:
    assert len(code().strip().splitlines()) == 10
