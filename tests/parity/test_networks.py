"""The published network files: read, written, and refused by name."""

import pickle
from dataclasses import replace

import pytest
import torch

from methods import L2S, Query, steer
from methods.reference_networks import KEYS
from tests.parity.conftest import LAYER
from tests.parity.test_replies import TOKENS, mismatches


@pytest.fixture
def state(golden) -> dict[str, torch.Tensor]:
    return dict(zip(KEYS, golden.network("saved"), strict=True))


def saved(folder, value) -> str:
    path = str(folder / "llava_3_average_net.pt")
    torch.save(value, path)
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_a_published_file_gives_the_published_outputs(tmp_path, golden, state, nested):
    path = saved(tmp_path, {"steering_model": state, "epoch": 100} if nested else state)
    steerer = L2S.from_reference(path, reads=LAYER, writes=LAYER)
    assert float((steerer.predict(golden["test.context"]) - golden["l2s.out_test"]).abs().max()) < 1e-6


def test_a_published_file_gives_the_published_replies(tmp_path, tiny, golden, state, prompts):
    steerer = L2S.from_reference(saved(tmp_path, state), reads=LAYER, writes=LAYER, vlm=tiny, scope="all")
    replies = steer(tiny, prompts, steerer, max_new_tokens=TOKENS)
    assert mismatches(golden.facts["replies"]["l2s"], replies.token_ids) == []


def test_a_network_goes_to_a_published_file_and_back(tmp_path, golden, state):
    steerer = L2S.from_reference(saved(tmp_path, state), reads=2, writes=4, fingerprint="a")
    steerer.to_reference(tmp_path / "out.pt")
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(written) == list(KEYS)
    assert all(torch.equal(written[key], state[key]) for key in KEYS)
    again = L2S.from_reference(tmp_path / "out.pt", reads=2, writes=4, fingerprint="a")
    query = Query(golden["test.context"])
    assert torch.equal(again.ops(query)[0].vector, steerer.ops(query)[0].vector)


def test_the_published_module_loads_what_is_written(tmp_path, golden, state):
    """The published network: a linear layer, tanh, and a linear layer without bias."""
    L2S.from_reference(saved(tmp_path, state), reads=3, writes=3).to_reference(tmp_path / "out.pt")
    module = torch.nn.ModuleDict({"encoder": torch.nn.Linear(128, 32), "decoder": torch.nn.Linear(32, 128, bias=False)})
    module.load_state_dict(torch.load(tmp_path / "out.pt", weights_only=True))
    with torch.no_grad():
        out = module["decoder"](torch.tanh(module["encoder"](golden["test.context"])))
    assert float((out - golden["l2s.out_test"]).abs().max()) < 1e-6


@pytest.mark.parametrize(("width", "hidden"), [(4096, 100), (3584, 400), (3584, 100)])
def test_published_sizes(tmp_path, width, hidden):
    sizes = {"encoder.weight": (hidden, width), "encoder.bias": (hidden,), "decoder.weight": (width, hidden)}
    path = saved(tmp_path, {key: torch.zeros(size) for key, size in sizes.items()})
    assert L2S.from_reference(path, reads=14, writes=14).predict(torch.ones(2, width)).shape == (2, width)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"encoder.bias": torch.zeros(31)}, r"encoder\.bias .* \[31\]; .* \[32\]"),
        (lambda s: s | {"decoder.weight": torch.zeros(32, 128)}, r"decoder\.weight .* \[32, 128\]; .* \[128, 32\]"),
        (lambda s: s | {"encoder.weight": torch.zeros(128)}, r"encoder\.weight .* \[128\]; .* \[hidden, d_model\]"),
        (lambda s: s | {"encoder.weight": torch.zeros(32, 128, dtype=torch.int8)}, r"encoder\.weight .* torch\.int8"),
        (lambda s: s | {"encoder.bias": torch.full((32,), torch.nan)}, r"encoder\.bias .* NaN"),
        (lambda s: s | {"encoder.bias": [0.0] * 32}, r"encoder\.bias .* a list"),
        (lambda s: {key: s[key] for key in KEYS[:2]}, r"lacks decoder\.weight"),
        (lambda s: s | {"decoder.bias": torch.zeros(128)}, r"also holds decoder\.bias"),
        (lambda s: {}, r"lacks encoder\.weight.*empty"),
        (lambda s: s["encoder.weight"], "holds a Tensor"),
        (lambda s: {"steering_model": 3}, "holds a int under 'steering_model'"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, state, change, message):
    with pytest.raises(ValueError, match=message):
        L2S.from_reference(saved(tmp_path, change(state)), reads=3, writes=3)


class _Runs:
    """What a malicious file does: it asks the unpickler to call a function."""

    def __init__(self, witness: str) -> None:
        self.witness = witness

    def __reduce__(self):
        return open, (self.witness, "w")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(tmp_path, state):
    witness = tmp_path / "it ran"
    for write in (torch.save, lambda value, path: open(path, "wb").write(pickle.dumps(value))):  # noqa: SIM115
        write(state | {"x": _Runs(str(witness))}, str(tmp_path / "bad.pt"))
        with pytest.raises(ValueError, match="not a file of plain tensors"):
            L2S.from_reference(tmp_path / "bad.pt", reads=3, writes=3)
    assert not witness.exists()


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        L2S.from_reference(tmp_path / "nothing.pt", reads=3, writes=3)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match="not a file of plain tensors"):
        L2S.from_reference(tmp_path / "empty.pt", reads=3, writes=3)


def test_a_model_of_another_width_or_depth_is_refused(tmp_path, tiny, state):
    other = {"encoder.weight": torch.zeros(5, 96), "encoder.bias": torch.zeros(5), "decoder.weight": torch.zeros(96, 5)}
    with pytest.raises(ValueError, match=r"width of 96; .* has 128"):
        L2S.from_reference(saved(tmp_path, other), reads=3, writes=3, vlm=tiny)
    with pytest.raises(ValueError, match="reads=30"):
        L2S.from_reference(saved(tmp_path, state), reads=30, writes=3, vlm=tiny)
    with pytest.raises(ValueError, match=r"width 96; .* 128"):
        L2S.from_reference(saved(tmp_path, state), reads=3, writes=3).predict(torch.zeros(1, 96))


def test_another_model_refuses_a_network_that_is_marked(tmp_path, tiny, state, prompts):
    marked = L2S.from_reference(saved(tmp_path, state), reads=3, writes=3, fingerprint="0123456789abcdef")
    with pytest.raises(ValueError, match="captured from model 0123456789abcdef"):
        steer(tiny, prompts[:1], marked, max_new_tokens=2)
    unmarked = replace(marked, fingerprint="")
    assert len(steer(tiny, prompts[:1], unmarked, max_new_tokens=2)) == 1
