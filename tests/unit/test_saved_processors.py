"""Processors on disk: under the names of transformers, and read back with and without torchvision."""

import json
from pathlib import Path

import pytest
import transformers

from interv import VLM
from interv.places.layouts import LAYOUTS
from tests.property.cases import Case
from tests.property.reference import bitwise
from tests.tiny_families import FAMILIES
from tests.tiny_models import RANDOM, tiny_llava, tiny_qwen2vl


@pytest.mark.parametrize(
    "name", [*RANDOM, "tiny-qwen2vl", "tiny-llava", *(family for family in FAMILIES if family in LAYOUTS)]
)
def test_processors_are_saved_under_names_that_transformers_knows(name: str, tmp_path: Path) -> None:
    """The image's own reading is what it was when the folder is read again."""
    made_by = FAMILIES | {"random-llava": tiny_llava, "random-qwen2vl": tiny_qwen2vl}
    vlm = VLM(*made_by[name]()) if name in made_by else VLM.load(name)
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    for file in ("processor_config.json", "tokenizer_config.json"):
        kept = json.loads((tmp_path / file).read_text())
        named = [kept["processor_class"]]
        for part in ("image_processor", "video_processor"):
            named += [kept[part][f"{part}_type"]] if part in kept else []
        for known in named:
            assert hasattr(transformers, known), f"{known} in {file}"
    again = VLM.load(str(tmp_path))
    bitwise(again.logits(Case().prompts()), vlm.logits(Case().prompts()))


def test_a_folder_that_names_our_own_class_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As processors were saved before, where torchvision is there."""
    vlm = VLM(*tiny_qwen2vl())
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    for file in ("processor_config.json", "tokenizer_config.json"):
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text.replace('"Qwen2VLProcessor"', '"ImageQwen2VLProcessor"'))
    monkeypatch.setattr("interv.models.load.find_spec", lambda name: True)
    again = VLM.load(str(tmp_path))
    bitwise(again.logits(Case().prompts()), vlm.logits(Case().prompts()))


def test_plain_transformers_reads_what_was_saved(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    vlm = VLM.load("tiny-qwen2vl")
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    again = VLM(transformers.AutoModelForImageTextToText.from_pretrained(tmp_path), processor)
    assert again.generate(Case().prompts(), max_new_tokens=4) == vlm.generate(Case().prompts(), max_new_tokens=4)
