"""Models with adapters of peft: read and steered like others, and known as others by their fingerprint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from interv import VLM, Add, Site
from tests.official import write_official
from tests.property.cases import Case
from tests.property.reference import bitwise, close, own_inputs
from tests.tiny_models import tiny_llava, tiny_qwen2vl

families = pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])


def lora(seed: int = 0, alpha: int = 8) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(seed)
    return peft.LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


def adapted(family: Callable, **settings: Any) -> tuple[Any, Any]:
    config = lora(**settings)
    from peft import get_peft_model

    model, processor = family()
    return get_peft_model(model, config).eval(), processor


def push(vlm: VLM) -> Add:
    return Add(Site(1), torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(0)), fingerprint=None)


@families
@torch.no_grad()
def test_an_adapted_model_answers_as_peft_does(family: Callable) -> None:
    model, processor = adapted(family)
    vlm, asks = VLM(model, processor), Case().asks
    close(vlm.logits(Case().prompts()), model(**own_inputs(vlm, asks)).logits[:, -1])
    plain = VLM(*family())
    assert not torch.allclose(vlm.logits(Case().prompts()), plain.logits(Case().prompts()), atol=0.1)
    with vlm.installed([push(vlm)]):
        steered = model(**own_inputs(vlm, asks)).logits[:, -1]
    close(vlm.logits(Case().prompts(), [push(vlm)]), steered)


@families
def test_an_adapter_makes_another_model(family: Callable) -> None:
    """By its weights, by how strongly they act, and by whether they do."""
    bare = VLM(*family())
    plain = bare.fingerprint
    some = [VLM(*adapted(family, **settings)) for settings in ({}, {"seed": 1}, {"alpha": 16})]
    assert len({plain, *(vlm.fingerprint for vlm in some)}) == 4
    before = some[0].fingerprint
    layers = [module for module in some[0].model.modules() if hasattr(module, "lora_A")]
    for layer in layers:
        layer.enable_adapters(False)
    assert some[0].fingerprint not in (before, plain)
    for layer in layers:
        layer.enable_adapters(True)
    assert some[0].fingerprint == before


@families
def test_an_adapter_that_comes_later_is_noticed(family: Callable) -> None:
    config = lora()
    from peft import get_peft_model

    vlm = VLM(*family())
    plain = vlm.fingerprint
    op = Add(Site(1), torch.ones(vlm.d_model), fingerprint=plain)
    adapter = get_peft_model(vlm.model, config)
    assert vlm.fingerprint != plain
    with pytest.raises(ValueError, match="captured from model"):
        vlm.generate(Case().prompts(), [op])
    adapter.unload()
    assert vlm.fingerprint == plain


@pytest.mark.parametrize("own", [False, True])
def test_an_adapters_folder_is_loaded_with_its_model(own: bool, tmp_path: Path) -> None:
    config = lora()
    from peft import get_peft_model

    base = VLM.load(str(write_official("llava", tmp_path / "base")))
    model = get_peft_model(base.model, config).eval()
    model.save_pretrained(tmp_path / "adapter")
    if own:
        base.processor.chat_template = "other" + base.processor.chat_template
        base.processor.save_pretrained(tmp_path / "adapter")
    wanted = VLM(model, base.processor)
    again = VLM.load(str(tmp_path / "adapter"))
    assert again.fingerprint == wanted.fingerprint
    assert again.preprocessing == wanted.preprocessing
    bitwise(again.logits(Case().prompts()), wanted.logits(Case().prompts()))


def test_an_adapter_that_names_no_model_is_told_what_to_pass(tmp_path: Path) -> None:
    model, _ = adapted(tiny_llava)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not say of which model.*PeftModel\.from_pretrained"):
        VLM.load(str(tmp_path))


def test_an_adapter_outside_the_layers_is_refused() -> None:
    peft = pytest.importorskip("peft")
    model, processor = tiny_llava()
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, num_layers=3, token_dim=32, num_attention_heads=4
    )
    with pytest.raises(ValueError, match="acts in peft's own forward"):
        VLM(peft.PeftModel(model, config), processor)


def test_a_folder_of_an_adapter_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "lab/base"}))
    monkeypatch.setattr("interv.models.adapters.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"is an adapter of lab/base.*pip install 'interv\[lora\]'"):
        VLM.load(str(tmp_path))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: model.model])
def test_what_is_no_model_of_transformers_is_refused(wrap: Callable) -> None:
    model, processor = tiny_llava()
    with pytest.raises((TypeError, ValueError), match=r"pass the model (that it wraps|with its output)"):
        VLM(wrap(model), processor)
