"""Families: rows that name real modules, and checkpoints in the official layouts, old and new, that load the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interv import VLM, Scale, Site
from interv.places.layouts import LAYOUTS
from interv.places.parts import part_of
from tests.property.cases import Case
from tests.property.reference import bitwise
from tests.tiny_families import FAMILIES, family

OLD_NAMES = {
    "llava": (
        ("lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ),
    "qwen2_vl": (("model.language_model.", "model."), ("model.visual.", "visual.")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_row_names_modules_that_exist(name: str) -> None:
    vlm = family(name)
    layout = vlm.layout
    for path in (layout.blocks, layout.embedding, layout.norm, layout.vision_blocks, layout.projector):
        vlm.model.get_submodule(path)
    assert len(vlm.model.get_submodule(layout.blocks)) == vlm.n_layers
    assert len(vlm.model.get_submodule(layout.vision_blocks)) == layout.vision_sizes.layers
    for site in layout.sites():
        vlm.model.get_submodule(layout.locate(site)[0])


@pytest.mark.parametrize("name", LAYOUTS)
def test_shapes_of_all_places_are_those_read(name: str) -> None:
    """In one pass; and a head that is knocked out at each place of heads changes what the model says."""
    vlm, prompts = family(name), Case().prompts()
    logits, cache = vlm.run_with_cache(prompts)
    assert list(cache) == [str(site) for site in vlm.layout.sites() if site.hook != "attn.hook_result"]
    for key, value in cache.items():
        part = part_of(Site.parse(key), vlm.layout, vlm.model)
        heads = (part.heads,) if part.heads else ()
        assert part.width in (None, value.shape[-1] * (part.heads or 1)), key
        assert value.shape[-2:-1] == heads or not heads
    for hook in ("hook_q", "hook_v", "hook_z", "hook_result"):
        for site in (Site(-1, hook, head=1), Site(0, hook, head=1, tower="vision")):
            changed, _ = vlm.run_with_cache(prompts, ["hook_embed"], [Scale(site, 0.0, "all")])
            assert not torch.equal(changed, logits), site


def test_what_a_family_lacks_says_what_is_nearest() -> None:
    site = Site.parse("vision_encoder.blocks.0.mlp.hook_pre_linear")
    with pytest.raises(ValueError, match=r"no gate; nearest to it is mlp\.hook_pre"):
        family("llava").capture(Case().prompts(), [site], "all")
    assert family("qwen2_5_vl").layout.has(site)


def test_every_row_has_a_tiny_model_that_the_laws_run_on() -> None:
    assert set(LAYOUTS) <= set(FAMILIES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_are_those_of_the_plain_model(name: str) -> None:
    """The processor called as its own documentation says, one prompt at a time."""
    vlm, case = family(name), Case()
    ours = vlm.logits(case.prompts())
    for row, prompt in enumerate(case.prompts()):
        text = vlm.processor.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)
        bos = vlm.processor.tokenizer.bos_token
        special = not (bos and text.startswith(bos))
        batch = vlm.processor(text=text, images=prompt.images(), return_tensors="pt", add_special_tokens=special)
        with torch.no_grad():
            plain = vlm.model(**batch).logits[0, -1]
        torch.testing.assert_close(ours[row], plain, rtol=1e-4, atol=1e-5)


def saved(name: str, folder: Path, shards: str = "40KB") -> Path:
    vlm = family(name)
    vlm.model.save_pretrained(folder, max_shard_size=shards)
    vlm.processor.save_pretrained(folder)
    return folder


def rename(folder: Path, names: tuple[tuple[str, str], ...]) -> None:
    """Every weight as the checkpoints on the hub call it, in its shard and in the index."""

    def old(key: str) -> str:
        prefix, new = next(((ours, theirs) for ours, theirs in names if key.startswith(ours)), ("", ""))
        return new + key.removeprefix(prefix)

    for file in folder.glob("*.safetensors"):
        save_file({old(_new(key)): value for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {old(_new(key)): shard for key, shard in content["weight_map"].items()}
    index.write_text(json.dumps(content))


def _new(key: str) -> str:
    """A saved key as the model in memory has it; saving writes the old names already for some families."""
    for names in OLD_NAMES.values():
        for ours, theirs in names:
            if key.startswith(theirs) and not key.startswith("model.") and theirs != "model.":
                return ours + key.removeprefix(theirs)
    return key


def same(loaded: VLM, name: str) -> None:
    vlm, case = family(name), Case()
    assert loaded.fingerprint == vlm.fingerprint
    bitwise(loaded.logits(case.prompts()), vlm.logits(case.prompts()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_sharded_folders_load_as_they_were_saved(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same(VLM.load(str(tmp_path), dtype=torch.float32), name)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_shards_with_the_old_names_load_the_same(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    rename(tmp_path, OLD_NAMES[name])
    keys = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert not any(key.startswith("model.language_model.") for key in keys)
    same(VLM.load(str(tmp_path), dtype=torch.float32), name)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_shards_with_the_names_in_memory_load_the_same(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    rename(tmp_path, ())
    same(VLM.load(str(tmp_path), dtype=torch.float32), name)


def split_processor(folder: Path, forget: tuple[str, ...] = ()) -> None:
    """As older libraries wrote it: the image half in a file of its own, the template in JSON."""
    file = folder / "processor_config.json"
    content: dict[str, Any] = json.loads(file.read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(content.pop("image_processor")))
    file.write_text(json.dumps({name: value for name, value in content.items() if name not in forget}))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()


@pytest.mark.parametrize("name", OLD_NAMES)
def test_processor_files_of_older_libraries_load_the_same(name: str, tmp_path: Path) -> None:
    split_processor(saved(name, tmp_path))
    same(VLM.load(str(tmp_path), dtype=torch.float32), name)


@pytest.mark.parametrize("name", ["llava", "llava_next"])
def test_a_processor_that_knows_no_patch_size_takes_it_from_the_model(name: str, tmp_path: Path) -> None:
    counts = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")
    split_processor(saved(name, tmp_path), forget=counts)
    same(VLM.load(str(tmp_path), dtype=torch.float32), name)


def test_precision_attention_and_placement_are_passed_on(tmp_path: Path) -> None:
    saved("llava", tmp_path)
    vlm = VLM.load(str(tmp_path), dtype="bfloat16", attn_implementation="eager", device_map="cpu")
    assert vlm.model.dtype == torch.bfloat16
    assert vlm.model.config._attn_implementation == "eager"
    assert vlm.model.get_submodule("model.language_model").config._attn_implementation == "eager"


def test_quantised_weights_need_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from interv.models import load as loading

    saved("llava", tmp_path)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        VLM.load(str(tmp_path), load_in_4bit=True)
    with pytest.raises(ValueError, match="choose one"):
        VLM.load(str(tmp_path), load_in_4bit=True, load_in_8bit=True)
