"""From a fitted steerer to its replies over HTTP, by the toolkit's own command line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from interv import VLM
from interv_cli.main import run
from vllm_environment import OPTIONS, QUIET, VLLM, WORLD


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = json.loads((WORLD / "prompts.json").read_text())[:6]
    file = tmp_path / "questions.jsonl"
    lines = [json.dumps({"image": str(WORLD / row["image"]), "question": row["question"]}) for row in rows]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def served(tmp_path: Path) -> Path:
    assert run(["export", "tiny-llava", "--for", "vllm", "--out", str(tmp_path / "served")]) == 0
    return tmp_path / "served"


@pytest.fixture
def address(served: Path, quiet: None) -> Iterator[tuple[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    steerer = f"caution={WORLD / 'steerers' / 'l2s-6-3'}"
    typed = ["serve", steerer, "--model", str(served), "--python", str(VLLM), "--port", str(port)]
    typed += ["--options", "--dtype", "float32", *OPTIONS]
    process = subprocess.Popen([sys.executable, "-m", "interv", *typed], start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(url, process)
        yield url, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait(url: str, process: Any) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    pytest.fail("The server did not answer.")


def test_a_model_is_exported_by_its_name(served: Path) -> None:
    assert json.loads((served / "interv.json").read_text())["fingerprint"] == VLM.load("tiny-llava").fingerprint
    assert json.loads((served / "config.json").read_text())["text_config"]["head_dim"] == 32


def test_what_serve_serves_verify_finds_equal(
    address: tuple[str, Any], questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And who ends the command ends the server with it."""
    url, process = address
    typed = ["--model", "tiny-llava", "--file", str(questions), "--engine", url, "--strength", "2.5"]
    assert run(["verify", str(WORLD / "steerers" / "l2s-6-3"), "--name", "caution", *typed]) == 0
    said = capsys.readouterr().out
    assert "unsteered: 6 of 6 replies have the same tokens" in said
    assert "caution at 2.5: 6 of 6 replies have the same tokens" in said
    assert run(["verify", str(WORLD / "steerers" / "mean"), "--name", "caution", *typed]) == 1
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.terminate()
    process.wait(90)
    _, alive = psutil.wait_procs(children, 30)
    assert not alive


def test_verify_starts_engines_of_its_own(questions: Path, quiet: None, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["--model", "tiny-llava", "--file", str(questions), "--engine", str(VLLM), "--strength", "2.5"]
    assert run(["verify", str(WORLD / "steerers" / "l2s-7-4"), *typed, "--options", *OPTIONS]) == 0
    said = capsys.readouterr().out
    assert "eager, unsteered: 6 of 6 replies" in said
    assert "eager, l2s-7-4 at 2.5: 6 of 6 replies" in said
    assert "graphs" not in said  # with --enforce-eager among the options there is one way alone
