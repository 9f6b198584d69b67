"""Contrasts in shards: the numbers are those in memory, whatever happens on the way."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import methods.contrasts.shards
from interv import VLM, Prompt
from methods import L2S, STEERERS, BankShards, ContrastBank, ContrastPair, Query, ShardedContrasts, capture_contrasts
from methods.steerer import Fitted
from methods.training import initial_weights
from tests.property.test_law_12_steerers import contrasts
from tests.tiny_models import build

COUNT, BATCH = 11, 2


@pytest.fixture(scope="module")
def small() -> VLM:
    return build("random-llava")


def made(count: int = COUNT, first: str = "is it red ?") -> list[ContrastPair]:
    pairs = []
    for number in range(count):
        image = Image.new("RGB", (28, 28), (number * 20 % 256, 90, 200))
        asked = Prompt(image, first + " really ?" * (number % 3))
        yes, no = (Prompt(image, asked.question, answer=answer) for answer in ("yes, it is", "no"))
        pairs.append(ContrastPair(asked, yes, no, behavior="ab"[number % 2], id=str(number)))
    return pairs


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch, small: VLM) -> None:
    """Four pairs a shard."""
    monkeypatch.setattr(methods.contrasts.shards, "SHARD_BYTES", 4 * 3 * 4 * small.n_layers * small.d_model)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def same_bank(one: ContrastBank, other: ContrastBank) -> None:
    for name in ("context", "positive", "negative"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert (one.behavior, one.id, one.skipped) == (other.behavior, other.id, other.skipped)


@pytest.mark.usefixtures("small_shards")
def test_shards_hold_what_memory_would(small: VLM, tmp_path: Path) -> None:
    whole = capture_contrasts(small, made(), batch_size=BATCH, progress=False)
    shards = capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path)
    assert [len(part) for part in shards.parts] == [4, 4, 3]
    same_bank(shards.loaded(), whole)
    at, own = shards.at(reads=1, writes=0), whole.at(reads=1, writes=0)
    rows = torch.tensor([10, 0, 7, 7, 3])
    context, vectors = at.take(rows)
    assert torch.equal(context, own.context[rows])
    assert torch.equal(vectors, own.vectors[rows])
    assert torch.equal(at.loaded().vectors, own.vectors)
    assert torch.equal(torch.cat([vectors for _, vectors in at.batches(3)]), own.vectors)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("method", STEERERS, ids=lambda method: method.__name__)
def test_every_method_fits_shards_as_it_fits_memory(method: type[Fitted], small: VLM, tmp_path: Path) -> None:
    pairs = [replace(pair, agnostic=(pair.negative, pair.positive)) for pair in made()]
    shards = capture_contrasts(small, pairs, batch_size=BATCH, progress=False, out=tmp_path).at(reads=1, writes=0)
    query = Query(torch.randn(2, small.d_model), torch.randn(2, small.d_model))
    options = {"init": "random"} if method is L2S else {}  # singular vectors are the same up to their sign
    ours, plain = (method.fit(train, **options).ops(query) for train in (shards, shards.loaded()))
    for op, twin in zip(ours, plain, strict=True):
        torch.testing.assert_close(op.vector, twin.vector, atol=1e-4, rtol=1e-3)
        assert (op.site, op.scope, op.strength, op.fingerprint) == (
            twin.site,
            twin.scope,
            twin.strength,
            twin.fingerprint,
        )


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_run_goes_on(small: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path / "whole")
    seen, capture = [], methods.contrasts.capture.capture_batch

    def broken(*args, **named):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return capture(*args, **named)

    monkeypatch.setattr(methods.contrasts.capture, "capture_batch", broken)
    with pytest.raises(KeyboardInterrupt):
        capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path / "resumed")
    with pytest.raises(ValueError, match="lacks 2 of 3 shards"):
        BankShards.open(tmp_path / "resumed")
    capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path / "resumed")
    assert len(seen) == 4 + 4, "what was written is not captured again"
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")
    assert len(whole) == COUNT


def test_scaled_parts_give_scaled_vectors() -> None:
    """As the same contrasts in memory do, whether one part has a scale or all have."""
    parts = (contrasts(0).silenced(["a"]), contrasts(1))
    sharded, rows = ShardedContrasts(parts), torch.tensor([100, 1, 0, 3, 191])
    vectors = torch.cat([part.vectors for part in parts])
    assert torch.equal(sharded.take(rows)[1], vectors[rows])
    assert torch.equal(sharded.loaded().vectors, vectors)
    assert sharded.id == sharded.loaded().id
    assert ShardedContrasts(parts[1:]).loaded().scale is None


def test_batches_by_length_keep_the_order_of_the_pairs(small: VLM) -> None:
    given = capture_contrasts(small, made(), batch_size=3, progress=False)
    sorted_ = capture_contrasts(small, made(), batch_size=3, progress=False, order="length")
    assert sorted_.id == given.id
    assert sorted_.behavior == given.behavior
    torch.testing.assert_close(sorted_.context, given.context, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sorted_.positive, given.positive, atol=1e-5, rtol=1e-5)


KILLED = """
import os, sys
import torch
torch.set_num_threads(1)  # as in the tests: on several threads a busy machine may round otherwise
import methods.contrasts.capture, methods.contrasts.shards
from methods import capture_contrasts
from tests.tiny_models import build
from tests.unit.test_shards import BATCH, made

