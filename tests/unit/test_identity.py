"""What a kept result stands on: the weights as they are now, and all that makes a prompt the model's inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interv import VLM, Add, Site
from interv.models import identity as module
from methods import capture_contrasts
from tests.property.cases import Case
from tests.tiny_models import tiny_llava, tiny_qwen2vl
from tests.unit.test_shards import made

families = pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])


def template(vlm: VLM) -> None:
    vlm.processor.chat_template = vlm.processor.chat_template.replace("A:", "B:")


def image_size(vlm: VLM) -> None:
    images = vlm.processor.image_processor
    images.size = {name: 4 * value for name, value in dict(images.size).items()}


def image_mean(vlm: VLM) -> None:
    vlm.processor.image_processor.image_mean = [0.1, 0.2, 0.3]


def image_class(vlm: VLM) -> None:
    images = vlm.processor.image_processor
    vlm.processor.image_processor = type("Other", (type(images),), {})(**images.to_dict())


def token(vlm: VLM) -> None:
    vlm.processor.tokenizer.add_tokens(["is it"])


def end(vlm: VLM) -> None:
    vlm.processor.tokenizer.eos_token = "a"


def patch(vlm: VLM) -> None:
    vlm.processor.patch_size = 7


CHANGES: dict[Callable[[VLM], None], str] = {
    template: "chat_template",
    image_size: "image_processor",
    image_mean: "image_processor",
    image_class: "image_processor",
    token: "tokenizer",
    end: "tokenizer",
    patch: "processor",
}


@families
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_each_part_of_the_preprocessing_is_told(family: Callable, change: Callable) -> None:
    vlm = VLM(*family())
    before = vlm.preprocessing
    vlm.generate(Case().prompts(), max_new_tokens=2)
    vlm.encode(Case().prompts()[:1])
    assert vlm.preprocessing == before, "use changes nothing"
    change(vlm)
    after = vlm.preprocessing
    assert [name for name in before if before[name] != after[name]] == [CHANGES[change]]


@families
def test_a_saved_folder_has_the_same_preprocessing(family: Callable, tmp_path: Path) -> None:
    vlm = VLM(*family())
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    again, once_more = (VLM.load(str(tmp_path)).preprocessing for _ in range(2))
    assert again == once_more
    differing = {name for name, value in vlm.preprocessing.items() if again[name] != value}
    assert differing <= {"tokenizer"}, "transformers gives a tokenizer another class when it reads it"


@pytest.mark.parametrize("library", ["pillow", "torchvision"])
def test_the_libraries_that_open_images_are_part_of_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, version = VLM(*tiny_llava()), module.version
    before = vlm.preprocessing
    monkeypatch.setattr(module, "version", lambda name: "99.0" if name == library else version(name))
    assert {name for name, value in vlm.preprocessing.items() if before[name] != value} == {library}


@families
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_folder_of_contrasts_refuses_another_preprocessing(
    family: Callable, change: Callable, tmp_path: Path
) -> None:
    vlm = VLM(*family())
    capture_contrasts(vlm, made(2), progress=False, out=tmp_path)
    change(vlm)
    with pytest.raises(ValueError, match=rf"begun with other {CHANGES[change]} \(.*now .*another folder"):
        capture_contrasts(vlm, made(2), progress=False, out=tmp_path)


def test_a_folder_of_an_earlier_version_says_why_it_is_refused(tmp_path: Path) -> None:
    vlm = VLM(*tiny_llava())
    capture_contrasts(vlm, made(2), progress=False, out=tmp_path)
    file = tmp_path / "shards.json"
    file.write_text(file.read_text().replace('"preprocessing"', '"of_old"'))
    with pytest.raises(ValueError, match=r"other preprocessing \(of which it says nothing"):
        capture_contrasts(vlm, made(2), progress=False, out=tmp_path)


def set_in_place(vlm: VLM) -> None:
    with torch.no_grad():
        next(vlm.model.parameters()).mul_(3)


def exchanged(vlm: VLM) -> None:
    vlm.model.lm_head.weight.data = vlm.model.lm_head.weight.data * 3


def replaced(vlm: VLM) -> None:
    vlm.model.lm_head = torch.nn.Linear(vlm.d_model, vlm.model.lm_head.out_features, bias=False)


def loaded(vlm: VLM) -> None:
    vlm.model.load_state_dict({name: value + 1 for name, value in vlm.model.state_dict().items()})


@pytest.mark.parametrize("change", [set_in_place, exchanged, replaced, loaded])
def test_the_fingerprint_is_of_the_weights_as_they_are_now(change: Callable) -> None:
    vlm = VLM(*tiny_llava())
    before = vlm.fingerprint
    op = Add(Site(1), torch.ones(vlm.d_model), fingerprint=before)
    vlm.logits(Case().prompts(), [op])
    change(vlm)
    assert vlm.fingerprint != before
    with pytest.raises(ValueError, match="captured from model"):
        vlm.logits(Case().prompts(), [op])


def test_the_fingerprint_of_unchanged_weights_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    work = module.fingerprint_of
    monkeypatch.setattr(module, "fingerprint_of", lambda model: seen.append(1) or work(model))
    vlm = VLM(*tiny_llava())
    op = Add(Site(1), torch.ones(vlm.d_model), fingerprint=vlm.fingerprint)
    for _ in range(3):
        vlm.generate(Case().prompts(), [op], max_new_tokens=2)
    assert len(seen) == 1
