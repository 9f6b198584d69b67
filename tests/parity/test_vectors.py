"""Mean vectors as files of other programs: what is written comes back, and what does not fit is refused by name."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from methods import MeanSteering, MeanSteeringBA
from methods.vectors import read_file, read_vector, write_vector

gguf = pytest.importorskip("gguf")
ENDINGS = (".gguf", ".safetensors")


@pytest.fixture
def steerer() -> MeanSteering:
    vector = torch.randn(96, generator=torch.Generator().manual_seed(0))
    return MeanSteering(5, 3, "0123456789abcdef", vector=vector)


@pytest.mark.parametrize("method", [MeanSteering, MeanSteeringBA])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_comes_back(tmp_path, steerer, method, ending):
    steerer = method(steerer.reads, steerer.writes, steerer.fingerprint, vector=steerer.vector, scope="all")
    write_vector(steerer, tmp_path / f"mean{ending}")
    again = read_vector(tmp_path / f"mean{ending}")
    assert type(again) is method
    assert torch.equal(again.vector, steerer.vector)
    for name in ("reads", "writes", "fingerprint", "scope"):
        assert getattr(again, name) == getattr(steerer, name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_strength_is_in_the_vector(tmp_path, steerer, ending):
    write_vector(steerer, tmp_path / f"mean{ending}", strength=-2.0)
    assert torch.equal(read_vector(tmp_path / f"mean{ending}").vector, -2.0 * steerer.vector)


def test_a_gguf_file_has_the_layout_that_llama_cpp_reads(tmp_path, steerer):
    write_vector(steerer, tmp_path / "mean.gguf", model_hint="llama")
    reader = gguf.GGUFReader(tmp_path / "mean.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 1
    (tensor,) = reader.tensors
    assert tensor.name == "direction.3"
    assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    np.testing.assert_array_equal(tensor.data, steerer.vector.numpy())


def foreign(path, directions: dict[str, np.ndarray], architecture: str = "controlvector") -> None:
    """A file as repeng writes it: no card, one direction a block."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(directions))
    for name, value in directions.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_of_another_program(tmp_path):
    path = tmp_path / "other.gguf"
    foreign(path, {f"direction.{block}": np.full(8, block, dtype=np.float32) for block in (1, 2, 3)})
    assert list(read_file(path).directions) == [1, 2, 3]
    with pytest.raises(ValueError, match="blocks 1, 2, 3; pass block="):
        read_vector(path)
    with pytest.raises(ValueError, match="no vector for block 7"):
        read_vector(path, block=7)
    steerer = read_vector(path, block=2, fingerprint="abc")
    assert (steerer.writes, steerer.fingerprint, steerer.scope) == (2, "abc", "all")
    assert steerer.vector.tolist() == [2.0] * 8


def test_another_model_is_refused(tmp_path, steerer):
    write_vector(steerer, tmp_path / "mean.gguf")
    with pytest.raises(ValueError, match="captured from model 0123456789abcdef, not from abc"):
        read_vector(tmp_path / "mean.gguf", fingerprint="abc")


def test_gguf_has_no_place_for_block_0(tmp_path, steerer):
    first = MeanSteering(0, 0, "a", vector=steerer.vector)
    with pytest.raises(ValueError, match="begin at block 1"):
        write_vector(first, tmp_path / "mean.gguf")
    write_vector(first, tmp_path / "mean.safetensors")
    assert read_vector(tmp_path / "mean.safetensors").writes == 0


def test_what_is_no_vector_file_is_refused(tmp_path, steerer):
    with pytest.raises(ValueError, match=r"ends in '\.pt'"):
        write_vector(steerer, tmp_path / "mean.pt")
    for ending in ENDINGS:
        with pytest.raises(ValueError, match="no file"):
            read_vector(tmp_path / f"nothing{ending}")
        (tmp_path / f"bad{ending}").write_bytes(b"not one of these at all, whatever its name")
        with pytest.raises(ValueError, match=r"is no (GGUF|safetensors) file"):
            read_vector(tmp_path / f"bad{ending}")
    foreign(tmp_path / "model.gguf", {"direction.1": np.ones(8, dtype=np.float32)}, architecture="llama")
    with pytest.raises(ValueError, match="GGUF file of 'llama'"):
        read_vector(tmp_path / "model.gguf")
    foreign(tmp_path / "half.gguf", {"direction.1": np.ones(8, dtype=np.float16)})
    with pytest.raises(ValueError, match=r"direction\.1 is F16"):
        read_vector(tmp_path / "half.gguf")
    foreign(tmp_path / "ragged.gguf", {f"direction.{n}": np.ones(n, dtype=np.float32) for n in (4, 8)})
    with pytest.raises(ValueError, match="several widths"):
        read_vector(tmp_path / "ragged.gguf", block=4)
    save_file({"weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="tensor 'weight'"):
        read_vector(tmp_path / "other.safetensors")
    save_file({"direction.1": torch.tensor([1.0, torch.nan])}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="finite"):
        read_vector(tmp_path / "nan.safetensors")