vlm, left = build("random-llava"), [int(sys.argv[2])]
methods.contrasts.shards.SHARD_BYTES = 4 * 3 * 4 * vlm.n_layers * vlm.d_model
save = methods.contrasts.shards.save_file

def dying(tensors, path, **named):
    save(tensors, path, **named)
    left[0] -= 1
    if not left[0]:
        with open(path, "r+b") as file:
            file.truncate(200)  # as if only the beginning had reached the disk
        os.kill(os.getpid(), 9)

methods.contrasts.shards.save_file = dying
capture_contrasts(vlm, made(), batch_size=BATCH, progress=False, out=sys.argv[1])
"""


def run(code: str, *args: str) -> subprocess.CompletedProcess:
    root = str(Path(__file__).parents[2])
    return subprocess.run([sys.executable, "-c", code, *args], cwd=root, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_a_killed_run_leaves_the_same_files(small: VLM, tmp_path: Path) -> None:
    """Killed by the system while its second shard is half written."""
    assert run(KILLED, str(tmp_path / "killed"), "2").returncode == -9
    assert [path.name for path in (tmp_path / "killed").glob("*.safetensors")] == [
        "contrasts-00000-of-00003.safetensors"
    ]
    capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path / "killed")
    capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path / "whole")
    for name, content in files(tmp_path / "whole").items():
        assert files(tmp_path / "killed")[name] == content


@pytest.mark.usefixtures("small_shards")
def test_training_on_shards_is_training_in_memory(small: VLM, tmp_path: Path) -> None:
    shards = capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path).at(1, 0)
    options = {"hidden": 4, "epochs": 3, "batch_size": 4, "init": "random"}
    ours = L2S.fit(shards, validation=shards, balanced=True, **options)
    plain = L2S.fit(shards.loaded(), validation=shards.loaded(), balanced=True, **options)
    for name in ("encoder_weight", "encoder_bias", "decoder_weight"):
        assert torch.equal(getattr(ours, name), getattr(plain, name)), name
    assert (ours.reads, ours.writes, ours.fingerprint) == (1, 0, small.fingerprint)
    with pytest.raises(ValueError, match=r"train\.loaded"):
        L2S.fit(shards, init="dictionary")


@pytest.mark.usefixtures("small_shards")
def test_streamed_singular_vectors_are_those_of_the_whole(small: VLM, tmp_path: Path) -> None:
    shards = capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path).at(1, 0)
    ours, whole = (initial_weights(train, 3, "svd", 0).decoder_weight for train in (shards, shards.loaded()))
    torch.testing.assert_close((ours.T @ whole).abs(), torch.eye(3), atol=1e-3, rtol=0)


def test_shards_are_safetensors(small: VLM, tmp_path: Path) -> None:
    """Other programs can read them."""
    capture_contrasts(small, made(2), progress=False, out=tmp_path)
    tensors = load_file(tmp_path / "contrasts-00000-of-00001.safetensors")
    assert {name for name, value in tensors.items() if value.shape == (2, small.n_layers, small.d_model)} == {
        "context",
        "positive",
        "negative",
    }
