"""A saved method comes back as it was, and what is not as it was written is refused with the reason."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from interv import VLM
from methods import L2S, Contrasts, MeanSteering, Query, Together, load_steerer, read_card

WIDTH = 6


def contrasts(seed: int = 0) -> Contrasts:
    generator = torch.Generator().manual_seed(seed)
    context, positive, negative = (torch.randn(8, WIDTH, generator=generator) for _ in range(3))
    named = ("",) * 8, tuple(map(str, range(8)))
    return Contrasts(context, positive, negative, *named, 1, 2, "f" * 16)


@pytest.fixture
def steerer() -> L2S:
    return L2S.fit(contrasts(), hidden=4, epochs=2)


def ops(steerer: Any) -> list[torch.Tensor]:
    return [op.vector for op in steerer.ops(Query(contrasts(1).context))]


def test_save_pretrained_and_load_give_bitwise_the_same_ops(steerer: L2S, tmp_path: Path) -> None:
    steerer.save_pretrained(tmp_path, about={"strength": 0.5})
    again = load_steerer(tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(ops(steerer), ops(again), strict=True))
    assert read_card(tmp_path)["about"] == {"strength": 0.5}


def test_a_file_of_before_the_first_format_loads(steerer: L2S, tmp_path: Path) -> None:
    tensors = {name: value for name, value in vars(steerer).items() if isinstance(value, torch.Tensor)}
    card = {"method": "L2S"} | {name: value for name, value in vars(steerer).items() if name not in tensors}
    save_file(tensors, tmp_path / "steerer.safetensors")
    (tmp_path / "steerer.json").write_text(json.dumps(card))
    assert all(torch.equal(one, other) for one, other in zip(ops(steerer), ops(load_steerer(tmp_path)), strict=True))


def shorter(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def edited(file: Path, **changed: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


SPOILT = {
    "truncated tensors": (lambda f: shorter(f / "steerer.safetensors"), "steerer.safetensors is not as it was written"),
    "one flipped bit": (lambda f: flipped(f / "steerer.safetensors"), "steerer.safetensors is not as it was written"),
    "truncated card": (lambda f: shorter(f / "steerer.json"), "steerer.json is no JSON .* truncated or changed"),
    "another scope": (lambda f: edited(f / "steerer.json", scope="all"), "steerer.json is not as it was written"),
    "another block": (lambda f: edited(f / "steerer.json", writes=1), "steerer.json is not as it was written"),
    "hashes taken out": (lambda f: edited(f / "steerer.json", sha256={}), "is not as it was written"),
    "a later format": (lambda f: edited(f / "steerer.json", format=2), "format 2, and this version reads up to 1"),
    "no method": (lambda f: edited(f / "steerer.json", method=None), "names no method"),
    "renamed tensors": (
        lambda f: (f / "steerer.safetensors").rename(f / "vector.safetensors"),
        "lacks steerer.safetensors.*there is vector.safetensors",
    ),
    "renamed card": (lambda f: (f / "steerer.json").rename(f / "card.json"), "no steerer.json; there is card.json"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_files_that_are_not_as_they_were_written_are_refused(name: str, steerer: L2S, tmp_path: Path) -> None:
    steerer.save(tmp_path)
    spoil, reason = SPOILT[name]
    spoil(tmp_path)
    with pytest.raises(ValueError, match=reason):
        load_steerer(tmp_path)


def test_the_tensors_of_another_steerer_are_refused(steerer: L2S, tmp_path: Path) -> None:
    steerer.save(tmp_path / "one")
    L2S.fit(contrasts(5), hidden=4, epochs=2).save(tmp_path / "other")
    (tmp_path / "other" / "steerer.safetensors").replace(tmp_path / "one" / "steerer.safetensors")
    with pytest.raises(ValueError, match="belongs to another steerer"):
        load_steerer(tmp_path / "one")


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("alone", [True, False], ids=["the file", "its folder"])
def test_a_pickle_is_refused_and_not_opened(alone: bool, tmp_path: Path) -> None:
    file = tmp_path / "steerer.pt"
    file.write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"steerer\.pt.* is a pickle, which can run code when it is read"):
        load_steerer(file if alone else tmp_path)
    assert not (tmp_path / "ran").exists()


def model(name: str, fingerprint: str) -> VLM:
    """What tells a model from another, without one."""
    bare = object.__new__(VLM)
    bare.__dict__ |= {"name": name, "_fingerprint": fingerprint}
    return bare


def test_another_model_is_refused_unless_told(steerer: L2S, tmp_path: Path) -> None:
    steerer.save(tmp_path, about={"model": {"name": "the-first"}})
    other, own = model("the-second", "e" * 16), model("the-first", "f" * 16)
    with pytest.raises(ValueError, match=r"was fitted on model ffffffffffffffff \(the-first\), and the-second is eeee"):
        load_steerer(tmp_path, vlm=other)
    assert load_steerer(tmp_path, vlm=other, any_model=True).fingerprint == ""
    assert load_steerer(tmp_path, vlm=own).fingerprint == "f" * 16


def test_parts_are_checked_and_freed_of_their_model_too(steerer: L2S, tmp_path: Path) -> None:
    Together.of([steerer, MeanSteering.fit(contrasts())]).save_pretrained(tmp_path, about={})
    freed = load_steerer(tmp_path, any_model=True)
    assert isinstance(freed, Together)
    assert {part.fingerprint for part in freed.parts} == {""}
    flipped(tmp_path / "1" / "steerer.safetensors")
    with pytest.raises(ValueError, match=re.escape(str(Path("1") / "steerer.safetensors"))):
        load_steerer(tmp_path)


def test_the_model_card_escapes_what_a_file_says(steerer: L2S, tmp_path: Path) -> None:
    about = {"model": {"name": "x|y\n<script>"}, "chosen": {"how": "by hand"}, "results": [], "objective": "accuracy"}
    steerer.save_pretrained(tmp_path, about=about)
    page = (tmp_path / "README.md").read_text()
    assert "x\\|y &lt;script>" in page
    assert {"## Intended use", "## Misuse", "## How it was chosen"} <= set(page.splitlines())
