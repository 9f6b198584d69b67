"""Where models come from: names, folders, and models that no layout knows."""

from pathlib import Path

import pytest
import torch

from interv import VLM
from interv.layouts import LAYOUTS, layout_of
from interv.loading import embedded_names
from tests.property.cases import Case
from tests.property.reference import bitwise
from tests.tiny_models import RANDOM, build


@pytest.mark.parametrize("name", RANDOM)
def test_a_saved_folder_gives_the_same_model(name: str, tmp_path: Path) -> None:
    vlm, case = build(name), Case()
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    again = VLM.load(str(tmp_path))
    assert again.fingerprint == vlm.fingerprint
    bitwise(again.logits(case.prompts()), vlm.logits(case.prompts()))
    assert again.generate(case.prompts(), max_new_tokens=4) == vlm.generate(case.prompts(), max_new_tokens=4)


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder", "a/b/c"])
def test_an_unknown_name_is_told_what_exists(name: str) -> None:
    with pytest.raises(ValueError, match="is no model") as error:
        VLM.load(name)
    assert all(known in str(error.value) for known in embedded_names())


def test_an_unknown_family_is_told_what_exists() -> None:
    with pytest.raises(ValueError, match=", ".join(LAYOUTS)):
        layout_of("idefics")
    assert {"llava", "qwen2_vl"} <= set(LAYOUTS)


def test_layouts_name_modules_that_exist(vlm: VLM) -> None:
    layout = vlm.layout
    for path in (layout.blocks, layout.embedding, layout.norm, layout.vision_blocks, layout.projector):
        vlm.model.get_submodule(path)


def test_fingerprint_tells_models_apart_and_not_their_precision() -> None:
    llava, qwen = (build(name) for name in RANDOM)
    assert llava.fingerprint != qwen.fingerprint
    assert build(RANDOM[0], torch.bfloat16).fingerprint == llava.fingerprint


def test_a_model_says_what_it_is(vlm: VLM) -> None:
    text = vlm.model.config.get_text_config()
    assert (vlm.n_layers, vlm.d_model) == (text.num_hidden_layers, text.hidden_size)
    assert vlm.name
    assert len(vlm.fingerprint) == 16
    assert not vlm.model.training
