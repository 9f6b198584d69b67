"""Checkpoints as vLLM wants them, and the server's command line; engines that run them are in test_equality.py."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interv_vllm.export import ExportError, export_for_vllm, filled_up, lacks, renamed
from interv_vllm.server import command_of, how_to_ask, names_of
from interv_vllm.verify import compared
from world import World

TEXT = {"model_type": "llama", "hidden_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1}


def checkpoint(path: Path, **text: Any) -> Path:
    path.mkdir()
    config = {"model_type": "llava", "text_config": TEXT | {"rope_parameters": {"rope_theta": 1e4}} | text}
    (path / "config.json").write_text(json.dumps(config))
    names = {"q": (48, 48), "k": (24, 48), "v": (24, 48), "o": (48, 48)}
    weights = {
        f"language_model.model.layers.0.self_attn.{name}_proj.weight": torch.randn(shape)
        for name, shape in names.items()
    }
    save_file(weights | {"vision_tower.encoder.layers.0.weight": torch.ones(2)}, path / "model.safetensors")
    return path


def scores(weights: dict[str, torch.Tensor], theta: float, size: int, states: torch.Tensor) -> torch.Tensor:
    """Rotated queries against rotated keys, two heads that share their keys, as the model computes them."""
    place = "language_model.model.layers.0.self_attn."
    half = size // 2
    angles = torch.arange(len(states))[:, None] * theta ** (-torch.arange(half) / half)

    def turned(x: torch.Tensor) -> torch.Tensor:
        first, second = x.unflatten(-1, (-1, 2, half)).unbind(-2)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    queries = turned(states @ weights[f"{place}q_proj.weight"].T)
    keys = turned(states @ weights[f"{place}k_proj.weight"].T)
    return torch.einsum("ihd,jkd->hij", queries, keys) / size**0.5


def test_wider_heads_attend_alike(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    target = export_for_vllm(source, tmp_path / "target")
    old, new = (load_file(folder / "model.safetensors") for folder in (source, target))
    text = json.loads((target / "config.json").read_text())["text_config"]
    assert text["head_dim"] == 32
    states = torch.randn(7, 48)
    own = scores(old, 1e4, 24, states)
    assert torch.allclose(own, scores(new, text["rope_parameters"]["rope_theta"], 32, states), atol=1e-3)
    place = "language_model.model.layers.0.self_attn."
    mixed = [
        weights[f"{place}o_proj.weight"] @ (weights[f"{place}v_proj.weight"] @ states.T).repeat(2, 1)
        for weights in (old, new)
    ]
    assert torch.allclose(*mixed, atol=1e-3)
    assert lacks(target) == []


def test_filling_up_keeps_the_halves_apart() -> None:
    wide = filled_up(torch.arange(1.0, 5.0), 1, 4, 8, rows=True)
    assert wide.tolist() == [1, 2, 0, 0, 3, 4, 0, 0]


def test_what_a_folder_lacks(tmp_path: Path) -> None:
    found = lacks(checkpoint(tmp_path / "source"))
    assert "heads of size 24" in found[0]
    assert "vision weights" in found[1]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("vision_tower.encoder.x", "vision_tower.vision_model.encoder.x"),
        ("model.vision_tower.pre_layrnorm.x", "model.vision_tower.vision_model.pre_layrnorm.x"),
        ("vision_tower.vision_model.encoder.x", "vision_tower.vision_model.encoder.x"),
        ("language_model.model.norm.weight", "language_model.model.norm.weight"),
    ],
)
def test_names_of_the_vision_tower(name: str, wanted: str) -> None:
    assert renamed(name) == wanted


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    scaled = checkpoint(tmp_path / "scaled", rope_parameters={"rope_theta": 1e4, "rope_type": "yarn"})
    with pytest.raises(ExportError, match="'yarn' cannot be kept"):
        export_for_vllm(scaled, tmp_path / "out")
    with pytest.raises(ExportError, match="serve it on a GPU"):
        export_for_vllm(checkpoint(tmp_path / "qwen", model_type="qwen2"), tmp_path / "out")
    with pytest.raises(ExportError, match=r"no config\.json"):
        export_for_vllm(tmp_path, tmp_path / "out")


def test_the_fingerprint_of_the_source_goes_with_it(llava: World) -> None:
    card = json.loads((Path(llava.model) / "interv.json").read_text())
    fitted = json.loads((Path(llava.steerers["mean"]) / "steerer.json").read_text())
    assert card["fingerprint"] == fitted["fingerprint"]


def test_the_command_line_of_a_server(llava: World) -> None:
    named = names_of([llava.steerers["mean"], "me/caution"])
    assert named == {"mean": llava.steerers["mean"], "caution": "me/caution"}
    command = command_of(named, llava.model, host="127.0.0.1", port=8001, options=["--dtype", "float32"])
    assert command[0] == sys.executable
    assert json.loads(command[command.index("--additional-config") + 1]) == {"steer": named}
    assert command[-2:] == ["--dtype", "float32"]
    assert '"steer": "mean"' in how_to_ask(named, llava.model, "127.0.0.1", 8001)
    with pytest.raises(ValueError, match="Two steerers would be named 'a'"):
        names_of(["me/a", "you/a"])


def test_replies_are_compared_up_to_where_they_differ() -> None:
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]])

    def said(*ids: int) -> dict[str, Any]:
        content = [{"logprob": logprobs[step, token].item() + 0.25} for step, token in enumerate(ids)]
        return {"token_ids": ids, "logprobs": {"content": content}}

    assert compared([0, 1, 1], logprobs, said(0, 1, 1)) == (0.25, None)
    assert compared([0, 1, 1], logprobs, said(0, 0, 1)) == (0.25, 1)
    assert compared([0, 1], logprobs, said(0, 1, 1)) == (0.25, 2)
