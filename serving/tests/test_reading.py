"""Steerers from where they lie, and sentences where they cannot be served."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from interv_vllm.reading import Source, read_steerer
from interv_vllm.steerers import Constant, Learned, Nothing, SteererError, check_fits
from world import World

VECTOR = torch.linspace(-1, 1, 8)
CARD = {"method": "MeanSteering", "reads": 3, "writes": 2, "fingerprint": "abc", "scope": "response"}


def folder(path: Path, card: dict[str, Any] | None = None, **tensors: torch.Tensor) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "steerer.json").write_text(json.dumps(CARD | (card or {})))
    save_file(tensors or {"vector": VECTOR}, path / "steerer.safetensors")
    return str(path)


def read(path: str | Path, **settings: Any) -> Any:
    return read_steerer(Source.of("s", {"path": str(path), **settings}))[0]


def test_folders_of_the_toolkit(llava: World) -> None:
    learned, fitted_on = read_steerer(Source.of("s", llava.steerers["l2s-6-3"]))
    assert isinstance(learned, Learned)
    assert (learned.reads, learned.writes, learned.scope, learned.activation) == (6, 3, "response", "tanh")
    assert fitted_on == json.loads((Path(llava.model) / "interv.json").read_text())["fingerprint"]
    mean = read(llava.steerers["mean-generated"])
    assert isinstance(mean, Constant)
    assert (mean.writes, mean.scope) == (3, "generated")
    kept = load_file(Path(llava.steerers["random"]) / "steerer.safetensors")
    assert torch.equal(read(llava.steerers["random"]).vector, kept["direction"])
    assert isinstance(read(llava.steerers["none"]), Nothing)


def test_a_scope_is_replaced_where_it_is_given(tmp_path: Path) -> None:
    assert read(folder(tmp_path), scope="generated").scope == "generated"


def test_files_of_one_vector(tmp_path: Path) -> None:
    names = {"direction.2": VECTOR, "direction.3": 2 * VECTOR}
    save_file(names, tmp_path / "v.safetensors", {"steering.card": json.dumps(CARD)})
    assert torch.equal(read(tmp_path / "v.safetensors", block=3).vector, 2 * VECTOR)
    with pytest.raises(SteererError, match="blocks 2, 3; choose one"):
        read(tmp_path / "v.safetensors")
    with pytest.raises(SteererError, match="no vector for block 7"):
        read(tmp_path / "v.safetensors", block=7)


def test_gguf_of_other_programs_needs_a_scope(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_tensor("direction.5", VECTOR.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SteererError, match="scope 'all'"):
        read(tmp_path / "v.gguf")
    given = read(tmp_path / "v.gguf", scope="response")
    assert (given.writes, given.scope) == (5, "response")
    assert torch.equal(given.vector, VECTOR)


def test_the_hub_is_asked_for_what_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options["revision"]))
        return folder(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert torch.equal(read("me/caution", revision="v2").vector, VECTOR)
    assert asked == [("me/caution", "v2")]
    with pytest.raises(SteererError, match="no folder and no file"):
        read("./missing")


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"scope": "all"}, "scope 'all'.*'response' or 'generated'"),
        ({"method": "P2S"}, "holds P2S, which cannot be served"),
        ({"method": "CAST"}, "holds CAST"),
        ({"method": "L2S", "gate": 0.5}, "says 'gate', which this version does not know"),
        ({"writes": [2, 3]}, r"one block each can be served"),
        ({"sha256": {"steerer.safetensors": "0"}}, "not as it was written"),
        ({"method": "NormRnd", "per_input": True}, "NormRnd of each input's own vector"),
    ],
)
def test_what_cannot_be_served_is_refused(card: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SteererError, match=sentence):
        read(folder(tmp_path, card))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SteererError, match="not finite"):
        read(folder(tmp_path, vector=VECTOR / 0))


def test_other_measures_are_refused() -> None:
    steerer = Constant(4, "response", VECTOR)
    check_fits("s", steerer, 8, 5)
    with pytest.raises(SteererError, match="width of 8; this model has 16"):
        check_fits("s", steerer, 16, 5)
    with pytest.raises(SteererError, match="block 4; this model's run from 0 to 3"):
        check_fits("s", steerer, 8, 4)


@pytest.mark.parametrize("value", [5, {"folder": "x"}, {"path": "x", "scopes": "all"}])
def test_configurations_that_make_no_sense_are_refused(value: Any) -> None:
    with pytest.raises(SteererError, match="Steerer 's'"):
        Source.of("s", value)
