"""The real sizes' study at a small size: both layouts, all recipes, and the bits of plain hooks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studies import real_sizes
from studies.real_sizes import Arguments
from studies.timing import by_hand, checkpoints
from studies.timing.official import KEYS_2024, named

TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
SMALL = {
    "llava": (TEXT, {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "qwen2_vl": (
        TEXT
        | {"num_key_value_heads": 2}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}},
        {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
    ),
}


@pytest.fixture(params=SMALL)
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The family at a small size, its vocabulary too: special tokens follow the learned pieces."""
    shape, (text, vision) = checkpoints.SHAPES[request.param], SMALL[request.param]
    low = {place: place if place < 10 else 1600 + number for number, place in enumerate(shape.special)}
    small = replace(
        shape,
        text=shape.text | text | {"vocab_size": 1700},
        vision=shape.vision | vision,
        special={low[place]: token for place, token in shape.special.items()},
        top={name: low.get(value, value) for name, value in shape.top.items()},
    )
    monkeypatch.setitem(checkpoints.SHAPES, request.param, small)
    monkeypatch.setattr(real_sizes, "written", _here)
    return request.param


def _here(arguments: Arguments, path: Path, age: str) -> dict:
    """In this process: a new one imports for seconds."""
    size = checkpoints.write_checkpoint(arguments.family, path, age, arguments.layers)
    return {"what": f"written, {age}", "seconds": 0.0, "bytes": size, "files": 1}


@pytest.mark.slow
def test_both_layouts_and_all_recipes_give_the_bits_of_plain_hooks(family: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- measured: {family} -->\n<!-- end: {family} -->\n")
    arguments = Arguments(family, width=84, height=56, tokens=2, out=tmp_path, write=page)  # type: ignore[arg-type]
    found = real_sizes.real_sizes(arguments)
    steps = {step["what"]: step for step in found["steps"]}
    texts = [step for step in steps.values() if "fingerprint" in step]
    assert len({step["fingerprint"] for step in texts}) == 1
    rows = [step for step in steps.values() if "network" in step]
    assert len(rows) == 8
    assert all(step["equal"] and step["moved"] > 0 for step in rows)
    (pair,) = (step for step in steps.values() if "relative_gap" in step)
    assert pair["relative_gap"] < 0.05  # bfloat16 keeps eight bits
    assert json.loads((tmp_path / f"{family}.json").read_text())["steps"] == found["steps"]
    assert page.read_text().count("equal to the last bit") == 10


@pytest.mark.slow
def test_other_bits_are_named(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = by_hand.predicted
    monkeypatch.setattr(by_hand, "predicted", lambda *args: 1.1 * right(*args))
    once = Arguments(family, ages=("2026",), recipes=("paper_pope",), width=84, height=56, tokens=1, out=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not those of plain hooks in paper_pope"):
        real_sizes.real_sizes(once)


def test_names_of_2024_are_those_of_the_published_checkpoints() -> None:
    """As the index of Qwen2-VL-7B-Instruct and public converters of LLaVA-1.5 have them."""
    names = {
        "llava": {
            "model.language_model.layers.0.mlp.up_proj.weight": "language_model.model.layers.0.mlp.up_proj.weight",
            "lm_head.weight": "language_model.lm_head.weight",
            "model.vision_tower.pre_layrnorm.bias": "vision_tower.vision_model.pre_layrnorm.bias",
            "model.multi_modal_projector.linear_1.weight": "multi_modal_projector.linear_1.weight",
        },
        "qwen2_vl": {
            "model.language_model.embed_tokens.weight": "model.embed_tokens.weight",
            "model.visual.merger.ln_q.weight": "visual.merger.ln_q.weight",
            "lm_head.weight": "lm_head.weight",
        },
    }
    for family, own in names.items():
        assert KEYS_2024[family]
        assert {key: named(key, family, "2024") for key in own} == own
        assert {key: named(key, family, "2026") for key in own} == {key: key for key in own}


def test_a_weight_is_drawn_by_its_name_alone() -> None:
    one, again = (checkpoints.random_weight("a.weight", torch.Size((3, 4))) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, checkpoints.random_weight("b.weight", torch.Size((3, 4))))
    assert (checkpoints.random_weight("norm.weight", torch.Size((64,))) - 1).abs().max() < 0.2


def test_a_pair_of_means_is_not_held_against_one_token(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paper_pope averages over what the model goes on to say"):
        real_sizes.real_sizes(Arguments(capture="paper_pope", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
