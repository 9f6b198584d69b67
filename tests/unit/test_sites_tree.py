"""The tree of places shows what there is, and the shapes are those that a capture gives."""

import io
import re
from unittest.mock import patch

import pytest
import rich
from rich.console import Console

from interv import VLM, Site, __main__
from tests.property.cases import Ask


def text(vlm: VLM, shapes: dict[str, tuple[int, ...]]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(__main__.tree(vlm, shapes))
    return stream.getvalue()


def test_every_part_of_the_layout_has_its_name_in_the_tree(vlm: VLM) -> None:
    """Also a check of the layout: what it names is there."""
    shown = text(vlm, {})
    for name in ("decoder blocks", "token embeddings", "final norm", "vision blocks", "projector"):
        assert sum(line.endswith(f" {name}") for line in shown.splitlines()) == 1
    first = [site for site in vlm.layout.sites() if not site.layer]
    assert len(first) > 40
    for site in first:
        assert sum(line.split(":")[0].endswith(f" {site}") for line in shown.splitlines()) == 1
    towers = vlm.layout.sizes, vlm.layout.vision_sizes
    assert shown.count("as block 0") == sum(tower.layers - 1 for tower in towers)


def test_shapes_are_those_of_captures(vlm: VLM) -> None:
    prompt = Ask().prompt()
    shapes = __main__.output_shapes(vlm, prompt)
    for path in (vlm.layout.norm, f"{vlm.layout.blocks}.1.mlp"):
        captured = vlm.capture([prompt], [Site.parse(path)], "all")[Site.parse(path)]
        assert shapes[path] == (1, *captured[0].shape)
    assert str(list(shapes[vlm.layout.norm])) in text(vlm, shapes)


def test_the_command_prints_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    with patch.object(rich, "get_console", lambda: Console(width=200)):
        __main__.sites("tiny-llava")
    printed = capsys.readouterr().out
    assert "tiny-llava: 8 decoder blocks, width 96" in printed
    assert "blocks.0.hook_mlp_out: output of mlp width 96" in printed
    assert re.search(r"blocks.0.attn.hook_k: output of self_attn.k_proj \d heads of width \d+", printed)
    assert "vision_encoder.blocks.0.ln1.hook_scale: denominator of output of layer_norm1 width 1" in printed
