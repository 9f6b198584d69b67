"""The command line: every command says what it takes with an example, prints JSON where asked, and ends by its code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interv_cli.commands import BY_NAME, COMMANDS
from interv_cli.main import function_of, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(10):
        Image.new("RGB", (20, 20), (number * 20, 40, 90)).save(tmp_path / f"{number}.png")
    plain = {"question": "Is there a cat?", "positive": "no", "negative": "yes", "target": "no"}
    rows = [{"image": f"{number}.png", **plain} for number in range(10)]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(command.name in said and command.does in said for command in COMMANDS)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_help_of_a_command_has_its_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"interv {name} {BY_NAME[name].example}" in said


def test_check_says_what_is_there_and_the_code_whether_all_of_it_can_be_used(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(data)]) == 0
    said = capsys.readouterr().out
    assert "10 of 10 rows can be used" in said
    assert "train 6 rows about 6 images" in said
    with data.open("a") as stream:
        stream.write('{"image": "missing.png", "question": "?", "positive": "a", "negative": "b"}\n')
    assert run(["check", str(data)]) == 1
    assert "data.jsonl:11: its image missing.png does not exist" in capsys.readouterr().out


def test_json_is_all_that_comes_on_the_standard_output(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(data), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["usable"] == 10
    assert "10 of 10 rows" in told.err
    assert run(["check", "nothing.jsonl", "--json"]) == 1
    assert "does not exist" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("typed", "code", "reason"),
    [
        (["comparr"], 2, "Did you mean compare?"),
        (["xyz"], 2, "There are check, fit"),
        (["check"], 2, ""),
        (["check", "data.jsonl", "--nonsense"], 2, ""),
        (["check", "nothing.jsonl"], 1, "nothing.jsonl does not exist"),
        (["fit", "nothing.jsonl", "--out", "x"], 1, "nothing.jsonl does not exist"),
        (["fit", "nothing.jsonl", "--out", "x", "--method", "P2S"], 1, "is the oracle"),
        (["ask", "nothing"], 1, "Give an image and a question"),
        (["ask", "nothing", "--file", "in.jsonl"], 1, "--file and --out go together"),
        (["ask", "nothing", "a.png", "What?"], 1, "nothing holds no steerer.json"),
        (["push", "nothing", "some/one"], 1, "nothing holds no steerer.json"),
        (["export", "nothing", "--out", "v.gguf"], 1, "nothing holds no steerer.json"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    typed: list[str], code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(typed) == code
    said = capsys.readouterr().err
    assert reason in said
    assert code == 2 or len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("typed", [["serve"], ["verify"], ["export", "tiny-llava", "--for", "vllm", "--out", "served"]])
def test_what_needs_the_serving_distribution_says_so(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "interv_vllm", None)
    assert run(typed) == 1
    said = capsys.readouterr().err
    assert "pip install" in said
    assert "interv-vllm" in said


def test_the_page_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run(["playground"]) == 1
    assert "pip install 'interv[playground]'" in capsys.readouterr().err


def test_an_interrupted_command_says_that_it_goes_on(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*words: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("interv_cli.check.read_data", interrupted)
    assert run(["check", str(data)]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


def test_every_command_has_its_function() -> None:
    assert all(callable(function_of(command)) for command in COMMANDS)


def test_help_loads_no_model_code() -> None:
    """A newcomer's first call answers at once."""
    code = "import sys; from interv_cli.main import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120).returncode == 0


@pytest.mark.slow
def test_asking_and_fitting_load_nothing_that_only_a_report_needs() -> None:
    """The first reply comes sooner: what draws or tabulates costs a second to import."""
    needless = {"matplotlib", "pandas", "sklearn", "datasets", "openai", "gradio"}
    code = (
        "import sys; from interv_cli.main import function_of; from interv_cli.commands import BY_NAME;"
        "[function_of(BY_NAME[name]) for name in ('check', 'fit', 'ask', 'push')];"
        f"sys.exit(', '.join({needless!r} & {{*sys.modules}}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
