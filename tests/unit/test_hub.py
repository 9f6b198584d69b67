"""A steerer goes to the hub and comes back as it was. The hub is a small server here, at huggingface_hub's endpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from interv import VLM
from interv_cli.main import run
from methods import L2S, MeanSteering, Query, Together, capture_contrasts, load_steerer, read_card
from methods.hub import pushed
from studies.tasks import TASKS
from tests.local_hub import Repositories, local_hub
from tests.unit.test_kept import contrasts

WIDTH = 6


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repositories]:
    with local_hub() as (address, held):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        monkeypatch.chdir(tmp_path)
        yield held


def test_what_is_pushed_is_loaded_by_its_name(hub: Repositories) -> None:
    steerer = L2S.fit(contrasts(), hidden=4, epochs=2)
    address = steerer.push_to_hub("somebody/steerer", about={"strength": 0.5})
    assert address.startswith(f"{constants.ENDPOINT}/somebody/steerer/commit/")
    assert {*hub["somebody/steerer"]} == {"steerer.json", "steerer.safetensors", "README.md"}
    page = hub["somebody/steerer"]["README.md"].decode()
    assert "library_name: interv" in page
    assert "load_steerer('somebody/steerer', vlm=vlm)" in page
    again, query = load_steerer("somebody/steerer"), Query(torch.randn(3, WIDTH))
    assert torch.equal(again.ops(query)[0].vector, steerer.ops(query)[0].vector)
    hub.clear()  # what was fetched before is there without the hub
    assert isinstance(load_steerer("somebody/steerer", local_files_only=True), L2S)


def test_a_steerer_of_parts_goes_whole(hub: Repositories) -> None:
    Together.of([MeanSteering.fit(contrasts()), L2S.fit(contrasts(), hidden=4, epochs=2)]).push_to_hub("some/two")
    assert {"0/steerer.json", "1/steerer.safetensors"} <= {*hub["some/two"]}
    assert [type(part) for part in load_steerer("some/two").parts] == [MeanSteering, L2S]  # type: ignore[attr-defined]


def test_nothing_but_a_steerers_files_is_sent_or_fetched(hub: Repositories, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    MeanSteering.fit(contrasts()).save_pretrained(folder)
    (folder / "work").mkdir()
    (folder / "work" / "rows.jsonl").write_text("a private question")
    (folder / "weights.pt").write_bytes(b"a pickle")
    pushed(folder, "some/body")
    assert {*hub["some/body"]} == {"steerer.json", "steerer.safetensors", "README.md"}
    hub["some/body"]["code.py"] = hub["some/body"]["weights.pkl"] = b"raise SystemExit"
    load_steerer("some/body")
    assert not [*(tmp_path / "cache").rglob("*.pkl"), *(tmp_path / "cache").rglob("*.py")]


def test_a_repository_without_a_steerer_and_one_that_is_not_there_are_told_apart(hub: Repositories) -> None:
    hub["some/model"] = {"pytorch_model.bin": b"a pickle", "steerer.txt": b""}
    with pytest.raises(ValueError, match=r"holds no steerer\.json"):
        load_steerer("some/model")
    with pytest.raises(ValueError, match="no/where is no folder here, and the hub does not give it"):
        load_steerer("no/where")


def test_a_tampered_repository_is_refused(hub: Repositories) -> None:
    MeanSteering.fit(contrasts()).push_to_hub("some/vector")
    stored = bytearray(hub["some/vector"]["steerer.safetensors"])
    stored[-1] ^= 1
    hub["some/vector"]["steerer.safetensors"] = bytes(stored)
    with pytest.raises(ValueError, match="is not as it was written"):
        load_steerer("some/vector")


def test_a_folder_here_comes_before_the_hub(hub: Repositories) -> None:
    MeanSteering.fit(contrasts()).push_to_hub("some/vector")
    MeanSteering.fit(contrasts(3)).save("some/vector", about={"here": True})
    assert "here" in (read_card("some/vector")["about"])
    assert torch.equal(load_steerer("some/vector").vector, MeanSteering.fit(contrasts(3)).vector)  # type: ignore[attr-defined]


def test_the_command_line_pushes_a_folder_and_asks_it_by_its_name(hub: Repositories, capsys: Any) -> None:
    tiny, task = VLM.load("tiny-llava"), TASKS["shapes_pope"]()
    bank = capture_contrasts(tiny, task.pairs("val")[:20], batch_size=20, pool="mean", progress=False)
    about: dict[str, Any] = {"model": {"name": "tiny-llava"}, "strength": 2.0, "max_new_tokens": 9}
    L2S.fit(bank.at(reads=3, writes=4), epochs=2).save_pretrained("mine", about=about)
    assert run(["push", "mine", "somebody/mine", "--message", "The first"]) == 0
    said = capsys.readouterr().out
    assert f"Pushed: {constants.ENDPOINT}/somebody/mine/commit/" in said
    assert "load_steerer('somebody/mine', vlm=vlm)" in said
    assert {*hub["somebody/mine"]} == {"steerer.json", "steerer.safetensors", "README.md"}
    (example, *_) = task.prompts("val")
    example.prompt.images()[0].save("asked.png")
    answers = []
    for place in ("mine", "somebody/mine"):
        assert run(["ask", place, "asked.png", example.prompt.question, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["strength"] == 2.0


@pytest.mark.parametrize(
    ("repository", "address", "reason"),
    [
        ("some/body/else", None, "Repo id must be"),
        ("closed/body", None, "403"),
        ("some/body", "http://127.0.0.1:9", "Connection refused"),  # nobody listens there
    ],
)
def test_what_cannot_be_pushed_is_one_line(
    repository: str, address: str | None, reason: str, hub: Repositories, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    MeanSteering.fit(contrasts()).save("mine")
    monkeypatch.setattr(constants, "ENDPOINT", address or constants.ENDPOINT)
    assert run(["push", "mine", repository]) == 1
    said = capsys.readouterr().err
    assert "was not pushed, the hub does not take it" in said
    assert reason in said
    assert len(said.strip().splitlines()) == 1
