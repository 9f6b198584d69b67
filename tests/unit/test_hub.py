"""A steerer goes to the hub and comes back as it was. The hub is a small server here, at huggingface_hub's endpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from methods import L2S, MeanSteering, Query, Together, load_steerer, read_card
from methods.hub import pushed
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
