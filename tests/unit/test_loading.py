"""Where models come from: names, folders, and models that no layout knows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model

from interv import VLM, Add, Site
from interv.models import load as loading
from interv.models.load import embedded_names
from interv.places.layouts import LAYOUTS, layout_of
from tests import tiny_models
from tests.official import AGES, OFFICIAL, Age, write_official
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


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("family", OFFICIAL)
def test_official_folders_of_both_ages_give_the_same_model(family: str, age: Age, tmp_path: Path) -> None:
    vlm, case = build(OFFICIAL[family]), Case()
    folder = write_official(family, tmp_path / "model", age)
    again = VLM.load(str(folder))
    assert len(list(folder.glob("model-*-of-*.safetensors"))) == 3
    assert again.fingerprint == vlm.fingerprint
    bitwise(again.logits(case.prompts()), vlm.logits(case.prompts()))
    assert again.generate(case.prompts(), max_new_tokens=4) == vlm.generate(case.prompts(), max_new_tokens=4)


def test_a_shard_that_is_missing_is_an_error(tmp_path: Path) -> None:
    folder = write_official("llava", tmp_path / "model")
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(OSError, match="model-00002"):
        VLM.load(str(folder))


def _downloaded(cache: Path, revisions: dict[str, str]) -> str:
    """A model of the hub as huggingface_hub keeps it once it was fetched; the family of each revision by its name."""
    home = cache / "models--lab--small"
    for number, (revision, family) in enumerate(revisions.items()):
        commit = f"{number}" * 40
        write_official(family, home / "snapshots" / commit)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / revision).write_text(commit)
    return "lab/small"


@pytest.mark.slow
def test_a_hub_id_loads_from_what_was_downloaded_by_its_revision(tmp_path: Path) -> None:
    name = _downloaded(tmp_path, {"main": "llava", "other": "qwen2_vl"})
    code = (
        "from interv import VLM\n"
        f"for revision in (None, 'other', '{'1' * 40}'):\n"
        f"    print(VLM.load('{name}', revision=revision, local_files_only=True).fingerprint)\n"
        "try:\n"
        f"    VLM.load('{name}', revision='none', local_files_only=True)\n"
        "except OSError as error:\n"
        "    print('refused')\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    llava, qwen = (build(OFFICIAL[family]).fingerprint for family in ("llava", "qwen2_vl"))
    assert done.stdout.split() == [llava, qwen, qwen, "refused"]


@pytest.mark.parametrize("device_map", ["cpu", {"model": "cpu", "lm_head": "cpu"}])
def test_a_device_map_places_the_weights(device_map: str | dict, tmp_path: Path) -> None:
    vlm, case = build("random-llava"), Case()
    again = VLM.load(str(write_official("llava", tmp_path)), device_map=device_map)
    ops = [Add(Site(1), torch.ones(vlm.d_model), strength=2.0)]
    bitwise(again.logits(case.prompts(), ops), vlm.logits(case.prompts(), ops))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_implementation_is_the_one_that_was_asked_for(implementation: str, tmp_path: Path) -> None:
    vlm, case = build("random-llava"), Case()
    again = VLM.load(str(write_official("llava", tmp_path)), attn_implementation=implementation)
    assert again.model.config.get_text_config()._attn_implementation == implementation
    torch.testing.assert_close(again.logits(case.prompts()), vlm.logits(case.prompts()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float16"])
def test_weights_come_in_the_precision_that_was_asked_for(dtype: str | torch.dtype, tmp_path: Path) -> None:
    again = VLM.load(str(write_official("qwen2_vl", tmp_path)), dtype=dtype)
    assert again.model.dtype == (getattr(torch, dtype) if isinstance(dtype, str) else dtype)


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-qwen2vl"])
def test_one_checkpoint_has_one_fingerprint_in_every_precision(name: str) -> None:
    assert len({VLM.load(name, dtype=dtype).fingerprint for dtype in ("float32", "bfloat16", "float16")}) == 1


def test_offloaded_weights_have_the_fingerprint_of_loaded_ones(tmp_path: Path) -> None:
    """Some blocks in memory and on disk, as accelerate places what a GPU cannot hold."""
    vlm = VLM.load("tiny-llava")
    before, reply = vlm.fingerprint, vlm.generate(Case().prompts(), max_new_tokens=3)
    decoder, blocks = "model.language_model", range(vlm.n_layers)
    device_map = {f"{decoder}.layers.{number}": "disk" if number > 5 else "cpu" for number in blocks}
    device_map |= {f"{decoder}.{name}": "cpu" for name in ("embed_tokens", "norm", "rotary_emb")}
    device_map |= dict.fromkeys(("model.vision_tower", "model.multi_modal_projector", "lm_head"), "cpu")
    offloaded = VLM(dispatch_model(vlm.model, device_map, offload_dir=tmp_path, main_device="cpu"), vlm.processor)
    assert any(parameter.is_meta for parameter in offloaded.model.parameters())
    assert offloaded.fingerprint == before
    assert offloaded.generate(Case().prompts(), max_new_tokens=3) == reply


def test_few_bits_without_their_library_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        VLM.load("tiny-llava", load_in_4bit=True)
    with pytest.raises(ValueError, match="choose one"):
        VLM.load("tiny-llava", load_in_4bit=True, load_in_8bit=True)


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_in_few_bits_answer_nearly_as_whole_ones(
    bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    for width in ("WIDTH", "VISION_WIDTH"):
        monkeypatch.setattr(tiny_models, width, 128)  # the library packs blocks of 64 numbers
    model, processor = tiny_models.tiny_llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    vlm, case = VLM(model, processor), Case()
    few = VLM.load(str(tmp_path), **{f"load_in_{bits}bit": True})
    kind = type(few.model.model.language_model.layers[0].mlp.up_proj).__module__
    assert kind.startswith("bitsandbytes")
    alike = torch.nn.functional.cosine_similarity(few.logits(case.prompts()), vlm.logits(case.prompts()))
    assert alike.min() > {8: 0.99, 4: 0.5}[bits]  # a random model multiplies its errors; another one is near 0
    vector = torch.ones(few.d_model)
    steered = few.logits(case.prompts(), [Add(Site(1), vector, strength=2.0)])
    assert not torch.equal(steered, few.logits(case.prompts()))
